"""Sources as tokens of their own (Bernini-R): the nodes on ComfyUI's Wan, which does this by itself, and the modes."""

import os
from dataclasses import replace
from pathlib import Path

import folder_paths
import start
import torch
from comfy.ldm.wan.model import WanModel
from comfy_extras.nodes_custom_sampler import RandomNoise, SamplerCustomAdvanced
from kit import clip, difference, expect, loaded, run

CLOSE = 5e-3  # ComfyUI's RoPE is in float32
SIDES = {"width": 64, "height": 48}
WORDS = "Make the sky orange."
NAME = "bernini"
ROOT = Path(os.environ["INSTRUCTX_TEST_DOORS"], "instructx")


def model():
    """Its name, once its folder is among the models."""
    if "context_latents" not in WanModel.forward_orig.__code__.co_consts:
        folder_paths.add_model_folder_path("instructx", str(ROOT))
        expect("InputError", "update ComfyUI", run, "LoadModel", model_name=NAME, precision="float32")
        raise start.Skipped("this ComfyUI's Wan takes no sources as tokens of their own")
    folder_paths.add_model_folder_path("instructx", str(ROOT))
    return NAME


REFERENCE = clip(1, 48, 64, seed=1)


def euler_editor(name):
    """The library's editor with the solver that ComfyUI has."""
    from instructx_pack.instructx_core import Editor
    from instructx_pack.instructx_core.config import Solver

    own = Editor.from_pretrained(ROOT / name, device="cpu", dtype="float32")
    own.config = replace(own.config, sampling=replace(own.config.sampling, solver=Solver.EULER))
    return own


def graph(name, frames, references=()):
    """MODEL, positive, negative and LATENT."""
    own, vae, mllm, connector = loaded(name)
    fitted, fit = run("Fit", model=own, vae=vae, source=frames, **SIDES)
    shown = references[0] if references else None
    (guidance,) = run("MLLMGuidance", mllm=mllm, source=fitted, instruction=WORDS, fit=fit, reference=shown)
    positive, negative = run("Connector", connector=connector, guidance=guidance)
    link = {"model": own, "positive": positive, "negative": negative, "vae": vae}
    patched, positive, negative, latent = run("Source", source=fitted, **link)
    for reference in references:
        link |= {"model": patched, "positive": positive, "negative": negative}
        patched, positive, negative = run("Reference", reference=reference, **link)
    return patched, positive, negative, latent


def guided(made, mode, seed=3, steps=3, sampler=None, **scales):
    """Normalised latents of a run under InstructX Guidance."""
    patched, positive, negative, latent = made
    (guider,) = run("Guidance", model=patched, positive=positive, negative=negative, mode=mode, **scales)
    if sampler is None:
        from comfy_extras.nodes_custom_sampler import KSamplerSelect

        sampler = KSamplerSelect.execute("euler")[0], run("Sigmas", model=patched, steps=steps, shift=5.0)[0]
    noise = RandomNoise.execute(seed)[0]
    empty = latent | {"samples": torch.zeros_like(latent["samples"])}
    out = SamplerCustomAdvanced.execute(noise, guider, *sampler, empty)[0]
    return patched.model.process_latent_in(out["samples"])


def check_the_sampler_at_defaults_is_the_librarys_edit():
    """In the checkpoint's mode for what is edited, by its solver."""
    from instructx_pack.instructx_core import Editor

    name = model()
    own = Editor.from_pretrained(ROOT / name, device="cpu", dtype="float32")
    for frames, references in ((1, ()), (5, ()), (5, (REFERENCE,))):
        made = graph(name, clip(frames), references)
        out = run("Sampler", **named(made), seed=3, steps=3)[0]
        found = made[0].model.process_latent_in(out["samples"])
        asked = {"seed": 3, "steps": 3, **SIDES}
        wanted = own.edit(clip(frames), WORDS, list(references) or None, **asked).latents
        assert difference(found, wanted) <= CLOSE, (frames, len(references))
        euler = euler_editor(name).edit(clip(frames), WORDS, list(references) or None, **asked).latents
        assert difference(found, euler) > CLOSE, (frames, len(references))


def check_a_window_is_denoised_as_in_the_library():
    """In the checkpoint's mode by its solver, with a first frame that is held; its identity says so."""
    from instructx_pack.instructx_core import Editor
    from instructx_pack.instructx_core.long_video.editor_model import EditorModel
    from instructx_pack.instructx_core.request import EditRequest, Sampling
    from instructx_pack.nodes import sampling
    from instructx_pack.nodes.native_windows import NativeModel

    name = model()
    parts, frames, request = loaded(name), clip(5), EditRequest(WORDS, (), Sampling(3), seed=3)
    chosen = sampling.settings(parts[0], sampling.asked(3, 0, 0), "euler", sampling.OWN_SCHEDULE, 1.0)
    ours = NativeModel(parts, request, chosen)
    theirs = EditorModel(Editor.from_pretrained(ROOT / name, device="cpu", dtype="float32"), request)
    native, source = parts[0].model, theirs.encode(frames[None])
    held = source[:, :, :1] * 0.5
    raw = native.process_latent_out(source), native.process_latent_out(held)
    found = ours.denoise(raw[0], ours.read([frames]), raw[1], None)
    wanted = theirs.denoise(source, theirs.read([frames]), held)
    assert difference(native.process_latent_in(found), wanted) <= CLOSE
    assert (ours.identity()["sampler"], ours.identity()["guidance_mode"]) == ("UniPC", "task")


