"""A loop over windows through servers of its own: killed and started again, and in flat memory."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import pytest

from support import comfyui_server
from support.comfyui_server import succeeded
from support.loops import (
    COUNT,
    FRAMES,
    INVERT,
    QUICK,
    inverted,
    loop,
    made,
    moving,
    node,
    noted,
    prepare,
    wait_for,
    whole,
)
from support.video_files import make_video

pytestmark = pytest.mark.slow


def kill_and_resume(base: Path, rounds: int) -> None:
    """kill -9 of the server in the middle, restart, Run: goes on, to the bytes of a run that was never interrupted."""
    prepare(base)
    make_video(base / "input" / "clip.mp4", moving(COUNT), rate=Fraction(25), audio=["aac"])
    nodes = INVERT | {"4": node("LoopSlow", image=["3", 0], seconds=0.3)}
    reference = None
    for number in range(rounds):
        prompt = loop(nodes, ["4", 0], seed=number, window=5, overlap=1 + number % 3)
        with comfyui_server.Server(base, options=QUICK) as server:
            server.queue(prompt)
            window = f"{1 + number % 7:05}.safetensors"
            wait_for(lambda window=window: list((base / "output" / "loops").glob(f".*/{window}")))
            time.sleep(0.03 * number)  # not always at the same place in a window
            server.kill()
        assert not made(server)
        with comfyui_server.Server(base, options=QUICK) as server:
            entry = server.run(prompt)
            assert succeeded(entry), entry["status"]
            assert "resuming after window" in server.log.read_text()
            (file,) = made(server)
            reference = reference or whole(server, base / "whole.mp4", inverted)
            assert file.read_bytes() == reference
            file.unlink()


def test_a_killed_server_goes_on_ten_times_of_ten(bundled, tmp_path):
    kill_and_resume(tmp_path / "comfyui", 10)


def test_cancelled_and_run_again_goes_on_ten_times_of_ten(bundled, tmp_path):
    """At another place each time, also inside of a window; to the bytes of a run that was never interrupted."""
    base = prepare(tmp_path / "comfyui")
    make_video(base / "input" / "clip.mp4", moving(COUNT), rate=Fraction(25), audio=["aac"])
    nodes = INVERT | {"4": node("LoopSlow", image=["3", 0], seconds=0.4)}
    with comfyui_server.Server(base, options=QUICK) as server:
        reference = whole(server, tmp_path / "whole.mp4", inverted)
        for number in range(10):
            prompt = loop(nodes, ["4", 0], seed=number, window=5, overlap=1 + number % 3)
            queued = server.queue(prompt)
            window = f"{number % 7:05}.safetensors"
            wait_for(lambda window=window: list((base / "output" / "loops").glob(f".*/{window}")))
            time.sleep(0.05 * number)
            server.post("/interrupt", {})
            entry = server.wait(queued)
            assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"])
            assert not made(server)
            before = len(server.log.read_text())
            entry = server.run(prompt)
            assert succeeded(entry), entry["status"]
            assert "resuming after window" in server.log.read_text()[before:]
            (file,) = made(server)
            assert file.read_bytes() == reference
            file.unlink()


@pytest.mark.parametrize("options", [[], ["--cache-classic"], ["--cache-none"], ["--cache-lru", "10"]], ids=" ".join)
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="what a process holds is read from /proc")
def test_1800_frames_take_the_memory_of_180(bundled, tmp_path, options):
    base = prepare(tmp_path / "comfyui")
    for count in (60, 180, 1800):
        make_video(base / "input" / f"{count}.mp4", moving(count), rate=Fraction(25))
    nodes = {
        "3": node("LoopExpand", image=["2", FRAMES]),
        "4": node("LoopLoader", shift=0.0),
        "5": node("LoopUse", image=["3", 0], loaded=["4", 0]),
    }
    peaks = {}
    with comfyui_server.Server(base, options=[*QUICK, *options]) as server:
        for count in (60, 180, 1800):
            number = server.queue(loop(nodes, ["5", 0], f"{count}.mp4", window=30))
            peaks[count] = 0
            while number not in server.get(f"/history/{number}"):
                peaks[count] = max(peaks[count], server.resident())
                time.sleep(0.02)
            entry = server.wait(number)
            assert succeeded(entry), entry["status"]
        print("peak MiB:", {count: peak >> 20 for count, peak in peaks.items()})
        assert peaks[1800] <= 1.1 * peaks[180]
        assert len(noted(server, "loaded")) <= 3, "once a prompt at most"
        made_of = base / "input" / "1800.mp4"
        assert made(server)[-1].read_bytes() == whole(server, tmp_path / "whole.mp4", inverted, made_of)
        again = len(noted(server, "loaded"))
        assert succeeded(server.run(loop(nodes, ["5", 0], "1800.mp4", window=30)))
        assert len(made(server)) == 3 and len(noted(server, "loaded")) <= again + 1
