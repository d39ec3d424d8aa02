"""From one layout on disk to another, tensor by tensor: what is converted may be larger than memory.

- Kiwi-Edit's published folder -> this repo's folder (`mllm/`, `transformer/`, `vae/`, `instructx.safetensors`).
- A model folder of either kind -> one file of its DiT under the original Wan names, for ComfyUI's own loaders.
Nothing is unpickled, no code in a folder is looked at, and what is written appears only when it is complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import CheckpointError, InputError
from . import kiwi
from .bundle import ADAPTER, FORMAT, make_portable
from .files import atomic_folder, read_shapes, write_safetensors
from .forms import Family, find_form
from .kiwi_keys import MLLM, REFERENCE, SOURCE, adapter_to_own, dit_to_native, is_adapter
from .mllm import load_tokenizer
from .pretrained import check_part
from .streaming import Progress, copy_file, copy_tensors
from .vae import vae_config
from .wan_keys import vae_to_diffusers

WEIGHTS = "diffusion_pytorch_model.safetensors"  # what diffusers reads when there is one file
INDEX = "*.safetensors.index.json"


def convert(source: str | Path, target: str | Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Convert a model folder; the ending of `target` says into what.

    Args:
        source: Kiwi-Edit's published folder, or for a `.safetensors` target any model folder.
        target: a folder for this repo's layout, or a `.safetensors` file for the DiT alone under its original names.
        progress: called as progress(bytes done, bytes in all).

    Raises:
        CheckpointError: a source of another kind, or one that is incomplete, damaged or pickled.
        InputError: a target that cannot be written.
    """
    source, target = Path(source), Path(target)
    if not source.is_dir():
        raise CheckpointError(f"{str(source)!r} is no folder; give a model folder, such as Kiwi-Edit's.")
    if target.suffix == ".safetensors":
        _to_native(source, target, _counted(progress, _size(source / "transformer")))
        return
    if not kiwi.is_kiwi(source):
        already = (source / ADAPTER).is_file()
        problem = "has this layout already" if already else "is no Kiwi-Edit model: no queries and connector in it"
        raise CheckpointError(f"{str(source)!r} {problem}; give a folder as its authors publish it.")
    for part in (kiwi.TRANSFORMER, kiwi.VAE, MLLM, SOURCE):
        check_part(source / part)
    if target.resolve() == source.resolve():
        raise InputError(f"{str(target)!r} is the folder that is to be converted; give a new one.")
    parts = (kiwi.TRANSFORMER, kiwi.VAE, MLLM, SOURCE, REFERENCE)
    count = _counted(progress, sum(_size(source / part) for part in parts))
    with atomic_folder(target) as partial:
        _convert_mllm(source, partial / "mllm", count)
        _copy_diffusers(source / kiwi.TRANSFORMER, partial / "transformer", count)
        _convert_vae(source / kiwi.VAE, partial / "vae", count)
        metadata = {FORMAT: kiwi.read_kiwi_config(source).to_json()}
        write_safetensors(partial / ADAPTER, kiwi.read_adapter(source), metadata)
        for config in partial.glob("*/*.json"):
            make_portable(config)


def _convert_mllm(source: Path, folder: Path, progress: Progress) -> None:
    """Weights as they are, without the queries beside them; config and tokenizer as transformers writes them."""
    kiwi.load_kiwi_mllm_config(source).save_pretrained(folder)
    load_tokenizer(source / kiwi.PROCESSOR).save_pretrained(folder)
    shards = [path for path in sorted((source / MLLM).glob("*.safetensors")) if not is_adapter(read_shapes(path))]
    if not shards:
        raise CheckpointError(f"{str(source / MLLM)!r} has no weights of the MLLM itself; get the folder again.")
    for path in shards:
        copy_file(path, folder / ("model.safetensors" if len(shards) == 1 else path.name), progress)
    if len(shards) > 1:
        _copy_index(source / MLLM, folder)


def _copy_diffusers(source: Path, folder: Path, progress: Progress) -> None:
    folder.mkdir()
    copy_file(source / "config.json", folder / "config.json")
    shards = sorted(source.glob("*.safetensors"))
    for path in shards:
        copy_file(path, folder / (WEIGHTS if len(shards) == 1 else path.name), progress)
    if len(shards) > 1:
        _copy_index(source, folder)


def _convert_vae(source: Path, folder: Path, progress: Progress) -> None:
    """Original names -> diffusers' own; a VAE that has these already is copied."""
    shapes = {path: read_shapes(path) for path in sorted(source.glob("*.safetensors"))}
    names = [name for held in shapes.values() for name in held]
    if "encoder.conv_in.weight" in names:
        _copy_diffusers(source, folder, progress)
        return
    folder.mkdir()
    new = _turned(vae_to_diffusers({name: name for name in names}))
    sources = {path: {name: new[name] for name in held} for path, held in shapes.items()}
    copy_tensors(folder / WEIGHTS, sources, {"format": "pt"}, progress)
    config = {"_class_name": "AutoencoderKLWan"} | vae_config(find_form(source, Family.VAE))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _to_native(source: Path, target: Path, progress: Progress) -> None:
    """The DiT of a model folder in one file, and beside its tensors those of the embedders that it gained."""
    transformer = source / "transformer"
    check_part(transformer)
    taken: dict[Path, Mapping[str, str]] = {}
    for path in sorted(transformer.glob("*.safetensors")):
        taken[path] = _turned(dit_to_native({name: name for name in read_shapes(path)}, {}))
    for path, own in _embedders(source).items():
        taken[path] = _turned(dit_to_native({}, own))
    copy_tensors(target, taken, {"format": "pt"}, progress)


def _embedders(source: Path) -> dict[Path, dict[str, str]]:
    """Files that hold a DiT's embedders: this repo's name of each tensor -> its name there."""
    if not kiwi.is_kiwi(source):
        adapter = source / ADAPTER
        return {adapter: {name: name for name in read_shapes(adapter)}} if adapter.is_file() else {}
    files = {path: part for part in (SOURCE, REFERENCE) for path in sorted((source / part).glob("*.safetensors"))}
    return {path: adapter_to_own(part, {name: name for name in read_shapes(path)}) for path, part in files.items()}


def _turned(renamed: Mapping[str, str]) -> dict[str, str]:
    """New name -> old, as old -> new."""
    return {old: new for new, old in renamed.items()}


def _copy_index(source: Path, folder: Path) -> None:
    """The list of which shard holds what, without which a sharded model is not read."""
    found = sorted(source.glob(INDEX))
    if not found:
        raise CheckpointError(f"{str(source)!r} has several weight files but no index of them; get the folder again.")
    for path in found:
        copy_file(path, folder / path.name)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _counted(progress: Callable[[int, int], None] | None, total: int) -> Progress:
    done = 0

    def count(piece: int) -> None:
        nonlocal done
        done += piece
        if progress is not None:
            progress(min(done, total), total)

    return count
