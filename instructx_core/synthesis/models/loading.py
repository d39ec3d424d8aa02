"""Load public models from a local folder: safetensors only, none of the model's own code, no downloads."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...bounded import is_dir
from ...errors import CheckpointError, InputError
from ...words import one_line, quoted_path


def loaded(library: str, name: str, folder: Path, **options: Any) -> Any:
    """Load an object of a library's class from a folder.

    Raises:
        InputError: the folder does not exist.
        CheckpointError: the class cannot load it.
    """
    if not is_dir(folder):
        raise InputError(f"{quoted_path(folder)} is not a folder; give a model folder on this machine.")
    if "Processor" not in name:
        options = {"use_safetensors": True, **options}
    try:
        return getattr(import_module(library), name).from_pretrained(str(folder), local_files_only=True, **options)
    except Exception as error:  # both libraries raise all kinds of errors
        raise CheckpointError(
            f"{quoted_path(folder)} cannot be opened as {name} ({one_line(error, 200)}); give another folder."
        ) from error


def check_scipy(role: str, kind: str) -> None:
    """Raise InputError unless scipy is installed, which the processor of this kind needs at its first call."""
    if find_spec("scipy") is None:
        raise InputError(f"experts.{role}: {kind} needs scipy; run `pip install scipy`.")


def picture_of(frame: Tensor) -> Any:
    """uint8 [H, W, 3] -> a PIL image."""
    from PIL import Image

    return Image.fromarray(frame.numpy())


def cut_out(picture: Tensor, mask: Tensor) -> Tensor:
    """Crop to the object under a mask, on white, with a margin of a tenth of its longer side."""
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(rows):
        return picture
    margin = max(int(rows[-1] - rows[0]), int(columns[-1] - columns[0])) // 10 + 1
    shown = torch.where(mask[..., None], picture, 255)
    top, left = max(int(rows[0]) - margin, 0), max(int(columns[0]) - margin, 0)
    return shown[top : int(rows[-1]) + 1 + margin, left : int(columns[-1]) + 1 + margin].contiguous()
