"""`instructx download` against a small hub on this machine: what it fetches, from where, and what it refuses."""

import json
import os
import signal

import pytest

from instructx_core.cli import main
from instructx_core.run_lock import only_run
from instructx_core.weights import known_models
from support import hub_server
from support.folders import files_of
from support.hub_server import COMMIT, Request

NAME = "kiwi-edit-5b-instruct-only"
HUB_ID = "linyq/kiwi-edit-5b-instruct-only-diffusers"
FOLDER = "linyq--kiwi-edit-5b-instruct-only-diffusers"
BIG = "mllm_encoder/model.safetensors"
FILES = {"mllm_encoder/config.json": b"{}", BIG: bytes(range(256)) * 200, "pipeline.py": b"code", "note.txt": b"words"}
ARRIVED = {"mllm_encoder/config.json", BIG, "download.json"}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with hub_server.serving() as served:
        served.models[HUB_ID] = dict(FILES)
        served.models["owner/name"] = dict(FILES)
        yield served


def test_a_known_model_arrives_with_its_commit(server, tmp_path, capsys):
    assert main(["download", NAME, "--to", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / FOLDER)
    assert said.err.startswith(f"{HUB_ID} at commit {COMMIT}: 51 kB in 2 files, licence mit; into ")
    assert files_of(tmp_path / FOLDER) == ARRIVED
    recorded = json.loads((tmp_path / FOLDER / "download.json").read_text())
    assert recorded == {"repository": HUB_ID, "commit": COMMIT, "licence": "mit"}


def test_a_licence_that_is_not_stated_is_said_first(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("instructx_core.weights.hub._licence", lambda _found: known_models.NOT_STATED)
    assert main(["download", NAME, "--to", str(tmp_path)]) == 0
    assert "licence not stated: ask its authors before you use it; into" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["coinve-edit", "kiwi-edit-stage3"])
def test_one_file_arrives_in_a_folder_of_its_own(server, tmp_path, name):
    known = known_models.find_known(name)
    server.models[known.repository] = {"model.safetensors": bytes(20), "README.md": b"words"}
    assert main(["download", name, "--to", str(tmp_path)]) == 0
    folder = tmp_path / known_models.folder_name(known.repository)
    assert files_of(folder) == {"model.safetensors", "download.json"}


def test_it_goes_on_where_it_stopped_and_from_the_same_commit(server, tmp_path, capsys):
    server.cut = 8192
    assert main(["download", NAME, "--to", str(tmp_path)]) == 2
    assert "run again to resume" in capsys.readouterr().err
    server.refuses = False
    server.asked.clear()
    assert main(["download", NAME, "--to", str(tmp_path)]) == 0
    assert f"/api/models/{HUB_ID}/revision/{COMMIT}" in {request.path for request in server.asked}
    assert [request for request in server.contents() if request.path.endswith(BIG)] == [
        Request("GET", f"/cdn/{HUB_ID}/resolve/{COMMIT}/{BIG}", 8192)
    ]
    assert files_of(tmp_path / FOLDER) == ARRIVED
    assert main(["download", NAME, "--to", str(tmp_path)]) == 0
    assert not server.contents()  # everything is there


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_one_says_that_it_goes_on(server, tmp_path, capsys, monkeypatch, number, code):
    monkeypatch.setattr("instructx_core.weights.hub.fetch", lambda *_: os.kill(os.getpid(), number))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        assert main(["download", NAME, "--to", str(tmp_path)]) == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert "what was downloaded is kept; run the same command to continue" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["owner/name", "name", "../x", "/etc", "owner/na me", "x" * 5000, "a\x1b[2J/b"])
def test_a_strangers_model_needs_the_owners_word(server, tmp_path, capsys, name):
    assert main(["download", name, "--to", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not a known model" in line and "allowed.txt" in line and "\x1b" not in line and len(line) < 1000
    assert not server.asked
    assert not list(tmp_path.iterdir())


def test_the_folder_of_models_is_made(server, tmp_path):
    assert main(["download", NAME, "--to", str(tmp_path / "instructx")]) == 0
    assert files_of(tmp_path / "instructx" / FOLDER) == ARRIVED


def test_two_downloads_do_not_write_the_same_files(server, tmp_path, capsys):
    with only_run(tmp_path / FOLDER):
        assert main(["download", NAME, "--to", str(tmp_path)]) == 2
    assert "another run is writing there" in capsys.readouterr().err
    assert not server.contents() and not list(tmp_path.iterdir())


def test_an_allowed_model_arrives(server, tmp_path):
    (tmp_path / "allowed.txt").write_text("\ufeff# mine\n\nowner/name  # trusted\n../x\n", encoding="utf-8")
    assert main(["download", "owner/name", "--to", str(tmp_path)]) == 0
    assert files_of(tmp_path / "owner--name") == ARRIVED
    assert main(["download", "../x", "--to", str(tmp_path)]) == 2


def test_refusals_are_one_line(server, tmp_path, capsys):
    assert main(["download", NAME, "--to", str(tmp_path / "none" / "below")]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / FOLDER).mkdir()
    record = tmp_path / FOLDER / "download.json"
    for text, said in (
        (json.dumps({"repository": "a/b", "commit": COMMIT}), "'a/b'"),
        ("[" * 100_000, "nested"),
        ("{", "JSON"),
    ):
        record.write_text(text)
        assert main(["download", NAME, "--to", str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert not server.asked
    record.write_text(json.dumps({"repository": HUB_ID, "commit": "../../main"}))
    assert main(["download", NAME, "--to", str(tmp_path)]) == 0  # a commit that is none is not asked for
    assert json.loads(record.read_text())["commit"] == COMMIT


def test_names_in_every_way():
    for name in (NAME, HUB_ID, FOLDER):
        assert known_models.find_known(name).repository == HUB_ID
    assert known_models.find_known("kiwi") is None
