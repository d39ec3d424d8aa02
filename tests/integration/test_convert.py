"""Converting on disk: the same model under other names, or nothing at all."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from instructx_core import families
from instructx_core.cli import main
from instructx_core.convert import convert
from instructx_core.convert.writing import SUMS, write_file
from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.overrides import Overrides
from instructx_core.families.part_loaders import load_connector, load_embeddings
from instructx_core.weights import streaming
from instructx_core.weights.files import read_safetensors, read_shapes, write_safetensors
from instructx_core.weights.marks import ADAPTER
from instructx_core.weights.stored import SPELLED
from instructx_core.weights.streaming import stored_tensors, taken_tensors, tensor_file
from support import kiwi_model
from support.check_sums import check_sums
from support.folders import linked
from support.opening import config_of, load
from support.pickles import pickled
from support.same import assert_same, weights
from support.wan_models import dit_from_native

VAE_FILE = "diffusion_pytorch_model.safetensors"
DIT = f"transformer/{VAE_FILE}"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A random model as Kiwi-Edit's authors publish theirs, references before the frames; read-only."""
    folder = tmp_path_factory.mktemp("models") / "published"
    kiwi_model.publish(kiwi_model.components(kiwi_model.references_first()), folder)
    return folder


@pytest.fixture(scope="module")
def converted(published: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "own"
    assert main(["convert", str(published), str(folder)]) == 0
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- tensor by tensor


def test_copied_tensors_are_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streaming, "CHUNK", 5)
    first = {"a": torch.arange(3, dtype=torch.uint8), "b": torch.randn(2, 3), "unused": torch.ones(5)}
    second = {"c": torch.randn(7).bfloat16(), "empty": torch.zeros(0, 4)}
    write_safetensors(tmp_path / "1.safetensors", first)
    write_safetensors(tmp_path / "2.safetensors", second)
    seen: list[int] = []
    sources = {
        tmp_path / "1.safetensors": {"a": "x.a", "b": "x.b"},
        tmp_path / "2.safetensors": {"c": "c", "empty": "e"},
    }
    content = tensor_file(taken_tensors(sources), {"format": "pt"})
    write_file(tmp_path / "out.safetensors", content, seen.append)
    found, metadata = read_safetensors(tmp_path / "out.safetensors")
    expected = {"x.a": first["a"], "x.b": first["b"], "c": second["c"], "e": second["empty"]}
    assert found.keys() == expected.keys() and metadata == {"format": "pt"}
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)
    assert sum(seen) == content.size == (tmp_path / "out.safetensors").stat().st_size


def test_names_that_do_not_fit(tmp_path: Path):
    path = tmp_path / "1.safetensors"
    write_safetensors(path, {"a": torch.ones(2), "b": torch.ones(2)})
    with pytest.raises(CheckpointError, match="has no tensor 'z'"):
        taken_tensors({path: {"z": "z"}})
    with pytest.raises(CheckpointError, match="holds 'same', which the model already has elsewhere"):
        taken_tensors({path: {"a": "same", "b": "same"}})


def test_a_source_that_shrinks_meanwhile(tmp_path: Path):
    path = tmp_path / "1.safetensors"
    write_safetensors(path, {"a": torch.ones(200)})
    content = tensor_file(taken_tensors({path: {"a": "a"}}))
    os.truncate(path, 100)
    with pytest.raises(CheckpointError, match="became shorter while it was being read"):
        write_file(tmp_path / "out.safetensors", content, lambda _count: None)
    assert [path.name for path in tmp_path.iterdir()] == ["1.safetensors"]


# --- Kiwi-Edit's folder


def test_converted_it_is_the_same_model(published: Path, converted: Path):
    assert config_of(converted) == config_of(published)
    before, after = load(published), load(converted)
    for part in ("guidance", "connector", "denoiser", "codec"):
        one, other = getattr(before, part).state_dict(), getattr(after, part).state_dict()
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items()), part
    words = "Make the sky golden, 1234!"
    assert before.guidance.tokenizer(words)["input_ids"] == after.guidance.tokenizer(words)["input_ids"]


