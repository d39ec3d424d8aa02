"""Convert a model from one layout on disk to another, tensor by tensor: weights may be larger than memory.

- A Kiwi-Edit model, published or as trained, or one whose base models are stored elsewhere -> this repo's folder.
- SmartEdit's pickles -> this repo's folder, an InsightEdit without IAA.
- Any model -> a DiT in one file for ComfyUI's own loaders, or the file that InstructX Load Adapter adds to it.
- A Wan DiT in any form -> such a DiT.
Output appears only when complete, with its checksums. Nothing is unpickled unless requested, and code in a folder is
never read.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .. import families
from ..bounded import is_dir, is_file
from ..errors import CheckpointError, InputError
from ..families.bundled import located
from ..families.overrides import OWN, Overrides
from ..weights.detect import find_form
from ..weights.marks import ADAPTER
from ..weights.parts import FOLDERS, Part
from ..words import quoted_path
from .native_files import adapter_file, dit_file, model_dit_file
from .to_own import to_own
from .writing import Checksums, counted, write_file, write_folder


def convert(
    source: str | Path,
    target: str | Path,
    overrides: Overrides = OWN,
    allow_pickle: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Checksums:
    """Convert a model; the kind of `source` and the name of `target` decide the output.

    Args:
        source: a model as `Editor.from_pretrained` reads it, or a Wan DiT in any form to write as one file.
        target: a folder, for this repo's layout; a file named `instructx.safetensors`, for the adapter only; any other
            `.safetensors` file, for the DiT only, under its original names.
        overrides: weights that replace the source's own, or that it lacks.
        allow_pickle: also open pickled weights of DiT, VAE and MLLM, and read only tensors from them.
        progress: called as progress(bytes done, total bytes).

    Returns:
        The checksums of the files written.

    Raises:
        CheckpointError: a source of another kind, or one that is incomplete, damaged or pickled, or that has NaN in its
            weights. Nothing is left after any error.
        InputError: a target that cannot be written, or that is one of the sources, contains it or is inside it.
    """
    source, target = located(source), Path(target)
    if not (is_file(source) or is_dir(source)):
        raise CheckpointError(f"there is no {quoted_path(source)}; give a model, such as Kiwi-Edit's folder.")
    if (pickled := families.only_converted(source)) is not None:
        return _convert_pickled(pickled, source, target, overrides, allow_pickle, progress)
    is_model = families.recognise(source) is not None
    _check(source, target, overrides, is_model)
    opened = families.open(source, overrides, allow_pickle) if is_model else None
    if target.suffix == ".safetensors":
        if opened is None:
            content = dit_file(find_form(source, Part.DIT, allow_pickle), allow_pickle)
        else:
            content = adapter_file(opened) if target.name == ADAPTER else model_dit_file(opened)
        return write_file(target, content, counted(progress, content.size))
    if overrides == OWN and is_file(source / ADAPTER):
        raise CheckpointError(
            f"{str(source)!r} already has this layout; give a .safetensors file to write for ComfyUI, or weights to "
            "replace its own."
        )
    plan = to_own(opened)
    return write_folder(target, plan, counted(progress, sum(content.size for content in plan.values())))


def _convert_pickled(
    pickled: families.Convertible,
    source: Path,
    target: Path,
    overrides: Overrides,
    allow_pickle: bool,
    progress: Callable[[int, int], None] | None,
) -> Checksums:
    """Like `convert`, for a published model that must be converted before use."""
    _check(source, target, overrides, is_model=True)
    if target.suffix == ".safetensors":
        raise InputError(
            f"{str(target)!r} is a file, but {str(source)!r} can only be converted to a folder; give one to write."
        )
    plan = pickled.plan(overrides, allow_pickle)
    return write_folder(target, plan, counted(progress, sum(content.size for content in plan.values())))


def _check(source: Path, target: Path, overrides: Overrides, is_model: bool) -> None:
    """Refuse arguments that contradict each other, before any weight is read."""
    if not is_model and (target.suffix != ".safetensors" or target.name == ADAPTER or overrides != OWN):
        raise CheckpointError(
            f"{str(source)!r} is not a model: it holds neither Kiwi-Edit's queries and connector nor {ADAPTER}; give a "
            "model, with --transformer, --vae and --mllm for weights stored elsewhere."
        )
    if target.suffix == ".safetensors" and (
        overrides.vae
        or overrides.mllm
        or ((overrides.transformer or overrides.transformer_2) and target.name == ADAPTER)
    ):
        raise InputError(f"{str(target)!r} would not include the base models that were given; give a folder to write.")
    for path in _sources(source, overrides):
        if target.resolve().is_relative_to(path.resolve()) or path.resolve().is_relative_to(target.resolve()):
            raise InputError(
                f"{str(target)!r} is, contains or is inside {str(path)!r}, which is being converted; give a name "
                "elsewhere."
            )


def _sources(source: Path, overrides: Overrides) -> list[Path]:
    """All files and folders that may be read, including the parts next to a single adapter file."""
    beside = [source.parent / name for names in FOLDERS.values() for name in names] if source.is_file() else []
    given = [overrides.given(part) for part in Part]
    return [source, *(path for path in given if path is not None), *(path for path in beside if path.is_dir())]
