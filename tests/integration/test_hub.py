"""Fetching from the hub, with the hub's real client against a small hub on this machine (`hub_server`)."""

import shutil
from collections import namedtuple

import pytest

from instructx_core import Editor
from instructx_core.errors import CheckpointError, InputError
from instructx_core.weights import hub
from instructx_core.weights.marks import mark_of
from support import hub_server
from support.folders import files_of
from support.hub_server import LARGE, PIECE, Request
from support.opening import load

NAME = "owner/name"
BIG = "mllm/model.safetensors"
KIWI = "mllm_encoder/config.json"
RESOLVE = f"/{NAME}/resolve/{hub_server.COMMIT}"
FILES = {
    "instructx.safetensors": b"adapter",
    "vae/config.json": b"{}",
    BIG: bytes(range(256)) * 200,
    "vae/merges.txt": b"a b",
    "mllm/odd name.json": b"[1]",
    "train.py": b"import os",
    "mllm/pytorch_model.bin": b"pickle",
    "../outside.json": b"{}",
    "..\\..\\outside.json": b"{}",
    "C:/outside.json": b"{}",
    "mllm/aux.json": b"{}",
    "notes.txt": b"words",
}
TAKEN = (BIG, "mllm/odd name.json", "vae/config.json", "vae/merges.txt", "instructx.safetensors")
WHOLE = len(FILES[BIG])


@pytest.fixture
def server():
    with hub_server.serving() as served:
        served.models[NAME] = dict(FILES)
        yield served


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub client's own cache, empty."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def quiet(*_):
    pass


def test_code_and_pickles_stay_away_and_the_adapter_comes_last(server):
    model = hub.look_up(NAME)
    assert tuple(file.name for file in model.files) == TAKEN
    assert model.size == sum(len(FILES[name]) for name in TAKEN)
    assert model.commit == hub_server.COMMIT
    assert not server.contents()  # it was only looked up


def test_of_kiwi_edits_layout_the_mllms_config_comes_last(server):
    files = ("mllm_encoder/config.json", "mllm_encoder/model.safetensors", "pipeline.py", "transformer/config.json")
    server.models[NAME] = dict.fromkeys(files, b"{}")
    assert [file.name for file in hub.look_up(NAME).files] == [files[1], files[3], files[0]]


def test_everything_arrives_from_that_commit(server, tmp_path):
    hub.fetch(hub.look_up(NAME), tmp_path, quiet)
    assert files_of(tmp_path) == set(TAKEN)
    assert all((tmp_path / name).read_bytes() == FILES[name] for name in TAKEN)
    paths = [f"/cdn{RESOLVE}/{name}" if name == BIG else f"{RESOLVE}/{name}" for name in TAKEN]
    assert server.contents() == [Request("GET", path, 0) for path in paths]


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    model = hub.look_up(NAME)
    hub.fetch(model, tmp_path, quiet)
    (tmp_path / "vae/config.json").write_bytes(b"[]")  # of the right size, and something else
    server.contents()
    hub.fetch(model, tmp_path, quiet)
    assert server.contents() == [Request("GET", f"{RESOLVE}/vae/config.json", 0)]
    assert (tmp_path / "vae/config.json").read_bytes() == b"{}"


def test_a_connection_that_broke_goes_on_where_it_stopped(server, tmp_path):
    model, server.cut = hub.look_up(NAME), 3 * PIECE
    with pytest.raises(CheckpointError, match=f"{BIG} of '{NAME}' could not be fetched: .*; run again to resume.$"):
        hub.fetch(model, tmp_path, quiet)
    (begun,) = files_of(tmp_path)
    assert begun.rpartition("/")[2].startswith(f".{BIG.rpartition('/')[2]}.") and begun.endswith(".partial")
    came = (tmp_path / begun).stat().st_size
    assert 0 < came <= 3 * PIECE
    server.refuses = False
    server.contents()
    seen = []
    hub.fetch(model, tmp_path, lambda *at: seen.append(at))
    assert server.contents()[0] == Request("GET", f"/cdn{RESOLVE}/{BIG}", came)
    assert files_of(tmp_path) == set(TAKEN)
    assert (tmp_path / BIG).read_bytes() == FILES[BIG]
    assert seen[0] == (0, model.size)
    assert came < seen[1][0] <= came + PIECE


