"""The benefit of detail transfer: an edit on a small canvas is brought to its source's size in three ways.

- *plain*: the model's pixels, resized (`detail: model`, every pixel of the edit).
- *mask*: the same, with the source's own pixels where the edit hardly changed any (`detail: model`, keep_source .2).
- *transfer*: `detail: source`, with the same mask.

There are two questions, each measured against the exact result at full size (PSNR in dB, SSIM, seconds per picture):

- ideal: the exact edit, downscaled and passed through the VAE: what a perfect model would return on that canvas.
- model: the model's own edit.

Photographs come from a folder, with edits whose exact result is a function of the pixels; shapes come from the world.

    python benchmarks/detail_transfer.py --photographs photos
    python benchmarks/detail_transfer.py --question model --sizes 256 --model runs/tiny/whole-5/model
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructx_core import Editor
from instructx_core.compositing import restore_edit
from instructx_core.config import Detail
from instructx_core.evaluation.metrics import psnr, ssim
from instructx_core.fit import Fit, plan_fit, resize
from instructx_core.photographs import find_photographs
from instructx_core.source import load_source
from instructx_core.world import HELD_OUT_SEED, RICH, sample_triplet
from instructx_core.world.looks import LOOKS

SHARE = 0.2
WAYS = {"plain": (0.0, Detail.MODEL), "mask": (SHARE, Detail.MODEL), "transfer": (SHARE, Detail.SOURCE)}
SHAPE_KINDS = ("recolor", "remove", "add", "replace", "background")
SENTENCES = {
    "grayscale": "make it grayscale",
    "sepia": "make it sepia",
    "warmer": "make it warmer",
    "night": "make it night",
    "contrast": "increase the contrast",
    "invert": "invert the colors",
    "fog": "make it foggy",
    "sketch": "turn it into a pencil sketch",
}


@dataclass(frozen=True)
class Case:
    """Source and exact result [1, H, W, 3]."""

    kind: str
    source: torch.Tensor
    target: torch.Tensor
    instruction: str


def photographs(folder: Path, size: int) -> Iterator[Case]:
    """The centre square of each picture, resized to `size` pixels a side."""
    for path in find_photographs(folder):
        frames = load_source(path).frames[:1]
        height, width = frames.shape[1:3]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = resize(frames[:, top : top + side, left : left + side], (size, size))
        for kind, sentence in SENTENCES.items():
            target = torch.from_numpy(LOOKS[kind](square.numpy())).float()
            yield Case(f"photo, {kind}", square, target, sentence)


def shapes(count: int, size: int) -> Iterator[Case]:
    for kind in SHAPE_KINDS:
        for index in range(count):
            t = sample_triplet(HELD_OUT_SEED + index, kind, height=size, width=size, variety=RICH)
            yield Case(f"shapes, {kind}", torch.from_numpy(t.source), torch.from_numpy(t.target), t.instruction)


def ideal(editor: Editor, case: Case, fit: Fit) -> torch.Tensor:
    """The exact result on the canvas, as the VAE returns it."""
    return editor.decode(editor.encode(fit.apply(case.target)[None]))[0]


def asked(editor: Editor, case: Case, fit: Fit) -> torch.Tensor:
    """The model's edit of the small source, before the restoring step that this benchmark compares."""
    latents = editor.edit(fit.apply(case.source), case.instruction, height=fit.canvas[0], width=fit.canvas[1]).latents
    return editor.decode(latents)[0]


def measure(
    editor: Editor, cases: Iterator[Case], canvas: int, edit: Callable[[Editor, Case, Fit], torch.Tensor]
) -> dict[str, dict[str, list[tuple[float, float, float]]]]:
    """kind -> way -> (PSNR, SSIM, seconds) of each case."""
    found: dict[str, dict[str, list[tuple[float, float, float]]]] = {}
    for case in cases:
        fit = plan_fit(1, tuple(case.source.shape[1:3]), editor.stride, editor.codec.frame_multiple, canvas * canvas)
        fitted, decoded = fit.apply(case.source), edit(editor, case, fit)
        for name, (share, detail) in WAYS.items():
            start = perf_counter()
            result = restore_edit(fit, case.source, fitted, decoded, share, detail)
            seconds = perf_counter() - start
            numbers = (psnr(result, case.target), ssim(result, case.target), seconds)
            found.setdefault(case.kind, {}).setdefault(name, []).append(numbers)
    return found


def table(size: int, found: dict[str, dict[str, list[tuple[float, float, float]]]]) -> str:
    lines = [f"| {size} px | " + " | ".join(WAYS) + " |", "|---|" + "---|" * len(WAYS)]
    for kind, ways in found.items():
        cells = (f"{_mean(n, 0):.1f} / {_mean(n, 1):.3f}" for n in ways.values())
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    seconds = (statistics.median(n[2] for ways in found.values() for n in ways[name]) for name in WAYS)
    lines.append("| seconds per picture | " + " | ".join(f"{s:.3f}" for s in seconds) + " |")
    return "\n".join(lines)


def _mean(numbers: list[tuple[float, float, float]], place: int) -> float:
    return statistics.fmean(n[place] for n in numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--question", choices=("ideal", "model"), default="ideal")
    parser.add_argument("--model", type=Path, help="a model folder (default: the bundled model)")
    parser.add_argument("--photographs", type=Path, help="a folder of pictures (default: only shapes)")
    parser.add_argument("--count", type=int, default=8, help="pictures of shapes per kind (default: 8)")
    parser.add_argument(
        "--canvas", type=int, default=128, help="size at which the edit is made, in pixels (default: 128)"
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    arguments = parser.parse_args()
    editor = Editor.from_pretrained(arguments.model)
    edit = ideal if arguments.question == "ideal" else asked
    for size in arguments.sizes:
        cases = [*shapes(arguments.count, size)]
        if arguments.photographs:
            cases += photographs(arguments.photographs, size)
        print(table(size, measure(editor, iter(cases), arguments.canvas, edit)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
