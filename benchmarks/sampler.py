"""Overhead of the sampling loop on top of its DiT forwards.

- ratio = time of the loop / (steps x one bare DiT forward at the same batch and token count). The loop and as many bare
  forwards run in alternating order; each turn gives one ratio, and the median counts. Goal: <= 1.05.
- Also the time of everything else in an edit (reading, MLLM and connector, VAE, writing) and the peak memory.

    python benchmarks/sampler.py
    python benchmarks/sampler.py --source clip.mp4 --model runs/stage2/model --steps 20
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructx_core import Editor
from instructx_core.demo import DEMO_EDITS
from instructx_core.fit import Fit, fit_reference
from instructx_core.sampling import GuidanceTerm, initial_noise, sample
from instructx_core.source import load_references, load_source, save_result

GOAL = 1.05
READ, MLLM, ENCODE, LOOP, DECODE, WRITE = PARTS = (
    "read file",
    "MLLM and connector",
    "VAE encode",
    "sampling loop",
    "VAE decode",
    "write file",
)
BARE = "bare forwards"


@dataclass(frozen=True)
class Job:
    """The edit to measure."""

    source: Path
    references: list[Path]
    instruction: str
    steps: int
    guidance_scale: float


class Clock:
    """Seconds of named parts, a list for each; waits for the GPU to finish."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = self._now()
        yield
        self.times.setdefault(part, []).append(self._now() - start)

    def median(self, part: str) -> float:
        return statistics.median(self.times[part])

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter()


@torch.no_grad()
def one_edit(editor: Editor, job: Job, clock: Clock, bare_first: bool) -> tuple[Fit, torch.Tensor]:
    """One whole edit in timed parts, with as many bare DiT forwards before or after its sampling loop.

    Returns:
        How the source fits the model's frames, and the input of the bare forwards [B, C, T, H, W].
    """
    with clock(READ):
        source, references = load_source(job.source), load_references(list(job.references))
    fit = editor.fit(len(source.pixels), tuple(source.pixels.shape[1:3]))
    frames = fit.apply(source.frames)
    shown = frames[: fit.frames, : fit.inner[0], : fit.inner[1]]
    with clock(MLLM):
        context = editor.context([job.instruction], [shown], [references], source.is_video)
    with clock(ENCODE):
        latents = editor.encode(frames[None])
        appended = tuple(editor.encode(fit_reference(image, fit.canvas)[None, None]) for image in references)
    conditions = editor.denoiser.conditions(latents, appended)
    terms = [GuidanceTerm(job.guidance_scale, context, conditions)]
    if job.guidance_scale != 1:
        without = editor.context([""], [shown], [references], source.is_video)
        terms.append(GuidanceTerm(1 - job.guidance_scale, without, conditions))
    noise = initial_noise(tuple(latents.shape), seed=0).to(editor.device)
    tokens = torch.cat([term.context.tokens for term in terms])
    hidden = torch.cat([torch.cat([noise, *appended], dim=2)] * len(terms))

    if bare_first:
        bare_forwards(editor, hidden, tokens, job.steps, clock)
    with clock(LOOP):
        shift = editor.config.sampling.shift
        edited = sample(editor.denoiser, noise, terms, job.steps, shift)
    if not bare_first:
        bare_forwards(editor, hidden, tokens, job.steps, clock)

    with clock(DECODE):
        pixels = fit.restore(editor.decode(edited)[0])
    with tempfile.TemporaryDirectory() as folder, clock(WRITE):
        save_result(pixels, Path(folder) / f"edit{job.source.suffix}", like=source)
    return fit, hidden


def bare_forwards(editor: Editor, hidden: torch.Tensor, context: torch.Tensor, steps: int, clock: Clock) -> None:
    """`steps` forwards of only the DiT: no source, no scheduler."""
    timestep = torch.full((len(hidden),), 500.0, device=hidden.device)
    with clock(BARE):
        for _ in range(steps):
            editor.denoiser.transformer(hidden, timestep, context, return_dict=False)


def measure(editor: Editor, job: Job, repeats: int) -> str:
    """Edit `repeats` times after a warm-up; return the results as a small table."""
    one_edit(editor, job, Clock(editor.device), bare_first=True)
    clock = Clock(editor.device)
    for turn in range(repeats):
        fit, hidden = one_edit(editor, job, clock, bare_first=turn % 2 == 0)

    device = editor.device
    patch = editor.denoiser.transformer.config.patch_size
    tokens = (hidden.shape[2] // patch[0]) * (hidden.shape[3] // patch[1]) * (hidden.shape[4] // patch[2])
    where = f"{torch.get_num_threads()} CPU threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    ratios = [loop / bare for loop, bare in zip(clock.times[LOOP], clock.times[BARE], strict=True)]
    total = sum(clock.median(part) for part in PARTS)
    rows = [
        f"{editor.config.name}: {job.source.name}, {fit.frames} frames at {fit.canvas[1]} x {fit.canvas[0]}",
        f"{job.steps} steps of {tokens} tokens, batch {len(hidden)}; median of {repeats} edits",
        f"{where}, torch {torch.__version__}",
        "",
        f"{'part':<22}{'seconds':>10}{'share':>8}",
        *(f"{part:<22}{clock.median(part):>10.4f}{clock.median(part) / total:>8.0%}" for part in PARTS),
        "",
        f"{'one bare DiT forward':<22}{clock.median(BARE) / job.steps:>10.4f}",
        f"{'loop / bare forwards':<22}{statistics.median(ratios):>10.3f}  from {min(ratios):.3f} to {max(ratios):.3f}",
        f"{'  goal, at most':<22}{GOAL:>10.3f}",
        f"{'peak memory so far':<22}{peak_memory(device) / 2**20:>10.0f}  MiB",
    ]
    return "\n".join(rows)


def peak_memory(device: torch.device) -> int:
    """Peak bytes: of the GPU's allocator, or of this process on a CPU (Python and libraries included)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Time of the sampling loop relative to bare DiT forwards, and of the other parts."
    )
    parser.add_argument("--model", type=Path, help="a model folder (default: the bundled model)")
    parser.add_argument("--source", type=Path, help="picture or video (default: the demo's, one after another)")
    parser.add_argument("--reference", type=Path, nargs="+", default=[], help="reference pictures")
    parser.add_argument("--instruction", default="make the red circle blue", help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the model's)")
    parser.add_argument("--guidance-scale", type=float, help="default: the model's")
    parser.add_argument("--device", help="default: a GPU if there is one")
    parser.add_argument("--repeats", type=int, default=9, help="timed edits (default: %(default)s)")
    given = parser.parse_args()

    editor = Editor.from_pretrained(given.model, device=given.device)
    own = editor.config.sampling
    steps = own.steps if given.steps is None else given.steps
    scale = own.guidance_scale if given.guidance_scale is None else given.guidance_scale
    for source in [given.source] if given.source else [demo.source for demo in DEMO_EDITS]:
        job = Job(source, given.reference, given.instruction, steps, scale)
        print(measure(editor, job, max(1, given.repeats)), end="\n\n")


if __name__ == "__main__":
    main()