def test_progress_counts_bytes_and_stops_it_by_raising(server, tmp_path):
    model, seen = hub.look_up(NAME), []

    def stop(done, total):
        seen.append(done)
        if done >= 4 * PIECE:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.fetch(model, tmp_path, stop)
    assert seen == [0, PIECE, 2 * PIECE, 3 * PIECE, 4 * PIECE]
    server.contents()
    seen.clear()
    hub.fetch(model, tmp_path, lambda done, _: seen.append(done))
    assert server.contents()[0].start == 4 * PIECE
    assert seen == sorted(seen)
    assert seen[-1] == model.size
    assert (tmp_path / BIG).read_bytes() == FILES[BIG]


def test_what_another_commit_began_is_left_behind(server, tmp_path):
    server.cut = 2 * PIECE
    with pytest.raises(CheckpointError, match="could not be fetched: 403"):
        hub.fetch(hub.look_up(NAME), tmp_path, quiet)
    server.refuses, server.models[NAME][BIG] = False, FILES[BIG][::-1]
    hub.fetch(hub.look_up(NAME), tmp_path, quiet)
    assert files_of(tmp_path) == set(TAKEN)
    assert (tmp_path / BIG).read_bytes() == FILES[BIG][::-1]


@pytest.mark.parametrize("name", [BIG, "vae/config.json"])
def test_what_arrives_damaged_is_thrown_away(server, tmp_path, name):
    model = hub.look_up(NAME)
    hub.fetch(model, tmp_path, quiet)
    (tmp_path / name).unlink()
    server.damage = True
    with pytest.raises(CheckpointError, match=f"{name} of '{NAME}' arrived damaged"):
        hub.fetch(model, tmp_path, quiet)
    assert files_of(tmp_path) == set(TAKEN) - {name}
    server.damage = False
    hub.fetch(model, tmp_path, quiet)
    assert (tmp_path / name).read_bytes() == FILES[name]


def test_a_spoilt_beginning_is_begun_anew(server, tmp_path):
    model, server.cut = hub.look_up(NAME), 2 * PIECE
    with pytest.raises(CheckpointError, match="could not be fetched: 403"):
        hub.fetch(model, tmp_path, quiet)
    (begun,) = files_of(tmp_path)
    (tmp_path / begun).write_bytes(bytes(WHOLE + 1))
    server.refuses = False
    hub.fetch(model, tmp_path, quiet)
    assert (tmp_path / BIG).read_bytes() == FILES[BIG]


def test_a_link_in_the_place_of_a_beginning_is_not_followed(server, tmp_path):
    model = hub.look_up(NAME)
    file = next(file for file in model.files if file.name == BIG)
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "model" / "mllm").mkdir(parents=True)
    for tag, target in ((file.digest[:12], tmp_path / "mine"), ("0" * 12, tmp_path / "nothing")):
        (tmp_path / "model" / "mllm" / f".model.safetensors.{tag}.partial").symlink_to(target)
    hub.fetch(model, tmp_path / "model", quiet)
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert files_of(tmp_path / "model") == set(TAKEN) and not (tmp_path / "model" / BIG).is_symlink()


def test_a_disk_that_is_too_small_is_told_before(server, tmp_path, monkeypatch):
    model = hub.look_up(NAME)
    (tmp_path / "mllm").mkdir()
    (tmp_path / BIG).write_bytes(FILES[BIG])
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(model.size - WHOLE - 1))
    with pytest.raises(CheckpointError, match=r"needs \d+ bytes more in .* free some space"):
        hub.fetch(model, tmp_path, quiet)
    assert not server.contents()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(model.size - WHOLE))
    hub.fetch(model, tmp_path, quiet)


@pytest.mark.parametrize("name", ["name", "owner/name/more", "/name", "", "owner/na me"])
def test_hub_ids_are_checked(server, name):
    with pytest.raises(InputError, match="is not a hub id"):
        hub.look_up(name)
    assert not server.asked


