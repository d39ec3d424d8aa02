"""Measure long edits, on videos of the procedural world whose exact edit is known.

- *memory*: peak RSS after a short and after a ten times longer video in one process, and their ratio.
- *time*: seconds per window at the end of the long video over those at its beginning.
- *joins*, for each way of starting a window and for independent windows ("alone"):
  - seam: the mean difference of two frames that meet at a join, over that of neighbours inside a window; the same
    inside fades;
  - colour drift: the mean CIE delta E (1976) of unedited pixels against the source and of all pixels against the exact
    target, in the first and in the last window;
  - how often the edit succeeds in both.
  A way "frames:HEAD" passes the model its windows as pixels, as a foreign function gets them (`FrameEdit`, as between
  Window Open and Window Close); "vace:HEAD" passes them to diffusers' VACE with tiny random weights, whose pixels are
  meaningless but whose seams are not.

    python benchmarks/long_video.py memory --frames 180 --longer 1800
    python benchmarks/long_video.py joins --videos 1 --windows 20 --groups recolor --ways alone pin source
    python benchmarks/long_video.py joins --videos 6 --windows 6 --ways frames:alone frames:source vace:source
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import foreign

from instructx_core import Editor
from instructx_core.evaluation.metrics import UNEDITED_TOLERANCE, score_edit
from instructx_core.images import to_uint8
from instructx_core.long_video import Head, LongOptions, LongProgress, edit_video
from instructx_core.video import VideoReader, VideoWriter
from instructx_core.windows import Span, Window
from instructx_core.world import HELD_OUT_SEED, Triplet, sample_triplet

FPS = 8
LOOP = 49  # frames after which a longer video goes back the way it came
PLACES = ("left", "right", "top", "bottom", "upper", "lower", "cent", "middle", "corner")
GOALS = {"memory": 1.15, "seam": 1.1, "drift": 0.5, "success": -0.05}


@dataclass(frozen=True)
class Way:
    """A name, its options, and the editor: "" for the model, "frames" or "vace"."""

    name: str
    options: LongOptions
    by: str = ""


@dataclass(frozen=True)
class JoinScore:
    """Scores of the joins of one edited video."""

    seam: float
    fade: float | None  # the same inside fades
    unedited: tuple[float, float] | None  # delta E in the first and last window; None without unedited pixels
    error: tuple[float, float]  # delta E of all pixels against the target
    first_success: bool
    last_success: bool


def seam_score(frames: Tensor, windows: Sequence[Window]) -> float:
    """Mean |difference| of frames that meet at a join over that inside windows; frames [T, H, W, 3], any scale."""
    steps = (frames[1:].float() - frames[:-1].float()).abs().mean(dim=(1, 2, 3))
    joins = {window.start + window.head for window in windows if window.start}  # first new frame of each window
    inside = [value for index, value in enumerate(steps.tolist(), start=1) if index not in joins]
    return statistics.fmean(steps[index - 1].item() for index in joins) / max(statistics.fmean(inside), 1e-9)


def fade_score(frames: Tensor, windows: Sequence[Window]) -> float | None:
    """The same for steps inside fades, over those outside fades and joins; None without fades."""
    steps = (frames[1:].float() - frames[:-1].float()).abs().mean(dim=(1, 2, 3)).tolist()
    fading = {index for window in windows for index in range(window.start + 1, window.start + window.head)}
    joins = {window.start + window.head for window in windows if window.start}
    inside = [value for index, value in enumerate(steps, start=1) if index not in joins | fading]
    if not fading or not inside:
        return None
    return statistics.fmean(steps[index - 1] for index in fading) / max(statistics.fmean(inside), 1e-9)


def delta_e(first: Tensor, second: Tensor) -> Tensor:
    """CIE 1976 colour difference of sRGB pixels [..., 3] in [0, 1] -> [...]; visible from about 2."""
    return (lab(first) - lab(second)).square().sum(dim=-1).sqrt()


def lab(rgb: Tensor) -> Tensor:
    """sRGB [..., 3] in [0, 1] -> CIE L*a*b* under D65."""
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = torch.tensor(
        [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    )
    xyz = linear @ matrix.T / matrix.sum(dim=1)  # white is (1, 1, 1)
    f = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-1)


def draw(group: str, index: int, frames: int, size: tuple[int, int]) -> Triplet:
    """A held-out video whose target moves in every frame and whose instruction names no place, since objects move."""
    seed = HELD_OUT_SEED + 7_000_000_000 + 1000 * index
    while True:
        triplet = sample_triplet(seed, group, frames=min(frames, LOOP), height=size[0], width=size[1])
        moves = bool((triplet.target[1:] != triplet.target[:-1]).any(axis=(1, 2, 3)).all())
        names_place = group != "add" and any(place in triplet.instruction.lower() for place in PLACES)
        if moves and not names_place:
            return there_and_back(triplet, frames)
        seed += 1


def there_and_back(triplet: Triplet, frames: int) -> Triplet:
    """Extend a clip to `frames` frames by playing it forwards and backwards repeatedly.

    Objects cross the picture once in any number of frames, so in a directly drawn long clip they would barely move.
    """
    last = len(triplet.source) - 1
    order = [last - abs(last - index % (2 * last)) if last else 0 for index in range(frames)]
    return replace(triplet, source=triplet.source[order], target=triplet.target[order])


def write(path: Path, frames: Tensor) -> Path:
    """Float [T, H, W, 3] in [0, 1] -> a video file."""
    with VideoWriter(path, fps=FPS) as writer:
        for frame in frames:
            writer.write(to_uint8(frame))
    return path


def read(path: Path) -> Tensor:
    """A short video file -> float [T, H, W, 3] in [0, 1]."""
    with VideoReader(path) as reader:
        return torch.stack([frame for frame, _ in reader]) / 255


def score(edited: Tensor, triplet: Triplet, windows: Sequence[Window]) -> JoinScore:
    """Score an edited video [T, H, W, 3] in [0, 1] against its target."""
    source, target = torch.from_numpy(triplet.source), torch.from_numpy(triplet.target)
    unedited = ((target - source).abs() <= UNEDITED_TOLERANCE).all(dim=-1)
    ends = [slice(window.start + window.head, window.stop) for window in (windows[0], windows[-1])]
    drift = None
    if all(unedited[end].any() for end in ends):
        drift = tuple(delta_e(edited[end], source[end])[unedited[end]].mean().item() for end in ends)
    error = tuple(delta_e(edited[end], target[end]).mean().item() for end in ends)
    success = [score_edit(edited[end], target[end], source[end]).success for end in ends]
    return JoinScore(seam_score(edited, windows), fade_score(edited, windows), drift, error, *success)


def joins(
    editor: Editor, ways: Sequence[Way], groups: Sequence[str], videos: int, windows: int, steps: int | None
) -> None:
    """Print a table, each way's row as soon as it is done."""
    length = ways[0].options.window.frames(Fraction(FPS)) if ways[0].options.window else editor.default_frames
    frames = 1 + windows * (length - 1)
    triplets = [draw(groups[i % len(groups)], i, frames, editor.default_size) for i in range(videos)]
    plan, shared = ways[-1].options.plan(frames, Fraction(FPS), length, editor.codec.frame_multiple)
    print(f"{videos} videos of {frames} frames ({', '.join(groups)}), {len(plan)} windows of {length}, {shared} shared")
    print(f"goals: seam {GOALS['seam']},", end=" ")
    print(f"unedited dE in the last window at most {GOALS['drift']} more, success at most {-GOALS['success']} less")
    print(f"{'':<16}{'':>18}{'unedited dE':>18}{'dE to target':>18}{'success':>16}")
    print(
        f"{'way':<16}{'seam':>8}{'in fades':>10}"
        + f"{'first':>9}{'last':>9}" * 2
        + f"{'first':>8}{'last':>8}{'s/window':>10}"
    )
    targets = [seam_score(torch.from_numpy(triplet.target), plan) for triplet in triplets]
    print(f"{'the target':<16}{statistics.fmean(targets):>8.3f}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = [write(folder / f"{i}.mp4", torch.from_numpy(t.source)) for i, t in enumerate(triplets)]
        for way in ways:
            scores, start, count = [], perf_counter(), 0
            for source, triplet in zip(sources, triplets, strict=True):
                target = folder / "edited.mp4"
                if way.by:
                    function = foreign.EDITORS[way.by](editor, triplet.instruction, steps)
                    result = edit_video(function, source, target, options=way.options)
                else:
                    result = edit_video(editor, source, target, triplet.instruction, options=way.options, steps=steps)
                scores.append(score(read(result.path), triplet, result.windows))
                count += len(result.windows)
            print(row(way.name, scores, (perf_counter() - start) / count), flush=True)


def row(name: str, scores: Sequence[JoinScore], seconds: float) -> str:
    """One line of the table."""
    drifts = [s.unedited for s in scores if s.unedited is not None]
    fades = [s.fade for s in scores if s.fade is not None]
    cells = [f"{statistics.fmean(s.seam for s in scores):>8.3f}"]
    cells.append(f"{statistics.fmean(fades):>10.3f}" if fades else f"{'-':>10}")
    for pairs in (drifts, [s.error for s in scores]):
        cells += [f"{statistics.fmean(pair[end] for pair in pairs):>9.2f}" if pairs else f"{'-':>9}" for end in (0, 1)]
    cells += [
        f"{statistics.fmean(value):>8.2f}"
        for value in ([s.first_success for s in scores], [s.last_success for s in scores])
    ]
    return f"{name:<16}{''.join(cells)}{seconds:>10.2f}"


def memory(editor: Editor, short: int, long: int, steps: int) -> None:
    """Print peak RSS after a short and a long video, and seconds per window at both ends of each."""
    clip = torch.from_numpy(draw("recolor", 0, short, editor.default_size).source)
    print(f"{'frames':>8}{'peak RSS MiB':>14}{'s/window first':>16}{'s/window last':>15}")
    peaks = []
    for frames in (short, long):
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / "source.mp4"
            with VideoWriter(path, fps=FPS) as writer:
                for index in range(frames):
                    writer.write(to_uint8(clip[index % len(clip)]))
            seconds = window_seconds(
                lambda tell, path=path: edit_video(
                    editor, path, path.with_name("edited.mp4"), "make the red circle blue", steps=steps, callback=tell
                )
            )
        part = max(1, min(10, len(seconds) // 3))
        first, last = statistics.median(seconds[:part]), statistics.median(seconds[-part:])
        peaks.append(peak_rss())
        print(f"{frames:>8}{peaks[-1]:>14.0f}{first:>16.3f}{last:>15.3f}  last / first {last / first:.3f}", flush=True)
    print(f"peak of {long} frames over that of {short}: {peaks[1] / peaks[0]:.3f} (goal: at most {GOALS['memory']})")


def window_seconds(edit: Callable[[Callable[[LongProgress], None]], object]) -> list[float]:
    """Seconds from the end of one window's sampling to that of the next, including decoding, encoding and writing."""
    ends: list[float] = []

    def tell(at: LongProgress) -> None:
        if at.step == at.steps:
            ends.append(perf_counter())

    edit(tell)
    return [later - earlier for earlier, later in pairwise(ends)]


def peak_rss() -> float:
    """Peak MiB of this process so far."""
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def ways_of(names: Sequence[str], window: Span | None, overlap: Span | None) -> list[Way]:
    """Parse names of ways: "alone" for independent windows, else a head; the suffix "-free" leaves the colour
    unanchored, the prefix "frames:" or "vace:" edits with a function."""
    base, ways = LongOptions(window=window, overlap=overlap), []
    for name in names:
        by, _, way = name.rpartition(":")
        head, _, free = way.partition("-")
        options = replace(base, anchor_colour=free != "free")
        options = replace(options, overlap=Span(Fraction(0))) if head == "alone" else replace(options, head=Head(head))
        ways.append(Way(name, options, by))
    return ways


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Memory, time and joins of long edits.")
    parser.add_argument("what", choices=("memory", "joins"))
    parser.add_argument("--model", type=Path, help="a model folder (default: the bundled model)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=180, help="memory: the short video (default: %(default)s)")
    parser.add_argument("--longer", type=int, default=1800, help="memory: the long one (default: %(default)s)")
    parser.add_argument("--groups", nargs="+", default=["invert", "grayscale", "remove"], help="joins: kinds of edit")
    parser.add_argument("--videos", type=int, default=4, help="joins: number of videos (default: %(default)s)")
    parser.add_argument(
        "--windows",
        type=int,
        default=20,
        help="joins: per video, if one frame were shared (default: 20)",
    )
    parser.add_argument("--window", type=Span.parse, help="joins: length of a window (default: the model's)")
    parser.add_argument("--overlap", type=Span.parse, help="joins: overlap of two windows (default: as in editing)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: the model's; memory: 1)")
    parser.add_argument("--ways", nargs="+", default=["alone", "pin", "source", "latent", "pin-free", "source-free"])
    given = parser.parse_args(argv)
    editor = Editor.from_pretrained(given.model, device=given.device)
    if given.what == "memory":
        memory(editor, given.frames, given.longer, given.steps or 1)
    else:
        ways = ways_of(given.ways, given.window, given.overlap)
        joins(editor, ways, given.groups, given.videos, given.windows, given.steps)


if __name__ == "__main__":
    main()
