"""InsightEdit on a native SD15_instructpix2pix, through the same nodes as the others, against the library."""

import os
from pathlib import Path

import comfy.samplers
import comfy.sd
import comfy.utils
import folder_paths
import torch
from check_folders import put
from comfy_extras.nodes_custom_sampler import CFGGuider, KSamplerSelect, RandomNoise, SamplerCustomAdvanced
from kit import NODES, TOLERANCE, difference, editor, example, expect, loaded, run, sampled, wired

MODELS = Path(os.environ["INSTRUCTX_TEST_INSIGHTEDIT"])
NAMES = ("insightedit", "smartedit", "v")  # the last predicts v
SIZE = {"width": 48, "height": 48}

folder_paths.add_model_folder_path("instructx", str(MODELS))


def check_a_native_unet_edits_as_the_library():
    """Whole sampling by the checkpoint's own settings: both guidances, v_txt and image tokens."""
    found = {}
    for name in NAMES:
        image, instruction, _ = example("recolor", **SIZE)
        assert type(loaded(name)[0].model).__name__ == "SD15_instructpix2pix"
        for settings in ({"steps": 3}, {"steps": 2, "cfg": 1.0}, {"steps": 4, "cfg": 3.0}):
            ours = sampled(wired(name, image, instruction), seed=4, **settings)
            asked = {"steps": settings["steps"], "guidance_scale": settings.get("cfg")}
            expected = editor(name).edit(image, instruction, seed=4, **asked).latents
            found[name, *settings.values()] = difference(ours[:, :, None], expected)
    assert max(found.values()) <= TOLERANCE, found


def check_both_guidances_are_set_apart_as_in_the_library():
    """InstructX Guidance and Sigmas in ComfyUI's own SamplerCustomAdvanced, from the LATENT of InstructX Source."""
    image, instruction, _ = example("recolor", **SIZE)
    patched, positive, negative, latent, _ = wired("insightedit", image, instruction)
    scales = {"mode": "v2v_chain", "cfg": 4.0, "source_scale": 2.5}
    (guider,) = run("Guidance", model=patched, positive=positive, negative=negative, **scales)
    (levels,) = run("Sigmas", model=patched, steps=3)
    sampler = KSamplerSelect.execute("euler")[0]
    out = SamplerCustomAdvanced.execute(RandomNoise.execute(4)[0], guider, sampler, levels, latent)[0]
    ours = patched.model.process_latent_in(out["samples"])
    asked = {"steps": 3, "guidance_scale": 4.0, "source_scale": 2.5}
    expected = editor("insightedit").edit(image, instruction, seed=4, **asked).latents
    assert difference(ours[:, :, None], expected) <= TOLERANCE


def check_cfg_plus_plus_and_post_cfg_patches_see_every_mode():
    """They get the predictions with and without the instruction once a step, and their result counts."""
    image, instruction, _ = example("recolor", **SIZE)
    patched, *rest = wired("insightedit", image, instruction)
    plain = sampled((patched, *rest), seed=4, steps=2)
    for name in ("euler_cfg_pp", "dpmpp_2m_cfg_pp", "dpmpp_2s_ancestral_cfg_pp"):
        assert difference(sampled((patched, *rest), seed=4, steps=2, sampler_name=name), plain) > TOLERANCE, name

    seen = []

    def halved(args):
        seen.append(args)
        return args["denoised"] * 0.5

    watched = patched.clone()
    watched.set_model_sampler_post_cfg_function(halved)
    assert difference(sampled((watched, *rest), seed=4, steps=2), plain) > TOLERANCE
    assert len(seen) == 2
    for args in seen:
        assert difference(args["cond_denoised"], args["uncond_denoised"]) > 0
        assert args["cond_scale"] == editor("insightedit").config.sampling.guidance_scale


def check_mode_v2v_is_comfyui_s_own_guidance():
    """At cfg 1 too, where CFG++ alone needs the prediction without the instruction."""
    image, instruction, _ = example("recolor", **SIZE)
    patched, positive, negative, latent, _ = wired("insightedit", image, instruction)
    (levels,) = run("Sigmas", model=patched, steps=2)
    for cfg in (1.0, 3.0):
        for name in ("euler", "euler_cfg_pp"):
            (guider,) = run("Guidance", model=patched, positive=positive, negative=negative, mode="v2v", cfg=cfg)
            stock = CFGGuider.execute(patched, positive, negative, cfg)[0]
            ours, theirs = (
                SamplerCustomAdvanced.execute(
                    RandomNoise.execute(4)[0], one, KSamplerSelect.execute(name)[0], levels, latent
                )[0]["samples"]
                for one in (guider, stock)
            )
            assert torch.equal(ours, theirs), (cfg, name)
            assert ours.isfinite().all()


