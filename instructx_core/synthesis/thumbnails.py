"""Media scaled down for a page with hundreds of them."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from ..errors import InputError
from ..images import to_uint8
from ..video import VideoReader, VideoWriter

SIDE = 320  # pixels, of the longer side
AS_IT_IS = 100_000  # bytes; smaller files are not scaled


def is_clip(data: bytes) -> bool:
    return data[4:8] == b"ftyp"


def thumbnail(data: bytes) -> bytes:
    """Scale a PNG or MP4 to at most SIDE pixels per side; files of up to AS_IT_IS bytes are returned unchanged.

    Raises:
        InputError: it cannot be read.
    """
    if len(data) <= AS_IT_IS:
        return data
    return _small_clip(data) if is_clip(data) else _small_picture(data)


def _small_picture(data: bytes) -> bytes:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            picture.thumbnail((SIDE, SIDE))
            file = io.BytesIO()
            picture.save(file, "PNG")
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"A picture of a pair cannot be read ({error}).") from error
    return file.getvalue()


def _small_clip(data: bytes) -> bytes:
    from PIL import Image

    with TemporaryDirectory() as folder:
        large, small = Path(folder, "large.mp4"), Path(folder, "small.mp4")
        large.write_bytes(data)
        with VideoReader(large, quiet=True) as reader:
            width, height = reader.info.width, reader.info.height
            scale = min(1.0, SIDE / max(width, height))
            size = tuple(max(2, int(side * scale) // 2 * 2) for side in (width, height))  # H.264 needs even sides
            with VideoWriter(small, fps=reader.info.fps, size=size[::-1]) as writer:
                for frame, _ in reader:
                    picture = Image.fromarray(to_uint8(frame).numpy()).resize(size)
                    writer.write(torch.from_numpy(np.array(picture)))
        return small.read_bytes()
