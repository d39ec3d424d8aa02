"""Safetensors files and folders: bit-exact, atomic under errors and kills, and clear about what is wrong."""

import json
import os
import pickle
import signal
import zipfile

import pytest
import torch

from instructx_core.atomic import atomic_folder, bring_back, recover_folder, replace_folder
from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.instructx.folder import adapter_path
from instructx_core.weights import files
from instructx_core.weights.files import check_finite, read_metadata, read_safetensors, read_shapes, write_safetensors
from instructx_core.weights.pickles import read_pickle

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(4, dtype=torch.bfloat16)}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, TENSORS, {"config": "{}"})
    return path


def test_round_trip_is_bit_exact(tmp_path):
    base = torch.randn(4, 6)
    special = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    tensors = {
        "plain": base,
        "transposed": base.T,
        "slice": base[:, 2:4],
        "whole rows of a bigger buffer": base[1:3],
        "expanded": torch.zeros(1, 3).expand(5, 3),
        "special": special,
        "half": base.half(),
        "bfloat": base.bfloat16(),
        "float8": base.to(torch.float8_e4m3fn),
        "integer": torch.tensor([-(2**62), 3]),
        "flag": torch.tensor([True, False]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "also empty": torch.zeros(0),
        "trained": torch.nn.Parameter(torch.randn(3)),
    }
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, tensors, {"config": '{"ü": 1}'})
    back, metadata = read_safetensors(path)
    assert metadata == read_metadata(path) == {"config": '{"ü": 1}'}
    assert set(back) == set(tensors)
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and back[name].shape == tensor.shape
        assert torch.equal(back[name].contiguous().view(-1).view(torch.uint8), as_bytes(tensor)), name
    assert names(tmp_path) == ["weights.safetensors"]


def as_bytes(tensor):
    return tensor.detach().contiguous().clone().view(-1).view(torch.uint8)


def test_tied_weights_come_back_under_every_name(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight
    write_safetensors(tmp_path / "tied.safetensors", model.state_dict())
    back, metadata = read_safetensors(tmp_path / "tied.safetensors")
    assert torch.equal(back["0.weight"], back["1.weight"]) and set(back) == set(model.state_dict())
    assert metadata == {}


def test_failed_write_keeps_the_older_file_and_leaves_nothing(weights, monkeypatch):
    def half_written(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(files, "save_file", half_written)
    with pytest.raises(InputError, match="weights.safetensors.*No space left"):
        write_safetensors(weights, {})
    assert names(weights.parent) == ["weights.safetensors"]
    assert read_metadata(weights) == {"config": "{}"}


def test_write_refuses_folders_and_missing_ones(tmp_path):
    with pytest.raises(InputError, match="folder does not exist"):
        write_safetensors(tmp_path / "none" / "w.safetensors", TENSORS)
    with pytest.raises(InputError, match="that is a folder"):
        write_safetensors(tmp_path, TENSORS)


def test_write_follows_links_and_keeps_the_umask(weights):
    link = weights.with_name("link.safetensors")
    link.symlink_to(weights)
    write_safetensors(link, {"c": torch.zeros(1)})
    assert link.is_symlink() and set(read_safetensors(weights)[0]) == {"c"}
    reference = weights.with_name("plain")
    reference.touch()
    assert weights.stat().st_mode == reference.stat().st_mode


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git-lfs pointer.*git lfs pull"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"PK\x03\x04" + bytes(100), "PyTorch pickle"),
        (pickle.dumps({"weight": [1.0] * 50}), "a pickle"),
        ((0x280).to_bytes(8, "little")[:5], "not a safetensors file, or was cut off"),  # begins as a pickle would
        (b"GGUF\x03\x00\x00\x00" + bytes(100), "GGUF"),
        (json.dumps({"weight_map": {"x" * 30: 1}}).encode(), "JSON"),
        (b"abc", "not a safetensors file"),
        (bytes(100), "not a safetensors file"),
        ((30).to_bytes(8, "little") + b'{"a":' + b" " * 25, "damaged header"),
        ((15).to_bytes(8, "little") + b'{"a":{"x":[1]}}', "damaged header"),
        ((24).to_bytes(8, "little") + b'{"__metadata__":{"a":1}}', "damaged header"),
    ],
)
def test_other_kinds_of_files_are_named(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    for read in (read_safetensors, read_metadata):
        with pytest.raises(CheckpointError, match=f"model.safetensors.*{message}") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(CheckpointError, match="there is no file .*none.safetensors"):
        read_safetensors(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="give a .safetensors file"):
        read_safetensors(tmp_path)


def test_every_truncation_is_an_error(weights):
    content = weights.read_bytes()
    for length in range(len(content)):
        weights.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="truncated|empty|cut off"):
            read_safetensors(weights)
    weights.write_bytes(content + b"x")
    with pytest.raises(CheckpointError, match="damaged"):
        read_safetensors(weights)


