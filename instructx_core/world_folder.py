"""Samples of the procedural world as files, in the folder format in which training also reads users' own pairs.

A folder has `metadata.csv` with the columns source, target, instruction and reference (paths relative to the folder;
empty without a reference), pictures as PNG, clips as MP4.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from .atomic import atomic_folder
from .errors import InputError
from .world import CLIP_GROUPS, EVERY_GROUP, GROUPS, HELD_OUT_SEED, PLAIN, Variety, sample_triplet

METADATA = "metadata.csv"
COLUMNS = ("source", "target", "instruction", "reference")
FPS = Fraction(8)


def write_pairs(
    directory: Path,
    *,
    count: int,
    groups: Sequence[str] = GROUPS,
    frames: int = 1,
    size: int = 64,
    seed: int = 0,
    variety: Variety = PLAIN,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `count` pairs into a new or empty folder, which appears only when it is complete.

    Args:
        groups: edit groups, taken in turn.
        frames: 1 writes pictures, more write clips of that length.
        size: height and width in pixels, even for clips.
        seed: of the first pair, counting up for the next. All must be below `HELD_OUT_SEED`, so that no benchmark
            sample is written.
        variety: how varied the samples are; see `world.Variety`.
        progress: called as progress(done, count) after every pair.

    Returns:
        The metadata file.

    Raises:
        InputError: the folder is not empty or cannot be written (as on a full disk), an unknown group, or a number out
            of range.
    """
    _check(groups, frames, size, seed, count)
    directory = _free_folder(directory)
    try:
        with atomic_folder(directory) as folder:
            rows = []
            for index in range(count):
                group = groups[index % len(groups)]
                rows.append(_write_pair(folder, index, seed + index, group, frames, size, variety))
                if progress:
                    progress(index + 1, count)
            with open(folder / METADATA, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                writer.writeheader()
                writer.writerows(rows)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{directory}: the pairs could not be written ({reason}); free space or name another folder."
        ) from error
    return directory / METADATA


def _write_pair(
    directory: Path, index: int, seed: int, group: str, frames: int, size: int, variety: Variety
) -> dict[str, str]:
    """Write the files of one pair; return its row of the table."""
    triplet = sample_triplet(seed, group, frames=frames, height=size, width=size, variety=variety)
    suffix = "png" if frames == 1 else "mp4"
    stem = f"{index:05d}_{group}"
    row = {"source": f"{stem}_source.{suffix}", "target": f"{stem}_target.{suffix}", "instruction": triplet.instruction}
    _write_frames(directory / row["source"], triplet.source)
    _write_frames(directory / row["target"], triplet.target)
    if triplet.references:
        (reference,) = triplet.references
        row["reference"] = f"{stem}_reference.png"
        _write_frames(directory / row["reference"], reference[None])
    return row


def _write_frames(path: Path, frames: np.ndarray) -> None:
    """float [T, H, W, 3] in [0, 1] -> PNG (T = 1 and that suffix) or MP4."""
    pixels = np.round(frames * 255).clip(0, 255).astype(np.uint8)
    if path.suffix == ".png":
        from PIL import Image

        Image.fromarray(pixels[0]).save(path)
        return
    import torch

    from .video import VideoWriter

    with VideoWriter(path, fps=FPS, size=(pixels.shape[1], pixels.shape[2])) as writer:
        for frame in pixels:
            writer.write(torch.from_numpy(frame))


def _free_folder(directory: Path) -> Path:
    """The folder's full path; raise InputError unless it does not exist, or is empty and not the current folder."""
    try:
        path = directory.resolve()
        taken = path.exists() and (not path.is_dir() or path == Path.cwd() or any(path.iterdir()))
    except (OSError, RuntimeError, ValueError) as error:  # the latter two: a loop of links, a null byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{directory}: it cannot be read ({reason}); name a new folder.") from error
    if taken:
        raise InputError(f"{directory}: it is not an empty folder, or is the current one; name a new folder.")
    return path


def _check(groups: Sequence[str], frames: int, size: int, seed: int, count: int) -> None:
    unknown = [group for group in groups if group not in EVERY_GROUP]
    if unknown or not groups:
        name = repr(unknown[0]) if unknown else "an empty list"
        raise InputError(f"groups: {name} is not a group of the world; choose from {', '.join(EVERY_GROUP)}.")
    if frames == 1 and (late := set(groups) & set(CLIP_GROUPS)):
        raise InputError(f"groups: {late.pop()!r} exists in clips only; give frames of 2 or more.")
    if count < 1 or frames < 1:
        raise InputError(f"count and frames: {count} and {frames} must both be at least 1; give larger numbers.")
    if not 32 <= size <= 1024 or (frames > 1 and size % 2):
        raise InputError(f"size: {size} does not fit; give 32 to 1024 pixels, an even number for clips.")
    if seed < 0 or seed + count > HELD_OUT_SEED:
        raise InputError(
            f"seed: {seed} does not fit; give 0 or more, with all pairs below {HELD_OUT_SEED} (held out for tests)."
        )
