"""Checks that run inside ComfyUI's process; tests/test_comfyui_nodes.py runs them all, each as a test.

run.py starts ComfyUI first, then calls `report`. Every function called check_* is a check. The environment variable
INSTRUCTX_TEST_MODELS names a folder of random models, one for each way in which source and context can enter.
"""

import json
import os
import sys
import traceback
from pathlib import Path

import comfy.samplers
import comfy.sd
import folder_paths
import torch
from comfy_extras import nodes_custom_sampler as custom
from kit import BUNDLED, NODES, difference, editor, example, loaded, run, sampled, wired

import nodes as stock

LOADED_EARLY = {"diffusers", "peft", "accelerate"} & set(sys.modules)  # the nodes are there, and none has run yet
TOLERANCE = 1e-3
MODELS = Path(os.environ["INSTRUCTX_TEST_MODELS"])
VARIANTS = sorted(path.name for path in MODELS.iterdir())

folder_paths.add_model_folder_path("instructx", str(MODELS))


def expect(error, match, function, *args, **kwargs):
    """`function` raises an error of the class named `error` whose message holds `match`."""
    try:
        function(*args, **kwargs)
    except Exception as raised:
        assert type(raised).__name__ == error, raised
        assert match in str(raised), raised
        return
    raise AssertionError(f"no {error}")


# the graph against Editor.edit


def check_image():
    image, instruction, _ = example("recolor")
    own = editor(BUNDLED).edit(image, instruction, seed=3)
    assert difference(sampled(wired(BUNDLED, image, instruction), seed=3), own.latents) <= TOLERANCE


def check_pixels_after_restore():
    image, instruction, _ = example("recolor", width=80, height=56)
    own = editor(BUNDLED).edit(image, instruction, seed=3)
    graph = wired(BUNDLED, image, instruction)
    patched, positive, negative, latent, fit = graph
    (out,) = run("Sampler", model=patched, positive=positive, negative=negative, latent=latent, seed=3)
    (decoded,) = stock.VAEDecode().decode(loaded(BUNDLED)[1], out)
    restored, video = run("Restore", image=decoded, fit=fit)
    assert restored.shape == image.shape
    assert difference(restored, own.frames) <= TOLERANCE
    assert video.get_components().images.shape == image.shape


def check_video():
    image, instruction, _ = example("background", frames=6)
    own = editor(BUNDLED).edit(image, instruction, seed=4)
    assert difference(sampled(wired(BUNDLED, image, instruction), seed=4), own.latents) <= TOLERANCE


def check_reference():
    image, instruction, reference = example("reference_swap")
    own = editor(BUNDLED).edit(image, instruction, reference, seed=5)
    assert difference(sampled(wired(BUNDLED, image, instruction, [reference]), seed=5), own.latents) <= TOLERANCE


def check_two_references_in_a_video():
    image, instruction, reference = example("reference_add", frames=5)
    other = example("reference_swap")[2]
    own = editor(BUNDLED).edit(image, instruction, [reference, other], seed=6, steps=4)
    graph = wired(BUNDLED, image, instruction, [reference, other])
    assert difference(sampled(graph, seed=6, steps=4), own.latents) <= TOLERANCE


def check_cfg():
    image, instruction, reference = example("reference_swap")
    own = editor(BUNDLED).edit(image, instruction, reference, seed=5, guidance_scale=3.0, steps=6)
    graph = wired(BUNDLED, image, instruction, [reference])
    assert difference(sampled(graph, seed=5, cfg=3.0, steps=6), own.latents) <= TOLERANCE


