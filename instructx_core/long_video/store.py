"""Finished windows on disk, next to the output, from which a stopped edit is resumed.

A hidden folder `.NAME.windows` holds a manifest, which describes the edit, and one file per window: its frames,
lossless (FFV1), and its latents. Files appear under their names only once complete, so a run may be killed at any
moment. Windows with a different manifest belong to another edit: they are deleted, and the reason is logged.

The folder is not trusted: only files written by this module are deleted, and sizes are checked before pixels are
decoded. Foreign files are kept; if one has a name that is needed here, the edit is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..atomic import partial_file
from ..bounded import read_json
from ..errors import CheckpointError, InputError
from ..hidden import UNFINISHED, hidden
from ..weights.files import read_header, read_safetensors, write_safetensors
from .joining import EditedWindow

logger = logging.getLogger(__name__)

FORMAT = 2  # version of these files and of how windows are joined
MANIFEST = "manifest.json"
CHECKSUM = "sha256"
_WINDOW = re.compile(r"\d{5,}\.safetensors")
_MOST_MANIFEST = 1 << 20  # bytes
_MOST_HEADER = 1 << 16


@dataclass(frozen=True)
class WindowSize:
    """The sizes that a stored window must have."""

    frames: tuple[int, int, int]  # count, height, width
    latent_frames: range  # allowed counts
    latents: int  # maximum number of values


class WindowStore:
    """The windows of one edit.

    Attributes:
        folder: the folder that holds them.
        output: the path in that folder of the video while it is being written.
    """

    def __init__(self, output: Path) -> None:
        """Set the folder for an output file; nothing is created before `open`."""
        self.folder = hidden(output, "windows")
        self.output = self.folder / output.name

    @property
    def exists(self) -> bool:
        """Whether an earlier run has left windows here."""
        return (self.folder / MANIFEST).is_file()

    def open(self, identity: Mapping[str, Any]) -> int:
        """Start or continue the edit that `identity` (JSON values) describes.

        Returns:
            The number of consecutive windows, from the first on, that have a file; `load` checks each.

        Raises:
            InputError: the folder cannot be written, or holds foreign files under names that are needed.
        """
        wanted = {"format": FORMAT, **identity}
        found = self.manifest()
        if found is not None and "dtype" not in found:  # an older version noted neither of these
            found |= {name: wanted[name] for name in ("dtype", "vae") if name in wanted}
        if found is not None and found != wanted:
            changed = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
            logger.warning("%s: restarted, as these changed since the last run: %s.", self.folder, ", ".join(changed))
        if found != wanted:
            self._clear()
            if left := self._own(_WINDOW):
                raise InputError(
                    f"{left[0]} is a window of another edit and cannot be deleted; close the program that has it open, "
                    "or give another output."
                )
            self._write_manifest(wanted)
        for path in self._own(UNFINISHED):  # partial files of a killed run
            _delete(path)
        return self.count()

    def load(self, index: int, size: WindowSize | None = None) -> EditedWindow | None:
        """Load a finished window; log a warning and return None if its file is damaged, missing or of another size.

        Args:
            size: the required sizes, checked against the file's header before anything is decoded.
        """
        file = self._file(index)
        try:
            _check_header(file, size)
            tensors, metadata = read_safetensors(file)
            if metadata.get(CHECKSUM) != _checksum(tensors):
                raise CheckpointError("its checksum does not match")
            if not tensors["latents"].isfinite().all():
                raise CheckpointError("its latents hold NaN or infinity")
            return EditedWindow(_decode(tensors["frames"], size), tensors["latents"])
        except (OSError, ValueError) as error:  # ValueError: CheckpointError and InputError among them
            logger.warning("%s is damaged (%s); its window is edited again.", file, error)
            return None

    def save(self, index: int, edited: EditedWindow) -> None:
        """Save a finished window. Raises InputError if it cannot be written, for example on a full disk."""
        tensors = {"frames": _encode(edited.frames), "latents": edited.latents.contiguous()}
        try:
            if self._file(index).is_symlink():  # it would be followed
                raise InputError("a link is in its place")
            write_safetensors(self._file(index), tensors, {CHECKSUM: _checksum(tensors)})
        except InputError as error:
            raise InputError(
                f"{self.folder}: window {index + 1} cannot be saved there; check whether the disk is full, and resume."
            ) from error

    def remove(self) -> None:
        """Delete all that this class has written, and the folder unless it holds foreign files."""
        self._clear()
        with suppress(OSError):  # not empty, a link, or missing
            self.folder.rmdir()
        left = [path.name for path in self._entries()]
        if left:
            logger.warning("%s is not deleted, as it holds other files (%s).", self.folder, ", ".join(left[:3]))

    def count(self) -> int:
        """The number of consecutive windows, from the first on, that have a file."""
        count = 0
        while self._file(count).is_file():
            count += 1
        return count

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:05}.safetensors"

    def _entries(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []

    def _own(self, names: re.Pattern[str]) -> list[Path]:
        return [path for path in self._entries() if names.fullmatch(path.name)]

    def _clear(self) -> None:
        """Delete our files, the manifest last: as long as it exists, the others are recognised as ours."""
        for path in (*self._own(UNFINISHED), *self._own(_WINDOW), self.output):
            _delete(path)
        if not self._own(_WINDOW):
            _delete(self.folder / MANIFEST)

    def manifest(self) -> dict[str, Any] | None:
        """Read the manifest, which tells the edit that the windows belong to; None if there are no files of an edit.

        Raises:
            InputError: foreign files have the names of windows or of a manifest.
        """
        file = self.folder / MANIFEST
        try:
            for path in self._own(_WINDOW):  # saving a window would follow a link
                _check_regular(path)
            if not file.is_symlink() and not file.exists():
                taken = [*self._own(_WINDOW), *(path for path in self._entries() if path == self.output)]
                if not taken:
                    return None
                raise ValueError(f"it has {taken[0].name} but no {MANIFEST}")
            _check_regular(file)
            plain = read_json(file, _MOST_MANIFEST)
            if not isinstance(plain, dict) or "format" not in plain:
                raise ValueError(f"its {MANIFEST} was not written by an edit")
        except (OSError, ValueError) as error:  # ValueError: InputError among them
            raise InputError(
                f"{self.folder}: finished windows are kept in a folder of this name, but this one is not an edit's "
                f"({getattr(error, 'reason', error)}); move it away, or give another output."
            ) from error
        return plain

    def _write_manifest(self, plain: dict[str, Any]) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.folder}: finished windows cannot be saved there ({error.strerror}); give another output folder."
            ) from error
        with partial_file(self.folder / MANIFEST) as partial:
            partial.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")


def _check_regular(path: Path) -> int:
    """The size of a regular file in bytes. Raises OSError, or ValueError for a link, a folder or a device."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"its {path.name} is not a regular file")
    return found.st_size


