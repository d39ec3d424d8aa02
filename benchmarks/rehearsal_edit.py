"""Load a model, edit a picture and a clip in windows, and report each phase's memory: a subprocess of `rehearsal`.

python -m rehearsal_edit ARGUMENTS        (JSON; answers with one line of JSON)
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import torch
from rehearsal_layouts import GIB

from instructx_core import Editor, families
from instructx_core.errors import InputError
from instructx_core.families.overrides import Overrides
from instructx_core.long_video import LongOptions, edit_video
from instructx_core.memory.choice import Memory
from instructx_core.memory.decide import outline_model
from instructx_core.memory.needs import RUNTIME, weights_in_use
from instructx_core.memory.phases import Job
from instructx_core.weights.parts import Part
from instructx_core.windows import Span

FIELDS = {"VmRSS": "resident", "RssAnon": "own", "RssFile": "mapped"}
EVERY = 0.02  # seconds between samples
PHASES = {"MLLM reads": Part.MLLM, "VAE encodes": Part.VAE, "DiT step": Part.DIT, "VAE decodes": Part.VAE}
INSTRUCTION = "make it red"


class Watch:
    """The peak main memory of this process in each phase, sampled by a thread."""

    def __init__(self) -> None:
        self.most: dict[str, dict[str, float]] = {}
        self.stretch, self.phase = "", "load"
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while True:
            self._once()
            time.sleep(EVERY)

    def _once(self) -> None:
        now, name = resident(), f"{self.stretch}{self.phase}"
        if now["resident"] > self.most.get(name, {"resident": 0.0})["resident"]:
            self.most[name] = now

    def enter(self, phase: str) -> None:
        """Set the phase; called by every layer that runs."""
        if phase != self.phase:
            self.phase = phase
            self._once()

    def follow(self, editor: Editor) -> None:
        """Tell the phase from the layers that run: by then, the weights of other parts have been given back."""
        codec = editor.codec.vae
        parts = {"MLLM reads": editor.guidance, "DiT step": editor.denoiser.transformer}
        parts |= {"VAE encodes": codec.encoder, "VAE decodes": codec.decoder}
        for name, part in parts.items():
            for layer in part.modules():
                if not list(layer.children()):
                    layer.register_forward_pre_hook(lambda *_, name=name: self.enter(name))


def resident() -> dict[str, float]:
    """GiB of this process: resident in total, not backed by files, and pages of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {own: int(found[name].split()[0]) / 2**20 for name, own in FIELDS.items()}


def plan(files: dict[str, str], dtype: torch.dtype, memory: Memory, job: Job) -> dict[str, dict[str, float]]:
    """The plan's estimate for each phase, in GiB: the weights in use, and the total."""
    given = Overrides(*(Path(files[part]) if part in files else None for part in ("transformer", "vae", "mllm")))
    outlined = outline_model(families.open(Path(files["path"]), given), dtype, torch.device("cpu"))
    said = {}
    for phase in outlined.phases(job, tiled=False):
        weights = weights_in_use(outlined.held, memory, phase.part)
        said[phase.name] = {"weights": weights / GIB, "planned": (weights + phase.working + RUNTIME) / GIB}
    return said


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - start, 1)


def main() -> None:
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(asked["threads"])
    dtype, memory, folder = getattr(torch, asked["dtype"]), Memory(asked["memory"]), Path(asked["folder"])
    height, width, steps = asked["height"], asked["width"], asked["steps"]
    clip = Job(width, height, asked["window"])
    watch, seconds = Watch(), {}
    with timed(seconds, "plan"):
        planned = {"picture": plan(asked["files"], dtype, memory, Job(width, height, 1))}
        planned["windows"] = plan(asked["files"], dtype, memory, clip)
    watch.most.clear()
    with timed(seconds, "load"):
        editor = Editor.from_pretrained(**asked["files"], device="cpu", dtype=dtype, memory=memory.value)
    watch.follow(editor)
    size = {"height": height, "width": width, "steps": steps, "seed": 1}
    watch.stretch, watch.phase = "picture: ", "rest"
    with timed(seconds, "picture"):
        edited = editor.edit(folder / "in.png", INSTRUCTION, **size)
    answer = {"planned": planned, "most": watch.most, "seconds": seconds, "windows": 0}
    if asked["clip"]:
        watch.stretch, watch.phase = "windows: ", "rest"
        with timed(seconds, "windows"):
            options = LongOptions(window=Span(Fraction(asked["window"])), overlap=Span(Fraction(1)))
            long = edit_video(editor, folder / "in.mp4", folder / "out.mp4", INSTRUCTION, options=options, **size)
        answer["windows"] = len(long.windows)
    answer["finite"] = bool(edited.latents.isfinite().all())
    print(json.dumps(answer))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:  # the command line ends with the same message
        sys.exit(str(error))