def test_its_folder_is_this_layout(converted: Path):
    assert sorted(path.name for path in converted.iterdir()) == [SUMS, ADAPTER, "mllm", "transformer", "vae"]
    assert json.loads((converted / "vae" / "config.json").read_text())["decoder_base_dim"] == 8
    assert "encoder.conv_in.weight" in read_shapes(converted / "vae" / "diffusion_pytorch_model.safetensors")
    assert check_sums(converted, SUMS) == files(converted).keys() - {SUMS}


@pytest.mark.parametrize("layout", ["published", "own"])
def test_the_dit_alone_for_comfyui(layout: str, published: Path, converted: Path, tmp_path: Path):
    convert(published if layout == "published" else converted, tmp_path / "dit.safetensors")
    native, _ = read_safetensors(tmp_path / "dit.safetensors")
    assert "blocks.1.self_attn.norm_q.weight" in native and "vae_condition.patch_embedding.weight" in native
    dit, embedders = dit_from_native(native)
    expected, _ = read_safetensors(published / DIT)
    assert dit.keys() == expected.keys() and all(torch.equal(dit[name], value) for name, value in expected.items())
    reference, _ = read_safetensors(published / "ref_embedder" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(embedders["denoiser.reference_embedding.weight"], reference["patch_embedding.weight"])
    assert check_sums(tmp_path, "dit.safetensors.sha256") == {"dit.safetensors"} and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("layout", ["published", "own"])
def test_the_adapter_alone_for_comfyui(layout: str, published: Path, converted: Path, tmp_path: Path):
    """What InstructX Load Adapter reads of a model folder is in it: config, connector, embeddings."""
    whole = published if layout == "published" else converted
    convert(whole, tmp_path / "adapter" / ADAPTER)
    assert_same({ADAPTER: read_safetensors(tmp_path / "adapter" / ADAPTER)[0]},
                {ADAPTER: read_safetensors(converted / ADAPTER)[0]})  # fmt: skip
    assert config_of(tmp_path / "adapter") == config_of(whole)
    for found, expected in zip(
        load_embeddings(families.open(tmp_path / "adapter")), load_embeddings(families.open(whole)), strict=True
    ):
        assert all(torch.equal(value, asdict(expected)[name]) for name, value in asdict(found).items())
    found, expected = load_connector(families.open(tmp_path / "adapter")), load_connector(families.open(whole))
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in found.state_dict().items())


def test_shards_keep_their_index(published: Path, tmp_path: Path):
    folder = shutil.copytree(published, tmp_path / "sharded")
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
    loaded = load(tmp_path / "own").denoiser.transformer.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    convert(folder, tmp_path / "dit.safetensors")
    assert len(read_shapes(tmp_path / "dit.safetensors")) == len(state) + 4


# --- pickles


def test_pickles_are_refused_unless_asked_for(published: Path, converted: Path, tmp_path: Path, capsys):
    folder = pickled(linked(published, tmp_path / "model"), DIT, "diffusion_pytorch_model.bin")
    pickled(folder, "mllm_encoder/model.safetensors", "pytorch_model.bin")
    convert(published, tmp_path / "expected.safetensors")
    for target, expected in ((tmp_path / "own", converted), (tmp_path / "dit.safetensors", None)):
        with pytest.raises(CheckpointError, match="a PyTorch pickle .*opened only on request.*--allow-pickle"):
            convert(folder, target)
        assert not target.exists()
        assert main(["convert", str(folder), str(target), "--allow-pickle"]) == 0
        if expected is not None:
            assert_same(weights(target), weights(expected))
    found, expected = (read_safetensors(tmp_path / name)[0] for name in ("dit.safetensors", "expected.safetensors"))
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_pickled_dit_given_apart(converted: Path, tmp_path: Path):
    torch.save({"state_dict": read_safetensors(converted / DIT)[0], "epoch": 3}, tmp_path / "dit.pt")
    torch.save(read_safetensors(converted / "vae" / VAE_FILE)[0], tmp_path / "vae.pth")
    # names of files say nothing, and a VAE of no published size has its scale in its folder's config
    vae = shutil.copytree(converted / "vae", tmp_path / "vae", ignore=shutil.ignore_patterns(VAE_FILE))
    (tmp_path / "vae.pth").rename(vae / "vae.pth")
    config = json.loads((converted / "transformer" / "config.json").read_text())
    base = Overrides(tmp_path / "dit.pt", vae)
    with pytest.raises(CheckpointError, match=r"dit\.pt' is a PyTorch pickle.*opened only on request.*--allow-pickle"):
        convert(converted, tmp_path / "own", base)
    convert(converted, tmp_path / "own", base, allow_pickle=True)
    assert_same(weights(tmp_path / "own"), weights(converted))
    made = json.loads((tmp_path / "own" / "transformer" / "config.json").read_text())
    assert {name: config[name] for name in made} == made


