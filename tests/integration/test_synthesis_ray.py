"""`instructx synthesise` on Ray: the same records, whatever dies."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml

import instructx_core.synthesis.run as running
from instructx_core import main_memory
from instructx_core.cli.progress import Board
from instructx_core.errors import InputError, NoRoom
from instructx_core.synthesis import Experts, on_ray
from instructx_core.synthesis.config import Cluster, ExpertChoice, SynthesisConfig, WorldClips
from instructx_core.synthesis.dashboard import Dashboard
from instructx_core.synthesis.one_clip import Unfinished
from instructx_core.synthesis.run import read_summary, synthesise
from instructx_core.synthesis.store import Made
from support.commands import refusal
from support.shards import check_sums, files

REASON = "NOTHING RAN ON RAY: pip install 'ray[data]'"


def plain(folder: Path, count: int, **fields: object) -> dict:
    return {"recipe": "add_remove", "output": str(folder), "world": {"count": count, "frames": 2}, "shard": 7, **fields}


def config_file(folder: Path, count: int, **fields: object) -> Path:
    file = folder / "pairs.yaml"
    file.write_text(yaml.safe_dump(plain(folder / "out", count, **fields)))
    return file


def test_without_ray_one_sentence_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    file = config_file(tmp_path, 2)
    assert "pip install 'ray[data]'" in refusal(capsys, "synthesise", file, "--workers", 2)
    assert not list((tmp_path / "out").glob("kept/*"))


def test_where_ray_cannot_start_one_sentence_says_so(tmp_path, capsys, monkeypatch):
    """Ray raises Exception itself, of no class of its own, where its node takes too long."""

    def init(**_options):
        raise Exception("The current node timed out during startup.\nIt may be overloaded.")

    parts = {"ray": {"is_initialized": lambda: False, "init": init}, "ray.data": {}}
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    said = refusal(capsys, "synthesise", config_file(tmp_path, 2), "--workers", 2)
    assert "Ray does not start here (The current node timed out during startup. It may be overloaded.)" in said
    assert "leave out --workers" in said and "\n" not in said.strip()


@contextmanager
def listening(says: bytes) -> Iterator[str]:
    """Something at a port that accepts, says a few bytes or nothing, and is no Ray."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                there, _ = server.accept()
                there.sendall(says)
                there.recv(100)
                there.close() if says else time.sleep(5)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"abc"])
def test_an_address_where_something_else_listens(tmp_path, capsys, monkeypatch, says):
    monkeypatch.setattr(on_ray, "ANSWERS_WITHIN", 0.5)
    with listening(says) as address:
        said = refusal(capsys, "synthesise", config_file(tmp_path, 2), "--ray-address", address)
    assert f"No Ray cluster answers at '{address}'" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["", " ", "127.0.0.1:1", "127.0.0.1:99999", "host:port", "127.0.0.1:"])
def test_an_address_that_does_not_answer(tmp_path, capsys, address):
    said = refusal(capsys, "synthesise", config_file(tmp_path, 2), "--ray-address", address)
    assert f"No Ray cluster answers at '{address}'" in said
    assert not (tmp_path / "out").exists()


def test_the_address_of_rays_client_is_refused(tmp_path, capsys):
    file = config_file(tmp_path, 2)
    assert "for Ray Client, which Ray Data does not support" in refusal(
        capsys, "synthesise", file, "--ray-address", "ray://127.0.0.1:10001"
    )


def test_settings_of_http_2_are_an_answer():
    with listening(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])) as address:
        on_ray.check_answers(address)


def test_objects_stay_in_this_process(tmp_path):
    config = SynthesisConfig("add_remove", str(tmp_path / "out"), world=WorldClips(1))
    with pytest.raises(InputError, match="objects stay in this process"):
        synthesise(config, Experts(), cluster=Cluster(1))
    assert not (tmp_path / "out").exists()


def test_the_dashboard_has_a_line_for_each_stage():
    now = [0.0]
    board = Dashboard(100, 20, 2, {"erase": 4}, clock=lambda: now[0])
    for number in range(10):
        now[0] += 0.5
        board.count(Made(f"c{number}", 1, 3, {"erase": 1.0, "judge": 0.5}, {"detect": 1, "judge": 1}))
    assert board.lines() == [
        "clips: 30 of 100, 2.00 clips/s, 33% of 30 pairs kept, 0:00:35 left",
        "  erase: 4.00 clips/s on 4, busy 50%, 100% kept, 0:00:18 left",
        "  judge: 4.00 clips/s on 2, busy 50%, 50% kept, 0:00:18 left",  # of the two thirds that came to it
    ]
    assert Dashboard(3, 3, clock=lambda: 0.0).lines() == ["clips: 3 of 3, 0.00 clips/s, unknown time left"]


