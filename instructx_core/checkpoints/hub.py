"""Fetching a model folder from the Hugging Face hub, only ever when it was asked for.

Files come one by one; a file that was cut off goes on where it stopped the next time. `instructx.safetensors` comes
last, so that its presence says that the folder is whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ..errors import CheckpointError, InputError
from .bundle import ADAPTER

PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.jinja")  # never code, never pickles

ProgressCallback = Callable[[int, int], object]  # (bytes done, bytes in all)


@dataclass(frozen=True)
class RemoteFile:
    """A file of a hub repository."""

    name: str
    size: int  # bytes


def list_files(repository: str) -> list[RemoteFile]:
    """The files of a model on the hub ("owner/name") in the order in which to fetch them.

    Raises:
        InputError: not of the form "owner/name".
        CheckpointError: no such model, no way to reach the hub, or not an InstructX model.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if repository.count("/") != 1 or repository.startswith("/") or repository.endswith("/"):
        raise InputError(f"{repository!r} is no hub id; give one of the form owner/name.")
    try:
        siblings = HfApi().model_info(repository, files_metadata=True).siblings or []
    except HFValidationError as error:
        raise InputError(f"{repository!r} is no hub id: {error}") from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(f"{repository!r} could not be looked up on the hub: {_first_line(error)}") from error
    files = [RemoteFile(item.rfilename, item.size or 0) for item in siblings if _wanted(item.rfilename)]
    if ADAPTER not in {file.name for file in files}:
        raise CheckpointError(f"{repository!r} on the hub is not an InstructX model: it has no {ADAPTER}.")
    return sorted(files, key=lambda file: (file.name == ADAPTER, file.name))


def fetch(repository: str, folder: Path, files: list[RemoteFile], progress: ProgressCallback) -> None:
    """Bring `files` of a repository into `folder`; what is already there whole is not fetched again.

    Args:
        progress: called before the first file and after each; it stops the download by raising.

    Raises:
        CheckpointError: the hub could not be reached, or the disk is full; run again to go on.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    done, total = 0, sum(file.size for file in files)
    progress(done, total)
    for file in files:
        try:
            hf_hub_download(repository, file.name, local_dir=folder)
        except (HfHubHTTPError, OSError) as error:
            raise CheckpointError(
                f"{file.name} of {repository!r} could not be fetched: {_first_line(error)}; run again to go on."
            ) from error
        done += file.size
        progress(done, total)


def readable_size(size: int) -> str:
    """Bytes in the unit that a person would use."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1000:.0f} kB"


def _wanted(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in PATTERNS)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