def check_v_txt_and_image_tokens_reach_a_native_unet():
    """Each changes what comes out: the parity above is not that of two models without them."""
    image, instruction, _ = example("recolor", **SIZE)
    patched, positive, negative, latent, fit = wired("insightedit", image, instruction)
    whole = sampled((patched, positive, negative, latent, fit), seed=4, steps=2)
    for name in ("instructx_addend", "instructx_image"):
        without = [
            [[tokens, {**options, "model_conds": {n: c for n, c in options["model_conds"].items() if n != name}}]
             for tokens, options in conditioning] for conditioning in (positive, negative)
        ]  # fmt: skip
        assert difference(sampled((patched, *without, latent, fit), seed=4, steps=2), whole) > TOLERANCE, name


def check_decoded_pixels_of_a_unet_are_the_library_s():
    image, instruction, _ = example("recolor", **SIZE)
    vae = loaded("insightedit")[1]
    patched, positive, negative, latent, fit = wired("insightedit", image, instruction)
    (out,) = run("Sampler", model=patched, positive=positive, negative=negative, latent=latent, seed=4, steps=2)
    restored = run("Restore", image=vae.decode(out["samples"]), fit=fit)[0]
    expected = editor("insightedit").edit(image, instruction, seed=4, steps=2).frames
    assert difference(restored, expected) <= TOLERANCE


def check_a_unet_of_load_diffusion_model_takes_an_adapter():
    """The MODEL of another loader, the additions of the checkpoint."""
    from instructx_pack.nodes.unet_loading import load_unet, unet_state

    image, instruction, _ = example("recolor", **SIZE)
    opened = _opened("insightedit")
    read = lambda files: {k: v for file in files for k, v in comfy.utils.load_torch_file(str(file)).items()}  # noqa: E731
    stock = load_unet(opened, {}, read)
    assert stock.get_attachment("instructx") is None and unet_state(opened, read)
    for weights in ("keep the MODEL's own", "the checkpoint's"):
        model, _ = run("LoadAdapter", model=stock, adapter="insightedit", weights=weights)
        ours = sampled(wired("insightedit", image, instruction, model=model), seed=4, steps=2)
        expected = editor("insightedit").edit(image, instruction, seed=4, steps=2).latents
        assert difference(ours[:, :, None], expected) <= TOLERANCE


def check_the_published_size_is_comfyui_s_own():
    """Stable Diffusion 1.5's UNet with a source's channels, without weights: every tensor has its place."""
    from diffusers import UNet2DConditionModel
    from instructx_pack.instructx_core.weights.unet_keys import unet_name
    from instructx_pack.nodes.unet import attention_places

    with torch.device("meta"):
        sizes = {"cross_attention_dim": 768, "attention_head_dim": 8, "in_channels": 8}
        names = UNet2DConditionModel(**sizes).state_dict()
        config = comfy.supported_models.SD15_instructpix2pix(_published())
        model = config.get_model({}, "", device="meta")
    mapped = comfy.utils.unet_to_diffusers(config.unet_config)
    assert {mapped[name] for name in names} == set(model.diffusion_model.state_dict())
    assert {name: unet_name(name, 2, (False, True, True, True)) for name in names} == {n: mapped[n] for n in names}
    patcher = type("Patcher", (), {"model": model})
    assert len(attention_places(patcher)) == 16


def check_what_does_not_fit_a_unet_is_named():
    image, instruction, _ = example("recolor", **SIZE)
    own, vae, mllm, connector = loaded("insightedit")
    wan, wan_vae, _, _ = loaded("InstructX Tiny (bundled)")
    (guidance,) = run("MLLMGuidance", mllm=mllm, source=image, instruction=instruction)
    positive, negative = run("Connector", connector=connector, guidance=guidance)
    both = {"positive": positive, "negative": negative}
    expect("InputError", "still images", run, "Source", model=wan, **both, source=image, vae=vae)
    expect("InputError", "for videos", run, "Source", model=own, **both, source=image, vae=wan_vae)
    expect(
        "InputError",
        "edits single pictures",
        run,
        "Source",
        model=own,
        **both,
        source=image.expand(2, -1, -1, -1),
        vae=vae,
    )
    expect("InputError", "needs a Stable Diffusion UNet", run, "LoadAdapter", model=wan, adapter="insightedit",
           weights="keep the MODEL's own")  # fmt: skip
    patched, *pair, latent = run("Source", model=own, **both, source=image, vae=vae)
    given = {"model": patched, "positive": pair[0], "negative": pair[1], "seed": 0}
    expect("InputError", "set shift to 0 or 1", run, "Sampler", **given, latent=latent, shift=5.0)
    smaller = {"samples": latent["samples"][:, :, :4]}
    expect("InputError", "sample the LATENT", run, "Sampler", **given, latent=smaller)
    wide = [[torch.zeros(1, 3, 5), {}]]
    expect("InputError", "is 5 wide", run, "Sampler", **given | {"positive": wide}, latent=latent)
    reference = run("ExampleInput", example="recolor", seed=1, frames=1, **SIZE)[0]
    expect("InputError", "takes no references", run, "Reference", model=patched, positive=pair[0], negative=pair[1],
           vae=vae, reference=reference,
           fit_mode=NODES["InstructXReference"].define_schema().inputs[5].default)  # fmt: skip


