"""Other layouts as this repo's folder: `mllm/`, `transformer/`, `vae/` and `instructx.safetensors`.

Nothing is written here; see `component_files`.
"""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import CheckpointError
from .. import kiwi
from ..bundle import ADAPTER, FORMAT
from ..files import read_shapes
from ..forms import Family, Names, find_form
from ..kiwi_keys import MLLM, SOURCE, split_trained
from ..loading import read_model_config
from ..mllm import load_tokenizer
from ..pretrained import check_part
from ..shapes import Shapes, first_difference
from ..vae import vae_config
from ..wan_keys import vae_to_diffusers
from .component_files import (
    DIFFUSERS_WEIGHTS,
    MLLM_WEIGHTS,
    Plan,
    diffusers_part,
    saved_by,
    shards,
    turned,
    under,
    weight_files,
)
from .native_files import adapter_file, adapter_names
from .streaming import copied, stored_tensors, tensors, text


def kiwi_to_own(source: Path, allow_pickle: bool) -> Plan:
    """Kiwi-Edit's published folder in this repo's layout.

    Raises:
        CheckpointError: a part that is missing, damaged or pickled.
    """
    check_part(source / SOURCE)
    transformer = diffusers_part(source / kiwi.TRANSFORMER, allow_pickle)
    return _without_dit(source, allow_pickle) | under("transformer", transformer) | {ADAPTER: adapter_file(source)}


def file_to_own(file: Path, base: Path, allow_pickle: bool) -> Plan:
    """A weight file as a model in this repo's layout; what is not in it comes from a model folder.

    Args:
        file: a DiT under the original Wan names, with embedders or without, or a training checkpoint of Kiwi-Edit's,
            which may hold queries and connector too.
        base: a model folder of either layout, whose configs are kept.
        allow_pickle: as `stored_tensors`.

    Raises:
        CheckpointError: tensors that no such model has, a LoRA among them, or shapes that are not those of `base`.
    """
    shapes = {name: stored.shape for name, stored in stored_tensors(file, allow_pickle).items()}
    dit, added, lora = split_trained({name: name for name in shapes})
    if lora:
        raise CheckpointError(
            f"{str(file)!r} holds a LoRA ({min(lora)}; {len(lora)} tensors), which converting does not merge; "
            "merge it with the program that trained it."
        )
    transformer = diffusers_part(base / "transformer", allow_pickle)
    if dit:
        files = weight_files(base / "transformer", allow_pickle)
        held = {name: found.shape for path in files for name, found in stored_tensors(path, allow_pickle).items()}
        _check_same(file, {name: shapes[old] for name, old in dit.items()}, held)
        weights = tensors({file: turned(dit)}, {"format": "pt"}, allow_pickle)
        transformer = {"config.json": transformer["config.json"], DIFFUSERS_WEIGHTS: weights}
    names = adapter_names(base)
    held = {own: read_shapes(path)[old] for path, renamed in names.items() for old, own in renamed.items()}
    _check_same(file, held | {name: shapes[old] for name, old in added.items()}, held)
    kept = {path: {old: own for old, own in renamed.items() if own not in added} for path, renamed in names.items()}
    adapter = tensors(kept | {file: turned(added)}, {FORMAT: read_model_config(base).to_json()}, allow_pickle)
    return _without_dit(base, allow_pickle) | under("transformer", transformer) | {ADAPTER: adapter}


def _without_dit(source: Path, allow_pickle: bool) -> Plan:
    """MLLM and VAE of a model folder of either layout."""
    if kiwi.is_kiwi(source):
        return under("mllm", _mllm(source, allow_pickle)) | under("vae", _vae(source / kiwi.VAE))
    for part in ("mllm", "vae"):
        check_part(source / part)
    files = [path for part in ("mllm", "vae") for path in sorted((source / part).iterdir()) if path.is_file()]
    return {path.relative_to(source).as_posix(): copied(path) for path in files}


def _mllm(source: Path, allow_pickle: bool) -> Plan:
    """Kiwi-Edit's MLLM without the queries beside it; config and tokenizer as transformers writes them."""
    weights = weight_files(source / MLLM, allow_pickle, beside=kiwi.adapter_file(source))
    configs = saved_by(kiwi.load_kiwi_mllm_config(source).save_pretrained)
    tokenizer = saved_by(load_tokenizer(source / kiwi.PROCESSOR).save_pretrained)
    return configs | tokenizer | shards(source / MLLM, weights, MLLM_WEIGHTS)


def _vae(source: Path) -> Plan:
    """A VAE of original names under diffusers' own; one that has these already is as it was."""
    check_part(source)
    form = find_form(source, Family.VAE)
    if form.names is not Names.ORIGINAL:
        return diffusers_part(source, allow_pickle=False)
    files = {path: list(stored_tensors(path)) for path in weight_files(source)}
    new = turned(vae_to_diffusers({name: name for names in files.values() for name in names}))
    weights = tensors({path: {name: new[name] for name in names} for path, names in files.items()}, {"format": "pt"})
    config = {"_class_name": "AutoencoderKLWan"} | vae_config(form)
    return {"config.json": text(json.dumps(config, indent=2) + "\n"), DIFFUSERS_WEIGHTS: weights}


def _check_same(file: Path, found: Shapes, held: Shapes) -> None:
    """Raise CheckpointError unless what a file makes of a model has the names and shapes that the model has."""
    if odd := first_difference(held, found):
        raise CheckpointError(f"{str(file)!r} does not fit the base: {odd}; give the base that it was trained on.")
