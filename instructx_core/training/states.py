"""Training states: what a resumed run needs, as safetensors and JSON. Nothing is ever unpickled.

    states/00000250/
      weights-1-of-2.safetensors     the trained parameters, by name
      average-1-of-2.safetensors     their exponential average, if one is kept
      optimizer-1-of-2.safetensors   the optimizers' tensors, as "exp_avg/NAME"
      position-1-of-2.json           this process's position in its data, if it has one
      progress.json                  the step, and how many steps the average has seen
      manifest.json                  size and SHA-256 of all other files; written last

- Each of n processes writes every n-th tensor, whole: a state fits any number of processes, and none holds all of it.
- Frozen weights are not saved: they come from the config's `start`, or from its seed, again.
- Learning rates and other optimizer settings come from the config. The rate is a function of the step, so there is no
  scheduler.
- There are no random states: a batch, its noise and torch's own generator are functions of (seed, step, micro-batch,
  process); see `steps.batch_generator`.
- A state is written under a hidden name and renamed once complete. Before it is read, every file is checked against the
  manifest, and every tensor's name and shape against the run's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from torch import Tensor

from ..atomic import replace_folder
from ..bounded import UnreadableError, open_regular, read_json, why
from ..errors import CheckpointError, InputError
from ..hidden import hidden
from ..weights.files import read_shapes, write_safetensors
from ..words import one_line, quoted, quoted_path, shown
from .sharding import is_shared_out, whole

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST, PROGRESS = "manifest.json", "progress.json"
LARGEST_JSON = 1 << 20  # bytes; a manifest lists up to four files per process
TENSOR_FILE = re.compile(r"(weights|average|optimizer)-\d+-of-\d+\.safetensors")
POSITION_FILE = re.compile(r"position-\d+-of-\d+\.json")
PICKLES = {".pkl", ".bin", ".pt", ".pth"}  # in states that accelerate itself writes


@dataclass(frozen=True)
class Snapshot:
    """The state of a run between two steps."""

    step: int
    averaged_steps: int  # how many steps the average has seen; 0 without an average
    tensors: Mapping[str, Mapping[str, Tensor]]  # "weights", "average" and "optimizer", each by name
    position: Mapping[str, Any] = field(default_factory=dict)  # this process's, in its data; see `data.sources`


class StateError(Exception):
    """A state cannot be used; the message says why."""


def saved_states(output: Path) -> list[Path]:
    """The training states in a run's folder, complete or not, oldest first."""
    folder = Path(output) / "states"
    return sorted((path for path in folder.glob("*") if path.name.isdecimal()), key=lambda path: int(path.name))


def clear_unfinished(output: Path) -> None:
    """Delete states that a killed run left unfinished."""
    for path in (Path(output) / "states").glob(".*.partial"):
        shutil.rmtree(path, ignore_errors=True)


def write_state(output: Path, snapshot: Snapshot, accelerator: Accelerator) -> None:
    """Write the state of this step, then delete older ones except the newest; every process takes part.

    Raises:
        InputError: it cannot be written, as on a full disk. Earlier states are kept.
    """
    from accelerate.utils import gather_object

    share = _own_share(snapshot, accelerator.process_index, accelerator.num_processes)
    folder = Path(output) / "states" / f"{snapshot.step:08d}"
    partial = hidden(folder, "partial")
    sums: dict[str, list[Any]] = {}
    problem: str | None = None
    try:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
    except OSError as error:
        problem = error.strerror
    accelerator.wait_for_everyone()
    try:
        if problem is None:
            sums = _write_share(partial, share, accelerator.process_index, accelerator.num_processes)
            sums |= _write_position(partial, snapshot, accelerator.process_index, accelerator.num_processes)
    except (InputError, OSError) as error:
        problem = str(error.__cause__ or error)
    parts = gather_object([(sums, problem)])
    problem = next((found for _, found in parts if found), None)
    if accelerator.is_main_process and problem is None:
        try:
            _finish(partial, folder, snapshot, {name: entry for part, _ in parts for name, entry in part.items()})
        except (InputError, OSError) as error:
            problem = str(error)
    if problem is not None:
        if accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        raise InputError(
            f"The training state {quoted_path(folder)} could not be written ({one_line(problem, 300)}); free up space "
            "and continue with --resume."
        )
    accelerator.wait_for_everyone()


