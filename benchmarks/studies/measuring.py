"""Measure a trained arm by the study's medium; deterministic for the same model."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import alignment
import torch
from torch import Tensor

from instructx_core import Editor
from instructx_core.evaluation import Medium, evaluate
from instructx_core.evaluation.metrics import edited_region, psnr, score_edit
from instructx_core.images import to_floats, to_uint8
from instructx_core.long_video import LongOptions, edit_video
from instructx_core.synthesis import World
from instructx_core.synthesis.config import SynthesisConfig, WorldClips
from instructx_core.synthesis.one_clip import make_pairs
from instructx_core.training.config import TrainConfig
from instructx_core.training.editing import EditingTask
from instructx_core.video import VideoReader, VideoWriter
from instructx_core.windows import Span, Window
from instructx_core.world import HELD_OUT_SEED, sample_triplet

PAIRS = 10**6  # first seed of held-out world clips used as footage; training uses those from 0
LONG_GROUPS = ("recolor", "background")  # edits that last for the whole clip


def measured(medium: str, config: TrainConfig, model: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Results by medium.

    Args:
        config: of the last stage.
        options: the study's `measure`: arguments of `evaluation.evaluate`, plus `size` in pixels and `image_stream` if
            they differ from the model's own; for other media, arguments of the functions below.
    """
    if medium == "alignment":
        return {"alignment": _alignment(config, model)}
    editor = Editor.from_pretrained(model, device="cpu", dtype=torch.float32)
    if medium == "long":
        return {"long": _long(editor, **options)}
    if medium == "sentences":
        return {"sentences": _sentences(editor, **options)}
    given = dict(options)
    if size := given.pop("size", None):
        editor.config = replace(editor.config, default_size=tuple(size))
    if (weight := given.pop("image_stream", None)) is not None:
        editor.config = replace(editor.config, sampling=replace(editor.config.sampling, image_stream=weight))
    report = evaluate(editor, **given)
    return {"images": _medium(report.images), "videos": _medium(report.videos)}


def _alignment(config: TrainConfig, model: Path) -> dict[str, float]:
    """The held-out loss before and after training, always with the same noise."""
    before, after = (
        alignment.held_out_loss(EditingTask(replace(config, start={"model": str(start)})))
        for start in (config.start["model"], model)
    )
    return {"before": before, "loss": after}


def _medium(medium: Medium | None) -> dict[str, Any] | None:
    """Results per group, and means over all samples."""
    if medium is None:
        return None
    rates = medium.groups
    total = sum(rate.n for rate in rates.values())
    ablated = {name: rate.success for name in ("zeroed", "shuffled") if (rate := getattr(medium, name))}
    return {
        "n": total,
        "success": sum(rate.success * rate.n for rate in rates.values()) / total,
        "left": sum(rate.remaining * rate.n for rate in rates.values()) / total,
        "psnr": sum(rate.psnr * rate.n for rate in rates.values()) / total,
        "unedited_psnr": medium.unedited_psnr,
        "flicker": medium.flicker,
        **ablated,
        "groups": {
            name: {"n": r.n, "success": r.success, "left": r.remaining, "psnr": r.psnr} for name, r in rates.items()
        },
    }


def _sentences(editor: Editor, clips: int, steps: int | None = None) -> dict[str, Any]:
    """Removals, additions and swaps in held-out pictures, each with its plain and its two advanced wordings.

    `left` and `success` are those of the advanced wordings.
    """
    height, width = editor.default_size
    assert height == width
    config = SynthesisConfig("advanced_edit", "", world=WorldClips(clips, 1, height, PAIRS))
    world = World(clips, 1, height, PAIRS)
    experts = world.experts()
    scores: dict[str, list[Any]] = {"plain": [], "advanced": []}
    for key in world.keys():  # noqa: SIM118  a footage, no mapping
        for pair in make_pairs(config, world, key, experts):
            if pair.reason or pair.source is None or pair.target is None:
                continue
            source, target = to_floats(pair.source), to_floats(pair.target)
            for number, words in enumerate(pair.instructions):
                made = editor.edit_batch([source], [words], steps=steps)[0].frames
                scores["advanced" if number else "plain"].append(score_edit(made, target, source))
    found: dict[str, Any] = {"n": len(scores["advanced"])}
    for kind, before in (("advanced", ""), ("plain", "plain_")):
        found[f"{before}left"] = statistics.fmean(one.remaining for one in scores[kind])
        found[f"{before}success"] = statistics.fmean(one.success for one in scores[kind])
    return found


def _long(
    editor: Editor, clips: int, seconds: int, window: str, overlap: str, steps: int, fps: int = 30
) -> dict[str, float]:
    """Edit long clips from file to file, window by window.

    `left` is over all frames, `last` over those of the last window; `seam` is how much more unedited pixels change over
    a join of two windows than between other neighbouring frames (on a scale of 1).
    """
    options = LongOptions(Span.parse(window), Span.parse(overlap))
    found: dict[str, list[float]] = {"left": [], "last": [], "seam": [], "success": [], "psnr": []}
    for number in range(clips):
        group = LONG_GROUPS[number % len(LONG_GROUPS)]
        height, width = editor.default_size
        clip = sample_triplet(HELD_OUT_SEED + number, group, frames=seconds * fps, height=height, width=width)
        source, target = torch.from_numpy(clip.source), torch.from_numpy(clip.target)
        made, windows = _edited(editor, source, clip.instruction, options, fps, steps)
        score = score_edit(made, target, source)
        begin = [window.start + window.head for window in windows]  # a head is edited by the window before
        last = slice(begin[-1], None)
        found["left"].append(score.remaining)
        found["success"].append(float(score.success))
        found["psnr"].append(psnr(made, target))
        found["last"].append(score_edit(made[last], target[last], source[last]).remaining)
        found["seam"].append(_seam(made, source, target, begin[1:]))
    return {name: statistics.fmean(values) for name, values in found.items()}


def _edited(
    editor: Editor, frames: Tensor, words: str, options: LongOptions, fps: int, steps: int
) -> tuple[Tensor, tuple[Window, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.mp4", Path(folder) / "after.mp4"
        with VideoWriter(before, fps=Fraction(fps), size=(frames.shape[1], frames.shape[2])) as writer:
            for frame in to_uint8(frames):
                writer.write(frame)
        windows = edit_video(editor, before, after, words, options=options, steps=steps).windows
        with VideoReader(after, quiet=True) as reader:
            return torch.stack([to_floats(to_uint8(frame)) for frame, _ in reader]), windows


def _seam(made: Tensor, source: Tensor, target: Tensor, joins: list[int]) -> float:
    """Mean change of unedited pixels over joins, minus that over all other neighbouring frames."""
    still = ~edited_region(source, target)
    drift = (made - target).abs().mean(-1) * still
    change = (drift[1:] - drift[:-1]).abs().flatten(1).mean(1)  # [i]: from frame i to i + 1
    at = torch.zeros(len(change), dtype=torch.bool)
    at[[join - 1 for join in joins]] = True
    return (change[at].mean() - change[~at].mean()).item()
