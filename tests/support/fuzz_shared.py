"""Valid inputs that fuzz cases start from, each made once, when first asked for."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from instructx_core import Editor
from support import golden_runs, video_files

SIZE = (48, 48)
WORDS = golden_runs.WORDS


@dataclass
class Shared:
    """Inputs under a folder of their own; readers copy, and never write to them."""

    root: Path

    def __post_init__(self) -> None:
        """Imports of seconds happen here, and not within a case's limits."""
        _ = self.editor

    @cached_property
    def frames(self) -> np.ndarray:
        """uint8 [T, H, W, 3]."""
        return (golden_runs.pictures(5, *SIZE) * 255).round().to(torch.uint8).numpy()

    @cached_property
    def picture(self) -> Path:
        path = self.root / "picture.png"
        Image.fromarray(self.frames[0]).save(path)
        return path

    @cached_property
    def pictures(self) -> dict[str, bytes]:
        """By suffix: still pictures and animations, plain and with what files carry beside pixels."""
        first, *rest = [Image.fromarray(frame) for frame in self.frames]
        exif = Image.Exif()
        exif[0x0112] = 6  # turned
        return {
            ".png": _saved(first, "PNG", exif=exif),
            ".jpg": _saved(first, "JPEG", exif=exif),
            ".webp": _saved(first, "WEBP"),
            ".bmp": _saved(first, "BMP"),
            ".tiff": _saved(first, "TIFF", compression="tiff_lzw"),
            ".ppm": _saved(first, "PPM"),
            ".gif": _saved(first, "GIF", save_all=True, append_images=rest, duration=100),
            ".apng": _saved(first, "PNG", save_all=True, append_images=rest),
            ".rgba.png": _saved(first.convert("RGBA"), "PNG"),
            ".16.png": _saved(Image.fromarray(self.frames[0, :, :, 0].astype(np.uint16) * 256), "PNG"),
            ".palette.png": _saved(first.convert("P"), "PNG"),
        }

    @cached_property
    def videos(self) -> dict[str, bytes]:
        """By suffix."""
        kinds = {
            ".mp4": {"audio": ["aac"]},
            ".mkv": {"rotation": (90, False)} if hasattr(video_files.VideoStream, "set_display_rotation") else {},
            ".webm": {"codec": "libvpx-vp9"},
            ".mov": {"codec": "mpeg4"},
            ".avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
        }
        found = {}
        for suffix, options in kinds.items():
            path = video_files.make_video(self.root / f"video{suffix}", self.frames, **options)
            found[suffix] = path.read_bytes()
        return found

    @cached_property
    def clip(self) -> Path:
        """Nine frames: two windows of five."""
        frames = (golden_runs.pictures(9, *SIZE) * 255).round().to(torch.uint8).numpy()
        return video_files.make_video(self.root / "clip.mp4", frames)

    @cached_property
    def model(self) -> Path:
        """A model folder whose every part has an effect."""
        return golden_runs.make_random("reference-embedding", self.root / "model")

    @cached_property
    def editor(self) -> Editor:
        return Editor.from_pretrained(self.model, device="cpu", dtype=torch.float32)


@dataclass(frozen=True)
class Case:
    """What a reader makes its input from."""

    random: Random
    folder: Path  # empty, of this case alone
    shared: Shared


Reader = Callable[[Case], Callable[[], object]]  # makes the bad input, and returns what reads it


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()
