"""CoinVE-Edit against what its authors' own code computed with the same weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from instructx_core import Editor, cli, families
from instructx_core.convert import convert
from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.overrides import Overrides
from instructx_core.families.part_loaders import load_local_strength
from instructx_core.long_video import LongOptions, edit_video
from instructx_core.model_info import describe
from instructx_core.request import EditRequest
from instructx_core.weights.detect import find_form
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.mllm import config_from_shapes, load_mllm
from instructx_core.weights.parts import Part
from instructx_core.windows import Span
from support import public_models, recorded, tiny
from support.folders import linked
from support.golden_runs import GOLDEN
from support.recorded import Outputs, check_close, check_frames
from support.video_files import clip, make_video

FILE = "coinve_edit_composite_vllm256_dit128.safetensors"
CASES = ("image", "video", "reference")


@pytest.fixture(scope="module", params=recorded.folders("coinve"), ids=lambda folder: folder.parent.name)
def model(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def parts(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Its base models; outside golden the tokenizer is shared with another recorded model."""
    mllm = shutil.copytree(model / "Qwen3-VL-8B-Instruct", tmp_path_factory.mktemp("coinve") / "Qwen3-VL")
    mllm.chmod(0o755)
    if not (mllm / "tokenizer.json").is_file():
        shutil.copy(model.parent / "kiwi-tiny/processor/tokenizer.json", mllm)
    wan = model / "Wan-AI/Wan2.1-T2V-14B"
    return {"transformer": wan, "vae": wan / "Wan2.1_VAE.safetensors", "mllm": mllm}


@pytest.fixture(scope="module")
def editor(model: Path, parts: dict[str, Path]) -> Editor:
    return Editor.from_pretrained(model / FILE, device="cpu", dtype="float32", **parts)


@pytest.fixture(scope="module")
def outputs(model: Path) -> Outputs:
    return Outputs.of(model)


def settings(outputs: Outputs) -> dict[str, object]:
    numbers = {"steps": int(outputs.metadata["steps"]), "seed": int(outputs.metadata["seed"])}
    sides = {"height": int(outputs.metadata["height"]), "width": int(outputs.metadata["width"])}
    return numbers | sides | {"dtype": torch.uint8, "detail": "model"}


@pytest.mark.parametrize("case", CASES)
def test_an_edit_is_its_authors(case: str, editor: Editor, outputs: Outputs):
    held = outputs.tensors
    source = held["image.source" if case == "image" else "video.source"]
    reference = held["reference.image"][0] if case == "reference" else None
    result = editor.edit(source, outputs.said("prompts")[case], reference=reference, **settings(outputs))
    check_close(result.context, held[f"{case}.context"])
    check_close(result.latents, held[f"{case}.latents"])
    check_frames(result.frames, held[f"{case}.frames"])


@pytest.mark.parametrize("case", CASES)
def test_the_prompt_is_its_authors(case: str, editor: Editor, outputs: Outputs):
    held = outputs.tensors
    source = held["image.source" if case == "image" else "video.source"].float() / 255
    references = [[held["reference.image"][0].float() / 255]] if case == "reference" else [[]]
    inputs = editor.guidance.prepare([outputs.said("prompts")[case]], [source], references, case != "image")
    ids = held[f"{case}.ids"]
    assert torch.equal(inputs.token_ids, ids[:, : inputs.token_ids.shape[1]])
    grids = [held[name] for name in (f"{case}.video_grid_thw", f"{case}.image_grid_thw") if name in held]
    assert torch.equal(inputs.grids, torch.cat(grids))


def test_several_instructions_find_their_places(editor: Editor, outputs: Outputs):
    held = outputs.tensors
    result = editor.edit(held["video.source"], outputs.said("prompts")["composite"], **settings(outputs))
    assert result.masks.shape[1:] == tuple(held["composite.grid"])
    check_close(result.masks, held["composite.masks"])
    check_close(result.context, held["composite.context"])
    check_close(result.latents, held["composite.latents"])
    check_frames(result.frames, held["composite.frames"])


def test_one_instruction_in_a_list_has_its_mask_too(editor: Editor, outputs: Outputs):
    source = outputs.tensors["video.source"]
    first = outputs.said("prompts")["composite"][0]
    listed = editor.edit(source, [first], **settings(outputs))
    assert listed.masks.shape[0] == 1
    assert editor.edit(source, first, **settings(outputs)).masks is None


def test_a_long_clip_goes_through_windows(editor: Editor, tmp_path: Path):
    source = make_video(tmp_path / "in.mp4", clip(13, 32, 32))
    options = LongOptions(window=Span.parse("9f"), overlap=Span.parse("5f"))
    edit_video(editor, source, tmp_path / "out.mp4", ["snow", "a dog"], steps=1, height=32, width=32, options=options)
    assert (tmp_path / "out.mp4").is_file()