def check_batch_of_two():
    from instructx_pack.instructx_core.denoiser import Conditions
    from instructx_pack.instructx_core.sampling import sample

    image, instruction, reference = example("reference_swap")
    patched, positive, negative, latent, _ = wired(BUNDLED, image, instruction, [reference])
    (twice,) = stock.RepeatLatentBatch().repeat(latent, 2)
    both = sampled((patched, positive, negative, twice, None), seed=7, cfg=2.0, steps=5)
    own = editor(BUNDLED)
    noise = torch.randn(twice["samples"].shape, generator=torch.manual_seed(7))
    source, references = own.encode(image), own.encode(reference)

    def conditions(words):
        context = own.context([words], [image], [[reference[0]]], False)
        return Conditions(context.repeat(2, 1, 1), source.repeat(2, 1, 1, 1, 1), (references.repeat(2, 1, 1, 1, 1),))

    shift = own.config.sampling.shift
    expected = sample(own.denoiser, noise, conditions(instruction), 5, shift, 2.0, conditions(""))
    assert difference(both, expected) <= TOLERANCE
    assert difference(both[0], both[1]) > 0.1


def check_every_variant():
    """Source added or embedded, context in text space or past it, velocity or change predicted; strides 4 and 2."""
    image, instruction, reference = example("reference_swap", frames=3, width=48, height=40)
    plain = {}
    for name in VARIANTS:
        own = editor(name).edit(image, instruction, reference, seed=8, guidance_scale=2.0)
        ours = sampled(wired(name, image, instruction, [reference]), seed=8, cfg=2.0)
        assert difference(ours, own.latents) <= TOLERANCE, name
        plain[name] = ours
    assert (
        min(difference(plain[VARIANTS[0]], plain[other]) for other in VARIANTS[1:]) > 0.01
    )  # each does something else


def check_source_strength():
    image, instruction, _ = example("recolor", width=48, height=48)
    for name in VARIANTS:
        patched, positive, negative, latent, _ = wired(name, image, instruction)
        model = loaded(name)[0]
        if "change" in name:  # the source stays what the change is added to, however little the DiT sees of it
            weak = run("Source", model=model, positive=positive, negative=negative, source=latent, strength=0.5)
            whole = sampled((patched, positive, negative, latent, None), seed=1)
            assert difference(sampled((*weak, None), seed=1), whole) > 1e-4, name
            continue
        none = run("Source", model=model, positive=positive, negative=negative, source=latent, strength=0.0)
        bare = [[entry[0], {}] for entry in positive], [[entry[0], {}] for entry in negative]
        without = sampled((patched, *bare, latent, None), seed=1)
        assert difference(sampled((*none, None), seed=1), without) == 0, name
        assert difference(sampled((patched, positive, negative, latent, None), seed=1), without) > 0.01, name


def check_a_change_needs_a_source():
    image, instruction, _ = example("recolor", width=48, height=48)
    name = next(name for name in VARIANTS if "change" in name)
    patched, positive, _, latent, _ = wired(name, image, instruction)
    bare = [[positive[0][0], {}]]
    expect("InputError", "put InstructX Source", sampled, (patched, positive, bare, latent, None), cfg=2.0)


# samplers


def _advanced(graph, sigmas, seed, cfg=1.0):
    patched, positive, negative, latent, _ = graph
    (noise,) = custom.RandomNoise.execute(seed).args
    (guider,) = custom.CFGGuider.execute(patched, positive, negative, cfg).args
    (sampler,) = custom.KSamplerSelect.execute("euler").args
    out = custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).args[0]
    return patched.model.process_latent_in(out["samples"])


def check_sigmas_are_the_librarys():
    from instructx_pack.instructx_core.sampling import schedule

    model = loaded(BUNDLED)[0]
    own = editor(BUNDLED).config.sampling
    (sigmas,) = run("Sigmas", model=model)
    assert torch.equal(sigmas, schedule(own.steps, own.shift).float())
    (sigmas,) = run("Sigmas", model=model, steps=7, shift=2.5)
    assert torch.equal(sigmas, schedule(7, 2.5).float())


def check_sampler_custom_advanced_is_the_same():
    image, instruction, reference = example("reference_swap")
    graph = wired(BUNDLED, image, instruction, [reference])
    (sigmas,) = run("Sigmas", model=graph[0], steps=6)
    with torch.inference_mode():
        advanced = _advanced(graph, sigmas, 9, cfg=2.0)
    assert torch.equal(advanced, sampled(graph, seed=9, steps=6, cfg=2.0))


