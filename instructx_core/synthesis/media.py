"""Write a candidate's pixels to files: PNG for pictures and their masks, H.264 for clips."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ..images import write_image
from ..video import VideoWriter
from .candidate import Candidate

PICTURE, CLIP = ".png", ".mp4"


def write_media(candidate: Candidate, folder: Path) -> dict[str, str]:
    """Write those of source, target, reference and mask that exist; return their file names."""
    named: dict[str, str] = {}
    mask = None if candidate.mask is None else candidate.mask[..., None].expand(-1, -1, -1, 3).byte() * 255
    for name, frames in (("source", candidate.source), ("target", candidate.target), ("mask", mask)):
        if frames is not None:
            named[name] = f"{candidate.key}.{name}{PICTURE if len(frames) == 1 else CLIP}"
            _write(frames, folder / named[name], candidate.fps)
    if candidate.reference is not None:
        named["reference"] = f"{candidate.key}.reference{PICTURE}"
        write_image(candidate.reference, folder / named["reference"])
    return named


def _write(frames: Tensor, path: Path, fps: Fraction) -> None:
    if path.suffix == PICTURE:
        write_image(frames[0], path)
        return
    height, width = frames.shape[1:3]
    even = frames[:, : height - height % 2, : width - width % 2]  # H.264 needs even sides
    with VideoWriter(path, fps=fps, size=(even.shape[1], even.shape[2])) as writer:
        for frame in torch.unbind(even):
            writer.write(frame.contiguous())