def find_state(output: Path, expected: Mapping[str, Mapping[str, tuple[int, ...]]]) -> Path | None:
    """The newest usable state; None if there are no states. Unusable ones that are newer are logged.

    Args:
        expected: names and shapes of the run's own tensors. Weights and average must be complete; optimizer tensors
            may be missing (a parameter without a gradient so far has none).

    Raises:
        InputError: there are states, but none is usable.
    """
    reasons: list[str] = []
    for folder in reversed(saved_states(output)):
        try:
            check_state(folder, expected)
        except StateError as error:
            reasons.append(f"{folder.name}: {error}")
            continue
        for reason in reasons:
            logger.warning("State %s; continuing from %s instead.", reason, folder.name)
        return folder
    if not reasons:
        return None
    raise InputError(
        f"No training state in {str(Path(output) / 'states')!r} can be used ({'; '.join(reasons)}); "
        "start over in another output folder."
    )


def check_state(folder: Path, expected: Mapping[str, Mapping[str, tuple[int, ...]]]) -> None:
    """Check a state's files against its manifest, and its tensors against those of the run.

    Raises:
        StateError: something is missing, unexpected, changed, or of another run.
    """
    if not folder.is_dir():
        raise StateError("it is not a folder")
    files = sorted(path.name for path in folder.iterdir())
    if MANIFEST not in files:
        if any(Path(name).suffix in PICKLES for name in files):
            raise StateError("an older version wrote it as pickles, which are not opened because they can run code")
        raise StateError(f"it has no {MANIFEST}")
    manifest = _read_json(folder / MANIFEST)
    listed = manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(listed, dict):
        raise StateError(f"{MANIFEST} is damaged or from another version")
    if odd := sorted(set(files) ^ {MANIFEST, *listed}):
        raise StateError(f"{quoted(odd[0])} {'does not belong to it' if odd[0] in files else 'is missing'}")
    for name, entry in listed.items():
        _check_file(folder / name, entry)
    progress = _read_json(folder / PROGRESS)
    if set(progress) != {"step", "averaged_steps"} or not all(type(n) is int and n >= 0 for n in progress.values()):
        raise StateError(f"{PROGRESS} is damaged")
    if progress["step"] != int(folder.name):
        raise StateError(f"it was written at step {shown(progress['step'])}")
    for path in folder.glob("position-*.json"):
        _read_json(path)
    found = {kind: _shapes(folder, kind) for kind in ("weights", "average", "optimizer")}
    for kind, shapes in found.items():
        wanted = expected.get(kind, {})
        for name, shape in shapes.items():
            if wanted.get(name) != shape:
                own = "this config's optimizer does not keep" if kind == "optimizer" else "this config does not train"
                raise StateError(f"its {kind} holds {quoted(name)} as {shown(shape)}, which {own}")
        if kind != "optimizer" and (missing := sorted(set(wanted) - set(shapes))):
            raise StateError(f"its {kind} lacks {missing[0]!r}, which this config trains")


def read_state(folder: Path, process: int = 0) -> Snapshot:
    """Read a state that has passed `check_state`; its tensors are memory-mapped, on the CPU.

    Args:
        process: whose position in the data is read; if it has none, that of the first process.
    """
    tensors: dict[str, dict[str, Tensor]] = {"weights": {}, "average": {}, "optimizer": {}}
    for kind, held in tensors.items():
        for path in _files(folder, kind):
            with safe_open(path, framework="pt") as file:
                names = list(file.keys())
                held |= {name: file.get_tensor(name) for name in names}
    progress = _read_json(folder / PROGRESS)
    files = sorted(folder.glob("position-*.json"), key=lambda path: (f"-{process + 1}-of" not in path.name, path.name))
    position = _read_json(files[0]) if files else {}
    return Snapshot(progress["step"], progress["averaged_steps"], tensors, position)


