"""Bernini-R against what its authors' own code computed with the same weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from instructx_core import Editor, cli, families
from instructx_core.conditions.condition import Condition
from instructx_core.config import GuidanceMode
from instructx_core.context import Context
from instructx_core.convert import convert
from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.bernini.folder import recognise
from instructx_core.families.overrides import Overrides
from instructx_core.guidance.cleaning import cleaned
from instructx_core.guidance.text import TextGuidance
from instructx_core.guidance_modes import formula_of, terms
from instructx_core.long_video import LongOptions, edit_video
from instructx_core.model_info import describe
from instructx_core.sampling import initial_noise, sample
from instructx_core.schedules import unipc_schedule
from instructx_core.weights.mllm import find_tokenizer
from instructx_core.weights.parts import Part
from instructx_core.windows import Span
from support import recorded
from support.folders import linked
from support.golden_runs import GOLDEN
from support.recorded import Outputs, check_close, check_frames
from support.video_files import clip, make_video

CASES = ("image", "video", "reference", "video_plain", "video_chain")


@pytest.fixture(scope="module", params=recorded.folders("bernini"), ids=lambda folder: folder.parent.name)
def model(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def editor(model: Path) -> Editor:
    return Editor.from_pretrained(model, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def outputs(model: Path) -> Outputs:
    return Outputs.of(model)


def settings(outputs: Outputs) -> dict[str, object]:
    said = {name: int(outputs.metadata[name]) for name in ("steps", "seed", "height", "width")}
    return said | {"dtype": torch.uint8, "detail": "model"}


def check_context(context: torch.Tensor, held: torch.Tensor) -> None:
    """Every channel of the words is recorded, or every 16th; zeros follow them."""
    words, every = held.shape[1], context.shape[-1] // held.shape[-1]
    check_close(context[:, :words, ::every], held)
    assert context.shape[1] == 512 and not context[:, words:].any()


@pytest.mark.parametrize("case", CASES)
def test_an_edit_is_its_authors(case: str, editor: Editor, outputs: Outputs):
    """An image, a clip and a clip with a reference by the mode that their scripts take; two further ones by name."""
    held = outputs.tensors
    source = held["image.source" if case == "image" else "video.source"]
    reference = held["reference.image"][0] if case == "reference" else None
    mode = outputs.said("guidance_modes")[case] if case.startswith("video_") else None
    result = editor.edit(
        source, outputs.said("prompts")[case], reference=reference, guidance_mode=mode, **settings(outputs)
    )
    check_context(result.context, held[f"{case}.context"])
    check_close(result.latents, held[f"{case}.latents"])
    if f"{case}.frames" in held:
        check_frames(result.frames, held[f"{case}.frames"])


def test_a_reference_alone_is_its_authors(editor: Editor, outputs: Outputs):
    held, prompt = outputs.tensors, outputs.said("prompts")["reference_only"]
    sampling = editor.config.sampling
    whole = outputs.said("system_prompts")["reference_only"] + cleaned(prompt)
    inputs = [TextGuidance.prepare(editor.guidance, [whole]), editor.guidance.prepare_without(1)]
    with torch.no_grad():
        context, without = (editor.guidance(each) for each in inputs)
    check_context(context.tokens, held["reference_only.context"])
    sides = (int(outputs.metadata["height"]), int(outputs.metadata["width"]))
    references = editor.reference_latents([[held["reference.image"][0].float() / 255]], sides)

    def conditions(_source: bool, with_references: bool) -> tuple[Condition, ...]:
        return editor.denoiser.conditions(None, references if with_references else ())

    made = formula_of(GuidanceMode.R2V_APG, sampling)
    parts = terms(made, context, without, conditions)
    noise = initial_noise((1, 16, 2, sides[0] // 8, sides[1] // 8), int(outputs.metadata["seed"]))
    latents = sample(editor.denoiser, noise, parts, 3, 5.0, solver=sampling.solver, projection=made.projection)
    check_close(latents, held["reference_only.latents"])


def test_what_it_is_guided_away_from_is_its_authors(editor: Editor, outputs: Outputs):
    context = editor.context(None, [outputs.tensors["image.source"].float() / 255], [[]], False)
    check_context(context.tokens, outputs.tensors["negative.context"])


def test_words_are_cleaned_as_its_authors_do():
    """Recorded from their code, which calls ftfy: quotes, widths, ligatures, entities, controls, spaces."""
    for said, wanted in Outputs.of(GOLDEN / "bernini").said("cleaned").items():
        assert cleaned(said) == wanted, said
    assert cleaned("caf\u00c3\u00a9") == "caf\u00c3\u00a9"  # ftfy would repair this; we do not


def test_noise_levels_are_its_authors(outputs: Outputs):
    sigmas = unipc_schedule(int(outputs.metadata["steps"]), float(outputs.metadata["flow_shift"]))
    check_close(sigmas, outputs.tensors["sigmas"], 1e-6)
    assert (sigmas[:-1] * 1000).long().tolist() == outputs.tensors["timesteps"].tolist() == [999, 908, 713]


@pytest.mark.slow  # test_public_models does it too
def test_one_folder_is_made_of_it(model: Path, editor: Editor, outputs: Outputs, tmp_path: Path):
    convert(model, tmp_path / "own")
    own = Editor.from_pretrained(tmp_path / "own", device="cpu", dtype="float32")
    assert own.config == editor.config
    source, prompt = outputs.tensors["image.source"], outputs.said("prompts")["image"]
    found, wanted = (each.edit(source, prompt, **settings(outputs)) for each in (own, editor))
    assert torch.equal(found.latents, wanted.latents)


def test_the_commands_know_it(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    text = describe(model)
    assert "Bernini-R" in text and "none: it reads only the text" in text and "added by stream" in text
    assert cli.main(["info", "--plan", str(model), "--width", "64", "--height", "64", "--frames", "9"]) == 0
    assert "DiT step" in capsys.readouterr().out
    source = make_video(tmp_path / "in.mp4", clip(2, 32, 32))
    options = ["--model", str(model), "--steps", "1", "--height", "32", "--width", "32"]
    edit = ["edit", str(source), "make it snow", "-o", str(tmp_path / "out.mp4"), *options]
    assert cli.main([*edit, "--guidance-mode", "v2v_chain"]) == 0
    assert (tmp_path / "out.mp4").is_file()


def test_a_long_clip_goes_through_windows(editor: Editor, tmp_path: Path):
    source = make_video(tmp_path / "in.mp4", clip(13, 32, 32))
    options = LongOptions(window=Span.parse("9f"), overlap=Span.parse("5f"))
    edit_video(editor, source, tmp_path / "out.mp4", "snow", steps=1, height=32, width=32, options=options)
    assert (tmp_path / "out.mp4").is_file()


def test_references_that_keep_their_sizes_are_edited_one_by_one(editor: Editor):
    with pytest.raises(InputError, match="references of a batch differ in size.*edit the sources one by one"):
        editor.reference_latents([[torch.zeros(32, 32, 3)], [torch.zeros(32, 64, 3)]], (32, 32))


def test_an_unknown_mode_is_named(editor: Editor, outputs: Outputs):
    with pytest.raises(InputError, match="guidance_mode is 'v2x'; give one of v2v, v2v_apg"):
        editor.edit(outputs.tensors["image.source"], "make it snow", guidance_mode="v2x")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("text_encoder/model.safetensors", None, "text_encoder"),
        ("text_encoder/model.safetensors", b"\x08", "model.safetensors"),
        ("transformer/diffusion_pytorch_model.safetensors", None, "transformer"),
        ("vae/diffusion_pytorch_model.safetensors", b"\x08" * 100, "diffusion_pytorch_model.safetensors"),
        ("tokenizer/tokenizer.json", None, "has no tokenizer"),
        ("config.json", b"{", "config.json"),
    ],
)
def test_a_folder_that_is_not_whole_is_named(
    file: str, content: bytes | None, message: str, model: Path, tmp_path: Path
):
    folder = linked(model, tmp_path / "odd")
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    if file.startswith("tokenizer/"):
        (folder / "tokenizer/spiece.model").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match=message):
        Editor.from_pretrained(folder, device="cpu")


def test_a_text_encoder_from_elsewhere_takes_the_folder_s_tokenizer(model: Path, tmp_path: Path):
    (tmp_path / "umt5.safetensors").symlink_to((model / "text_encoder/model.safetensors").resolve())
    opened = families.open(model, Overrides(mllm=tmp_path / "umt5.safetensors"))
    assert find_tokenizer(opened.form(Part.MLLM), opened.match.folder) == model / "tokenizer"


def test_a_plain_wan_is_none_of_it(model: Path, tmp_path: Path):
    folder = linked(model, tmp_path / "plain")
    (folder / "config.json").unlink()
    assert recognise(folder) is None
    (folder / "config.json").write_text(json.dumps({"model_type": "other"}))
    assert recognise(folder) is None


def test_the_context_of_a_clip_is_longer_than_its_own(editor: Editor):
    """A source of another size than the edit has its own tokens, and they change the edit."""
    torch.manual_seed(0)
    context = Context(torch.randn(1, 512, editor.config.connector.output_dim))
    latents, sigma = torch.randn(1, 16, 2, 4, 6), torch.tensor(0.5)
    source, reference = torch.randn(1, 16, 2, 4, 6), torch.randn(1, 16, 1, 6, 4)
    with torch.no_grad():
        plain = editor.denoiser(latents, sigma, context)
        edited = editor.denoiser(latents, sigma, context, editor.denoiser.conditions(source, [reference]))
        assert torch.equal(plain, editor.denoiser(latents, sigma, context))  # nothing stays behind
    assert edited.shape == plain.shape and (edited - plain).abs().max() > 1e-3
