"""Kiwi-Edit's way of injection: sources that fade, references of their own before or behind the frames, 48 channels.

INSTRUCTX_TEST_KIWI names a folder of one random model in the layouts `published`, `first` (the same, references before
the frames) and `converted`; INSTRUCTX_TEST_RECORDED the authors' own outputs on a model that is tinier still.
"""

import json
import os
from contextlib import contextmanager
from pathlib import Path

import comfy.sd
import comfy.utils
import folder_paths
import kit
import torch
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from kit import MODELS, VARIANTS, difference, editor, expect, loaded, run, sampled

import nodes as stock

KIWI = Path(os.environ["INSTRUCTX_TEST_KIWI"])
RECORDED = Path(os.environ["INSTRUCTX_TEST_RECORDED"])
SIDES = {"width": 96, "height": 64}
WORDS = "Make the sky orange."
LAYOUTS = ("published", "first", "converted")
CLOSE = 1e-4  # to the library, in float32; the order of references makes 40 times as much here

folder_paths.add_model_folder_path("instructx", str(KIWI))


def clip(frames, width=96, height=64, seed=0):
    return kit.clip(frames, width, height, seed)


REFERENCES = [clip(1, 40, 70, seed=1), clip(1, 60, 50, seed=2)]  # of other aspects than the clip: margins show


def wired(name, frames, words=WORDS, references=(), sides=SIDES, model=None):
    """As kit.wired, at sides that are not the model's own; the MLLM sees the first reference."""
    own, vae, mllm, connector = loaded(name)
    fitted, fit = run("Fit", model=own, vae=vae, source=frames, **sides)
    shown = references[0] if references else None
    (guidance,) = run("MLLMGuidance", mllm=mllm, source=fitted, instruction=words, fit=fit, reference=shown)
    positive, negative = run("Connector", connector=connector, guidance=guidance)
    link = {"model": own if model is None else model, "positive": positive, "negative": negative, "vae": vae}
    patched, positive, negative, latent = run("Source", source=fitted, **link)
    for reference in references:
        link |= {"model": patched, "positive": positive, "negative": negative}
        patched, positive, negative = run("Reference", reference=reference, **link)
    return patched, positive, negative, latent, fit


def edited(name, frames, references=(), **settings):
    return editor(name).edit(frames, WORDS, list(references) or None, **SIDES, **settings)


def check_kiwi_image():
    found = {}
    for name in LAYOUTS:
        found[name] = sampled(wired(name, clip(1)), seed=3, steps=4)
        assert difference(found[name], edited(name, clip(1), seed=3, steps=4).latents) <= CLOSE, name
    assert difference(found["published"], found["converted"]) <= 1e-5


def check_kiwi_video_with_references_and_cfg():
    found = {}
    for name in LAYOUTS:
        for count in (0, 1, 2):
            own = edited(name, clip(5), REFERENCES[:count], seed=4, steps=3, guidance_scale=2.5)
            ours = sampled(wired(name, clip(5), references=REFERENCES[:count]), seed=4, steps=3, cfg=2.5)
            assert difference(ours, own.latents) <= CLOSE, (name, count)
            found[name, count] = ours
    for count in (1, 2):
        assert difference(found["published", count], found["first", count]) > 10 * CLOSE
        assert difference(found["published", count], found["published", count - 1]) > 10 * CLOSE


def check_kiwi_pixels_after_restore():
    (out,) = run("Sampler", **named(graph := wired("published", clip(3, 90, 70), references=REFERENCES[:1])), steps=2)
    (decoded,) = stock.VAEDecode().decode(loaded("published")[1], out)
    restored, *_ = run("Restore", image=decoded, fit=graph[-1])
    own = edited("published", clip(3, 90, 70), REFERENCES[:1], steps=2)
    assert difference(restored, own.frames) <= CLOSE


def named(graph):
    return dict(zip(("model", "positive", "negative", "latent"), graph, strict=False))


def check_kiwi_batch_of_two():
    """Two noises in one batch with CFG are what each is alone."""
    for name in ("published", "first"):
        *graph, latent, _ = wired(name, clip(5), references=REFERENCES[:1])
        (twice,) = stock.RepeatLatentBatch().repeat(latent, 2)
        both = sampled((*graph, twice, None), seed=7, cfg=2.0, steps=3)
        noise = torch.randn(twice["samples"].shape, generator=torch.manual_seed(7))
        for index, one in enumerate(noise):
            assert difference(both[index : index + 1], denoised(name, one[None])) <= CLOSE, name
        assert difference(both[0], both[1]) > 0.1