def test_lines_are_printed_now_and_then(capsys):
    with Board() as board:
        for number in range(100):
            board([f"clips: {number}", "  judge"])
    assert capsys.readouterr().err == "clips: 0\n  judge\nclips: 99\n  judge\n"


@pytest.mark.slow
def test_two_workers_give_the_records_of_one_process(tmp_path):
    pytest.importorskip("ray", reason=REASON)
    for name, cluster in (("one", None), ("two", Cluster(2))):
        config = SynthesisConfig("swap_dynamic", str(tmp_path / name), world=WorldClips(20, 2), shard=6)
        seen: list[int] = []
        synthesise(config, progress=lambda board, seen=seen: seen.append(board.done), cluster=cluster)
        assert seen == list(range(1, 21))
        check_sums(tmp_path / name)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def footage(folder: Path) -> SynthesisConfig:
    """A picture between two broken ones; models that are never asked."""
    from PIL import Image

    (folder / "clips").mkdir()
    Image.new("RGB", (64, 64), "red").save(folder / "clips/b.png")
    for name in ("a.png", "c.png"):
        (folder / "clips" / name).write_bytes(b"no picture")
    service = ExpertChoice("service", "x", "http://127.0.0.1:9/v1")
    kinds = {"detect": "detector", "segment": "sam2", "erase": "inpainting", "redraw": "picture-edit"}
    experts = {role: ExpertChoice(kind, str(folder)) for role, kind in kinds.items()}
    experts |= dict.fromkeys(("describe", "judge"), service)
    return SynthesisConfig("add_remove", str(folder / "out"), clips=str(folder / "clips"), experts=experts)


ACTORS = dict.fromkeys(("detect", "segment", "erase", "redraw"), ())


def test_a_worker_leaves_a_clip_that_does_not_fit_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(main_memory, "free_main_memory", lambda: 0)
    worker = on_ray.ClipWorker(config := footage(tmp_path), str(tmp_path / "working"), ACTORS)
    rows = [worker({"clip": key}) for key in worker.source.keys()]
    assert [bool(row["short"]) for row in rows] == [False, True, False]
    assert not any(row["problem"] for row in rows)
    assert "b.png: 64 x 64 pixels needs" in rows[1]["short"]
    assert len(list((tmp_path / "working").iterdir())) == 2
    monkeypatch.setattr(running, "made_on_ray", lambda *_: iter([Unfinished(rows[1]["clip"], rows[1]["short"])]))
    for workers, advice in ((2, "free memory, give fewer --workers, scale"), (1, "free memory, scale")):
        with pytest.raises(NoRoom, match=rf"for 1 of 3 clips \('b.png'\), all others are finished; {advice}"):
            synthesise(config, cluster=Cluster(workers))


@pytest.mark.slow
def test_clips_that_do_not_fit_into_memory_stop_no_others(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason=REASON)
    monkeypatch.setattr(on_ray, "_start_models", lambda *_: ACTORS)
    config = footage(tmp_path)

    def take_memory() -> None:
        from instructx_core import main_memory

        main_memory.free_main_memory = lambda: 0

    place = {"address": "local", "num_cpus": 2, "include_dashboard": False, "log_to_driver": False}
    ray.init(**place, runtime_env={"worker_process_setup_hook": take_memory})
    try:
        with pytest.raises(NoRoom, match=r"for 1 of 3 clips \('b.png'\), .* give fewer --workers, .*64 x 64 pixels"):
            synthesise(config, cluster=Cluster(2))
    finally:
        ray.shutdown()
    assert read_summary(tmp_path / "out").dropped == {"any: unreadable": 2}
    check_sums(tmp_path / "out")