def test_an_image_takes_one_sentence(editor: Editor, outputs: Outputs):
    with pytest.raises(InputError, match="only on a clip; for an image, say everything in one sentence"):
        editor.edit(outputs.tensors["image.source"], ["make it red", "add a dog"])


def test_another_model_takes_one_sentence(tiny_editor: Editor):
    with pytest.raises(InputError, match="takes one instruction, not a list"):
        tiny_editor.edit(tiny.clip(5), ["make it red", "add a dog"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"There are 0 instructions; give 1 to 16"),
        (["make it red", " "], "The instruction is empty"),
        (["make it red", 3], "The instruction is empty"),
        (["make it red"] * 17, r"There are 17 instructions"),
    ],
)
def test_a_list_of_instructions_is_looked_at_first(given: list[object], message: str):
    with pytest.raises(InputError, match=message):
        EditRequest.of(given)


def test_a_longer_clip_is_read_as_its_authors_do(editor: Editor, outputs: Outputs):
    video = outputs.tensors["video.source"]
    clip = torch.cat([video, video.flip(0)[1:], video[1:5]]).float() / 255
    context = editor.context([outputs.said("prompts")["video"]], [clip], [[]], True)
    check_close(context.tokens, outputs.tensors["long.context"])


@pytest.mark.slow  # test_public_models does it too
def test_one_folder_is_made_of_it(model: Path, parts: dict[str, Path], outputs: Outputs, tmp_path: Path):
    convert(model / FILE, tmp_path / "own", Overrides(**parts))
    own = Editor.from_pretrained(tmp_path / "own", device="cpu", dtype="float32")
    prompt, source = outputs.said("prompts")["image"], outputs.tensors["image.source"].float() / 255
    # LoRA is merged into bfloat16 weights there
    check_close(own.context([prompt], [source], [[]], False).tokens, outputs.tensors["image.context"], 0.2)
    result = own.edit(outputs.tensors["video.source"], outputs.said("prompts")["composite"], **settings(outputs))
    check_close(result.masks, outputs.tensors["composite.masks"], 0.1)


def test_what_it_is(model: Path, capsys: pytest.CaptureFixture[str]):
    text = describe(model / FILE)
    assert "CoinVE-Edit" in text and "6 for images, 10 for videos, 14 for references" in text
    assert "--mllm PATH" in text and "LoRA on 20 layers" in text
    assert cli.main(["info", str(model / "Qwen3-VL-8B-Instruct")]) == 0
    assert "Qwen3-VL, custom size" in capsys.readouterr().out


@pytest.mark.slow
def test_the_plan_says_that_it_counts_several_instructions(
    model: Path, parts: dict[str, Path], capsys: pytest.CaptureFixture[str]
):
    given = [argument for part, path in parts.items() for argument in (f"--{part}", str(path))]
    size = ["--width", "64", "--height", "64", "--frames", "9"]
    assert cli.main(["info", "--plan", str(model / FILE), *given, *size, "--vram", "8"]) == 0
    assert "9 frames and 3 instructions, each in its place" in capsys.readouterr().out


def test_another_mllm_is_named(model: Path, parts: dict[str, Path], saved: Path):
    with pytest.raises(CheckpointError, match=r"guided by a Qwen3-VL .* is a Qwen2\.5-VL; give a Qwen3-VL"):
        Editor.from_pretrained(model / FILE, device="cpu", **parts | {"mllm": saved / "mllm"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda held: held.pop("mllm.video_queries.q"),
            r"holds no queries\.video, which editing needs; get the file again",
        ),
        (
            lambda held: held.pop("dit.blocks.0.ffn.0.lora_B.default.weight"),
            r"only half of the LoRA for 'blocks\.0\.ffn\.0'",
        ),
        (lambda held: held.pop("mask_head.proj_v.weight"), r"'masks\.proj_v\.weight' is missing"),
        (lambda held: held.pop("mask_head.norm_c_in.bias"), r"does not fit its config.*norm_c_in\.bias"),
        (lambda held: held.pop("residual_attention_module.layers.1.residual_alpha"), r"local_strength\.1"),
        (
            lambda held: held.update({"mask_predictor_config.heads": torch.tensor(5)}),
            r"heads is 5; give a divisor",
        ),
        (
            lambda held: held.update({"mask_predictor_config.heads": torch.tensor(torch.nan)}),
            r"NaN or infinity in 1 tensors \('mask_predictor_config\.heads'\)",
        ),
        (
            lambda held: [held.pop(name) for name in list(held) if name.startswith("residual_attention_module.")],
            r"holds a mask head but no residual_alpha",
        ),
        (lambda held: held.update({"dit.odd": torch.zeros(1)}), r"odd\.safetensors.*\('odd'\)"),
        (
            lambda held: held.update({"mllm.odd": torch.zeros(1)}),
            "holds 'mllm\\.odd', which does not belong to CoinVE-Edit",
        ),
        (
            lambda held: held.update({"mllm.connector.0.weight": torch.zeros(256, 12)}),
            r"takes hidden states of width 12|does not fit",
        ),
    ],
)
def test_a_file_that_is_not_whole_is_named(
    change: Callable[[dict[str, torch.Tensor]], object],
    message: str,
    model: Path,
    parts: dict[str, Path],
    tmp_path: Path,
):
    held, metadata = read_safetensors(model / FILE)
    change(held)
    write_safetensors(tmp_path / "odd.safetensors", held, metadata)
    with pytest.raises(CheckpointError, match=message):
        Editor.from_pretrained(tmp_path / "odd.safetensors", device="cpu", **parts)


