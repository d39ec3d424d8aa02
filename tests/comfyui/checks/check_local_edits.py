"""Several instructions for one clip, each with its mask (CoinVE-Edit): the nodes against the library."""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest import mock

import comfy.sd
import folder_paths
import kit
import torch
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from kit import clip, difference, expect, run

CLOSE = 1e-3
SIDES = {"width": 64, "height": 48}
EACH = ["Make the sky orange.", "Add a dog on the left."]
FILE = "coinve.safetensors"
KINDS = ("instructx", "diffusion_models", "vae", "text_encoders")
ROOT = Path(os.environ["INSTRUCTX_TEST_DOORS"])


@cache
def parts():
    """The model's file and its base models, in ComfyUI's folders."""
    for kind in KINDS:
        folder_paths.add_model_folder_path(kind, str(ROOT / kind))
    return {
        "model": ROOT / "instructx" / FILE,
        "transformer": ROOT / "diffusion_models" / FILE,
        "vae": ROOT / "vae" / FILE,
        "mllm": ROOT / "text_encoders/coinve",
    }


@cache
def loaded():
    """(MODEL, VAE, MLLM, CONNECTOR)"""
    parts()
    given = {"transformer": f"diffusion_models/{FILE}", "vae": f"vae/{FILE}", "mllm": "text_encoders/coinve"}
    return run("LoadModel", model_name=FILE, precision="float32", **given)


@cache
def editor():
    from instructx_pack.instructx_core import Editor

    given = dict(parts())
    return Editor.from_pretrained(given.pop("model"), device="cpu", dtype="float32", **given)


def normalised(model, out):
    return model.model.process_latent_in(out["samples"])


def check_several_instructions_are_the_librarys():
    model, vae, mllm, connector = loaded()
    fitted, fit = run("Fit", model=model, vae=vae, source=clip(9), **SIDES)
    link = {"model": model, "mllm": mllm, "connector": connector, "fit": fit}
    positive, negative, masks = run("LocalEdits", source=fitted, instructions="\n".join(EACH), **link)
    patched, positive, negative, latent = run(
        "Source", model=model, positive=positive, negative=negative, vae=vae, source=fitted
    )
    (out,) = run("Sampler", model=patched, positive=positive, negative=negative, latent=latent, seed=3, steps=3)
    wanted = editor().edit(clip(9), EACH, seed=3, steps=3, **SIDES)
    assert (off := difference(normalised(patched, out), wanted.latents)) <= CLOSE, off
    plain = editor().edit(clip(9), ", ".join(EACH), seed=3, steps=3, **SIDES)
    assert difference(plain.latents, wanted.latents) > 10 * CLOSE  # the masks matter
    assert len(masks) == 2 and masks[0].shape == (9, 48, 64)
    for mask, own in zip(masks, wanted.masks, strict=True):
        whole = torch.nn.functional.interpolate(own[None, None], (9, 48, 64), mode="trilinear")[0, 0]
        assert difference(mask, whole) <= CLOSE


def check_context_windows_take_their_part_of_the_masks():
    """Also of masks with as many frames as the latent, which ComfyUI would cut by itself if it saw them."""
    from instructx_pack.nodes import memory, wan

    model, vae, mllm, connector = loaded()
    fitted, fit = run("Fit", model=model, vae=vae, source=clip(13), **SIDES)
    link = {"model": model, "mllm": mllm, "connector": connector, "fit": fit}
    read, resized, frames = memory.read_places, wan.masks_of_tokens, 4
    for own_frames in (2, frames):
        ramp = torch.linspace(0, 1, own_frames)[:, None, None].expand(1, 2, -1, 3, 4)
        with mock.patch.object(memory, "read_places", lambda *given, ramp=ramp: replace(read(*given), masks=ramp)):
            positive, negative, _ = run("LocalEdits", source=fitted, instructions="\n".join(EACH), **link)
        patched, positive, negative, latent = run(
            "Source", model=model, positive=positive, negative=negative, vae=vae, source=fitted
        )
        assert latent["samples"].shape[2] == frames
        settings = (2, 1, "standard_static", 1, False, "pyramid", 2, False)
        windowed = ContextWindowsManualNode.execute(patched, *settings).args[0]
        with mock.patch.object(wan, "masks_of_tokens", side_effect=resized) as spy:
            run("Sampler", model=windowed, positive=positive, negative=negative, latent=latent, seed=3, steps=1)
        whole = torch.nn.functional.interpolate(ramp, (frames, 3, 4), mode="trilinear")[0, 0, :, 0, 0]
        parts = []
        for masks, (count, *_), _ in (call.args for call in spy.call_args_list):
            found = masks[0, 0, :, 0, 0]
            assert len(found) == count < frames  # a window, in some versions with the frame before it
            starts = [at for at in range(frames - count + 1) if torch.allclose(whole[at : at + count], found)]
            parts += [range(at, at + count) for at in starts]
        assert len(parts) == spy.call_count and parts[0].start == 0 and parts[-1].stop == frames, parts