def check_a_llava_in_comfyui_s_own_folder_is_offered():
    """Of models/text_encoders, under the adapter: it reads what the model's own does."""
    image, instruction, _ = example("recolor", **SIZE)
    with put("text_encoders", "llava", MODELS / "insightedit" / "mllm"):
        (mllm,) = run("LoadMLLM", base="text_encoders/llava", adapter="insightedit", precision="float32")
        found = run("MLLMGuidance", mllm=mllm, source=image, instruction=instruction)[0].positive
    own = run("MLLMGuidance", mllm=loaded("insightedit")[2], source=image, instruction=instruction)[0].positive
    assert difference(found.tokens, own.tokens) == 0


def check_a_mask_holds_the_rest_of_a_unet_s_latent():
    image, instruction, _ = example("recolor", **SIZE)
    own, vae, _, _ = loaded("insightedit")
    _, positive, negative, *_ = wired("insightedit", image, instruction)
    mask = torch.zeros(1, 48, 48)
    mask[:, :24] = 1
    patched, positive, negative, latent = run(
        "Source", model=own, positive=positive, negative=negative, source=image, vae=vae, mask=mask
    )
    (out,) = run("Sampler", model=patched, positive=positive, negative=negative, latent=latent, seed=1, steps=2)
    assert latent["noise_mask"].ndim == 4
    assert difference(out["samples"][:, :, 4:], latent["samples"][:, :, 4:]) <= TOLERANCE
    assert not torch.equal(out["samples"][:, :, :2], latent["samples"][:, :, :2])


def check_pictures_of_a_batch_have_a_mask_each():
    """Of as many masks; fewer or more are objects of every picture."""
    from instructx_pack.nodes.source import noise_mask

    image, instruction, _ = example("recolor", **SIZE)
    own, vae, _, _ = loaded("insightedit")
    _, positive, negative, *_ = wired("insightedit", image, instruction)
    raw = torch.cat([vae.encode(picture) for picture in (image, image.flip(1), image.flip(2))])
    masks = torch.zeros(3, 48, 48)
    for index in range(3):
        masks[index, :, 16 * index : 16 * index + 16] = 1
    patched, positive, negative, latent = run(
        "Source", model=own, positive=positive, negative=negative, source={"samples": raw}, mask=masks
    )
    assert latent["noise_mask"].shape == (3, 1, 6, 6)
    (out,) = run("Sampler", model=patched, positive=positive, negative=negative, latent=latent, seed=1, steps=2)
    for index, (edit, source) in enumerate(zip(out["samples"], raw, strict=True)):
        free = torch.zeros(6, dtype=torch.bool)
        free[2 * index : 2 * index + 2] = True
        assert difference(edit[..., ~free], source[..., ~free]) <= TOLERANCE
        assert difference(edit[..., free], source[..., free]) > 10 * TOLERANCE
    assert torch.equal(noise_mask(own, raw, masks[:2]), noise_mask(own, raw, masks[:2].amax(0)))


def _opened(name):
    from instructx_pack.instructx_core import families

    return families.open(MODELS / name)


def _published():
    return {
        "image_size": 32, "in_channels": 8, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2] * 4,
        "channel_mult": [1, 2, 4, 4], "transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_middle": 1,
        "transformer_depth_output": [1] * 9 + [0] * 3, "context_dim": 768, "num_heads": 8, "num_head_channels": -1,
        "use_spatial_transformer": True, "use_linear_in_transformer": False, "adm_in_channels": None,
        "use_temporal_attention": False, "legacy": False,
    }  # fmt: skip
