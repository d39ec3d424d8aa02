"""Download a model folder from the Hugging Face hub, only on request.

- A model is looked up once: names, sizes, digests, licence, and the commit from which all files are then fetched.
- `record_origin` notes the commit in the folder (`download.json`), so that a resumed download uses the same commit.
- Files are fetched one by one over plain HTTP into `.NAME.DIGEST.partial`; one that was interrupted, cancelled or
  killed resumes at that byte the next time. The hub's own client deletes partial files (seen in 2.4.0), which is no
  good for shards of gigabytes.
- A file gets its name once its digest matches the hub's. The file that marks a model of its layout (`marks.mark_of`)
  comes last: its presence means that the folder is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..atomic import partial_file
from ..bounded import is_file, read_json, why
from ..compat import download_into
from ..errors import CheckpointError, InputError
from ..hidden import hidden, leftovers
from ..names import is_plain
from ..words import in_bytes, one_line, quoted, quoted_path
from .known_models import NOT_STATED
from .marks import MARKS, mark_of

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

PATTERNS = ("*.json", "*.safetensors", "merges.txt", "*/merges.txt")  # never code, never pickles
RECORD = "download.json"  # records the origin of a folder
DIGEST = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")  # git's blob id or commit; SHA-256
SHA256_DIGITS = 64

ProgressCallback = Callable[[int, int], object]  # (bytes done, total bytes)


@dataclass(frozen=True)
class RemoteFile:
    """A file in a hub repository."""

    name: str
    size: int  # bytes
    digest: str  # in hexadecimal: SHA-256 of a large file, git's blob id of a small one


@dataclass(frozen=True)
class RemoteModel:
    """A model on the hub, as it was at one commit."""

    repository: str  # owner/name
    commit: str
    files: tuple[RemoteFile, ...]  # in download order
    licence: str = NOT_STATED  # as stated on its hub page

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def look_up(repository: str, commit: str | None = None) -> RemoteModel:
    """Look up the files of a model on the hub ("owner/name").

    Files whose names would lead out of the folder on any system are ignored.

    Args:
        commit: None for the newest.

    Raises:
        InputError: not of the form "owner/name".
        CheckpointError: no such model, the hub is unreachable, or a model of another kind.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    if repository.count("/") != 1 or repository.startswith("/") or repository.endswith("/"):
        raise InputError(f"{repository!r} is not a hub id; give one of the form owner/name.")
    try:
        found = HfApi().model_info(repository, revision=commit, files_metadata=True)
    except HFValidationError as error:
        raise InputError(f"{repository!r} is not a hub id: {error}") from error
    except transport_errors() as error:
        raise CheckpointError(f"{repository!r} could not be looked up on the hub: {first_line(error)}") from error
    files = [
        RemoteFile(item.rfilename, item.size or 0, item.lfs.sha256 if item.lfs else item.blob_id)
        for item in found.siblings or []
        if _wanted(item.rfilename)
    ]
    last = mark_of(file.name for file in files)
    if last is None:
        raise CheckpointError(
            f"{repository!r} on the hub is neither an InstructX model nor laid out as Kiwi-Edit's: it has no"
            f" {' and no '.join(MARKS)}, and its weights are not a single file; give another model."
        )
    files.sort(key=lambda file: (file.name == last, file.name))
    odd = [found.sha or "", *(file.digest or "" for file in files)]
    if not all(map(DIGEST.fullmatch, odd)) or any(file.size < 0 for file in files):
        raise CheckpointError(f"The hub lists no checksums for {repository!r}, so no download of it can be verified.")
    return RemoteModel(repository, found.sha, tuple(files), _licence(found))


def record_origin(model: RemoteModel, folder: Path) -> None:
    """Record in `folder` where its files come from, for `recorded_commit`.

    Raises InputError if it cannot be written.
    """
    fields = {"repository": model.repository, "commit": model.commit, "licence": model.licence}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{quoted_path(folder)} cannot be created: {why(error)}.") from error
    with partial_file(folder / RECORD) as partial:
        partial.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def recorded_commit(folder: Path, repository: str) -> str | None:
    """The commit of a partial or finished download of `repository` in `folder`; None if there is none.

    Raises:
        CheckpointError: `folder` holds a download of another model.
        InputError: the folder's record cannot be read.
    """
    if not is_file(folder / RECORD):
        return None
    plain = read_json(folder / RECORD)
    fields = plain if isinstance(plain, dict) else {}
    known, commit = fields.get("repository"), fields.get("commit")
    if known != repository:
        what = f"is a download of {quoted(known)}" if isinstance(known, str) else f"has a {RECORD} that names no model"
        raise CheckpointError(f"{str(folder)!r} {what}; move the folder away first.")
    return commit if isinstance(commit, str) and DIGEST.fullmatch(commit) else None