def check_stock_ksampler():
    image, instruction, _ = example("recolor")
    graph = wired(BUNDLED, image, instruction)
    patched, positive, negative, latent, _ = graph
    for steps in (5, 10):
        with torch.inference_mode():
            (out,) = stock.KSampler().sample(patched, 9, steps, 1.0, "euler", "simple", positive, negative, latent)
        ours = sampled(graph, seed=9, steps=steps)
        assert difference(patched.model.process_latent_in(out["samples"]), ours) <= TOLERANCE


def check_comfyui_scheduler_in_our_sampler():
    image, instruction, _ = example("recolor")
    graph = wired(BUNDLED, image, instruction)
    simple = sampled(graph, seed=9, steps=5, scheduler="simple")
    assert difference(simple, sampled(graph, seed=9, steps=5)) <= TOLERANCE
    assert difference(simple, sampled(graph, seed=9, steps=5, scheduler="simple", shift=1.5)) > TOLERANCE


def check_denoise_begins_from_the_source():
    image, instruction, _ = example("recolor")
    graph = wired(BUNDLED, image, instruction)
    little = sampled(graph, seed=2, steps=4, denoise=0.02)
    source = graph[0].model.process_latent_in(graph[3]["samples"])
    assert difference(little, source) < difference(sampled(graph, seed=2, steps=4), source)


def check_shift_follows_model_sampling_sd3():
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3
    from instructx_pack.instructx_core.sampling import schedule

    (moved,) = ModelSamplingSD3().patch(loaded(BUNDLED)[0], 2.0)
    (sigmas,) = run("Sigmas", model=moved, steps=5)
    assert torch.equal(sigmas, schedule(5, 2.0).float())


# the MODEL stays ComfyUI's


def _stock_model(name):
    """The DiT of a variant as Load Diffusion Model would give it."""
    from instructx_pack.instructx_core.checkpoints.wan_keys import dit_to_original
    from instructx_pack.nodes.loading import read_folder

    return comfy.sd.load_diffusion_model_state_dict(dit_to_original(read_folder(MODELS / name / "transformer")))


def check_adapter_on_a_stock_model():
    image, instruction, reference = example("reference_swap", width=48, height=48)
    for name in VARIANTS:
        model = _stock_model(name)
        model.model.latent_format = loaded(name)[0].model.latent_format  # this VAE is not Wan's
        adapted, _ = run("LoadAdapter", model=model, adapter=name, weights="keep the MODEL's own")
        ours = sampled(wired(name, image, instruction, [reference], model=adapted), seed=8)
        assert difference(ours, sampled(wired(name, image, instruction, [reference]), seed=8)) <= 1e-5, name


def check_adapter_replaces_weights():
    image, instruction, _ = example("recolor", width=48, height=48)
    name = VARIANTS[0]
    model = _stock_model(name)
    model.model.latent_format = loaded(name)[0].model.latent_format
    with torch.no_grad():
        for parameter in model.model.diffusion_model.blocks[0].parameters():
            parameter.mul_(0.5)
    kept = run("LoadAdapter", model=model, adapter=name, weights="keep the MODEL's own")[0]
    replaced = run("LoadAdapter", model=model, adapter=name, weights="the checkpoint's")[0]
    expected = sampled(wired(name, image, instruction), seed=8)
    found = {}
    for which, adapted in (("replaced", replaced), ("kept", kept), ("again", replaced)):
        found[which] = difference(sampled(wired(name, image, instruction, model=adapted), seed=8), expected)
    assert found["replaced"] <= 1e-5, found
    assert found["again"] <= 1e-5, found
    assert found["kept"] > 100 * 1e-5, found