def denoised(name, noise):
    """The library's answer to the same question from given noise."""
    from instructx_pack.instructx_core.sampling import GuidanceTerm, sample

    own = editor(name)
    reference = [REFERENCES[0][0]]
    canvas = (SIDES["height"], SIDES["width"])
    source, references = own.encode(clip(5)[None]), own.reference_latents([reference], canvas)
    contexts = [own.context([words], [clip(5)], [reference], True) for words in (WORDS, "")]
    conditions = own.denoiser.conditions(source, references)
    terms = [GuidanceTerm(weight, context, conditions) for weight, context in zip((2.0, -1.0), contexts, strict=True)]
    settings = own.config.sampling
    return sample(own.denoiser, noise, terms, 3, settings.shift, sigma_min=settings.sigma_min)


def check_kiwi_sigmas():
    from instructx_pack.instructx_core.schedules import schedule

    (sigmas,) = run("Sigmas", model=loaded("published")[0])
    assert torch.equal(sigmas, schedule(50, 5.0, 0.003 / 1.002).float())


def check_kiwi_context_windows():
    for name in ("published", "first"):
        *graph, latent, _ = wired(name, clip(13), references=REFERENCES[:1])
        frames = latent["samples"].shape[2]

        def windowed(length, graph=graph, latent=latent):
            settings = (length, 1, "standard_static", 1, False, "pyramid", 2, False)
            model = ContextWindowsManualNode.execute(graph[0], *settings).args[0]
            return sampled((model, *graph[1:], latent, None), seed=2, steps=2)

        whole = sampled((*graph, latent, None), seed=2, steps=2)
        assert difference(windowed(frames), whole) == 0, name
        assert difference(windowed(2), whole) > 0, name


def check_kiwi_noise_mask():
    """A mask over everything brings a timestep a frame, the same for all: nothing else changes."""
    for name in ("published", "first"):
        *graph, latent, _ = wired(name, clip(5), references=REFERENCES[:1])
        mask = torch.ones(1, 1, *latent["samples"].shape[2:])
        whole = sampled((*graph, latent, None), seed=2, steps=2)
        assert difference(sampled((*graph, latent | {"noise_mask": mask}, None), seed=2, steps=2), whole) <= 1e-5, name


def check_kiwi_references_keep_the_runs_timestep():
    """Where a mask holds the first frame at zero, frames keep their own timestep, wherever the references are."""
    from instructx_pack.nodes.denoising import denoising
    from instructx_pack.nodes.wan import ConditionWrapper

    x, reference, context = torch.zeros(1, 48, 3, 4, 4), torch.zeros(1, 48, 1, 4, 4), torch.zeros(1, 5, 128)
    held = torch.tensor([[0.0, 700.0, 700.0]])
    seen = {}

    def executor(hidden, timestep, _context, _clip, references, *_):
        seen[name] = timestep.round().tolist()[0], hidden.shape[2], None if references is None else references.shape[2]
        return hidden[:, :48]

    for name in ("published", "first"):
        wrapper = ConditionWrapper(denoising(loaded(name)[0]))
        output = wrapper(executor, x, held, context, None, reference, {"sigmas": torch.tensor([0.7])})
        assert output.shape == x.shape
    assert seen == {"published": ([0, 700, 700, 700], 4, None), "first": ([700, 0, 700, 700], 4, None)}


def check_kiwi_source_strength():
    model, *_ = loaded("published")
    patched, positive, negative, latent, _ = wired("published", clip(1))
    bare = [[positive[0][0], {}]], [[negative[0][0], {}]]
    without = sampled((patched, *bare, latent, None), seed=1, steps=2)
    seen = {}
    for strength in (0.0, 0.5, 1.0):
        link = {"model": model, "positive": positive, "negative": negative}
        used = run("Source", source=latent, strength=strength, **link)
        seen[strength] = difference(sampled((*used, None), seed=1, steps=2), without)
    assert seen[0.0] == 0, seen
    assert 0.001 < seen[0.5] < seen[1.0], seen


def check_kiwi_sliding_window():
    """One window is one edit; of two, the second begins with the edited tail of the first."""
    from dataclasses import replace

    from instructx_pack.nodes.denoising import Denoising, denoising
    from instructx_pack.nodes.wan import attach

    model, vae, mllm, connector = loaded("published")
    what = denoising(model)
    small = replace(what.config, default_size=(SIDES["height"], SIDES["width"]))  # 480p would take long here
    model = attach(model, Denoising(small, what.source, what.reference))
    parts = {"model": model, "vae": vae, "mllm": mllm, "connector": connector}
    settings = {"window": 5, "steps": 2, "reference": REFERENCES[0], "hold_colour": False}
    source, level = (clip(9) * 255).round() / 255, 1.01 / 255  # windows are joined in 8 bits
    (frames,) = run("SlidingWindowImages", **parts, source=source, instruction=WORDS, **settings)
    assert difference(frames[:5], edited("published", source[:5], REFERENCES[:1], steps=2).frames) <= level
    assert difference(frames[5:], edited("published", source[4:], REFERENCES[:1], steps=2).frames[1:]) > level


