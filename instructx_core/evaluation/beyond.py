"""Measurements beyond samples of the world, as lines of the report's summary.

These are another renderer's pictures, photographs, and sentences from outside the world, which should change nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..fit import resize
from ..images import read_pixels
from ..photographs import find_photographs
from ..source import load_source
from ..world import HELD_OUT_SEED, RICH, sample_triplet
from ..world.look_phrases import LOOK_PHRASES
from ..world.looks import LOOKS
from ..world.vocabulary import PHRASES, TONES
from .drawn import KINDS, DrawnPair, draw_pair
from .metrics import ALONE_SHARE, changed_share, edited_region, psnr, quantize, score_edit, ssim
from .report import Progress, SummaryLine

if TYPE_CHECKING:
    from ..editor import Editor

BATCH = 20
PHOTOGRAPH_SIDE = 512


def measure_drawn(editor: Editor, count: int, steps: int | None, progress: Progress | None = None) -> list[SummaryLine]:
    """Success of single edits on another renderer's pictures (`drawn`), `count` per kind."""
    met: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    frames: list[float] = []
    for kind in KINDS:
        for first in range(0, count, BATCH):
            indices = range(first, min(count, first + BATCH))
            pairs = [_visible_pair(HELD_OUT_SEED + index, kind, editor.default_size[0]) for index in indices]
            sources, targets = ([quantize(torch.from_numpy(f)) for f in part] for part in _columns(pairs))
            words = [pair.instruction for pair in pairs]
            results = editor.edit_batch(sources, words, seeds=list(indices), steps=steps)
            for result, source, target in zip(results, sources, targets, strict=True):
                met[kind].append(score_edit(result.frames.cpu(), target, source).success)
                frames.append(psnr(result.frames.cpu(), target))
            if progress:
                progress(len(frames), count * len(KINDS), "another renderer's pictures")
    shares = {kind: float(np.mean(values)) for kind, values in met.items()}
    worst = min(shares, key=shares.get)
    return [
        SummaryLine(
            "another renderer's pictures", len(frames), float(np.mean(list(shares.values()))), "", ">= 0.90", ">= 0.96"
        ),
        SummaryLine(f"another renderer's pictures, worst kind ({worst})", count, shares[worst], "", "", ""),
        SummaryLine("another renderer's pictures, whole frames", len(frames), float(np.mean(frames)), " dB", "", ""),
    ]


def measure_outside(
    editor: Editor, count: int, steps: int | None, progress: Progress | None = None
) -> list[SummaryLine]:
    """Share of sentences from outside the world that leave their picture unchanged (`metrics.ALONE_SHARE`)."""
    height, width = editor.default_size
    alone: list[bool] = []
    for first in range(0, count, BATCH):
        indices = range(first, min(count, first + BATCH))
        cases = [
            sample_triplet(HELD_OUT_SEED + index, "outside", height=height, width=width, variety=RICH)
            for index in indices
        ]
        sources = [quantize(torch.from_numpy(case.source)) for case in cases]
        words = [case.instruction for case in cases]
        results = editor.edit_batch(sources, words, seeds=list(indices), steps=steps)
        alone += [changed_share(r.frames.cpu(), s) <= ALONE_SHARE for r, s in zip(results, sources, strict=True)]
        if progress:
            progress(len(alone), count, "sentences out of the world")
    return [
        SummaryLine(
            "sentences out of its world that leave the picture alone",
            count,
            float(np.mean(alone)),
            "",
            ">= 0.85",
            ">= 0.95",
        )
    ]


def list_photographs(folder: Path) -> list[Path]:
    """The pictures in a folder and its sub-folders, each decoded once to find damaged ones before hours of measuring.

    Raises:
        InputError: no pictures, no such folder, or a file that is not a picture.
    """
    found = find_photographs(folder)
    for path in found:
        read_pixels(path)
    return found


def measure_photographs(
    editor: Editor, files: list[Path], steps: int | None, progress: Progress | None = None
) -> list[SummaryLine]:
    """PSNR and SSIM of tone edits of photographs at 512 pixels, after detail transfer, against the exact results.

    Raises:
        InputError: a file that is not a picture.
    """
    kinds = ("grayscale", *TONES)
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for number, path in enumerate(files):
        square = _middle(load_source(path).frames[:1])
        for place, kind in enumerate(kinds):
            words = (PHRASES | LOOK_PHRASES)[kind][0]
            target = torch.from_numpy(np.ascontiguousarray(LOOKS[kind](square.numpy()))).float()
            output = editor.edit(square[0], words, steps=steps).frames
            found[kind].append((psnr(output, target), ssim(output, target)))
            if progress:
                progress(number * len(kinds) + place + 1, len(files) * len(kinds), "photographs")
    lines = []
    for place, (name, unit, floor, goal) in enumerate(
        (("PSNR", " dB", ">= 30", ">= 34"), ("SSIM", "", ">= 0.93", ">= 0.97"))
    ):
        means = {kind: float(np.mean([values[place] for values in numbers])) for kind, numbers in found.items()}
        title = f"photographs at {PHOTOGRAPH_SIDE} px, tone, {name}"
        lines.append(
            SummaryLine(title, len(files) * len(kinds), float(np.mean(list(means.values()))), unit, floor, goal)
        )
        worst = min(means, key=means.get)
        lines.append(SummaryLine(f"{title}, worst kind ({worst})", len(files), means[worst], unit, "", ""))
    return lines


def _visible_pair(seed: int, kind: str, size: int) -> DrawnPair:
    """A seed's pair; redrawn with another seed if the edit is invisible (grayscale of grey)."""
    while True:
        pair = draw_pair(seed, kind, size)
        if edited_region(*(quantize(torch.from_numpy(frames)) for frames in (pair.source, pair.target))).any():
            return pair
        seed += 1_000_000


def _columns(pairs: list[DrawnPair]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    return [pair.source for pair in pairs], [pair.target for pair in pairs]


def _middle(frames: torch.Tensor) -> torch.Tensor:
    """The centre square of [1, H, W, 3], resized to PHOTOGRAPH_SIDE pixels: floats on the 8-bit grid."""
    floats = frames.float() / 255 if frames.dtype == torch.uint8 else frames
    height, width = floats.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return quantize(resize(floats[:, top : top + side, left : left + side], (PHOTOGRAPH_SIDE, PHOTOGRAPH_SIDE)))
