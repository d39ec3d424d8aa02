"""Converting on disk: the same model under other names, or nothing at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from instructx_core.checkpoints.bundle import ADAPTER, read_config
from instructx_core.checkpoints.convert import convert
from instructx_core.checkpoints.files import read_safetensors, read_shapes, write_safetensors
from instructx_core.checkpoints.kiwi_keys import dit_from_native
from instructx_core.checkpoints.loading import load_model, read_model_config
from instructx_core.checkpoints.streaming import copy_tensors
from instructx_core.cli import main
from instructx_core.errors import CheckpointError, InputError

DIT = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def converted(kiwi: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "own"
    assert main(["convert", str(kiwi), str(folder)]) == 0
    return folder


# --- tensor by tensor


def test_copied_tensors_are_the_same_bytes(tmp_path: Path):
    first = {"a": torch.arange(3, dtype=torch.uint8), "b": torch.randn(2, 3), "unused": torch.ones(5)}
    second = {"c": torch.randn(7).bfloat16(), "empty": torch.zeros(0, 4)}
    write_safetensors(tmp_path / "1.safetensors", first)
    write_safetensors(tmp_path / "2.safetensors", second)
    seen: list[int] = []
    sources = {
        tmp_path / "1.safetensors": {"a": "x.a", "b": "x.b"},
        tmp_path / "2.safetensors": {"c": "c", "empty": "e"},
    }
    copy_tensors(tmp_path / "out.safetensors", sources, {"format": "pt"}, seen.append)
    found, metadata = read_safetensors(tmp_path / "out.safetensors")
    expected = {"x.a": first["a"], "x.b": first["b"], "c": second["c"], "e": second["empty"]}
    assert found.keys() == expected.keys() and metadata == {"format": "pt"}
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)
    assert sum(seen) == 3 + 24 + 14


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path):
    write_safetensors(tmp_path / "1.safetensors", {"a": torch.ones(2), "b": torch.ones(2)})
    out = tmp_path / "out.safetensors"
    with pytest.raises(CheckpointError, match="has no tensor 'z'"):
        copy_tensors(out, {tmp_path / "1.safetensors": {"z": "z"}})
    with pytest.raises(CheckpointError, match="'same', which another file has given already"):
        copy_tensors(out, {tmp_path / "1.safetensors": {"a": "same", "b": "same"}})

    def stop(_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_tensors(out, {tmp_path / "1.safetensors": {"a": "a"}}, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["1.safetensors"]


# --- Kiwi-Edit's folder


def test_converted_it_is_the_same_model(kiwi: Path, converted: Path):
    assert read_config(converted) == read_model_config(kiwi)
    before, after = load_model(kiwi), load_model(converted)
    for part in ("guidance", "connector", "denoiser", "codec"):
        one, other = getattr(before, part).state_dict(), getattr(after, part).state_dict()
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items()), part
    words = "Make the sky golden, 1234!"
    assert before.guidance.tokenizer(words)["input_ids"] == after.guidance.tokenizer(words)["input_ids"]


def test_its_folder_is_this_layout(converted: Path):
    assert sorted(path.name for path in converted.iterdir()) == [ADAPTER, "mllm", "transformer", "vae"]
    assert json.loads((converted / "vae" / "config.json").read_text())["decoder_base_dim"] == 16
    assert "encoder.conv_in.weight" in read_shapes(converted / "vae" / "diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize("layout", ["published", "own"])
def test_the_dit_alone_for_comfyui(layout: str, kiwi: Path, converted: Path, tmp_path: Path):
    convert(kiwi if layout == "published" else converted, tmp_path / "dit.safetensors")
    native, _ = read_safetensors(tmp_path / "dit.safetensors")
    assert "blocks.1.self_attn.norm_q.weight" in native and "vae_condition.patch_embedding.weight" in native
    dit, embedders = dit_from_native(native)
    expected, _ = read_safetensors(kiwi / DIT)
    assert dit.keys() == expected.keys() and all(torch.equal(dit[name], value) for name, value in expected.items())
    reference, _ = read_safetensors(kiwi / "ref_embedder" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(embedders["denoiser.reference_embedding.weight"], reference["patch_embedding.weight"])
    assert len(list(tmp_path.iterdir())) == 1


def test_shards_keep_their_index(kiwi: Path, tmp_path: Path):
    folder = shutil.copytree(kiwi, tmp_path / "sharded")
    for path in (folder / "transformer", folder / DIT):
        path.chmod(0o755)
    state, _ = read_safetensors(folder / DIT)
    (folder / DIT).unlink()
    names = sorted(state)
    shards = {"diffusion_pytorch_model-00001-of-00002.safetensors": names[::2],
              "diffusion_pytorch_model-00002-of-00002.safetensors": names[1::2]}  # fmt: skip
    for name, held in shards.items():
        write_safetensors(folder / "transformer" / name, {key: state[key] for key in held}, {"format": "pt"})
    with pytest.raises(CheckpointError, match="several weight files but no index"):
        convert(folder, tmp_path / "own")
    assert not (tmp_path / "own").exists()
    index = {"metadata": {}, "weight_map": {key: name for name, held in shards.items() for key in held}}
    (folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    convert(folder, tmp_path / "own")
    loaded = load_model(tmp_path / "own").denoiser.transformer.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    convert(folder, tmp_path / "dit.safetensors")
    assert len(read_shapes(tmp_path / "dit.safetensors")) == len(state) + 4


# --- what is refused


def test_a_pickle_is_refused_and_nothing_is_written(kiwi: Path, tmp_path: Path):
    folder = shutil.copytree(kiwi, tmp_path / "model", copy_function=lambda a, b: Path(b).symlink_to(a))
    (folder / DIT).unlink()
    (folder / DIT).write_bytes(b"PK\x03\x04" + bytes(100))
    for target in (tmp_path / "own", tmp_path / "dit.safetensors"):
        with pytest.raises(CheckpointError, match="a PyTorch pickle"):
            convert(folder, target)
        assert not target.exists()


def test_other_things_are_refused(kiwi: Path, converted: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="is no folder"):
        convert(kiwi / DIT, tmp_path / "own")
    with pytest.raises(CheckpointError, match="has this layout already"):
        convert(converted, tmp_path / "own")
    with pytest.raises(CheckpointError, match="is no Kiwi-Edit model"):
        convert(tmp_path, tmp_path / "own")
    with pytest.raises(InputError, match="is the folder that is to be converted"):
        convert(kiwi, kiwi)


def test_one_line_on_the_command_line(tmp_path: Path, capsys):
    assert main(["convert", str(tmp_path), str(tmp_path / "own")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "is no Kiwi-Edit model" in captured.err