def check_kiwi_adapter_on_a_stock_model():
    from instructx_pack.instructx_core.weights.wan_keys import dit_to_original

    weights = comfy.utils.load_torch_file(
        str(KIWI / "published" / "transformer" / "diffusion_pytorch_model.safetensors")
    )
    model = comfy.sd.load_diffusion_model_state_dict(dit_to_original(weights))
    model.model.latent_format = loaded("published")[0].model.latent_format  # this VAE is not Wan's
    expected = sampled(wired("published", clip(1), references=REFERENCES[:1]), steps=2)
    for name in ("published", "converted"):
        adapted, _ = run("LoadAdapter", model=model, adapter=name, weights="keep the MODEL's own")
        ours = sampled(wired("published", clip(1), references=REFERENCES[:1], model=adapted), steps=2)
        assert difference(ours, expected) <= 1e-5, name
    other = comfy.utils.load_torch_file(
        str(MODELS / VARIANTS[0] / "transformer" / "diffusion_pytorch_model.safetensors")
    )
    narrow = comfy.sd.load_diffusion_model_state_dict(dit_to_original(other))
    ask = {"model": narrow, "adapter": "published", "weights": "keep the MODEL's own"}
    expect("InputError", "48 channels, but the MODEL has 128 and 16", run, "LoadAdapter", **ask)


def check_kiwi_mllm_alone():
    (mllm,) = run("LoadMLLM", base="published", adapter="converted", precision="float32")
    whole = loaded("published")[2]
    guidance = [
        run("MLLMGuidance", mllm=one, source=clip(5), instruction=WORDS, reference=REFERENCES[0])[0]
        for one in (mllm, whole)
    ]
    assert guidance[0].reference_places == guidance[1].reference_places > 0
    assert torch.equal(guidance[0].positive.tokens, guidance[1].positive.tokens)


def check_kiwi_menus():
    from instructx_pack.nodes.folders import base_names, model_names

    assert set(LAYOUTS) <= set(model_names())
    assert not [name for name in base_names() if "/" in name and name.split("/")[0] in LAYOUTS]


def check_wan22_vae_is_comfyuis_own():
    """The public checkpoints' VAE, whose weights are not here, is known by its widths as the one ComfyUI builds."""
    from comfy.ldm.wan.vae2_2 import WanVAE
    from instructx_pack.instructx_core.weights.wan_keys import vae_config_from_original
    from instructx_pack.nodes.loading import is_native_vae

    sizes = {"dim": 160, "z_dim": 48, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}
    with torch.device("meta"):
        state = WanVAE(**sizes, temperal_downsample=[False, True, True]).state_dict()
        other = WanVAE(**sizes | {"dim": 80}, temperal_downsample=[False, True, True]).state_dict()
    assert is_native_vae(vae_config_from_original(state))
    assert not is_native_vae(vae_config_from_original(other))


# --- what the authors' pipeline recorded


@contextmanager
def narrow_heads(sizes):
    """ComfyUI's loader takes every Wan for one of heads of 128 in text space 4096, unless metadata says otherwise."""
    original = comfy.sd.load_diffusion_model_state_dict
    told = {
        "num_heads": sizes["num_attention_heads"],
        "freq_dim": sizes["freq_dim"],
        "text_dim": sizes["text_dim"],
    }
    metadata = {"config": json.dumps({"transformer": told})}
    comfy.sd.load_diffusion_model_state_dict = lambda state, model_options: original(state, model_options, metadata)
    try:
        yield
    finally:
        comfy.sd.load_diffusion_model_state_dict = original


def check_kiwi_recorded_outputs():
    folder_paths.add_model_folder_path("instructx", str(RECORDED.parent))
    outputs, metadata = comfy.utils.load_torch_file(
        str(RECORDED / "reference_outputs.safetensors"), return_metadata=True
    )
    with narrow_heads(json.loads((RECORDED / "transformer" / "config.json").read_text(encoding="utf-8"))):
        loaded(RECORDED.name)
    for case in ("image", "video", "reference"):
        source = outputs["image.source" if case == "image" else "video.source"].float() / 255
        references = [outputs["reference.image"].float() / 255] if case == "reference" else []
        sides = {"width": source.shape[2], "height": source.shape[1]}
        words = json.loads(metadata["prompts"])[case]
        settings = {"seed": int(metadata["seed"]), "steps": int(metadata["steps"])}
        graph = wired(RECORDED.name, source, words, references, sides)
        assert difference(graph[1][0][0], outputs[f"{case}.context"]) <= CLOSE, case
        assert difference(sampled(graph, **settings), outputs[f"{case}.latents"]) <= CLOSE, case
        own = editor(RECORDED.name).edit(source, words, references or None, guidance_scale=3.0, **settings, **sides)
        assert difference(sampled(graph, cfg=3.0, **settings), own.latents) <= CLOSE, case