def _delete(path: Path) -> None:
    """Delete a file, link or folder if it exists; errors are ignored."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _check_header(path: Path, size: WindowSize | None) -> None:
    """Raise OSError or ValueError (including CheckpointError) unless the header is that of a window of `size`."""
    _check_regular(path)
    with path.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > _MOST_HEADER:
            raise CheckpointError("its header is too long")
    header = read_header(path)
    frames, latents = header.get("frames"), header.get("latents")
    if header.keys() - {"__metadata__"} != {"frames", "latents"}:
        raise CheckpointError("it does not hold just frames and latents")
    shape = latents["shape"]
    fits = frames["dtype"] == "U8" and latents["dtype"] == "F32" and len(shape) == 5 and shape[0] == 1 and all(shape)
    if size is not None:
        # FFV1 exceeds the raw pixels only for noise, and only slightly
        fits = fits and prod(frames["shape"]) <= 8 * prod(size.frames) + (1 << 20)
        fits = fits and prod(shape) <= size.latents and shape[2] in size.latent_frames
    if not fits or len(frames["shape"]) != 1:
        raise CheckpointError("its frames or latents have a wrong shape")


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _encode(frames: Tensor) -> Tensor:
    """uint8 [T, H, W, 3] -> the bytes, uint8 [N], of a lossless video."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"  # 8-bit RGB: no lossy conversion to YUV
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.numpy()), format="rgb24")
            output.mux(stream.encode(picture.reformat(format="bgr0")))
        output.mux(stream.encode(None))
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def _decode(data: Tensor, size: WindowSize | None) -> Tensor:
    """The inverse of `_encode`. Raises CheckpointError if FFmpeg cannot read it or it does not have `size`."""
    import av

    frames: list[Tensor] = []
    try:
        with av.open(io.BytesIO(data.numpy().tobytes()), format="matroska") as file:
            stream = file.streams.video[0]
            measures = (stream.codec_context.height, stream.codec_context.width)
            if stream.codec_context.name != "ffv1" or (size is not None and measures != size.frames[1:]):
                raise CheckpointError(f"its frames are {measures[0]} x {measures[1]} in {stream.codec_context.name}")
            for frame in file.decode(stream):
                if (frame.height, frame.width) != measures or (size is not None and len(frames) == size.frames[0]):
                    raise CheckpointError("its frames do not match the window")
                frames.append(torch.from_numpy(frame.to_ndarray(format="rgb24")))
    except (av.FFmpegError, IndexError, AttributeError) as error:  # IndexError: no video; AttributeError: unknown codec
        raise CheckpointError(f"its frames cannot be read: {getattr(error, 'strerror', error)}") from error
    if not frames or (size is not None and len(frames) != size.frames[0]):
        raise CheckpointError(f"it has {len(frames)} frames")
    return torch.stack(frames)
