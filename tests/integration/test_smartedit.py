"""SmartEdit's pickles into an InsightEdit without IAA: key for key, only where they are allowed, and never in part."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from instructx_core import Editor
from instructx_core.cli import main
from instructx_core.convert import convert
from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.overrides import Overrides
from instructx_core.model_info import describe
from support import tiny, tiny_insightedit, tiny_smartedit

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict[str, Path]:
    return tiny_smartedit.write_bases(tmp_path_factory.mktemp("bases"))


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("published") / "SmartEdit-7B"
    return folder, tiny_smartedit.write(folder)


@pytest.fixture(scope="module")
def converted(published, bases, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("converted") / "model"
    convert(published[0], target, Overrides(**bases), allow_pickle=True)
    return target


def test_every_tensor_is_there(published, bases, converted):
    """All but tables of places, which transformers computes: each value once, two tables of words in two pieces."""
    unread = ("position_ids", "rotary_emb.inv_freq")
    theirs = {name: value for name, value in published[1].items() if not name.endswith(unread)}
    made = {}
    for file in ("mllm/model", "transformer/diffusion_pytorch_model", "instructx"):
        made |= {f"{file}:{name}": value for name, value in load_file(converted / f"{file}.safetensors").items()}
    ours = Counter(key(value) for value in made.values())
    for name, value in theirs.items():
        pieces = [value]
        if name.endswith(("embed_tokens.weight", "lm_head.weight")):
            pieces = [value[: -tiny_smartedit.MM], value[-tiny_smartedit.MM :]]
        for piece in pieces:
            assert ours[key(piece)], name
            ours[key(piece)] -= 1
    left = {name for name, value in made.items() if ours[key(value)] > 0}
    tower = {f"mllm/model:vision_tower.{name}" for name in load_file(bases["mllm"] / "model.safetensors")
             if name.startswith("vision_model.")}  # fmt: skip
    added = {"mllm/model:multi_modal_projector.linear_2.weight", "mllm/model:multi_modal_projector.linear_2.bias",
             "instructx:connector.unasked"}  # fmt: skip
    assert left == tower | added


def key(value: torch.Tensor) -> bytes:
    return value.contiguous().numpy().tobytes()


def test_it_edits(converted):
    editor = Editor.from_pretrained(converted)
    first = editor.edit(tiny.clip(1, 40, 56)[0], "make it blue", steps=2).frames
    assert first.shape == (1, 40, 56, 3)
    assert editor.connector.iaa is None and editor.config.guidance.lora_rank == 8
    for words in ("SmartEdit", "InsightEdit", "two_stream"):
        assert words in describe(converted)


@torch.no_grad()
def test_its_projector_is_one_linear_layer(published, converted):
    editor = Editor.from_pretrained(converted)
    features = torch.randn(1, 16, tiny_smartedit.VISION)
    weight, bias = (published[1][f"mm_projector.{name}"] for name in ("weight", "bias"))
    found = editor.guidance.mllm.model.multi_modal_projector(features)
    torch.testing.assert_close(found, torch.nn.functional.linear(features, weight, bias))


@torch.no_grad()
def test_nothing_asked_is_clip_s_empty_text(bases, converted):
    from transformers import CLIPTextModel

    model = CLIPTextModel.from_pretrained(bases["mllm"]).eval()
    unasked = load_file(converted / "instructx.safetensors")["connector.unasked"]
    torch.testing.assert_close(unasked, model(input_ids=torch.tensor([[97, 98, 98, 98, 98]])).last_hidden_state)


def test_its_second_stage_has_no_bim(bases, tmp_path):
    tiny_smartedit.write(tmp_path / "MLLMSD-7B", has_bim=False)
    convert(tmp_path / "MLLMSD-7B", tmp_path / "model", Overrides(**bases), allow_pickle=True)
    editor = Editor.from_pretrained(tmp_path / "model")
    assert editor.connector.bim is None
    editor.edit(tiny.clip(1, 40, 56)[0], "make it blue", steps=1)


def test_the_published_vae_s_old_names_are_kept_and_read(published, bases, tmp_path):
    vae = tiny_insightedit.write_old_vae(tmp_path / "vae")
    convert(published[0], tmp_path / "model", Overrides(**(bases | {"vae": vae})), allow_pickle=True)
    editor = Editor.from_pretrained(tmp_path / "model")
    for name, value in tiny_insightedit.vae().state_dict().items():
        assert torch.equal(editor.codec.vae.state_dict()[name], value)


def test_a_vae_that_it_cannot_use_is_refused_before_anything_is_written(published, bases, tmp_path):
    for name, change, reason in (
        ("variant", rename_to_variant, "is read only from a folder that diffusers wrote"),
        ("short", lose_a_tensor, "is not a complete Stable Diffusion VAE"),
        ("wan", write_wan, "was trained on a Stable Diffusion VAE, but .* is a Wan VAE"),
    ):
        vae = tmp_path / name
        tiny_insightedit.vae().save_pretrained(vae)
        change(vae)
        with pytest.raises(CheckpointError, match=reason):
            convert(published[0], tmp_path / "model", Overrides(**(bases | {"vae": vae})), allow_pickle=True)
        assert not (tmp_path / "model").exists()


def rename_to_variant(vae: Path) -> None:
    (vae / WEIGHTS).rename(vae / "diffusion_pytorch_model.fp16.safetensors")


def lose_a_tensor(vae: Path) -> None:
    state = load_file(vae / WEIGHTS)
    del state["decoder.conv_norm_out.bias"]
    save_file(state, vae / WEIGHTS, {"format": "pt"})


def write_wan(vae: Path) -> None:
    tiny.vae().save_pretrained(vae)


def test_on_the_command_line(published, bases, tmp_path, capsys):
    given = [f"--{name}={path}" for name, path in bases.items()]
    assert main(["convert", str(published[0]), str(tmp_path / "model"), *given]) == 2
    assert "pass --allow-pickle" in capsys.readouterr().err and not (tmp_path / "model").exists()
    assert main(["convert", str(published[0]), str(tmp_path / "model"), "--allow-pickle", *given]) == 0
    assert main(["edit", "nothing.png", "make it blue", "-o", "out.png", "--model", str(published[0])]) == 2


def test_as_it_is_it_is_not_opened(published):
    for use in (Editor.from_pretrained, describe):
        with pytest.raises(CheckpointError, match="is a SmartEdit in pickles; convert it first"):
            use(published[0])


def remove(*names: str):
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def drop(file: str, tensor: str):
    def change(folder: Path) -> None:
        state = torch.load(folder / file)
        del state[tensor]
        torch.save(state, folder / file)

    return change


def shape(file: str, tensor: str, *sizes: int):
    def change(folder: Path) -> None:
        state = torch.load(folder / file)
        torch.save(state | {tensor: torch.ones(sizes)}, folder / file)

    return change


def twice(folder: Path) -> None:
    (folder / "LLM-5000").mkdir()
    torch.save({}, folder / "LLM-5000/adapter_model.bin")


LLM, WORDS = "LLM-15000/adapter_model.bin", "model.base_model.model.embed_tokens.weight"
QFORMER = "embeddings_qformer/checkpoint-15000_embeddings_qformer.bin"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (remove("tokenizer.json"), "has no tokenizer; put Vicuna"),
        (twice, "several training steps .*; keep only one"),
        (drop(QFORMER, "lm_head.weight"), "has no lm_head.weight"),
        (shape(LLM, WORDS, 31, 128), "LLM-15000/.*' has 31 rows in .*embed_tokens.weight, expected more than 32"),
        (shape(LLM, WORDS, 128), r"LLM-15000/.*embed_tokens.weight' has the shape \(128,\), expected 2 dimensions"),
        (shape(QFORMER, "mm_projector.weight"), r"mm_projector.weight' has the shape \(\), expected 2 dimensions"),
        (drop(QFORMER, "mm_projector.bias"), "has no mm_projector.bias"),
        (drop(QFORMER, "sd_query_tokens"), "connector.tokens"),
        (drop(QFORMER, "sd_qformer.encoder.layer.1.output_query.dense.bias"), "output_query.dense.bias is missing"),
        (drop("modulate-15000/adapter_model.bin", "modulate_head.bias"), "text_in.bias is missing"),
        (drop("unet-15000/adapter_model.bin", "unet.conv_in.bias"), "conv_in.bias is missing"),
        (drop(LLM, "model.base_model.model.norm.weight"), "norm.weight is missing"),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_left(bases, tmp_path, change, reason):
    tiny_smartedit.write(tmp_path / "theirs")
    change(tmp_path / "theirs")
    with pytest.raises(CheckpointError, match=reason):
        convert(tmp_path / "theirs", tmp_path / "model", Overrides(**bases), allow_pickle=True)
    assert not (tmp_path / "model").exists()


def test_what_it_is_converted_with_is_asked_for(published, bases, tmp_path):
    with pytest.raises(CheckpointError, match="comes without clip-vit-large-patch14; give it with --mllm PATH"):
        convert(published[0], tmp_path / "model", Overrides(vae=bases["vae"]), allow_pickle=True)
    with pytest.raises(CheckpointError, match="comes without Stable Diffusion 1.5's VAE; give it with --vae PATH"):
        convert(published[0], tmp_path / "model", Overrides(mllm=bases["mllm"]), allow_pickle=True)
    with pytest.raises(InputError, match="be converted to a folder; give one to write"):
        convert(published[0], tmp_path / "model.safetensors", allow_pickle=True)