class Trap:
    """What a hostile pickle holds: code that runs when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("trapped",)


@pytest.mark.parametrize("held", [{"a": Trap()}, [torch.ones(1)], {"a": 1}, {}])
def test_pickles_of_anything_else_are_never_opened(
    held: object, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    torch.save(held, tmp_path / "dit.pt")
    message = r"dit\.pt' (cannot be opened safely as a pickle of tensors|does not map names to tensors)"
    with pytest.raises(CheckpointError, match=message):
        convert(converted, tmp_path / "own", Overrides(tmp_path / "dit.pt"), allow_pickle=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dit.pt"]


def test_dtypes_of_pickles_are_kept(tmp_path: Path):
    state = {str(dtype): torch.ones(3).to(dtype) for dtype in SPELLED}
    state |= {"number": torch.tensor(2.5), "strided": torch.arange(6.0).view(2, 3).T}
    torch.save(state, tmp_path / "a.pt")
    content = tensor_file(stored_tensors(tmp_path / "a.pt", allow_pickle=True), {"format": "pt"})
    write_file(tmp_path / "a.safetensors", content, lambda _count: None)
    assert_same({"a": read_safetensors(tmp_path / "a.safetensors")[0]}, {"a": state})


# --- what is refused


def test_other_things_are_refused(published: Path, converted: Path, saved: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="is not a model: it holds neither .*give a model"):
        convert(published / DIT, tmp_path / "own")
    with pytest.raises(CheckpointError, match="is not a model: it holds neither"):
        convert(published / DIT, tmp_path / "dit.safetensors", Overrides(converted / "transformer"))
    with pytest.raises(CheckpointError, match="there is no "):
        convert(tmp_path / "nowhere", tmp_path / "own")
    with pytest.raises(CheckpointError, match=r"already has this layout"):
        convert(saved, tmp_path / "own")
    with pytest.raises(CheckpointError, match="is not a model: it holds neither"):
        convert(tmp_path, tmp_path / "own")
    with pytest.raises(InputError, match="would not include the base models"):
        convert(published, tmp_path / "dit.safetensors", Overrides(vae=converted / "vae"))
    with pytest.raises(InputError, match="would not include the base models"):
        convert(published, tmp_path / ADAPTER, Overrides(converted / "transformer"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "target", "base"),
    [
        ("own", "own", None),
        ("own", f"own/{DIT}", None),
        ("own", f"own/{ADAPTER}", None),
        ("own", "own/new.safetensors", None),
        ("own", "linked/transformer", None),
        (f"own/{ADAPTER}", "own", None),
        (f"own/{ADAPTER}", f"own/{DIT}", None),
        ("own", "other/transformer", "other/transformer"),
        ("own", f"other/{DIT}", "other/transformer"),
        ("own", f"other/{DIT}", f"other/{DIT}"),
        ("own", "other", f"other/{DIT}"),
    ],
)
def test_a_source_is_never_written_over(source: str, target: str, base: str | None, converted: Path, tmp_path: Path):
    for name in ("own", "other"):
        shutil.copytree(converted, tmp_path / name)
    before = files(tmp_path)
    (tmp_path / "linked").symlink_to("own")
    with pytest.raises(
        InputError, match="is, contains or is inside .*, which is being converted; give a name elsewhere"
    ):
        convert(tmp_path / source, tmp_path / target, Overrides(base and tmp_path / base))
    assert files(tmp_path) == before


def test_one_line_on_the_command_line(tmp_path: Path, capsys):
    assert main(["convert", str(tmp_path), str(tmp_path / "own")]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and "is not a model: " in captured.err
