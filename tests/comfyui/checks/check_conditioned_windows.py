"""Sliding windows by CONDITIONING in place of MLLM and connector: this pack's models, and any other video MODEL."""

import torch
from kit import BUNDLED, NODES, SMALLER, VARIANTS, example, expect, loaded, run


def asked(**more):
    return {"window": 5, "overlap": 1, "head": "source", "guidance_from": "window", "cuts": "", "seed": 7} | {
        "hold_colour": False,
        "steps": 2,
        "cfg": 1.0,
        "shift": 3.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 1.0,
        **more,
    }


def windows(model, vae, frames, **more):
    given = asked(**more)
    return run("SlidingWindowImages", model=model, vae=vae, source=frames, instruction="", **given)[0]


def check_conditioning_is_what_mllm_and_connector_make():
    """Of one window, where both see the same frames."""
    frames, instruction, _ = example("recolor", frames=5)
    frames = (frames * 255).round() / 255  # as windows hold them
    model, vae, mllm, connector = loaded(SMALLER)
    fitted, fit = run("Fit", model=model, vae=vae, source=frames)
    guidance = run("MLLMGuidance", mllm=mllm, source=fitted, instruction=instruction, fit=fit)[0]
    positive, negative = run("Connector", connector=connector, guidance=guidance)
    own = asked(cfg=2.0, scheduler="instructx")
    ours = run(
        "SlidingWindowImages",
        model=model,
        vae=vae,
        mllm=mllm,
        connector=connector,
        source=frames,
        instruction=instruction,
        **own,
    )[0]
    conditioned = windows(model, vae, frames, positive=positive, negative=negative, cfg=2.0, scheduler="instructx")
    assert torch.equal(ours, conditioned)


def stock():
    """A Wan MODEL that no loader of this pack has touched, and its VAE."""
    model, vae, *_ = loaded(VARIANTS[0])
    plain = model.clone()
    plain.attachments = {}
    return plain, vae


def check_another_model_edits_from_the_sources_latents():
    frames, _, _ = example("recolor", frames=13, width=96, height=64)
    model, vae = stock()
    generator = torch.Generator().manual_seed(0)
    positive = [[torch.randn(1, 6, 4096, generator=generator), {}]]
    weak, strong = (windows(model, vae, frames, positive=positive, denoise=d, steps=4) for d in (0.25, 1.0))
    assert weak.shape == strong.shape == frames.shape
    assert torch.equal(weak, windows(model, vae, frames, positive=positive, denoise=0.25, steps=4))
    through = vae.decode(vae.encode(frames))[0].cpu()  # what the VAE alone makes of it
    near, far = ((edit - through).abs().mean() for edit in (weak, strong))
    assert 0 < near < far, (near, far)
    kept = torch.zeros(1, 64, 96)
    masked = windows(model, vae, frames, positive=positive, mask=kept)
    assert (masked - frames).abs().max() <= 1 / 255, "outside of the mask the source stays"


def check_what_conditioned_windows_refuse():
    frames, instruction, _ = example("recolor", frames=5)
    model, vae = stock()
    positive = [[torch.randn(1, 6, 4096), {}]]
    expect("InputError", "set steps", windows, model, vae, frames, positive=positive, steps=0)
    expect("InputError", "no negative is connected", windows, model, vae, frames, positive=positive, cfg=3.0)
    patched = model.clone()
    patched.set_model_sampler_post_cfg_function(lambda args: args["denoised"], disable_cfg1_optimization=True)
    expect("InputError", "needs a negative even at cfg 1", windows, patched, vae, frames, positive=positive)
    given = {"positive": positive, "sampler_name": "euler_cfg_pp"}
    expect("InputError", "sampler (euler_cfg_pp) needs a negative", windows, model, vae, frames, **given)
    given = {"positive": positive, "cfg": 60.0, "edit_strength": 2.0}
    expect("InputError", "cfg times edit_strength is 120.0", windows, model, vae, frames, **given)
    expect("InputError", "Nothing says what to change", windows, model, vae, frames)
    mllm = loaded(BUNDLED)[2]
    expect("InputError", "both connected", windows, model, vae, frames, positive=positive, mllm=mllm)
    reference = torch.rand(1, 32, 32, 3)
    given = {"positive": positive, "reference": reference}
    expect("InputError", "References need a model from", windows, model, vae, frames, **given)
    for name in ("SlidingWindow", "SlidingWindowImages"):
        node = NODES[f"InstructX{name}"]
        types = {"model": "MODEL", "vae": "VAE", "source": "VIDEO" if name == "SlidingWindow" else "IMAGE"}
        said = node.validate_inputs(instruction=instruction, cuts="", input_types=types)
        assert "Nothing says what to change" in said
        both = types | {"positive": "CONDITIONING", "mllm": "INSTRUCTX_MLLM"}
        assert "both connected" in node.validate_inputs(instruction=instruction, cuts="", input_types=both)
        alone = types | {"positive": "CONDITIONING"}
        assert node.validate_inputs(instruction="", cuts="", input_types=alone) is True
    model, vae, mllm, connector = loaded("insightedit")
    said = "model is a Stable Diffusion UNet"
    for guided in ({"positive": positive}, {"mllm": mllm, "connector": connector}):
        expect("InputError", said, windows, model, vae, frames, **guided, steps=1)


def check_edit_strength_multiplies_cfg_of_any_model():
    frames = example("recolor", frames=5)[0]
    model, vae = stock()
    positive, negative = ([[torch.full((1, 6, 4096), value), {}]] for value in (0.5, -0.5))
    given = {"positive": positive, "negative": negative, "steps": 1}
    strong = windows(model, vae, frames, cfg=4.0, edit_strength=0.5, **given)
    assert torch.equal(strong, windows(model, vae, frames, cfg=2.0, **given))
    assert not torch.equal(strong, windows(model, vae, frames, cfg=4.0, **given))


def check_another_kind_of_noise_levels_takes_no_shift_of_ours():
    """LTXV's, as Flux's: ComfyUI's schedules run on them as they are."""
    from comfy.model_sampling import CONST, ModelSamplingFlux
    from instructx_pack.nodes.sampling import shift_of

    class Levels(ModelSamplingFlux, CONST):
        pass

    frames = example("recolor", frames=5)[0]
    model, vae = stock()
    model.add_object_patch("model_sampling", Levels(model.model.model_config))
    given = {"positive": [[torch.zeros(1, 6, 4096), {}]], "steps": 1}
    for wrong in ({"shift": 3.0}, {"shift": 0.0, "scheduler": "instructx"}, {"shift": 3.0, "scheduler": "instructx"}):
        expect("InputError", "schedulers and shift 0", windows, model, vae, frames, **given, **wrong)
    assert windows(model, vae, frames, **given, shift=0.0).isfinite().all()
    assert shift_of(model, 0.0) == 0.0
