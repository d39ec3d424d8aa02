"""Bytes that an edit takes per pixel of its source, beside the model: `python peak_memory.py FILE OUTPUT`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path


def main(source: str, output: str) -> None:
    """Edit a small picture and then `source` with the command and with the library; print peaks of the second."""
    import torch

    from instructx_core import Editor, cli
    from instructx_core.demo import DEMO_EDITS
    from instructx_core.source import load_source

    torch.set_num_threads(1)
    editor = Editor.from_pretrained(device="cpu", dtype=torch.float32)
    Editor.from_pretrained = lambda *_, **__: editor  # the model is there already
    words = "make it grayscale"
    pixels = load_source(source).pixels[..., 0].numel()
    small = str(DEMO_EDITS[0].source)

    def command(path: str, written: str) -> None:
        if cli.main(["edit", path, words, "-o", written, "--steps", "1"]):
            sys.exit("the edit failed")

    def library(path: str, _written: str) -> None:
        editor.edit(path, words, steps=1)

    peaks = {}
    for name, run in (("command", command), ("library", library)):
        run(small, str(Path(output).with_suffix(".png")))
        peaks[name] = bytes_taken(partial(run, source, output)) / pixels
    print(json.dumps(peaks))


def bytes_taken(run: Callable[[], object]) -> int:
    """The peak of this process's memory during a call, above what it has before."""
    before = memory_in_use("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again
    run()
    return memory_in_use("VmHWM") - before


def memory_in_use(field: str) -> int:
    """Bytes of this process, by a field of its status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(*sys.argv[1:])
