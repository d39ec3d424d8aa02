"""From one layout on disk to another, tensor by tensor: what is converted may be larger than memory.

- A model folder of Kiwi-Edit's published layout or of this repo's -> the other one.
- A model folder of either -> a DiT in one file for ComfyUI's own loaders, or what InstructX Load Adapter puts onto it.
- A weight file (such a DiT, or a training checkpoint) and a model folder for the rest -> this repo's folder.
What is written appears when it is complete, with its checksums; a run that was killed goes on where it stopped.
Nothing is unpickled unasked, and no code in a folder is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import CheckpointError, InputError
from ..bundle import ADAPTER
from ..kiwi import is_kiwi
from .native_files import adapter_file, dit_file
from .resumable import Written, write_file, write_folder
from .streaming import Content
from .to_kiwi import own_to_kiwi
from .to_own import file_to_own, kiwi_to_own


def convert(
    source: str | Path,
    target: str | Path,
    base: str | Path | None = None,
    allow_pickle: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Convert a model; what `source` is and what `target` is called say into what.

    Args:
        source: a model folder of either layout, or, with `base`, a weight file.
        target: a folder, for the other layout; a file called `instructx.safetensors`, for the adapter alone; any other
            `.safetensors` file, for the DiT alone under its original names.
        base: a model folder that gives whatever a weight file does not hold.
        allow_pickle: open pickled weights too, for their tensors alone.
        progress: called as progress(bytes done, bytes in all).

    Returns:
        The checksums of what was written, and how much of it an interrupted run had left.

    Raises:
        CheckpointError: a source of another kind, or one that is incomplete, damaged or pickled; nothing is left then.
        InputError: a target that cannot be written, or that is one of the sources.
    """
    source, target = Path(source), Path(target)
    base = None if base is None else Path(base)
    _check(source, target, base)
    if target.suffix == ".safetensors":
        content = adapter_file(source) if target.name == ADAPTER else dit_file(source, allow_pickle)
        return write_file(target, content, _counted(progress, content.size))
    plan = _plan(source, base, allow_pickle)
    return write_folder(target, plan, _counted(progress, sum(content.size for content in plan.values())))


def _check(source: Path, target: Path, base: Path | None) -> None:
    """Refuse what does not go together before any file is opened."""
    if not source.exists():
        raise CheckpointError(f"there is no {str(source)!r}; give a model folder, such as Kiwi-Edit's.")
    if source.is_dir() and base is not None:
        raise InputError(f"{source} is a whole model folder, so there is nothing to take from a base; leave it out.")
    if source.is_file() and (base is None or target.suffix == ".safetensors"):
        raise CheckpointError(
            f"{str(source)!r} is no folder; give a model folder, or with --base one that has whatever this file has "
            "not, and a folder to write."
        )
    if target.resolve() in {path.resolve() for path in (source, base) if path is not None}:
        raise InputError(f"{str(target)!r} is what is to be converted; give a new name.")


def _plan(source: Path, base: Path | None, allow_pickle: bool) -> dict[str, Content]:
    if base is not None:
        return file_to_own(source, base, allow_pickle)
    if is_kiwi(source):
        return kiwi_to_own(source, allow_pickle)
    if (source / ADAPTER).is_file():
        return own_to_kiwi(source, allow_pickle)
    raise CheckpointError(
        f"{str(source)!r} is no model folder: neither Kiwi-Edit's queries and connector nor {ADAPTER} are in it."
    )


def _counted(progress: Callable[[int, int], None] | None, total: int) -> Callable[[int], None]:
    done = 0

    def count(piece: int) -> None:
        nonlocal done
        done += piece
        if progress is not None:
            progress(done, total)

    return count