def _own_share(snapshot: Snapshot, process: int, processes: int) -> dict[str, dict[str, Tensor]]:
    """The tensors that this process writes, each whole; every process takes part, as each may hold shards of all."""
    found: dict[str, dict[str, Tensor]] = {}
    for kind, tensors in snapshot.tensors.items():
        own = found[kind] = {}
        for place, name in enumerate(sorted(tensors)):
            value = whole(tensors[name])
            if place % processes == process:
                own[name] = value.cpu() if is_shared_out(tensors[name]) else value
    return found


def _write_share(
    partial: Path, share: Mapping[str, Mapping[str, Tensor]], process: int, processes: int
) -> dict[str, list[Any]]:
    """Write this process's tensors; return size and checksum of each file."""
    sums = {}
    for kind, tensors in share.items():
        path = partial / f"{kind}-{process + 1}-of-{processes}.safetensors"
        write_safetensors(path, tensors)
        sums[path.name] = [path.stat().st_size, _checksum(path)]
    return sums


def _write_position(partial: Path, snapshot: Snapshot, process: int, processes: int) -> dict[str, list[Any]]:
    """Write this process's position in its data, if it has one; returns the same as `_write_share`."""
    if not snapshot.position:
        return {}
    path = partial / f"position-{process + 1}-of-{processes}.json"
    path.write_text(json.dumps(snapshot.position))
    return {path.name: [path.stat().st_size, _checksum(path)]}


def _finish(partial: Path, folder: Path, snapshot: Snapshot, sums: dict[str, list[Any]]) -> None:
    """Add the JSON files, give the state its final name, and delete older ones except the newest.

    Links and folders without a manifest do not belong to the run and are kept.
    """
    progress = partial / PROGRESS
    progress.write_text(json.dumps({"step": snapshot.step, "averaged_steps": snapshot.averaged_steps}))
    sums[PROGRESS] = [progress.stat().st_size, _checksum(progress)]
    (partial / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": sums}, indent=1))
    replace_folder(partial, folder)
    written = [path for path in saved_states(folder.parent.parent) if (path / MANIFEST).is_file()]
    for old in [path for path in written if int(path.name) < snapshot.step and not path.is_symlink()][:-1]:
        try:
            shutil.rmtree(old)
        except OSError as error:  # the new state is complete anyway
            logger.warning("State %s cannot be deleted (%s).", old.name, error.strerror)


def _check_file(path: Path, entry: object) -> None:
    """Check one file against its manifest entry."""
    name = path.name
    if name != PROGRESS and not TENSOR_FILE.fullmatch(name) and not POSITION_FILE.fullmatch(name):
        raise StateError(f"{quoted(name)} does not belong to it")
    if not isinstance(entry, list) or len(entry) != 2:
        raise StateError(f"{MANIFEST} is damaged")
    wanted, digest = entry
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size != wanted:
                raise StateError(f"{name!r} has {size} bytes instead of {shown(wanted)}")
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise StateError(f"{name!r} has been changed: its checksum differs")
    except UnreadableError as error:
        raise StateError(f"{name!r} cannot be read: {error.reason}") from error
    except OSError as error:
        raise StateError(f"{name!r} cannot be read: {why(error)}") from error


def _shapes(folder: Path, kind: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in _files(folder, kind):
        try:
            shapes |= read_shapes(path)
        except (CheckpointError, RecursionError) as error:
            raise StateError(f"{path.name!r} is damaged") from error
    return shapes


def _files(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"{kind}-*.safetensors"))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        plain = read_json(path, LARGEST_JSON)
    except UnreadableError as error:
        raise StateError(f"{path.name} is damaged: {error.reason}") from error
    if not isinstance(plain, dict):
        raise StateError(f"{path.name} is damaged: it is not a JSON object")
    return plain


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