def check_masks_stay_on_a_source_that_does_not_fill_the_canvas():
    """A portrait of 24 of 64 columns, and 6 frames of 9, in the nodes as in the library."""
    model, vae, mllm, connector = loaded()
    source = clip(6, width=24)
    fitted, fit = run("Fit", model=model, vae=vae, source=source, **SIDES)
    link = {"model": model, "mllm": mllm, "connector": connector, "fit": fit}
    positive, negative, masks = run("LocalEdits", source=fitted, instructions="\n".join(EACH), **link)
    carried = positive[0][1]["model_conds"]["instructx_local"].cond[1]
    assert carried.shape == (1, 2, 3, 6, 8) and masks[0].shape == (6, 48, 24)
    assert torch.equal(carried[..., 3:], carried[..., 2:3].expand(-1, -1, -1, -1, 5))
    patched, positive, negative, latent = run(
        "Source", model=model, positive=positive, negative=negative, vae=vae, source=fitted
    )
    (out,) = run("Sampler", model=patched, positive=positive, negative=negative, latent=latent, seed=3, steps=3)
    wanted = editor().edit(source, EACH, seed=3, steps=3, **SIDES)
    assert (off := difference(normalised(patched, out), wanted.latents)) <= CLOSE, off


def check_one_instruction_of_a_qwen3_is_the_librarys():
    model, vae, mllm, connector = loaded()
    for frames in (1, 5):
        fitted, fit = run("Fit", model=model, vae=vae, source=clip(frames), **SIDES)
        (guidance,) = run("MLLMGuidance", mllm=mllm, source=fitted, instruction=EACH[0], fit=fit)
        positive, negative = run("Connector", connector=connector, guidance=guidance)
        patched, positive, negative, latent = run(
            "Source", model=model, positive=positive, negative=negative, vae=vae, source=fitted
        )
        (out,) = run("Sampler", model=patched, positive=positive, negative=negative, latent=latent, seed=3, steps=3)
        wanted = editor().edit(clip(frames), EACH[0], seed=3, steps=3, **SIDES)
        assert (off := difference(normalised(patched, out), wanted.latents)) <= CLOSE, (frames, off)


def check_an_image_has_no_places():
    model, vae, mllm, connector = loaded()
    fitted, fit = run("Fit", model=model, vae=vae, source=clip(1), **SIDES)
    link = {"model": model, "mllm": mllm, "connector": connector, "source": fitted, "fit": fit}
    expect("InputError", "work only on a clip", run, "LocalEdits", instructions="a\nb", **link)
    expect("InputError", "There are 0 instructions", run, "LocalEdits", instructions=" \n", **link)


def check_a_model_without_local_edits_is_refused_before_it_is_read_for():
    _, _, mllm, connector = loaded()
    link = {"mllm": mllm, "connector": connector, "source": clip(5), "instructions": "\n".join(EACH)}
    with mock.patch("instructx_pack.nodes.mllm_guidance.understand", side_effect=AssertionError("it was read")):
        for kind in ("InstructX", "InsightEdit"):
            model = kit.loaded(f"{kind} Tiny (bundled)")[0]
            expect("InputError", "does not support local edits", run, "LocalEdits", model=model, **link)


def check_its_lora_goes_onto_a_stock_model():
    """Load Adapter puts the LoRA of the file onto a MODEL of Load Diffusion Model, as Load Model merges it; Load MLLM
    reads as the MLLM of Load Model does."""
    model, vae, mllm, connector = loaded()
    (split,) = run("LoadMLLM", base="text_encoders/coinve", adapter=FILE, precision="float32")
    stock = comfy.sd.load_diffusion_model(str(parts()["transformer"]), model_options={"dtype": torch.float32})
    adapted, _ = run("LoadAdapter", model=stock, adapter=FILE, weights="the checkpoint's LoRA")
    found = []
    for own, reader in ((model, mllm), (adapted, split)):
        fitted, fit = run("Fit", model=own, vae=vae, source=clip(5), **SIDES)
        (guidance,) = run("MLLMGuidance", mllm=reader, source=fitted, instruction=EACH[0], fit=fit)
        positive, negative = run("Connector", connector=connector, guidance=guidance)
        patched, positive, negative, latent = run(
            "Source", model=own, positive=positive, negative=negative, vae=vae, source=fitted
        )
        found += run("Sampler", model=patched, positive=positive, negative=negative, latent=latent, seed=3, steps=2)
    assert (off := difference(found[0]["samples"], found[1]["samples"])) <= CLOSE, off
