"""Window Open and Window Close in a real ComfyUI server on a CPU: memory and time by the number of windows.

    python benchmarks/windows.py --frames 180 1800 --size 128 96 --scale 1 4

Each row is a separate server that has run the graph over 60 frames once as a warm-up; then it runs ImageInvert (and
ImageScale) over all frames. Memory is the peak resident size of the server's process, sampled every 20 ms. Seconds per
window are those of the whole prompt, decoding and encoding included, as wall time and as CPU time (which depends less
on other load), next to those of the same work without ComfyUI.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructx_core import edit_video
from instructx_core.long_video import FrameEdit, LongOptions
from instructx_core.video import VideoWriter
from instructx_core.windows import Span
from support import comfyui_server
from support.comfyui_server import succeeded

WARM = 60  # frames


def make_source(path: Path, frames: int, width: int, height: int) -> None:
    across = torch.linspace(0, 200, width)[None, :, None].expand(height, width, 3) * torch.tensor([1, 0.7, 0.4])
    with VideoWriter(path, fps=Fraction(25)) as writer:
        for number in range(frames):
            writer.write((across + number % 50).to(torch.uint8))


def prompt(file: str, window: int, size: tuple[int, int] | None) -> dict[str, Any]:
    opened = {"window": window, "overlap": 0, "head": "none", "seed": 0, "cuts": "", "hold_colour": False}
    nodes: dict[str, Any] = {
        "1": {"class_type": "LoadVideo", "inputs": {"file": file}},
        "2": {"class_type": "InstructXWindowOpen", "inputs": {"source": ["1", 0], "folder": "loops", **opened}},
        "3": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
    }
    if size is not None:
        scale = {"upscale_method": "nearest-exact", "width": size[0], "height": size[1], "crop": "disabled"}
        nodes["4"] = {"class_type": "ImageScale", "inputs": {"image": ["3", 0], **scale}}
    last = "3" if size is None else "4"
    nodes["5"] = {"class_type": "InstructXWindowClose", "inputs": {"flow": ["2", 6], "image": [last, 0]}}
    saved = {"filename_prefix": "saved", "format": "auto", "codec": "auto"}
    return nodes | {"6": {"class_type": "SaveVideo", "inputs": {"video": ["5", 0], **saved}}}


class Peak:
    """The peak resident size of a server while the block runs."""

    def __init__(self, server: comfyui_server.Server) -> None:
        self.server, self.bytes = server, 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            self.bytes = max(self.bytes, self.server.resident())


def through_comfyui(
    frames: int, width: int, height: int, window: int, factor: int, options: Sequence[str]
) -> tuple[int, float, float, bytes]:
    """Peak bytes, wall and CPU seconds of the prompt, and the video that Window Close made."""
    size = None if factor == 1 else (width * factor, height * factor)
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "input").mkdir()
        make_source(base / "input" / "warm.mp4", WARM, width, height)
        make_source(base / "input" / "long.mp4", frames, width, height)
        with comfyui_server.Server(base, {"OMP_NUM_THREADS": "1"}, options) as server:
            assert succeeded(server.run(prompt("warm.mp4", window, size)))
            with Peak(server) as peak:
                began, used = time.monotonic(), processor(server)
                entry = server.run(prompt("long.mp4", window, size))
                seconds, used = time.monotonic() - began, processor(server) - used
            assert succeeded(entry), entry["status"]
        newest = max((base / "output" / "loops").glob("*.mp4"), key=lambda path: path.stat().st_mtime_ns)
        return peak.bytes, seconds, used, newest.read_bytes()


def processor(server: comfyui_server.Server) -> float:
    """CPU seconds that a server has used."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def without_comfyui(frames: int, width: int, height: int, window: int, factor: int) -> tuple[float, float, bytes]:
    """Wall and CPU seconds of the library's loop with a function that does the same work, and its video."""

    def edit(pixels: torch.Tensor, _turn: object) -> torch.Tensor:
        planes = (1 - pixels).permute(0, 3, 1, 2)
        return F.interpolate(planes, scale_factor=factor, mode="nearest-exact").permute(0, 2, 3, 1)

    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "long.mp4", Path(name) / "out.mp4"
        make_source(source, frames, width, height)
        options = LongOptions(window=Span(Fraction(window)), overlap=Span(Fraction(0)), anchor_colour=False)
        began, used = time.monotonic(), time.process_time()
        edit_video(FrameEdit(edit, {"edit": "inversion"}), source, target, options=options, resume=True)
        return time.monotonic() - began, time.process_time() - used, target.read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[180, 1800])
    parser.add_argument("--size", type=int, nargs=2, default=[128, 96], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--window", type=int, default=30)
    parser.add_argument(
        "--scale", type=int, nargs="+", default=[1, 4], help="factors; 1: only ImageInvert, others also enlarge"
    )
    parser.add_argument(
        "--options", nargs=argparse.REMAINDER, default=[], help="options for ComfyUI, such as --cache-none"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for factor in asked.scale:
        first = None
        for frames in asked.frames:
            common = (frames, *asked.size, asked.window, factor)
            peak, seconds, used, made = through_comfyui(*common, asked.options)
            bare, bare_used, same = without_comfyui(*common)
            windows = -(-frames // asked.window)
            first = first or peak
            print(
                f"scale {factor}, {frames} frames, {windows} windows: peak {peak >> 20} MiB (x {peak / first:.3f}), "
                f"{seconds / windows:.4f} s per window ({used / windows:.4f} of CPU time), without ComfyUI "
                f"{bare / windows:.4f} ({bare_used / windows:.4f}); "
                f"{'the same bytes' if made == same else 'OTHER BYTES'} ({hashlib.sha256(made).hexdigest()[:8]})",
                flush=True,
            )


if __name__ == "__main__":
    main()
