"""`instructx download`: fetch a public model from the Hugging Face hub into a model folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..bounded import is_dir, is_file, read_text
from ..errors import InputError
from ..names import is_plain
from ..weights.known_models import KNOWN, NOT_STATED, find_known, folder_name
from ..words import quoted_path, shown
from .options import command
from .printing import complain, say
from .progress import Progress

if TYPE_CHECKING:
    from ..weights.hub import RemoteModel

ALLOWED = "allowed.txt"
LONGEST = 100_000  # bytes of that file
NAMES = ", ".join(model.name for model in KNOWN)

EXAMPLES = f"""\
examples:
  instructx download {KNOWN[0].name}
  instructx download {KNOWN[0].name} --to ComfyUI/models/instructx

Known models: {NAMES}.
To fetch any other model, first add its hub id (owner/name) to the file {ALLOWED} in the --to folder, one per line.
Only safetensors, JSON and a tokenizer's merges.txt are fetched, never code or pickles; each file is checked against the
hub's checksum. Size and licence are shown first. Run the command again to continue an interrupted download, from the
same commit (recorded in the model folder's download.json).
"""


def add_download(commands: Any) -> None:
    parser = command(commands, "download", "fetch a public model from the Hugging Face hub", EXAMPLES, _run_download)
    parser.add_argument("name", metavar="NAME", help=f"one of {NAMES}; or an allowed hub id")
    parser.add_argument(
        "--to",
        metavar="FOLDER",
        type=Path,
        default=Path(),
        help="where to create the model's folder, such as ComfyUI/models/instructx; created if missing (default: the "
        "current folder)",
    )


def _run_download(arguments: argparse.Namespace) -> None:
    repository, commit = _wanted(arguments.name, arguments.to)
    if not (is_dir(arguments.to) or is_dir(arguments.to.absolute().parent)):
        raise InputError(f"--to is {quoted_path(arguments.to)}, whose parent folder does not exist; create it first.")
    from ..run_lock import only_run
    from ..weights import hub

    folder = arguments.to / folder_name(repository)
    model = hub.look_up(repository, hub.recorded_commit(folder, repository) or commit)
    complain(_summary(model, folder))
    try:
        with only_run(folder), Progress("bytes") as progress:
            hub.record_origin(model, folder)
            hub.fetch(model, folder, progress)
    except KeyboardInterrupt:
        complain("instructx: what was downloaded is kept; run the same command to continue.")
        raise
    say(folder)


def _summary(model: RemoteModel, folder: Path) -> str:
    from ..words import in_bytes

    licence = f"{NOT_STATED}: ask its authors before you use it" if model.licence == NOT_STATED else model.licence
    return (
        f"{model.repository} at commit {model.commit}: {in_bytes(model.size)} in {len(model.files)} files, licence"
        f" {licence}; into {folder}"
    )


def _wanted(name: str, folder: Path) -> tuple[str, str | None]:
    """The (hub id, commit) of a known name, or of a hub id that the folder's owner has allowed.

    Raises:
        InputError: the name is neither.
    """
    known = find_known(name)
    if known is not None:
        return known.repository, known.commit
    if is_plain(name) and name in _allowed(folder / ALLOWED):
        return name, None
    raise InputError(
        f"{shown(name)} is not a known model ({NAMES}); if you trust its publisher, add its hub id (owner/name) to"
        f" {quoted_path(folder / ALLOWED)}, one per line, and run again."
    )


def _allowed(path: Path) -> set[str]:
    """The hub ids in a file, one per line; # starts a comment."""
    lines = read_text(path, LONGEST).splitlines() if is_file(path) else []
    return {line.partition("#")[0].strip() for line in lines} - {""}
