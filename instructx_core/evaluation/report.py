"""The report of a benchmark run: results per group and a summary with floors and goals, as JSON and as Markdown.

Success rates are shares in [0, 1], PSNR is in dB. A number that was not measured (no videos, no such group) is left
out, never 0.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

from ..world import EDIT_KINDS, PICTURE_KINDS

SINGLE = (*EDIT_KINDS, *PICTURE_KINDS)
COLUMNS = ("n", "success", "left", "outside dB", "frame dB", "shape")


Progress = Callable[[int, int, str], None]  # done, in all, of what


@dataclass(frozen=True)
class SuccessRate:
    """The results of `n` edits.

    Attributes:
        n: samples.
        success: share that succeeded (`metrics.score_edit`).
        remaining: mean of `EditScore.remaining`, the share of the change that is missing in the edited region.
        outside_psnr: mean dB against the target outside the edited region, over the samples that have an outside.
        psnr: mean dB of whole frames against the target; None for an ablation.
        shape: share whose new object has the right shape (`metrics.shape_iou`); None for other groups.
    """

    n: int
    success: float
    remaining: float
    outside_psnr: float | None
    psnr: float | None = None
    shape: float | None = None


@dataclass(frozen=True)
class Medium:
    """The results on images, or on videos.

    Attributes:
        groups: group of the world -> its rate.
        vae_psnr: mean over clips of the PSNR of the VAE's reconstruction of the source, dB.
        unedited_psnr, unedited_vae_psnr: mean PSNR to the source on unedited pixels, of the output and of the VAE's
            reconstruction, dB; None if no sample has unedited pixels.
        flicker: of unedited pixels, as the ratio of outputs to targets; None for images.
        zeroed, shuffled: ablations of single edits: the context set to zero, or that of another sample's instruction.
    """

    groups: Mapping[str, SuccessRate]
    vae_psnr: float
    unedited_psnr: float | None
    unedited_vae_psnr: float | None
    zeroed: SuccessRate | None
    shuffled: SuccessRate | None
    flicker: float | None = None

    @property
    def unedited_gap(self) -> float | None:
        """dB that editing lost on unedited pixels on top of the VAE."""
        if self.unedited_psnr is None or self.unedited_vae_psnr is None:
            return None
        return self.unedited_vae_psnr - self.unedited_psnr

    def success(self, groups: Iterable[str]) -> tuple[int, float] | None:
        """(n, success) over all samples of these groups; None if none of the groups was measured."""
        rates = [self.groups[group] for group in groups if group in self.groups]
        n = sum(rate.n for rate in rates)
        return (n, sum(rate.success * rate.n for rate in rates) / n) if n else None

    def worst(self, groups: Iterable[str]) -> tuple[str, SuccessRate] | None:
        """The measured group with the lowest success; None if none was measured."""
        measured = [(group, self.groups[group]) for group in groups if group in self.groups]
        return min(measured, key=lambda item: item[1].success, default=None)


@dataclass(frozen=True)
class SummaryLine:
    """One line of the summary: a value, its number of samples, and the floor and goal that it should reach."""

    name: str
    n: int
    value: float
    unit: str
    floor: str
    goal: str


@dataclass(frozen=True)
class Report:
    """All numbers of one run of `evaluate`.

    Attributes:
        model: the name in the checkpoint's config.
        images, videos: results per medium, None for a medium that was not asked for.
        held_out_video: groups that the checkpoint never saw on videos; on videos they are called emergent.
        height, width: pixels of every sample.
        frames: lengths of the videos.
        steps: sampling steps; None means the checkpoint's default.
        seed_offset: shift of the sample seeds.
        seconds: wall time of the run.
        beyond: measurements beyond samples of the world; see `beyond`.
    """

    model: str
    images: Medium | None
    videos: Medium | None
    held_out_video: tuple[str, ...]
    height: int
    width: int
    frames: tuple[int, ...]
    steps: int | None
    seed_offset: int
    seconds: float
    beyond: tuple[SummaryLine, ...] = ()

    def measures(self) -> list[SummaryLine]:
        """The summary in a fixed order; unmeasured lines are left out."""
        parts = (self._quality(), self._success(), self._emergent(), self._compound(), self._ablation())
        return [*(measure for part in parts for measure in part), *self.beyond]

    def to_json(self) -> str:
        """Everything, including the summary, as indented JSON text."""
        content = asdict(self) | {"summary": [asdict(measure) for measure in self.measures()]}
        return json.dumps(content, indent=2)

    def to_markdown(self) -> str:
        """Two tables: the summary with floors and goals, then all groups."""
        summary = [
            [measure.name, str(measure.n), f"{measure.value:.2f}{measure.unit}", measure.floor, measure.goal]
            for measure in self.measures()
        ]
        names = [name for name, _ in self._media()]
        groups = list(dict.fromkeys(group for _, medium in self._media() for group in medium.groups))
        rows = [
            [group, *(cell for _, medium in self._media() for cell in self._cells(medium, group))] for group in groups
        ]
        heads = ["group", *(f"{name} {column}" for name in names for column in COLUMNS)]
        lengths = f" and videos of {', '.join(map(str, self.frames))} frames" if self.videos else ""
        return (
            f"{self.model} on held-out samples of the procedural world at {self.width} x {self.height}{lengths}, "
            f"steps: {self.steps or 'default'}, {self.seconds:.0f} s.\n\n"
            + _table(["measure", "n", "value", "floor", "goal"], summary)
            + "\n"
            + _table(heads, rows)
        )

    def _media(self) -> list[tuple[str, Medium]]:
        return [(name, medium) for name, medium in (("images", self.images), ("videos", self.videos)) if medium]

    def _cells(self, medium: Medium, group: str) -> list[str]:
        rate = medium.groups.get(group)
        if rate is None:
            return ["-"] * len(COLUMNS)
        emergent = " (emergent)" if medium is self.videos and group in self.held_out_video else ""
        outside = "-" if rate.outside_psnr is None else f"{rate.outside_psnr:.1f}"
        frame, shape = ("-" if value is None else form.format(value) for value, form in _forms(rate))
        return [str(rate.n), f"{rate.success:.2f}{emergent}", f"{rate.remaining:.2f}", outside, frame, shape]

    def _quality(self) -> list[SummaryLine]:
        limits = {"images": (">= 30", ">= 33"), "videos": (">= 28", ">= 31")}
        lines = []
        for name, medium in self._media():
            n = sum(rate.n for rate in medium.groups.values())
            lines.append(SummaryLine(f"VAE reconstruction, {name}", n, medium.vae_psnr, " dB", *limits[name]))
            if medium.unedited_gap is not None:
                lines.append(
                    SummaryLine(f"unedited pixels below the VAE, {name}", n, medium.unedited_gap, " dB", "<= 2", "<= 1")
                )
            frames = [rate.psnr for rate in medium.groups.values() if rate.psnr is not None]
            if frames:
                mean = sum(frames) / len(frames)
                lines.append(
                    SummaryLine(f"whole frames against the target, {name}", n, mean, " dB", ">= 32.5", ">= 36")
                )
            if medium.flicker is not None:
                lines.append(SummaryLine(f"flicker beside the target's, {name}", n, medium.flicker, "", "", "<= 1.02"))
        return lines

    def _success(self) -> list[SummaryLine]:
        lines = []
        limits = {
            "images": ((">= 0.94", ">= 0.98"), (">= 0.82", ">= 0.93")),
            "videos": ((">= 0.88", ">= 0.96"), ("", "")),
        }
        for name, medium in self._media():
            unseen = self.held_out_video if name == "videos" else ()
            kinds = [kind for kind in SINGLE if kind not in unseen]
            together, worst = medium.success(kinds), medium.worst(kinds)
            if together and worst:
                title = "single edits trained on video" if name == "videos" and unseen else f"single edits, {name}"
                lines.append(SummaryLine(title, *together, "", *limits[name][0]))
                lines.append(
                    SummaryLine(f"{title}, worst type ({worst[0]})", worst[1].n, worst[1].success, "", *limits[name][1])
                )
        return lines

    def _emergent(self) -> list[SummaryLine]:
        together = self.videos.success(self.held_out_video) if self.videos else None
        return (
            [SummaryLine("emergent on video (types left out of the video data)", *together, "", ">= 0.78", ">= 0.90")]
            if together
            else []
        )

    def _compound(self) -> list[SummaryLine]:
        lines = []
        for name, medium in self._media():
            for group, rate in medium.groups.items():
                if group not in SINGLE:
                    title = f"{group.replace('_', ' ')}, {name}"
                    lines.append(SummaryLine(title, rate.n, rate.success, "", *_compound_limits(group, name)))
                if rate.shape is not None:
                    title = f"{group.replace('_', ' ')}, {name}, of the right shape"
                    lines.append(SummaryLine(title, rate.n, rate.shape, "", ">= 0.70", ">= 0.95"))
        return lines

    def _ablation(self) -> list[SummaryLine]:
        lines = []
        for name, medium in self._media():
            for title, rate in (("context zeroed", medium.zeroed), ("context shuffled", medium.shuffled)):
                if rate:
                    lines.append(SummaryLine(f"{title}, {name}", rate.n, rate.success, "", "<= 0.10", ""))
        return lines


def _compound_limits(group: str, medium: str) -> tuple[str, str]:
    """Floor and goal of a group of more than one edit."""
    if group == "hybrid":
        return (">= 0.75", ">= 0.90") if medium == "images" else (">= 0.60", ">= 0.80")
    return (">= 0.85", ">= 0.95") if group.startswith("reference") else ("", "")


def _forms(rate: SuccessRate) -> tuple[tuple[float | None, str], ...]:
    return (rate.psnr, "{:.1f}"), (rate.shape, "{:.2f}")


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