def test_header_that_only_safetensors_finds_wrong(weights):
    content = weights.read_bytes()
    weights.write_bytes(content.replace(b"F32", b"F64"))
    with pytest.raises(CheckpointError, match="weights.safetensors.*damaged"):
        read_safetensors(weights)


@pytest.mark.parametrize("read", [read_metadata, read_shapes, read_safetensors])
@pytest.mark.parametrize("fault", ["a hole", "an overlap", "another length"])
def test_tensors_that_do_not_lie_one_behind_the_other(tmp_path, fault, read):
    """Files of the size that their header tells."""
    last = {"a hole": [12, 20], "an overlap": [4, 12], "another length": [8, 12]}[fault]
    entries = {"a": [0, 8], "b": last}
    header = json.dumps({name: {"dtype": "F32", "shape": [2], "data_offsets": ends} for name, ends in entries.items()})
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(last[1]))
    with pytest.raises(CheckpointError, match=r"w\.safetensors' is damaged") as caught:
        read(tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)


def test_check_finite_names_the_tensors():
    check_finite({"a": torch.ones(2), "n": torch.tensor([1]), "e": torch.zeros(0)}, "w.safetensors")
    bad = {
        "nan": torch.tensor([1.0, float("nan")]),
        "inf": torch.tensor(float("inf"), dtype=torch.float16),
        "float8": torch.tensor([float("nan")]).to(torch.float8_e4m3fn),
    }
    with pytest.raises(CheckpointError, match=r"'w.safetensors' .* 3 tensors \('nan', 'inf', 'float8'\)"):
        check_finite({"a": torch.ones(2), **bad}, "w.safetensors")


def test_folder_appears_only_when_complete(tmp_path):
    target = tmp_path / "runs" / "step-1"
    with atomic_folder(target) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("new")
        assert not target.exists()
    assert (target / "deep" / "file").read_text() == "new"
    assert names(target.parent) == ["step-1"]


def test_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "model"
    for content in ("one", "two"):
        with atomic_folder(target) as folder:
            (folder / content).touch()
            if content == "two":
                assert names(target) == ["one"]
        assert names(target) == [content]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_folder_stays_as_it_was_on_an_exception(tmp_path, error):
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "one").touch()
    with pytest.raises(error), atomic_folder(target) as folder:
        (folder / "two").touch()
        raise error
    assert names(tmp_path) == ["model"] and names(target) == ["one"]


def test_older_folder_returns_when_the_exchange_fails(tmp_path, monkeypatch):
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "one").touch()
    replace = os.replace

    def fail_on_new(source, destination):
        if str(source).endswith(".partial"):
            raise OSError("disk went away")
        replace(source, destination)

    monkeypatch.setattr(os, "replace", fail_on_new)
    with pytest.raises(OSError, match="disk went away"), atomic_folder(target) as folder:
        (folder / "two").touch()
    assert names(tmp_path) == ["model"] and names(target) == ["one"]


def test_folder_refuses_a_file_and_follows_a_link(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a file has that name"), atomic_folder(tmp_path / "file"):
        pass
    with pytest.raises(InputError, match="cannot write a folder"), atomic_folder(tmp_path / "file" / "model"):
        pass
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with atomic_folder(tmp_path / "link") as folder:
        (folder / "one").touch()
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "disk") == ["one"]