def check_unpatched_model_is_untouched():
    image, instruction, _ = example("recolor", width=48, height=48)
    for name in VARIANTS:
        plain = _stock_model(name)
        plain.model.latent_format = loaded(name)[0].model.latent_format
        _, positive, negative, latent, _ = wired(name, image, instruction)
        text = [[torch.randn(1, 5, 4096, generator=torch.manual_seed(0)), {}]]

        def original(plain=plain, text=text, latent=latent):
            with torch.inference_mode():
                return stock.KSampler().sample(plain, 3, 3, 1.0, "euler", "simple", text, text, latent)[0]["samples"]

        before = original()
        adapted, _ = run("LoadAdapter", model=plain, adapter=name, weights="keep the MODEL's own")
        used = run("Source", model=adapted, positive=positive, negative=negative, source=latent)
        sampled((*used, None), seed=3)
        assert torch.equal(original(), before), name
        assert plain.wrappers.get("diffusion_model", {}) == {}
        assert not plain.attachments
        assert not plain.object_patches


def check_lora_on_the_model():
    """A LoRA that a stock loader puts on the MODEL equals the same update in the library's weights."""
    from instructx_pack.instructx_core.editor import Editor
    from instructx_pack.nodes.folders import find_model

    image, instruction, reference = example("reference_swap")
    generator = torch.manual_seed(1)
    lora = {}
    own = Editor.from_pretrained(find_model(BUNDLED), device="cpu", dtype=torch.float32)
    for index, block in enumerate(own.denoiser.transformer.blocks):
        for theirs, ours in (("self_attn.q", block.attn1.to_q), ("ffn.0", block.ffn.net[0].proj)):
            up = torch.randn(ours.weight.shape[0], 4, generator=generator) * 0.02
            down = torch.randn(4, ours.weight.shape[1], generator=generator) * 0.02
            lora[f"diffusion_model.blocks.{index}.{theirs}.lora_up.weight"] = up
            lora[f"diffusion_model.blocks.{index}.{theirs}.lora_down.weight"] = down
            ours.weight.data += up @ down
    plain = sampled(wired(BUNDLED, image, instruction, [reference]), seed=5)
    with_lora, _ = comfy.sd.load_lora_for_models(loaded(BUNDLED)[0], None, lora, 1.0, 0)
    ours = sampled(wired(BUNDLED, image, instruction, [reference], model=with_lora), seed=5)
    expected = own.edit(image, instruction, reference, seed=5).latents
    assert difference(ours, expected) <= TOLERANCE
    assert difference(plain, expected) > 10 * TOLERANCE


