"""Two MODELs that take turns (Wan2.2 A14B): InstructX Sampler and the sliding windows against the library's pair."""

import json
import os
from functools import cache
from pathlib import Path

import comfy.sd
import folder_paths
import torch
from check_long_video import ONE_LEVEL, long_options, parts
from kit import SMALLER, TOLERANCE, difference, example, expect, loaded, run, sampled, stock_model, wired

import nodes as stock

STEPS = 6  # at the bundled model's shift of 5: levels 1, .962, .909, .833, .714 and .5; three are the first one's
GIVEN = {"seed": 9, "steps": STEPS}


@cache
def second():
    """A folder with a DiT of the bundled model's sizes that says something else."""
    from instructx_pack.nodes.folders import find_model
    from safetensors.torch import load_file, save_file

    own = find_model(SMALLER) / "transformer"
    folder = Path(folder_paths.get_temp_directory()) / "second"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text((own / "config.json").read_text())
    state = load_file(own / "diffusion_pytorch_model.safetensors")
    state = {name: value * 0.5 if ".ffn." in name else value for name, value in state.items()}
    save_file(state, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    return folder


@cache
def low():
    """That DiT as Load Diffusion Model would give it: a stock MODEL without an adapter."""
    from instructx_pack.instructx_core.weights.wan_keys import dit_to_original
    from safetensors.torch import load_file

    state = load_file(second() / "diffusion_pytorch_model.safetensors")
    model = comfy.sd.load_diffusion_model_state_dict(dit_to_original(state), model_options={"dtype": torch.float32})
    model.model.latent_format = loaded(SMALLER)[0].model.latent_format  # the bundled model's latents are not Wan's
    return model


@cache
def pair():
    from instructx_pack.instructx_core import Editor
    from instructx_pack.nodes.folders import find_model

    return Editor.from_pretrained(find_model(SMALLER), device="cpu", dtype="float32", transformer_2=second())


def check_a_pair_is_the_librarys():
    image, instruction, reference = example("reference_swap")
    graph = wired(SMALLER, image, instruction, [reference])
    for cfg in (1.0, 2.0):
        ours = sampled(graph, model_low=low(), cfg=cfg, **GIVEN)
        theirs = pair().edit(image, instruction, reference, guidance_scale=cfg, **GIVEN).latents
        assert difference(ours, theirs) <= TOLERANCE, cfg
        assert difference(ours, sampled(graph, cfg=cfg, **GIVEN)) > 10 * TOLERANCE


def check_one_model_twice_is_itself():
    """Nothing is lost where they change, under a noise mask and from a source's latent too."""
    image, instruction, _ = example("recolor")
    patched, positive, negative, latent, fit = wired(SMALLER, image, instruction)
    mask = torch.ones_like(latent["samples"][:, :1])
    mask[..., : mask.shape[-1] // 2] = 0
    for given, more in ((latent, {}), (latent | {"noise_mask": mask}, {}), (latent, {"denoise": 0.9})):
        graph = (patched, positive, negative, given, fit)
        twice = sampled(graph, model_low=patched, **GIVEN, **more)
        assert torch.equal(twice, sampled(graph, **GIVEN, **more)), more


def check_steps_are_counted_once():
    from instructx_pack.nodes import sampling

    image, instruction, _ = example("recolor")
    patched, positive, negative, latent, _ = wired(SMALLER, image, instruction)
    chosen = sampling.settings(patched, sampling.asked(STEPS, 1.0, 0.0), "euler", sampling.OWN_SCHEDULE, 1.0)
    seen = []
    sampling.sample(
        patched, positive, negative, latent, 9, chosen, lambda step, _x0, _x, total: seen.append((step, total)), patched
    )
    assert seen == [(step, STEPS) for step in range(STEPS)]


def check_the_second_is_guided_by_its_share():
    from dataclasses import replace

    from instructx_pack.instructx_core.config import GuidanceMode
    from instructx_pack.nodes import model_pair
    from instructx_pack.nodes.denoising import ATTACHMENT, denoising

    model = loaded(SMALLER)[0].clone()
    what = denoising(model)
    scales = replace(what.config.sampling, source_scale=1.5, second_share=0.8)
    config = replace(what.config, sampling=scales, denoiser=replace(what.config.denoiser, boundary=0.7))
    model.set_attachments(ATTACHMENT, replace(what, config=config))
    levels = torch.tensor([1.0, 0.8, 0.7, 0.5, 0.0])
    euler = comfy.samplers.sampler_object("euler")
    for mode, cfg, wanted in (("v2v", 4.0, [4.0, 3.2]), ("v2v", 1.0, [1.0, 1.0]), ("rv2v", 1.0, [1.0, 0.8])):
        asked = replace(scales, guidance_scale=cfg)
        found = list(model_pair.runs(model, low(), GuidanceMode(mode), asked, euler, levels, print))
        assert [one[1].guidance_scale for one in found] == wanted
        assert [one[1].source_scale for one in found] == [1.5, 1.5 * wanted[1] / wanted[0]]
        assert [one[3].tolist() for one in found] == [levels[:4].tolist(), levels[3:].tolist()]
    only = list(model_pair.runs(model, low(), GuidanceMode.V2V, scales, euler, levels[3:], print))
    assert [one[0] for one in only] == [low()]


def check_core_s_split_steps_are_the_same():
    """KSampler (Advanced) on each MODEL; the source and the adapter are in both."""
    image, instruction, _ = example("recolor")
    graph = wired(SMALLER, image, instruction)
    patched, positive, negative, latent, _ = graph
    adapted, _ = run("LoadAdapter", model=low(), adapter=SMALLER, weights="keep the MODEL's own")
    steps = ("euler", "simple", positive, negative)
    with torch.inference_mode():
        (first,) = stock.KSamplerAdvanced().sample(patched, "enable", 9, STEPS, 1.0, *steps, latent, 0, 3, "enable")
        (out,) = stock.KSamplerAdvanced().sample(adapted, "disable", 9, STEPS, 1.0, *steps, first, 3, 10000, "disable")
    ours = sampled(graph, model_low=low(), scheduler="simple", **GIVEN)
    assert difference(patched.model.process_latent_in(out["samples"]), ours) <= TOLERANCE
    assert torch.equal(ours, sampled(graph, model_low=adapted, scheduler="simple", **GIVEN))


def check_windows_take_a_pair():
    import check_long_video

    image, instruction, _ = example("recolor", frames=9)
    own = check_long_video.editor
    for head in ("pin", "latent"):
        given = {"source": image, "instruction": instruction, "window": 5, "head": head} | GIVEN
        (ours,) = run("SlidingWindowImages", **parts(), model_low=low(), **given)
        check_long_video.editor = lambda _name: pair()
        try:
            theirs = check_long_video.library(SMALLER, image, instruction, long_options(head=head), **GIVEN)
        finally:
            check_long_video.editor = own
        assert (ours - theirs).abs().max() <= ONE_LEVEL, head
        (alone,) = run("SlidingWindowImages", **parts(), **given)
        assert not torch.equal(ours, alone)


def check_windows_by_conditioning_take_a_pair():
    """Of any video MODEL; one twice is itself, with a mask and from the source's latents."""
    from check_conditioned_windows import stock as any_video_model
    from check_conditioned_windows import windows

    frames, _, _ = example("recolor", frames=9)
    model, vae = any_video_model()
    positive = [[torch.randn(1, 6, 4096, generator=torch.manual_seed(0)), {}]]
    mask = torch.zeros(1, 64, 64)
    mask[:, :, 32:] = 1
    for more in ({"denoise": 0.9}, {"mask": mask, "head": "pin"}):
        given = {"positive": positive, "steps": 4} | more
        alone = windows(model, vae, frames, **given)
        assert torch.equal(windows(model, vae, frames, model_low=model, **given), alone), more
        other = model.clone()
        name = "diffusion_model.head.head.weight"
        other.add_patches({name: ("diff", (torch.ones_like(model.model.get_parameter(name)),))})
        assert not torch.equal(windows(model, vae, frames, model_low=other, **given), alone), more


def check_another_kind_is_refused():
    image, instruction, _ = example("recolor")
    graph = wired(SMALLER, image, instruction)
    from kit import VARIANTS

    other = stock_model(VARIANTS[0])
    expect("InputError", "connect the two DiTs of one pair", sampled, graph, model_low=other, **GIVEN)
    expect(
        "InputError", "connect the two DiTs of one pair", run,
        "SlidingWindowImages", **parts(), model_low=other, source=image, instruction=instruction, **GIVEN,
    )  # fmt: skip


def check_a_folder_with_a_pair_says_how_to_load_it():
    import shutil

    root = Path(os.environ["INSTRUCTX_TEST_DOORS"], "instructx")
    folder = Path(folder_paths.get_temp_directory()) / "pairs" / "pair"
    shutil.copytree(root / "bernini", folder)
    shutil.copytree(folder / "transformer", folder / "transformer_2")
    (folder / "config.json").write_text(json.dumps({"model_type": "bernini_renderer"}))
    folder_paths.add_model_folder_path("instructx", str(folder.parent))
    expect("CheckpointError", "connect them to model and model_low", run, "LoadModel", model_name="pair")
    given = {"model": low(), "adapter": "pair", "weights": "the checkpoint's"}
    expect("CheckpointError", "connect them to model and model_low", run, "LoadAdapter", **given)
