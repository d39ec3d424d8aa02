"""Loops of Window Open and Window Close as prompts, and a server's folder that can run them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from instructx_core.video import VideoReader, VideoWriter
from support.places import SUPPORT

NODES = SUPPORT / "loop_nodes.py"
COUNT = 50  # frames of the clip
QUICK = ["--disable-api-nodes"]  # to start a server in half the time
FRAMES, HELD, TAIL, INDEX, WINDOWS, SEED, FLOW, START = range(8)


def prepare(base: Path) -> Path:
    """A server's folder with the tests' nodes, and an empty one for videos to edit."""
    (base / "custom_nodes").mkdir(parents=True)
    shutil.copyfile(NODES, base / "custom_nodes" / NODES.name)
    for name in ("input", "output"):
        (base / name).mkdir()
    return base


def moving(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames that grow brighter, 50 to a cycle: uint8 [H, W, 3] each."""
    x = np.linspace(0, 200, width)[None, :, None] + np.zeros((height, 1, 3))
    return [(x * (1, 0.7, 0.4) + number % 50).astype(np.uint8) for number in range(count)]


def node(kind: str, **inputs: object) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


INVERT = {"3": node("ImageInvert", image=["2", FRAMES])}


def loop(nodes: dict[str, Any], image: list[Any], file: str = "clip.mp4", **settings: object) -> dict[str, Any]:
    """A prompt: LoadVideo 1, Open 2, `nodes`, Close 8, SaveVideo 9."""
    asked = {"window": 12, "overlap": 0, "head": "none", "seed": 5, "cuts": "", "hold_colour": False, "folder": "loops"}
    saved = {"filename_prefix": "saved", "format": "auto", "codec": "auto"}
    return {
        "1": node("LoadVideo", file=file),
        "2": node("InstructXWindowOpen", source=["1", 0], **(asked | settings)),
        **nodes,
        "8": node("InstructXWindowClose", flow=["2", FLOW], image=image),
        "9": node("SaveVideo", video=["8", 0], **saved),
    }


def error(entry: dict[str, Any]) -> dict[str, Any]:
    """What a failed prompt said, from its history."""
    return next(data for kind, data in entry["status"]["messages"] if kind == "execution_error")


def wait_for(found: Callable[[], object], limit: float = 120) -> None:
    """Look again and again until something is there."""
    deadline = time.monotonic() + limit
    while not found():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def made(server) -> list[Path]:
    """What Window Close gave, oldest first."""
    return sorted((server.base / "output" / "loops").glob("*.mp4"), key=lambda path: path.stat().st_mtime_ns)


def whole(server, target: Path, edit, source: Path | None = None) -> bytes:
    """The file of the same edit of all frames at once."""
    source = source or server.base / "input" / "clip.mp4"
    with VideoReader(source) as reader, VideoWriter(target, like=reader.info) as writer:
        for frame, pts in reader:
            writer.write(edit(frame), pts)
    return target.read_bytes()


def inverted(frame: torch.Tensor) -> torch.Tensor:
    return 255 - frame


def noted(server, name: str) -> list[dict]:
    path = server.base / "output" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
