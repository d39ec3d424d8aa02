"""The benchmark on the procedural world: held-out samples, edited in batches and scored against exact targets.

- Samples come from seeds at and above `world.HELD_OUT_SEED`, which training never draws, at the checkpoint's default
  size, rounded to 8 bits as in a file.
- Success is reported per group, and summarised separately for single edits, the types that a checkpoint never saw on
  video (*emergent*, Fig. 6 and 14 of the paper), compound edits and reference edits.
- The ablation tests whether the queries carry the instruction: the same edits with the context zeroed, and with the
  context of a sample of another group. Groups are interleaved in a batch, so that a sample's neighbour never has the
  same kind of edit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError
from ..world import (
    CLIP_GROUPS,
    EDIT_KINDS,
    EVERY_GROUP,
    GROUPS,
    HELD_OUT_SEED,
    PICTURE_KINDS,
    PLAIN,
    Variety,
    sample_subject,
    sample_triplet,
)
from .metrics import (
    SHAPE_IOU,
    EditScore,
    UneditedScore,
    edited_region,
    flicker,
    psnr,
    quantize,
    score_edit,
    score_unedited,
    shape_iou,
)
from .report import Medium, Progress, Report, SuccessRate

if TYPE_CHECKING:
    from ..editor import Editor
    from ..requested_edit import ContextTransform

BATCH = 25
SHAPED = ("add", "replace", "reference_swap", "reference_add")  # groups with a new object, whose shape is scored
ABLATION_SAMPLES = 100  # per group: 700 edits put the standard error of a rate of 0.1 at 0.011
GROUP_STRIDE = 1_000_000  # seeds reserved for one group of one medium


@dataclass(frozen=True)
class _Case:
    """One held-out sample: source and target [T, H, W, 3] in [0, 1]; `seed` is that of the noise.

    For groups in SHAPED, `mask` [T, H, W] is where the target shows the new object, `behind` the target without it.
    """

    group: str
    source: Tensor
    target: Tensor
    instruction: str
    references: list[Tensor]
    seed: int
    mask: Tensor | None = None
    behind: Tensor | None = None


@dataclass(frozen=True)
class _Outcome:
    group: str
    edit: EditScore
    unedited: UneditedScore | None
    vae_psnr: float
    psnr: float
    flicker: tuple[float, float]
    iou: float | None


def evaluate(
    editor: Editor,
    *,
    images: int = 500,
    videos: int = 200,
    groups: Sequence[str] = GROUPS,
    video_groups: Sequence[str] = GROUPS,
    frames: Sequence[int] = (5, 9, 17),
    held_out_video: Sequence[str] = (),
    steps: int | None = None,
    seed_offset: int = 0,
    variety: Variety = PLAIN,
    progress: Progress | None = None,
) -> Report:
    """Measure an editor on held-out samples.

    Args:
        editor: the model; samples have its `default_size`.
        images, videos: samples per group; 0 leaves that medium out.
        groups, video_groups: groups of the world to measure on images, and on videos.
        frames: lengths of the videos, taken in turn; the VAE must encode them without padding (1 + 4k for Wan's).
        held_out_video: groups that the checkpoint was never trained on as videos; reported as emergent.
        steps: sampling steps; None means the checkpoint's default.
        seed_offset: shifts all sample seeds upwards, for a second, disjoint draw (use multiples of 10 ** 9).
        variety: of the world's samples.
        progress: called as progress(done, total, what) after every batch.

    Raises:
        InputError: an unknown group, one that the model cannot edit, no groups, invalid lengths, or a negative number.
    """
    _check(images, videos, groups, video_groups, frames, held_out_video, seed_offset)
    if editor.guidance.edits_pictures_alone and (videos or (images and len(without_references(groups)) < len(groups))):
        raise InputError(
            "This model edits only pictures, without references; ask for 0 videos, and leave out groups with "
            "references."
        )
    start = time.monotonic()
    bench = _Benchmark(editor, steps, seed_offset, variety, progress)
    bench.total = _planned(images, groups) + _planned(videos, video_groups)
    with torch.no_grad():
        image_results = bench.measure("images", images, groups, (1,)) if images else None
        video_results = bench.measure("videos", videos, video_groups, tuple(frames)) if videos else None
    height, width = editor.default_size
    return Report(
        model=editor.config.name,
        images=image_results,
        videos=video_results,
        held_out_video=tuple(held_out_video),
        height=height,
        width=width,
        frames=tuple(frames),
        steps=steps,
        seed_offset=seed_offset,
        seconds=time.monotonic() - start,
    )


class _Benchmark:
    """One run: the editor, the settings and the progress count."""

    def __init__(
        self, editor: Editor, steps: int | None, seed_offset: int, variety: Variety, progress: Progress | None
    ) -> None:
        self.editor = editor
        self.steps = steps
        self.first_seed = HELD_OUT_SEED + seed_offset
        self.variety = variety
        self.progress = progress
        self.done = 0
        self.total = 0

    def measure(self, name: str, n: int, groups: Sequence[str], frames: tuple[int, ...]) -> Medium:
        """All results of one medium; `name` is "images" or "videos"."""
        outcomes: list[_Outcome] = []
        for together in _batchable(groups):
            for batch in self.batches(name, n, together, frames):
                outcomes += self.judge(batch, self.edit(batch, name))
        vae = _mean([outcome.vae_psnr for outcome in outcomes])
        unedited = [outcome.unedited for outcome in outcomes if outcome.unedited]
        return Medium(
            groups={group: _group_rate([o for o in outcomes if o.group == group]) for group in groups},
            vae_psnr=vae,
            unedited_psnr=_mean([score.output for score in unedited]) if unedited else None,
            unedited_vae_psnr=_mean([score.reconstruction for score in unedited]) if unedited else None,
            flicker=_flicker(outcomes),
            zeroed=self.ablate(name, n, groups, frames, torch.zeros_like),
            shuffled=self.ablate(name, n, groups, frames, lambda context: context.roll(1, dims=0)),
        )

    def ablate(
        self, name: str, n: int, groups: Sequence[str], frames: tuple[int, ...], transform: ContextTransform
    ) -> SuccessRate | None:
        """Success of single edits with a transformed context; None with fewer than two kinds of edit."""
        kinds = [group for group in groups if group in (*EDIT_KINDS, *PICTURE_KINDS)]
        if len(kinds) < 2:
            return None  # rolling would give a context from the same kind of edit
        scores = []
        for batch in self.batches(name, min(n, ABLATION_SAMPLES), kinds, frames):
            outputs = self.edit(batch, f"{name}, ablated", transform)
            scores += [
                score_edit(output, case.target, case.source) for output, case in zip(outputs, batch, strict=True)
            ]
        return _rate(scores)

    def batches(self, name: str, n: int, groups: Sequence[str], frames: tuple[int, ...]) -> Iterator[list[_Case]]:
        """Batches of cases with one length each, groups interleaved and equally frequent."""
        rounds = max(1, BATCH // len(groups))
        for turn, length in enumerate(frames):
            indices = range(turn, n, len(frames))
            for first in range(0, len(indices), rounds):
                yield [
                    self.draw(name, group, index, length)
                    for index in indices[first : first + rounds]
                    for group in groups
                ]

    def draw(self, name: str, group: str, index: int, frames: int) -> _Case:
        """The held-out sample `index` of a group; redrawn if its edit is invisible (grayscale of grey)."""
        height, width = self.editor.default_size
        count = len(GROUPS) if group in GROUPS else len(EVERY_GROUP)
        block = EVERY_GROUP.index(group) + count * (name == "videos")
        seed = self.first_seed + block * GROUP_STRIDE + index
        size = {"frames": frames, "height": height, "width": width, "variety": self.variety}
        while True:
            triplet = sample_triplet(seed, group, **size)
            source, target = (quantize(torch.from_numpy(array)) for array in (triplet.source, triplet.target))
            if edited_region(source, target).any():
                break
            seed += GROUP_STRIDE // 2
        references = [quantize(torch.from_numpy(array)) for array in triplet.references]
        subject = sample_subject(seed, group, **size) if group in SHAPED else None
        shape = (None, None) if subject is None else (torch.from_numpy(subject.mask), torch.from_numpy(subject.behind))
        return _Case(group, source, target, triplet.instruction, references, index, *shape)

    def edit(self, batch: list[_Case], what: str, transform: ContextTransform | None = None) -> list[Tensor]:
        """The edited frames of a batch, on the CPU."""
        results = self.editor.edit_batch(
            [case.source for case in batch],
            [case.instruction for case in batch],
            references=[case.references for case in batch] if batch[0].references else None,
            seeds=[case.seed for case in batch],
            steps=self.steps,
            context_transform=transform,
        )
        self.done += len(batch)
        if self.progress:
            self.progress(self.done, self.total, what)
        return [result.frames.cpu() for result in results]

    def judge(self, batch: list[_Case], outputs: list[Tensor]) -> list[_Outcome]:
        """Score every output of a batch, with the VAE's reconstruction of its source for comparison."""
        sources = torch.stack([case.source for case in batch])
        reconstructions = self.editor.decode(self.editor.encode(sources)).float()
        outcomes = []
        for case, output, reconstruction in zip(batch, outputs, reconstructions, strict=True):
            outcomes.append(
                _Outcome(
                    group=case.group,
                    edit=score_edit(output, case.target, case.source),
                    unedited=score_unedited(output, reconstruction, case.source, case.target),
                    vae_psnr=psnr(reconstruction, case.source),
                    psnr=psnr(output, case.target),
                    flicker=flicker(output, case.source, case.target),
                    iou=None if case.mask is None else shape_iou(output, case.target, case.behind, case.mask),
                )
            )
        return outcomes


def _batchable(groups: Sequence[str]) -> list[list[str]]:
    """The groups that share batches: all those without references together, each reference group separately."""
    plain = without_references(groups)
    return [part for part in (plain, *([group] for group in groups if group not in plain)) if part]


def _planned(n: int, groups: Sequence[str]) -> int:
    """Number of edits for `n` samples per group, including the ablation's two passes."""
    kinds = sum(group in (*EDIT_KINDS, *PICTURE_KINDS) for group in groups)
    return n * len(groups) + (2 * kinds * min(n, ABLATION_SAMPLES) if kinds > 1 else 0)


def _group_rate(outcomes: list[_Outcome]) -> SuccessRate:
    """The results of one group, with those on whole frames and shapes."""
    shapes = [outcome.iou >= SHAPE_IOU for outcome in outcomes if outcome.iou is not None]
    return replace(
        _rate([outcome.edit for outcome in outcomes]),
        psnr=_mean([outcome.psnr for outcome in outcomes]),
        shape=_mean([float(met) for met in shapes]) if shapes else None,
    )


def _flicker(outcomes: list[_Outcome]) -> float | None:
    """Flicker of all outputs divided by that of all targets; None if no target flickers, as in images."""
    own, exact = (sum(outcome.flicker[place] for outcome in outcomes) for place in (0, 1))
    return own / exact if exact else None


def _rate(scores: list[EditScore]) -> SuccessRate:
    outside = [score.outside_psnr for score in scores if score.outside_psnr is not None]
    return SuccessRate(
        n=len(scores),
        success=_mean([float(score.success) for score in scores]),
        remaining=_mean([score.remaining for score in scores]),
        outside_psnr=_mean(outside) if outside else None,
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def without_references(groups: Sequence[str]) -> list[str]:
    """The groups whose edits need no reference."""
    return [group for group in groups if not group.startswith("reference")]


def _check(
    images: int,
    videos: int,
    groups: Sequence[str],
    video_groups: Sequence[str],
    frames: Sequence[int],
    held_out_video: Sequence[str],
    seed_offset: int,
) -> None:
    for name, value in (("images", images), ("videos", videos), ("seed_offset", seed_offset)):
        if value < 0:
            raise InputError(f"{name}: {value} is negative; give 0 or more.")
    if max(images, videos) > GROUP_STRIDE // 2:
        raise InputError(
            f"images and videos: at most {GROUP_STRIDE // 2} held-out samples per group exist; give fewer."
        )
    for name, values in (("groups", groups), ("video_groups", video_groups), ("held_out_video", held_out_video)):
        unknown = [group for group in values if group not in EVERY_GROUP[:-1]]  # the last asks for no edit
        if unknown:
            known = ", ".join(EVERY_GROUP[:-1])
            raise InputError(f"{name}: {unknown[0]!r} is not a group of the world; choose from {known}.")
    if images and (late := [group for group in groups if group in CLIP_GROUPS]):
        raise InputError(f"groups: {late[0]!r} exists in clips only; leave it out, or ask for 0 images.")
    if (images and not groups) or (videos and not video_groups):
        raise InputError("groups: there is nothing to measure; name at least one group, or ask for 0 samples.")
    if videos and (not frames or min(frames) < 2):
        raise InputError(f"frames: {list(frames)} are not video lengths; give numbers of at least 2.")
