"""InstructX Sampler and Sigmas against ComfyUI's own samplers."""

from unittest import mock

import comfy.model_management as management
import torch
from comfy_extras import nodes_custom_sampler as custom
from kit import BUNDLED, SMALLER, TOLERANCE, difference, editor, example, expect, loaded, run, sampled, wired

import nodes as stock


def _advanced(graph, sigmas, seed, cfg=1.0):
    patched, positive, negative, latent, _ = graph
    (noise,) = custom.RandomNoise.execute(seed).args
    (guider,) = custom.CFGGuider.execute(patched, positive, negative, cfg).args
    (sampler,) = custom.KSamplerSelect.execute("euler").args
    out = custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).args[0]
    return patched.model.process_latent_in(out["samples"])


def check_sigmas_are_the_librarys():
    from instructx_pack.instructx_core.schedules import schedule

    model = loaded(SMALLER)[0]
    own = editor(SMALLER).config.sampling
    (sigmas,) = run("Sigmas", model=model)
    assert torch.equal(sigmas, schedule(own.steps, own.shift).float())
    (sigmas,) = run("Sigmas", model=model, steps=7, shift=2.5)
    assert torch.equal(sigmas, schedule(7, 2.5).float())


def check_sampler_custom_advanced_is_the_same():
    image, instruction, reference = example("reference_swap")
    graph = wired(SMALLER, image, instruction, [reference])
    (sigmas,) = run("Sigmas", model=graph[0], steps=6)
    with torch.inference_mode():
        advanced = _advanced(graph, sigmas, 9, cfg=2.0)
    assert torch.equal(advanced, sampled(graph, seed=9, steps=6, cfg=2.0))


def check_levels_with_lcm_are_the_librarys_renoising():
    """ManualSigmas and lcm, as the template of three steps has them; ComfyUI draws its noise from the seed after."""
    from instructx_pack.instructx_core import requested_edit, sampling

    image, instruction, _ = example("recolor")
    patched, positive, negative, latent, _ = wired(SMALLER, image, instruction)
    (levels,) = custom.ManualSigmas.execute("1.0, 0.757, 0.522, 0.0").args
    (sampler,) = custom.KSamplerSelect.execute("lcm").args
    with torch.inference_mode():
        given = (patched, True, 9, 1.0, positive, negative, sampler, levels, latent)
        out = custom.SamplerCustom.execute(*given).args[1]
    requested_edit.sample = lambda *given, **named: sampling.sample(
        *given, **named | {"generators": [sampling.generator_of(10)]}
    )
    try:
        ours = editor(SMALLER).edit(image, instruction, seed=9, renoise=(1, 0.757, 0.522)).latents
    finally:
        requested_edit.sample = sampling.sample
    assert difference(patched.model.process_latent_in(out["samples"]), ours) <= TOLERANCE


def check_stock_ksampler():
    image, instruction, _ = example("recolor")
    graph = wired(SMALLER, image, instruction)
    patched, positive, negative, latent, _ = graph
    for steps in (5, 10):
        with torch.inference_mode():
            (out,) = stock.KSampler().sample(patched, 9, steps, 1.0, "euler", "simple", positive, negative, latent)
        ours = sampled(graph, seed=9, steps=steps)
        assert difference(patched.model.process_latent_in(out["samples"]), ours) <= TOLERANCE


def check_comfyui_scheduler_in_our_sampler():
    image, instruction, _ = example("recolor")
    graph = wired(SMALLER, image, instruction)
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
    from instructx_pack.instructx_core.schedules import schedule

    (moved,) = ModelSamplingSD3().patch(loaded(SMALLER)[0], 2.0)
    (sigmas,) = run("Sigmas", model=moved, steps=5)
    assert torch.equal(sigmas, schedule(5, 2.0).float())


def check_too_little_denoise_is_named():
    image, instruction, _ = example("recolor", seed=14)
    graph = wired(SMALLER, image, instruction)
    expect("InputError", "50 steps are the last of 1250", sampled, graph, steps=50, denoise=0.04)


def check_edit_strength_is_a_share_of_the_guidance():
    """1 changes nothing, less goes a smaller part of the way, and it multiplies cfg."""
    image, instruction, _ = example("recolor", seed=14)
    graph = wired(SMALLER, image, instruction)
    plain = sampled(graph, seed=3)
    assert torch.equal(sampled(graph, seed=3, edit_strength=1.0), plain)
    half = sampled(graph, seed=3, edit_strength=0.5)
    assert torch.equal(half, sampled(graph, seed=3, cfg=0.5))  # the bundled model's own cfg is 1
    assert torch.equal(sampled(graph, seed=3, cfg=3.0, edit_strength=0.5), sampled(graph, seed=3, cfg=1.5))
    assert not torch.equal(half, plain)
    given = {"source": image, "instruction": instruction, "window": 5, "seed": 3}
    models = dict(zip(("model", "vae", "mllm", "connector"), loaded(SMALLER), strict=True))
    (one,) = run("SlidingWindowImages", **models, **given, edit_strength=0.5)
    (other,) = run("SlidingWindowImages", **models, **given, cfg=0.5)
    assert torch.equal(one, other)
    much, said = {"cfg": 60.0, "edit_strength": 2.0}, "cfg times edit_strength is 120.0"
    expect("InputError", said, sampled, graph, **much)
    expect("InputError", said, run, "SlidingWindowImages", **models, **given, **much)


def check_the_latent_is_in_comfyuis_dtype():
    """As --fp16-intermediates asks for; older versions know only float32."""
    image, instruction, _ = example("recolor")
    graph = wired(SMALLER, image, instruction)
    link = dict(zip(("model", "positive", "negative", "latent"), graph, strict=False))
    for dtype in (torch.float16, torch.float32):
        with mock.patch.object(management, "intermediate_dtype", return_value=dtype, create=True):
            assert run("Sampler", **link, seed=1)[0]["samples"].dtype is dtype
    with mock.patch.object(management, "intermediate_dtype", create=True):
        del management.intermediate_dtype
        assert run("Sampler", **link, seed=1)[0]["samples"].dtype is torch.float32
