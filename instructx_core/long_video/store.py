"""Finished windows on the disk, beside the output: what an edit that was stopped goes on from.

A hidden folder `.NAME.windows` holds a manifest, which says what is being edited and how, and one file for each window:
its frames, without loss (FFV1), and its latents. Every file appears under its name only when it is complete, so a run
may be killed at any moment. A folder whose manifest says anything else is of another edit: it is emptied, and the
reason is logged.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoints.files import read_safetensors, write_safetensors
from ..errors import CheckpointError, InputError
from ..paths import partial_file
from .joining import EditedWindow

logger = logging.getLogger(__name__)

FORMAT = 2  # of what lies there, and of the way in which windows are joined
MANIFEST = "manifest.json"
CHECKSUM = "sha256"


class WindowStore:
    """The windows of one edit.

    Attributes:
        folder: where they lie.
        output: a name in that folder for the video while it is being written.
    """

    def __init__(self, output: Path) -> None:
        """Name the folder that belongs to an output file; nothing is touched before `open`."""
        self.folder = output.with_name(f".{output.name}.windows")
        self.output = self.folder / output.name

    @property
    def exists(self) -> bool:
        """Whether an earlier run has left windows here."""
        return (self.folder / MANIFEST).is_file()

    def open(self, identity: Mapping[str, Any]) -> int:
        """Begin or go on with the edit that `identity` (JSON values) describes.

        Returns:
            How many windows from the first on are there; `load` says whether each is whole.

        Raises:
            InputError: the folder cannot be written.
        """
        wanted = {"format": FORMAT, **identity}
        found = self._manifest()
        if found is not None and found != wanted:
            changed = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
            logger.warning("%s: begun anew, because of another %s.", self.folder, ", ".join(changed))
        if found != wanted:
            self.remove()
            self._write_manifest(wanted)
        for leftover in self.folder.glob(".*.partial"):  # what a run was writing when it was killed
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        count = 0
        while self._file(count).is_file():
            count += 1
        return count

    def load(self, index: int) -> EditedWindow | None:
        """A finished window, or None, with a warning, where its file is damaged or missing."""
        try:
            tensors, metadata = read_safetensors(self._file(index))
            if metadata.get(CHECKSUM) != _checksum(tensors):
                raise CheckpointError("its checksum is another")
            return EditedWindow(_decode(tensors["frames"]), tensors["latents"])
        except (CheckpointError, InputError) as error:
            logger.warning("%s is not whole (%s); it is edited again.", self._file(index), error)
            return None

    def save(self, index: int, edited: EditedWindow) -> None:
        """Keep a finished window. Raises InputError where it cannot be written, as on a full disk."""
        tensors = {"frames": _encode(edited.frames), "latents": edited.latents.contiguous()}
        try:
            write_safetensors(self._file(index), tensors, {CHECKSUM: _checksum(tensors)})
        except InputError as error:
            raise InputError(
                f"{self.folder}: window {index + 1} cannot be kept there; see whether the disk is full, and resume."
            ) from error

    def remove(self) -> None:
        """Delete the folder with all that this class writes."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:05}.safetensors"

    def _manifest(self) -> dict[str, Any] | None:
        """What the folder belongs to; None where there is none, or one that is no manifest."""
        try:
            plain = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return plain if isinstance(plain, dict) else None

    def _write_manifest(self, plain: dict[str, Any]) -> None:
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{self.folder}: finished windows cannot be kept there ({error.strerror}); give another output folder."
            ) from error
        with partial_file(self.folder / MANIFEST) as partial:
            partial.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _encode(frames: Tensor) -> Tensor:
    """uint8 [T, H, W, 3] -> the bytes, uint8 [N], of a video that holds them exactly."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"  # 8-bit RGB: no way to YUV and back
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame.numpy()), format="rgb24")
            output.mux(stream.encode(picture.reformat(format="bgr0")))
        output.mux(stream.encode(None))
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def _decode(data: Tensor) -> Tensor:
    """The inverse of `_encode`. Raises CheckpointError where FFmpeg cannot read it."""
    import av

    try:
        with av.open(io.BytesIO(data.numpy().tobytes()), format="matroska") as file:
            frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    except av.FFmpegError as error:
        raise CheckpointError(f"its frames cannot be read: {error.strerror}") from error
    return torch.stack(frames)