def test_second_writer_makes_the_first_fail(tmp_path):
    target = tmp_path / "model"
    with pytest.raises(OSError), atomic_folder(target):
        with atomic_folder(target) as second:
            (second / "two").touch()
    assert names(tmp_path) == ["model"] and names(target) == ["two"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked copy of itself")
@pytest.mark.parametrize("kill_at", ["filling", "older one aside", "exchanged", "discarding"])
def test_kill_at_any_point_loses_nothing(tmp_path, monkeypatch, kill_at):
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "one").touch()

    child = os.fork()
    if child == 0:
        replace, moves = os.replace, []

        def dying_replace(source, destination):
            replace(source, destination)
            moves.append(source)
            if len(moves) == {"older one aside": 1, "exchanged": 2, "discarding": 3}.get(kill_at):
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = dying_replace
        with atomic_folder(target) as folder:
            (folder / "two").touch()
            if kill_at == "filling":
                os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL

    recover_folder(target)
    assert names(target) == (["two"] if kill_at in ("exchanged", "discarding") else ["one"])
    assert names(tmp_path) == ["model"]


def test_a_reader_leaves_what_is_being_written(tmp_path):
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "one").touch()
        with pytest.raises(CheckpointError, match="there is no model folder"):
            adapter_path(target)
    assert names(target) == ["one"]


def test_a_reader_between_the_two_renames_stops_no_writer(tmp_path, monkeypatch):
    target, replace, moves = tmp_path / "model", os.replace, []
    with atomic_folder(target) as folder:
        (folder / "one").touch()

    def looked_at(source, destination):
        replace(source, destination)
        moves.append(destination)
        if len(moves) == 1:  # the older one is aside
            bring_back(target)
            assert names(target) == ["one"]

    monkeypatch.setattr(os, "replace", looked_at)
    with atomic_folder(target) as folder:
        (folder / "two").touch()
    assert names(target) == ["two"] and names(tmp_path) == ["model"]


def test_leftovers_of_a_killed_file_write_go_with_the_next(weights):
    leftover = weights.with_name(f".{weights.name}.0123456789ab.partial")
    other = weights.with_name(".other.safetensors.0123456789ab.partial")
    for folder in (leftover, other):
        folder.mkdir()
        (folder / ".tmp123").touch()
    write_safetensors(weights, TENSORS)
    assert not leftover.exists() and other.exists()


def test_replace_folder_moves_a_ready_folder(tmp_path):
    ready = tmp_path / "ready"
    ready.mkdir()
    (ready / "file").touch()
    replace_folder(ready, tmp_path / "model")
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["file"]


@pytest.mark.skipif(not hasattr(os, "sysconf"), reason="how much memory there is")
def test_a_file_larger_than_memory(tmp_path):
    """Its header is read, as a plan needs; where the system maps no such file, that is a sentence."""
    count = 2 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    header = json.dumps({"huge": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
    path = tmp_path / "huge.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + count)  # a hole
    assert read_shapes(path) == {"huge": (count,)}
    try:
        found = files.read_tensors(path)
    except CheckpointError as error:
        assert str(path) in str(error) and "is one file of" in str(error)
    else:
        assert found["huge"].shape == (count,)


@pytest.mark.parametrize("damaged", [b"\x80\x02e.", b"\x80\x02h\x28.", b"\x80\x02K\x01Q."])
def test_a_damaged_pickle_is_named(damaged, tmp_path):
    """Whatever it makes PyTorch run into: IndexError, KeyError, AssertionError."""
    torch.save(TENSORS, tmp_path / "whole.pt")
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "damaged.pt", "w") as written:
        for name in whole.namelist():
            written.writestr(name, damaged if name.endswith("data.pkl") else whole.read(name))
    with pytest.raises(CheckpointError, match=r"damaged\.pt' cannot be opened safely as a pickle of tensors"):
        read_pickle(tmp_path / "damaged.pt")