def check_context_windows():
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    image, instruction, _ = example("background", frames=13)
    patched, positive, negative, latent, _ = wired(BUNDLED, image, instruction)
    frames = latent["samples"].shape[2]

    def windowed(length):
        handled = ContextWindowsManualNode.execute(
            patched, length, 1, "standard_static", 1, False, "pyramid", 2, False
        ).args[0]
        return sampled((handled, positive, negative, latent, None), seed=2, steps=3)

    whole = sampled((patched, positive, negative, latent, None), seed=2, steps=3)
    assert difference(windowed(frames), whole) == 0
    assert difference(windowed(max(2, frames // 2)), whole) > 0


def check_memory_estimate_counts_references():
    import comfy.sampler_helpers as helpers

    image, instruction, reference = example("reference_swap")
    patched, positive, negative, latent, _ = wired(BUNDLED, image, instruction, [reference])
    seen = []
    original = helpers.estimate_memory

    def spy(model, noise_shape, conds):
        seen.append(list(noise_shape))
        return original(model, noise_shape, conds)

    helpers.estimate_memory = spy
    try:
        sampled((patched, positive, negative, latent, None), seed=1, steps=1)
    finally:
        helpers.estimate_memory = original
    assert seen[0][2] == latent["samples"].shape[2] + 1


# one more MODEL and VAE: Wan 2.2 5B's


def check_noise_mask_with_references_on_48_channels():
    """Per-frame timesteps, which a noise mask brings on Wan 2.2 5B, are carried on to appended references."""
    import comfy.ops
    from comfy.ldm.wan.model import WanModel
    from instructx_pack.instructx_core.config import ModelConfig
    from instructx_pack.nodes.wan import Denoising, SourceWrapper

    torch.manual_seed(0)
    dit = WanModel(
        in_dim=48,
        out_dim=48,
        dim=128,
        ffn_dim=64,
        num_heads=1,
        num_layers=2,
        operations=comfy.ops.disable_weight_init,
        device="cpu",
        dtype=torch.float32,
    )
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    x, reference = torch.randn(1, 48, 3, 4, 4), torch.randn(1, 48, 1, 4, 4)
    context, sigma = torch.randn(1, 5, 4096), torch.tensor([0.7])
    wrapper = SourceWrapper(Denoising(ModelConfig()))
    options = {"sigmas": sigma, "wrappers": {"diffusion_model": {"instructx": [wrapper]}}}
    with torch.inference_mode():
        one = dit(x, sigma * 1000, context, time_dim_concat=reference, transformer_options=dict(options))
        each = dit(
            x, (sigma * 1000).expand(1, 3), context, time_dim_concat=reference, transformer_options=dict(options)
        )
    assert difference(one, each) <= 1e-5


# long video


def edited_in_windows(image, instruction, **settings):
    """(IMAGE, VIDEO) of the bundled model, in four steps from the seed 4."""
    model, vae, mllm, connector = loaded(BUNDLED)
    parts = {"model": model, "vae": vae, "mllm": mllm, "connector": connector}
    return run("SlidingWindow", **parts, source=image, instruction=instruction, seed=4, steps=4, **settings)


def check_sliding_window_of_one_window():
    image, instruction, _ = example("background", frames=5)
    frames, video = edited_in_windows(image, instruction, window=5)
    own = editor(BUNDLED).edit(image, instruction, seed=4, steps=4)
    assert difference(frames, own.frames) <= TOLERANCE
    assert len(video.get_components().images) == 5


def check_sliding_window_hands_over_its_tail():
    from instructx_pack.instructx_core.denoiser import Conditions
    from instructx_pack.instructx_core.sampling import initial_noise, sample

    image, instruction, _ = example("background", frames=9)
    frames, _ = edited_in_windows(image, instruction, window=5, overlap=1)
    assert frames.shape == image.shape
    own = editor(BUNDLED)
    first = own.edit(image[:5], instruction, seed=4, steps=4).frames
    assert difference(frames[:5], first) <= TOLERANCE
    source = torch.cat([first[4:], image[5:]])
    context = own.context([instruction], [image[4:]], [[]], True)
    latents = own.encode(source)
    second = sample(
        own.denoiser, initial_noise(tuple(latents.shape), 4), Conditions(context, latents), 4, own.config.sampling.shift
    )
    assert difference(frames[5:], own.decode(second)[1:]) <= TOLERANCE


# VAE, FIT, composite, examples


def check_codec_vae_is_a_vae():
    image = example("recolor", frames=5)[0]
    model, vae, _, _ = loaded(BUNDLED)
    (latent,) = stock.VAEEncode().encode(vae, image)
    raw = latent["samples"]
    assert difference(model.model.process_latent_in(raw), editor(BUNDLED).encode(image)) <= 1e-5
    (decoded,) = stock.VAEDecode().decode(vae, latent)
    assert decoded.shape == image.shape
    (tiled,) = stock.VAEDecodeTiled().decode(vae, latent, 512)
    assert torch.equal(tiled, decoded)


def check_preview_colours():
    """What a sampler shows after a step looks like the picture: closer to it than a grey card is."""
    import latent_preview

    image = example("recolor", seed=77)[0]
    model = loaded(BUNDLED)[0]
    fmt = model.model.latent_format
    previewer = latent_preview.Latent2RGBPreviewer(fmt.latent_rgb_factors, fmt.latent_rgb_factors_bias)
    shown = previewer.decode_latent_to_preview(editor(BUNDLED).encode(image).clone())
    pixels = torch.tensor(list(shown.getdata())).view(shown.height, shown.width, 3) / 255
    pooled = torch.nn.functional.adaptive_avg_pool2d(image.permute(0, 3, 1, 2), pixels.shape[:2])[0].permute(1, 2, 0)
    assert (pixels - pooled).abs().mean() < 0.5 * (pooled - pooled.mean((0, 1))).abs().mean()


def check_composite_is_exact_outside():
    source, _, _ = example("recolor")
    edited = source.clone()
    edited[:, 20:40, 10:30] = 1 - edited[:, 20:40, 10:30]
    result, mask = run("Composite", source=source, edited=edited)
    assert torch.equal(result[mask == 0], source[mask == 0])
    assert mask.any() and not mask.all()


def check_examples():
    from instructx_pack.instructx_core.world import GROUPS

    for group in GROUPS:
        image, instruction, reference = example(group, frames=5, seed=1)
        assert image.shape == (5, 64, 64, 3)
        assert instruction
        assert (reference is not None) == group.startswith("reference")
    for name in ("shipped demo.png", "shipped demo.mp4"):
        image, video, instruction, _ = run("ExampleInput", example=name)
        assert len(video.get_components().images) == len(image)
        assert instruction


def check_video_socket_is_a_video():
    """A VIDEO is one whatever its length, an IMAGE only with more than one frame; frame rate and sound come back."""
    from fractions import Fraction

    from instructx_pack.nodes.pixels import to_video

    image, _, _ = example("recolor", frames=5)
    model, vae, _, _ = loaded(BUNDLED)
    sound = {"waveform": torch.zeros(1, 2, 1000), "sample_rate": 8000}
    fitted, fit = run("Fit", model=model, vae=vae, source=to_video(image[:1], Fraction(30000, 1001), sound))
    assert fit.is_video
    _, video = run("Restore", image=fitted, fit=fit)
    components = video.get_components()
    assert components.frame_rate == Fraction(30000, 1001)
    assert components.audio is sound


# bad input, in words


def check_words_for_bad_input():
    image, instruction, reference = example("reference_swap")
    model, vae, mllm, connector = loaded(BUNDLED)
    patched, positive, negative, latent, fit = wired(BUNDLED, image, instruction)
    link = {"model": model, "positive": positive, "negative": negative}
    guidance = {"mllm": mllm, "source": image}
    expect("InputError", "instruction is empty", run, "MLLMGuidance", instruction="  ", **guidance)
    assert "empty" in NODES["InstructXMLLMGuidance"].validate_inputs(instruction=" ")
    assert NODES["InstructXMLLMGuidance"].validate_inputs(instruction=None) is True
    expect("InputError", "put InstructX Fit before", run, "Source", source=image[:, :60], vae=vae, **link)
    expect("InputError", "no VAE is connected", run, "Source", source=image, **link)
    small = {"samples": torch.zeros(1, 16, 1, 4, 4)}
    expect("InputError", "sample the LATENT that comes out", run, "Sampler", latent=small, **link | {"model": patched})
    wide = {"samples": torch.zeros(1, 48, 1, 4, 4)}
    expect("InputError", "(1, 48, 1, 4, 4)", run, "Source", source=wide, **link)

    class OtherVAE(type(vae)):
        @property
        def latent_channels(self):
            return 48

        @latent_channels.setter
        def latent_channels(self, _):
            pass

    expect("InputError", "makes latents of 48 channels", run, "Source", source=image, vae=OtherVAE(vae.codec), **link)
    bare = [[positive[0][0], {}]]
    expect(
        "InputError",
        "connect InstructX Source before",
        run,
        "Reference",
        model=model,
        positive=bare,
        negative=bare,
        vae=vae,
        reference=reference,
    )
    expect(
        "InputError",
        "The mask is",
        run,
        "Reference",
        model=patched,
        positive=positive,
        negative=negative,
        vae=vae,
        reference=reference,
        mask=torch.ones(1, 8, 8),
    )
    (read,) = run("MLLMGuidance", instruction=instruction, **guidance)
    expect("InputError", "takes guidance 32 wide", run, "Connector", connector=loaded(VARIANTS[0])[3], guidance=read)
    narrow = [[positive[0][0][..., :100], positive[0][1]]]
    expect(
        "InputError",
        "conditioning is 100 wide",
        run,
        "Sampler",
        model=patched,
        positive=narrow,
        negative=negative,
        latent=latent,
    )
    expect("InputError", "width and height go together", run, "Fit", model=model, vae=vae, source=image, width=64)
    expect("InputError", "the FIT is for", run, "Restore", image=image[:, :32], fit=fit)
    expect("InputError", "bring the edited one back", run, "Composite", source=image, edited=image[:, :32])
    expect("CheckpointError", "put its folder", run, "LoadModel", model_name="nowhere")
    expect(
        "InputError",
        "overlap",
        run,
        "SlidingWindow",
        vae=vae,
        connector=connector,
        window=4,
        overlap=4,
        model=model,
        instruction=instruction,
        **guidance,
    )


def check_model_that_is_not_wan():
    model = loaded(BUNDLED)[0].clone()
    other = type("Other", (), {"diffusion_model": torch.nn.Linear(1, 1)})()
    model.model = other
    _, vae, _, _ = loaded(BUNDLED)
    image = example("recolor")[0]
    expect("InputError", "not Wan", run, "Fit", model=model, vae=vae, source=image)
    expect("InputError", "not Wan", run, "Source", model=model, positive=[], negative=[], source=image, vae=vae)
    expect("InputError", "not Wan", run, "Sigmas", model=model)


def check_nothing_is_fetched_without_the_switch():
    expect("CheckpointError", "switch download on", run, "LoadModel", model_name=BUNDLED, hub_id="owner/name")


def check_heavy_libraries_wait_for_a_loader():
    assert not LOADED_EARLY, LOADED_EARLY


def check_missing_libraries_are_named():
    from instructx_pack.nodes import requirements

    before = requirements.NEEDED
    requirements.NEEDED = (*before, "a_library_that_nobody_has")
    try:
        expect("InstructXError", "a_library_that_nobody_has", run, "LoadModel", model_name=BUNDLED)
    finally:
        requirements.NEEDED = before


# memory


def check_dropping_the_mllm_frees_it():
    import gc
    import weakref

    import comfy.model_management as management

    mllm = run("LoadMLLM", base=BUNDLED, adapter=BUNDLED, precision="float32")[0]
    image, instruction, _ = example("recolor")
    run("MLLMGuidance", mllm=mllm, source=image, instruction=instruction)
    loaded_now = [entry.model for entry in management.current_loaded_models]
    assert mllm.patcher in loaded_now
    weights = weakref.ref(mllm.guidance)
    del mllm, loaded_now
    gc.collect()
    management.cleanup_models()
    assert weights() is None


def check_every_input_has_a_tooltip():
    for name, node in NODES.items():
        schema = node.GET_SCHEMA()
        schema.validate()
        assert schema.description and schema.category.startswith("InstructX"), name
        for socket in (*schema.inputs, *schema.outputs):
            assert socket.tooltip, (name, socket)


def report(asked):
    """Run the checks called `asked`, or all; write {name: "" or traceback} to the file INSTRUCTX_TEST_REPORT."""
    wanted = asked or [name for name in globals() if name.startswith("check_")]
    results = {}
    for name in wanted:
        try:
            with torch.no_grad():
                globals()[name]()
            results[name] = ""
        except Exception:
            results[name] = traceback.format_exc()
        print(name, "ok" if not results[name] else results[name], file=sys.stderr, flush=True)
    Path(os.environ["INSTRUCTX_TEST_REPORT"]).write_text(json.dumps(results), encoding="utf-8")
