"""A row's files -> an `Example` with the area, lengths and strides of a run."""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path
from statistics import fmean

import torch

from ...errors import InputError
from ...fit import check_aspect, fit_reference, plan_fit
from ...images import read_encoded, read_image, read_pixels, to_floats
from ...main_memory import check_room
from ...video import VideoReader
from ...words import one_line
from ..config import DataConfig, ExampleWords
from .example import Example
from .rows import Media, Row, RowError, is_video

SAME_ASPECT = (
    0.02  # in log(width / height): how much rounding to whole pixels may change the aspect of a resized picture
)


def read_example(
    row: Row, data: DataConfig, stride: int, frame_multiple: int, words: ExampleWords | None = None
) -> Example:
    """Read a pair. Frames are resized to the area of the config's first size, clips cut to its longest length.

    Source and target get the same shape: a target of a different size is resized to the source's if its aspect is the
    same (within 2 %), and refused if not, since it would be squeezed. Lengths are compared after the cut.

    Args:
        words: the text that the row must have.

    Raises:
        RowError: a file cannot be read, source and target differ in shape, frames are too narrow for the MLLM, or
            `words` is missing.
    """
    if words and not getattr(row, words):
        raise RowError(f"it has no {words}, which this kind of stage reads")
    longest = max(data.lengths)
    try:
        kind = is_video(row.source)
        source, target = _frames(row.source, longest, "the source"), _frames(row.target, longest, "the target")
        references = [_picture(media, "a reference") for media in row.references]
    except InputError as error:
        raise RowError(one_line(error).rstrip(".")) from error
    if len(source) != len(target):
        raise RowError(f"source and target differ in length ({len(source)} frames and {len(target)} frames)")
    (height, width), (other_height, other_width) = source.shape[1:3], target.shape[1:3]
    if abs(math.log(width * other_height / (height * other_width))) > SAME_ASPECT:
        sizes = f"{width} x {height} and {other_width} x {other_height}"
        raise RowError(f"source and target differ in aspect ratio ({sizes})")
    area = data.sizes[0][0] * data.sizes[0][1]
    fit = plan_fit(len(source), (height, width), stride, frame_multiple, area)
    try:
        check_aspect((height, width), fit.canvas)
    except InputError as error:
        raise RowError(one_line(error).rstrip(".")) from error
    return Example(
        source=fit.apply(source),
        target=fit.apply(target),
        references=tuple(fit_reference(image, fit.canvas) for image in references),
        instruction=row.instruction,
        caption=row.caption,
        is_video=kind,
        name=row.name,
    )


def covered(mask: Media) -> float:
    """The white share of a mask, a picture or a clip. Raises RowError if it cannot be read."""
    try:
        frames = _frames(mask, sys.maxsize, "the mask")
        return fmean(to_floats(frame).mean(2).gt(0.5).float().mean().item() for frame in frames)
    except InputError as error:
        raise RowError(one_line(error).rstrip(".")) from error


def _frames(media: Media, most: int, name: str) -> torch.Tensor:
    """[T, H, W, 3], uint8 or float in [0, 1]: the first `most` frames of a clip, or a picture."""
    if not is_video(media):
        return (read_encoded(media, name) if isinstance(media, bytes) else read_pixels(media))[None]
    if not isinstance(media, bytes):
        return _decoded(media, most)
    with tempfile.TemporaryDirectory(prefix="instructx-") as folder:  # decoders need to seek
        path = Path(folder, f"{name.replace(' ', '-')}.mp4")
        path.write_bytes(media)
        return _decoded(path, most)


def _decoded(path: Path, most: int) -> torch.Tensor:
    frames: list[torch.Tensor] = []
    with VideoReader(path, quiet=True) as reader:
        check_room(str(path), reader.info.width, reader.info.height, min(most, reader.info.frames or most))
        for frame, _ in reader:
            frames.append(frame)
            if len(frames) == most:
                break
    return torch.stack(frames)


def _picture(media: Media, name: str) -> torch.Tensor:
    """float32 [H, W, 3] in [0, 1]."""
    return to_floats(read_encoded(media, name)).contiguous() if isinstance(media, bytes) else read_image(media)