def test_failures_are_one_sentence(server, tmp_path):
    with pytest.raises(CheckpointError, match="^'some/other' could not be looked up on the hub: .*$"):
        hub.look_up("some/other")
    model, server.refuses = hub.look_up(NAME), True
    with pytest.raises(CheckpointError, match="could not be fetched: .*403.*; run again to resume.$"):
        hub.fetch(model, tmp_path, quiet)


def test_a_hub_that_cannot_be_reached(server, tmp_path, cache):
    server.stop()
    with pytest.raises(CheckpointError, match=f"^'{NAME}' could not be looked up on the hub: .*refused"):
        hub.look_up(NAME)
    with pytest.raises(CheckpointError, match=f"^'{NAME}' could not be fetched from the hub: .*"):
        Editor.from_pretrained(NAME, device="cpu", download=True)


def test_other_models_are_refused(server):
    del server.models[NAME]["instructx.safetensors"]
    with pytest.raises(CheckpointError, match="neither an InstructX model nor laid out as Kiwi-Edit's"):
        hub.look_up(NAME)


def test_kiwi_edit_has_a_mark_of_its_own(server, kiwi):
    server.add("owner/kiwi", kiwi)
    names = [file.name for file in hub.look_up("owner/kiwi").files]
    assert names[-1] == KIWI  # by which the nodes know such a folder
    assert names[:-1] == sorted(names[:-1])


@pytest.mark.parametrize(
    ("files", "last"),
    [
        (["model.safetensors", "README.json"], "model.safetensors"),
        (["config.json", "transformer/config.json", "transformer/a.safetensors", "vae/b.safetensors"], "config.json"),
        (["config.json", "model.safetensors"], None),  # an MLLM
        (["one.safetensors", "two.safetensors"], None),
        (["unet/one.safetensors"], None),
        (["a.safetensors", "mllm_encoder/config.json"], KIWI),
    ],
)
def test_what_a_folder_is_known_by(files: list[str], last: str | None):
    assert mark_of(files) == last


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ('{"repository": "owner/other"}', "is a download of 'owner/other'; move the folder away"),
        ('{"repository": null}', "has a download.json that names no model; move the folder away"),
        ("[]", "has a download.json that names no model; move the folder away"),
    ],
)
def test_a_folder_of_another_download(record: str, message: str, tmp_path):
    (tmp_path / hub.RECORD).write_text(record)
    with pytest.raises(CheckpointError, match=message):
        hub.recorded_commit(tmp_path, "owner/tiny")


def test_a_fetched_model_loads(server, saved, tmp_path):
    server.add("owner/tiny", saved)
    hub.fetch(hub.look_up("owner/tiny"), tmp_path, quiet)
    assert load(tmp_path).config.name
    assert any(len(content) > LARGE for content in server.models["owner/tiny"].values())


def test_the_editor_fetches_only_when_it_is_told_to(server, saved, cache):
    server.add("owner/tiny", saved)
    server.models["owner/tiny"]["evil.py"] = b"raise SystemExit"
    with pytest.raises(CheckpointError, match="download=True"):
        Editor.from_pretrained("owner/tiny", device="cpu")
    assert not server.asked
    assert Editor.from_pretrained("owner/tiny", device="cpu", download=True).config.name
    assert len(server.contents()) == len(server.models["owner/tiny"]) - 1
    Editor.from_pretrained("owner/tiny", device="cpu", download=True)
    assert not server.contents()


def test_the_editor_goes_on_with_the_file_that_was_cut_off(server, saved, cache):
    server.add("owner/tiny", saved)
    contents = server.models["owner/tiny"]
    server.cut = max(map(len, contents.values())) - 1
    with pytest.raises(CheckpointError, match="'owner/tiny' could not be fetched"):
        Editor.from_pretrained("owner/tiny", device="cpu", download=True)
    with pytest.raises(CheckpointError, match="is incomplete"):  # half of it is there, and the hub is still away
        Editor.from_pretrained("owner/tiny", device="cpu", download=True)
    whole = {path.name for path in cache.rglob(f"snapshots/{hub_server.COMMIT}/**/*") if path.is_file()}
    server.refuses = False
    server.contents()
    assert Editor.from_pretrained("owner/tiny", device="cpu", download=True).config.name
    asked = {request.path.rpartition("/")[2] for request in server.contents()}
    assert asked and not asked & whole - {"config.json", "model.safetensors"}  # names that several folders have