def fetch(model: RemoteModel, folder: Path, progress: ProgressCallback) -> None:
    """Download the files of a model into `folder`; complete ones are not fetched again.

    Args:
        progress: called before the first file, during each file and after it; it may raise to stop the download.

    Raises:
        CheckpointError: the hub could not be reached, the disk is too small, or a file arrived damaged; run again to
            resume.
    """
    total = model.size
    progress(0, total)
    _check_space(model, folder)
    done = 0
    for file in model.files:
        if not _is_whole(folder / file.name, file):
            try:
                _transfer(model, file, folder, lambda count, before=done: progress(before + count, total))
            except transport_errors() as error:
                what, reason = f"{file.name} of {model.repository!r}", first_line(error)
                raise CheckpointError(f"{what} could not be fetched: {reason}; run again to resume.") from error
        done += file.size
        progress(done, total)


def fetch_into_cache(repository: str) -> Path:
    """Download a model into the hub client's own cache, shared by all programs that use it, and return its folder.

    Raises:
        CheckpointError: no such model, or files are missing from the cache and the hub is unreachable.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(repository, allow_patterns=list(PATTERNS)))
    except (HFValidationError, *transport_errors()) as error:
        raise CheckpointError(f"{repository!r} could not be fetched from the hub: {first_line(error)}") from error


def transport_errors() -> tuple[type[Exception], ...]:
    """The exceptions that the hub's client raises when a transfer fails; its HTTP library depends on its version.

    Errors of requests (below 1.0) are OSErrors. Those of httpx are not: a refused connection raises the HTTPError that
    HfHubHTTPError is derived from.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, HfHubHTTPError, *HfHubHTTPError.__bases__)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its class name if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class _Counted:
    """A file that reports its length after every write; the callback may raise to stop the transfer.

    It accepts at most `size` bytes, however many the server sends.
    """

    def __init__(self, file: BinaryIO, size: int, report: Callable[[int], object]) -> None:
        self.file = file
        self.size = size
        self.report = report

    def write(self, data: bytes) -> int:
        if self.file.tell() + len(data) > self.size:
            raise OSError(f"the server sent more than the expected {self.size} bytes")
        count = self.file.write(data)
        self.report(self.file.tell())
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def _transfer(model: RemoteModel, file: RemoteFile, folder: Path, report: Callable[[int], object]) -> None:
    """Fetch one file, resuming where an earlier transfer of the same content stopped."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    target = folder / file.name
    partial = _partial(target, file)
    target.parent.mkdir(parents=True, exist_ok=True)
    for other in leftovers(target, "partial"):
        # of an older commit, too long, or a link, through which the download would write
        if other != partial or other.is_symlink() or other.stat().st_size > file.size:
            other.unlink()
    with partial.open("ab") as begun:
        download_into(
            hf_hub_url(model.repository, file.name, revision=model.commit),
            _Counted(begun, file.size, report),
            begun=begun.tell(),
            headers=build_hf_headers() | {"Accept-Encoding": "identity"},  # a Range counts bytes as sent
            size=file.size,
            name=file.name,
        )
    if not _is_whole(partial, file):
        partial.unlink()
        raise CheckpointError(
            f"{file.name} of {model.repository!r} arrived damaged and was deleted; run again to fetch it."
        )
    os.replace(partial, target)


def _partial(target: Path, file: RemoteFile) -> Path:
    return hidden(target, "partial", file.digest[:12])


def _is_whole(path: Path, file: RemoteFile) -> bool:
    """Whether `path` holds exactly the content of `file`."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    if len(file.digest) == SHA256_DIGITS:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as content:
        return hashlib.file_digest(content, lambda: digest).hexdigest() == file.digest


def _check_space(model: RemoteModel, folder: Path) -> None:
    """Raise CheckpointError if the disk has no room for the rest of the download."""
    folder.mkdir(parents=True, exist_ok=True)
    there = 0
    for file in model.files:
        target = folder / file.name
        begun = (path.stat().st_size for path in (target, _partial(target, file)) if path.is_file())
        there += min(file.size, max(begun, default=0))
    needed, free = model.size - there, shutil.disk_usage(folder).free
    if needed > free:
        raise CheckpointError(
            f"{model.repository!r} needs {in_bytes(needed)} more in {str(folder)!r}, but only {in_bytes(free)} "
            "are free; free some space, then run again."
        )


def _wanted(name: str) -> bool:
    return name != RECORD and is_plain(name) and any(fnmatch(name, pattern) for pattern in PATTERNS)


def _licence(found: ModelInfo) -> str:
    """The licence that the model's card states, else its tags."""
    tagged = [tag.removeprefix("license:") for tag in found.tags or [] if tag.startswith("license:")]
    said = (found.card_data or {}).get("license") or next(iter(tagged), None)
    return one_line(said, 80) if said else NOT_STATED