def test_a_strength_is_one_number(tmp_path: Path):
    held = public_models.composite(tiny.WIDTH, tiny.CHANNELS)
    held["residual_attention_module.layers.1.residual_alpha"] = torch.ones(2)
    write_safetensors(tmp_path / "odd.safetensors", held)
    with pytest.raises(CheckpointError, match=r"local_strength\.1 is \(2,\), expected \(\)"):
        load_local_strength(families.open(tmp_path / "odd.safetensors"))


@pytest.mark.parametrize("part", ["path", "transformer", "vae", "mllm"])
def test_a_truncated_part_is_named(part: str, model: Path, parts: dict[str, Path], tmp_path: Path):
    given = {"path": model / FILE} | parts
    whole = given[part] if given[part].is_file() else next(given[part].glob("*.safetensors"))
    folder = linked(whole.parent, tmp_path / "half")
    (folder / whole.name).unlink()
    (folder / whole.name).write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    given[part] = folder if given[part].is_dir() else folder / whole.name
    with pytest.raises(CheckpointError, match=rf"half/{whole.name}' is truncated"):
        Editor.from_pretrained(device="cpu", **given)


@pytest.mark.parametrize(
    ("part", "other", "message"),
    [
        ("transformer", "bernini/transformer", r"makes a context of width \d+, but the DiT in .* takes \d+"),
        ("vae", "kiwi/vae", r"makes 48 channels, but the DiT in .* takes 16"),
        ("transformer", "kiwi/vae", "does not hold a Wan DiT: it is a Wan VAE"),
        ("mllm", "nothing", "there is no file .*nothing"),
        ("vae", None, r"has no Wan VAE of its own.*--vae PATH"),
    ],
)
def test_a_part_of_another_model_is_named(
    part: str, other: str | None, message: str, model: Path, parts: dict[str, Path]
):
    given = parts | {part: None if other is None else GOLDEN / other}
    with pytest.raises(CheckpointError, match=message):
        Editor.from_pretrained(model / FILE, device="cpu", **given)


# --- a Qwen3-VL in any form


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3-VL as transformers saves it."""
    return public_models.save_qwen3(tmp_path_factory.mktemp("qwen3"))


@pytest.mark.parametrize("prefix", ["model.language_model.", "model.", "language_model.model."])
def test_a_lone_file_is_the_same_model(qwen3: Path, prefix: str, tmp_path: Path):
    held = read_safetensors(qwen3 / "model.safetensors")[0]
    renamed = {
        name.replace("model.language_model.", prefix) if "visual" not in name else name.removeprefix("model."): value
        for name, value in held.items()
        if name != "lm_head.weight"
    }
    write_safetensors(tmp_path / "odd-name.safetensors", renamed)
    for file in qwen3.glob("*.json"):
        shutil.copy(file, tmp_path)
    form = find_form(tmp_path / "odd-name.safetensors", Part.MLLM)
    assert form.title == "Qwen3-VL"
    found = load_mllm(form, tmp_path, torch.float32)[0].state_dict()
    wanted = load_mllm(find_form(qwen3, Part.MLLM), qwen3, torch.float32)[0].state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items() if name != "lm_head.weight")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("patch_size", 14, r"vision_config\.patch_size is 14"),
        ("deepstack_visual_indexes", [0, 9], r"deepstack_visual_indexes has 9; give numbers below 3"),
        ("num_position_embeddings", 63, "give a square number"),
        ("out_hidden_size", 31, r"vision_config\.out_hidden_size is 31; give 32"),
    ],
)
def test_numbers_of_its_config_have_ranges(qwen3: Path, field: str, value: object, message: str, tmp_path: Path):
    shutil.copytree(qwen3, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["vision_config"][field] = value
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_mllm(find_form(tmp_path, Part.MLLM), tmp_path, torch.float32)


def test_a_size_that_was_never_published_needs_its_config(qwen3: Path, tmp_path: Path):
    shutil.copy(qwen3 / "model.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match=r"not a Qwen3-VL of a published size .* config\.json"):
        config_from_shapes(find_form(tmp_path / "model.safetensors"), tiny.tokenizer())
