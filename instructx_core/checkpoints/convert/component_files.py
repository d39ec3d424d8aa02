"""The files of one component of a model, as a conversion plans to write them.

Nothing is written here: a plan says of each file what it is to hold, checked as far as headers tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from ...errors import CheckpointError
from ..bundle import portable
from .pickles import is_pickle
from .streaming import Content, copied, stored_tensors, tensors, text

DIFFUSERS_WEIGHTS, MLLM_WEIGHTS = "diffusion_pytorch_model.safetensors", "model.safetensors"  # where there is one file
INDEX = "*.safetensors.index.json"  # which shard holds what; a sharded model is not read without
PICKLES = {".bin", ".pt", ".pth", ".ckpt"}
CONFIGS = {"config.json", "tokenizer_config.json"}  # where libraries note what is of no use to anyone else

Plan = dict[str, Content]  # a folder to be: file, relative to it -> what it is to hold


def diffusers_part(folder: Path, allow_pickle: bool) -> Plan:
    """A component of diffusers' as it is: config and weights.

    Raises:
        CheckpointError: as `weight_files`.
    """
    weights = shards(folder, weight_files(folder, allow_pickle), DIFFUSERS_WEIGHTS)
    return {"config.json": text(portable((folder / "config.json").read_text(encoding="utf-8")))} | weights


def weight_files(folder: Path, allow_pickle: bool = False, beside: Path | None = None) -> list[Path]:
    """The files that hold a component's weights: safetensors, or pickles where there are no others.

    Args:
        folder: of the component.
        allow_pickle: take pickles.
        beside: a file among them that belongs to something else.

    Raises:
        CheckpointError: no config, no weights, a damaged file, or pickles that nobody allowed.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{str(folder)!r} has no config.json; the model is incomplete, get it again.")
    files = sorted(path for path in folder.glob("*.safetensors") if path != beside)
    files = files or sorted(path for path in folder.iterdir() if path.suffix in PICKLES and is_pickle(path))
    if not files:
        raise CheckpointError(f"{str(folder)!r} has no .safetensors weights; the model is incomplete, get it again.")
    for path in files:
        stored_tensors(path, allow_pickle)
    return files


def shards(folder: Path, files: list[Path], whole: str) -> Plan:
    """Checked weight files under the names that the libraries read: one called `whole`, or several with their index.

    Pickles become one file.

    Raises:
        CheckpointError: several files without an index.
    """
    if any(is_pickle(path) for path in files):
        names = {path: {name: name for name in stored_tensors(path, True)} for path in files}
        return {whole: tensors(names, {"format": "pt"}, allow_pickle=True)}
    if len(files) == 1:
        return {whole: copied(files[0])}
    index = sorted(folder.glob(INDEX))
    if not index:
        raise CheckpointError(f"{str(folder)!r} has several weight files but no index of them; get the folder again.")
    return {path.name: copied(path) for path in (*files, *index)}


def saved_by(save: Callable[[Path], object]) -> Plan:
    """The small files that a library's own way of saving writes into the folder that it is given."""
    with TemporaryDirectory(prefix="instructx-") as folder:
        save(Path(folder))
        found = {path.name: path.read_text(encoding="utf-8") for path in Path(folder).iterdir()}
    return {name: text(portable(value) if name in CONFIGS else value) for name, value in found.items()}


def under(folder: str, files: Mapping[str, Content]) -> Plan:
    """A component's files in their place in a model's folder."""
    return {f"{folder}/{name}": content for name, content in files.items()}


def turned(renamed: Mapping[str, str]) -> dict[str, str]:
    """New name -> old, as old -> new."""
    return {old: new for new, old in renamed.items()}