def check_guidance_by_references_needs_a_negative_at_cfg_1_too():
    """They are the request's, or in the conditioning, of all windows or of one."""
    from instructx_pack.instructx_core.config import GuidanceMode
    from instructx_pack.instructx_core.request import EditRequest, Sampling
    from instructx_pack.nodes import sampling
    from instructx_pack.nodes.conditioned_windows import ConditionedModel
    from instructx_pack.nodes.conditioning import STREAMS
    from instructx_pack.nodes.guider import guided_by

    own, vae, _, _ = loaded(model())
    chosen = sampling.settings(own, sampling.asked(3, 1.0, 0), "euler", sampling.OWN_SCHEDULE, 1.0)
    positive = [[torch.zeros(1, 6, 4096), {}]]
    request = EditRequest(WORDS, (REFERENCE[0],), Sampling(3), seed=3)
    expect("InputError", "needs a negative", ConditionedModel, own, vae, positive, None, request, chosen)
    request = EditRequest(WORDS, (), Sampling(3), seed=3)
    alone = ConditionedModel(own, vae, positive, None, request, chosen)
    referring = [[positive[0][0], {STREAMS: [torch.zeros(1, 16, 1, 6, 8)]}]]  # as ComfyUI's Bernini node gives it
    expect("InputError", "needs a negative", ConditionedModel, own, vae, referring, None, request, chosen)
    expect("InputError", "needs a negative", alone.take, {"positive": referring})
    alone.take({"positive": referring, "negative": positive})
    source = torch.zeros(1, 16, 2, 6, 8)
    carried = alone.conditions(source, (referring, positive))[1]
    assert guided_by(GuidanceMode.TASK, carried, source.shape) is GuidanceMode.RV2V  # the window's source comes first


def check_every_mode_is_the_librarys():
    name = model()
    own = euler_editor(name)
    for mode, frames, references in (
        ("v2v", 5, ()), ("v2v_apg", 5, ()), ("v2v_chain", 5, ()), ("rv2v", 5, (REFERENCE,)), ("task", 1, ()),
        ("task", 5, ()), ("task", 5, (REFERENCE,)), ("r2v_apg", 5, (REFERENCE,)),
    ):  # fmt: skip
        found = guided(graph(name, clip(frames), references), mode)
        wanted = own.edit(clip(frames), WORDS, list(references) or None, seed=3, steps=3, guidance_mode=mode, **SIDES)
        assert difference(found, wanted.latents) <= CLOSE, (mode, frames, len(references))
    asked = {"seed": 3, "steps": 3, "guidance_scale": 30.0, **SIDES}
    plain, projected = (own.edit(clip(5), WORDS, guidance_mode=mode, **asked).latents for mode in ("v2v", "v2v_apg"))
    found = guided(graph(name, clip(5)), "v2v_apg", cfg=30.0)
    assert difference(found, projected) < difference(found, plain) / 3  # at the usual scale both are within CLOSE


def check_unipc_is_the_librarys():
    name = model()
    from instructx_pack.instructx_core import Editor

    own = Editor.from_pretrained(ROOT / name, device="cpu", dtype="float32")
    made = graph(name, clip(5))
    found = guided(made, "v2v", sampler=run("UniPC", steps=4, shift=5.0))
    wanted = own.edit(clip(5), WORDS, seed=3, steps=4, guidance_mode="v2v", **SIDES)
    assert difference(found, wanted.latents) <= CLOSE


def check_comfyuis_own_conditioning_is_guided_too():
    """A stock MODEL and ComfyUI's Bernini node give what the pack's own nodes give."""
    name = model()
    try:
        from comfy_extras.nodes_bernini import BerniniConditioning
    except ImportError as error:
        raise start.Skipped("this ComfyUI has no Bernini node of its own") from error
    patched, positive, negative, latent = graph(name, clip(5), (REFERENCE,))
    own, vae, mllm, connector = loaded(name)
    (guidance,) = run("MLLMGuidance", mllm=mllm, source=clip(5), instruction=WORDS, reference=REFERENCE)
    texts = run("Connector", connector=connector, guidance=guidance)
    images = {"reference_image_0": REFERENCE}
    sides = {"width": 64, "height": 48, "length": 5, "batch_size": 1}
    made = BerniniConditioning.execute(*texts, vae, **sides, source_video=clip(5), reference_images=images)
    stock = (own, made[0], made[1], made[2])
    for mode in ("rv2v", "r2v_apg"):
        ours = guided((patched, positive, negative, latent), mode)
        assert difference(guided(stock, mode), ours) <= CLOSE, mode