@pytest.mark.slow
def test_a_cluster_without_room_is_refused(tmp_path, capsys, monkeypatch):
    pytest.importorskip("ray", reason=REASON)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    world = {"clips": str(tmp_path / "clips"), "world": None}
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.png").write_bytes(b"no picture")
    service = {"kind": "service", "url": "http://127.0.0.1:9/v1", "model": "x"}
    model = {"kind": "detector", "model": str(tmp_path), "copies": 3, "gpus": 1}
    roles = dict.fromkeys(("describe", "judge"), service)
    kinds = {"segment": "sam2", "erase": "inpainting", "redraw": "picture-edit"}
    roles |= {"detect": model} | {role: {"kind": kind, "model": str(tmp_path)} for role, kind in kinds.items()}
    file = config_file(tmp_path, 2, **world, experts=roles)
    file.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(file.read_text()).items() if v is not None}))
    assert "need 3 GPUs" in refusal(capsys, "synthesise", file, "--workers", 1)
    none = {"kind": "detector", "model": str(tmp_path / "none"), "gpus": 0}
    roles = {role: one if "url" in one else none | {"kind": one["kind"]} for role, one in roles.items()}
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"experts": roles}))
    assert "none' is not a folder" in refusal(capsys, "synthesise", file, "--workers", 1)


@pytest.mark.slow
def test_what_other_processes_raise_is_one_sentence(tmp_path, capsys):
    pytest.importorskip("ray", reason=REASON)
    file = config_file(tmp_path, 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/working").write_text("in the way of the workers' folders")
    assert "working" in refusal(capsys, "synthesise", file, "--workers", 1)


def descendants(root: int) -> dict[int, str]:
    """Processes under one, and their names."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            names[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
    found = {root}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return {one: names[one] for one in found}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_a_model_that_dies_is_begun_again(tmp_path):
    pytest.importorskip("ray", reason=REASON)
    from support.tiny_experts import save_grounding_dino

    detector = ExpertChoice("detector", str(save_grounding_dino(tmp_path / "dino")), settings={"threshold": 0.0})
    roles = ("describe", "judge", "segment", "erase", "redraw")  # services have no process
    others = dict.fromkeys(roles, ExpertChoice("service", "x", "http://127.0.0.1:9/v1"))
    config = SynthesisConfig("add_remove", "out", clips="clips", experts=others | {"detect": detector})
    picture, seconds = torch.arange(64 * 64 * 3).view(64, 64, 3).to(torch.uint8), Counter()
    with on_ray._connected(Cluster(1)) as ray:
        actors = on_ray._start_models(ray, config)
        assert list(actors) == ["detect"]
        far = on_ray.FarExpert("detect", actors["detect"], seconds)
        before = far.find(picture, "red cat")
        (model,) = [one for one, name in descendants(os.getpid()).items() if "ModelActor" in name]
        os.kill(model, signal.SIGKILL)
        assert before and far.find(picture, "red cat") == before
    assert seconds["detect"] > 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_ten_kills_of_workers_and_drivers_lose_and_double_nothing(tmp_path):
    pytest.importorskip("ray", reason=REASON)
    count = 400
    synthesise(SynthesisConfig("add_remove", str(tmp_path / "whole"), world=WorldClips(count, 2), shard=7))
    file = config_file(tmp_path, count, batch=2)
    command = [sys.executable, "-m", "instructx_core", "synthesise", str(file), "--workers", "2"]
    out, chance = tmp_path / "out", random.Random(0)
    workers = drivers = 0

    def finished() -> int:
        waiting = len(list(out.glob("pending/world*"))) if out.exists() else 0
        return read_summary(out).clips + waiting

    def working(process: subprocess.Popen) -> list[int]:
        """The workers of a run, once they have made a few clips more; [] where it has ended."""
        found, before = [], None
        while process.poll() is None and (before is None or finished() < before + 4):
            found = [one for one, name in descendants(process.pid).items() if "MapWorker" in name]
            before = finished() if found and before is None else before
            time.sleep(0.05)
        time.sleep(chance.random() * 0.5)
        return found if process.poll() is None else []

    while workers + drivers < 10:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            if not (found := working(process)):
                break
            os.kill(chance.choice(found), signal.SIGKILL)
            workers += 1
            if not working(process):
                break
            drivers += 1
        finally:
            process.kill()
            process.wait()
    assert (workers, drivers) == (5, 5), f"{finished()} of {count} clips are finished"
    subprocess.run(command, check=True, capture_output=True)
    assert files(out) == files(tmp_path / "whole")
    check_sums(out)
    assert not (out / "working").exists()