def check_references_without_a_source_are_all_kept():
    """ComfyUI's Bernini node for its r2v: nothing but references, of which r2v_apg drops none."""
    name = model()
    try:
        from comfy_extras.nodes_bernini import BerniniConditioning
    except ImportError as error:
        raise start.Skipped("this ComfyUI has no Bernini node of its own") from error
    own, vae, mllm, connector = loaded(name)
    (guidance,) = run("MLLMGuidance", mllm=mllm, source=clip(5), instruction=WORDS, reference=REFERENCE)
    texts = run("Connector", connector=connector, guidance=guidance)
    sides = {"width": 64, "height": 48, "length": 5, "batch_size": 1}
    images = (REFERENCE, clip(1, seed=2))  # the second of the clip's size
    results = []
    for count in (0, 1, 2):
        given = {f"reference_image_{number}": image for number, image in enumerate(images[:count])}
        made = (own, *BerniniConditioning.execute(*texts, vae, **sides, reference_images=given).args)
        if not count:
            expect("InputError", "positive has none", guided, made, "r2v_apg")
            results.append(guided(made, "v2v_apg"))
            continue
        results.append(guided(made, "r2v_apg"))
        assert torch.equal(guided(made, "task"), results[-1])
        ours = guided(graph(name, clip(5), images[:count]), "r2v_apg")  # the pack's source is dropped
        assert difference(results[-1], ours) <= CLOSE, count
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert difference(results[one], results[other]) > CLOSE, (one, other)
    given = {"reference_image_0": images[1]}
    made = (own, *BerniniConditioning.execute(*texts, vae, **sides | {"length": 1}, reference_images=given).args)
    expect("InputError", "just one of the LATENT's size, which counts as the source", guided, made, "r2v_apg")


def check_a_source_is_one_on_a_latent_of_any_size():
    """As in a second pass after Upscale Latent, or a picture beside a clip: *Source* marks it."""
    from instructx_pack.nodes.conditioning import STREAMS, only_with

    name = model()
    for frames, references, mode in ((5, (), "v2v_apg"), (1, (), "v2v_apg"), (5, (REFERENCE,), "rv2v")):
        patched, positive, negative, latent = graph(name, clip(frames), references)
        _, channels, _, height, width = latent["samples"].shape
        for sides in ((height + 2, width + 4), (height, width)):
            larger = {"samples": torch.zeros(1, channels, 2, *sides)}
            made = (patched, positive, negative, larger)
            assert torch.equal(guided(made, "task"), guided(made, mode)), (frames, mode, sides)
            assert guided(made, "v2v_chain").isfinite().all()
            kept = only_with(positive, True, False, larger["samples"].shape)[0][1]
            assert [stream.shape for stream in kept[STREAMS]] == [latent["samples"].shape]


def check_a_source_comes_first_and_once():
    """A later one takes its place; streams of another node are references beside it, and have no mark of ours."""
    from instructx_pack.nodes.conditioning import STREAMS, split_streams

    patched, positive, negative, latent = graph(model(), clip(5), (REFERENCE,))
    reference, other = positive[0][1][STREAMS][1], latent["samples"] + 1
    theirs = [[positive[0][0], {STREAMS: [reference]}]]
    for given in (positive, theirs):
        link = {"model": patched, "positive": given, "negative": negative, "source": {"samples": other}}
        made = run("Source", **link)[1][0][1]
        (source,), (kept,) = split_streams(made, latent["samples"].shape)
        assert torch.equal(source, other) and kept is reference
        assert split_streams(made | {STREAMS: [reference]}, latent["samples"].shape) == ([], [reference])


def check_the_first_stream_is_the_source_if_it_has_the_latents_size():
    """Unless it is marked."""
    from instructx_pack.nodes.conditioning import STREAMS, split_streams

    def sources(stream, latent):
        return len(split_streams({STREAMS: [torch.zeros(1, 16, *stream)]}, (1, 16, *latent))[0])

    assert sources((21, 6, 8), (21, 6, 8)) == sources((20, 6, 8), (21, 6, 8)) == sources((1, 6, 8), (1, 6, 8)) == 1
    assert sources((1, 6, 8), (21, 6, 8)) == sources((21, 8, 6), (21, 6, 8)) == sources((1, 8, 6), (1, 6, 8)) == 0


def named(made):
    return dict(zip(("model", "positive", "negative", "latent"), made, strict=True))
