"""Kiwi-Edit's training checkpoints: one safetensors file, used with the base models it was trained on.

Facts, from its authors' code (showlab/Kiwi-Edit 223572d: `train.py`, `scripts/`, `utils/convert_diffusers`):
- The file holds what its stage trained: queries and connectors, embedders, the whole DiT or its LoRA, and the LoRA of
  the MLLM's language model. Names may start with `pipe.`, the DiT's with `dit.`.
- LoRA is added unscaled, weight + B A: it was trained with alpha = rank, and is merged with alpha 1.
- A training run's image settings (frames, pixels, `ref_pad_first`) are not in the file; the values here are those of
  the published 5B model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ...bounded import is_file
from ...errors import CheckpointError
from ...weights.detect import Form
from ...weights.files import naming
from ...weights.gguf_header import is_gguf
from ...weights.parts import Names, Part
from ...weights.pickles import is_pickle
from ...weights.stored import read_stored
from ...weights.wan_keys import dit_to_diffusers
from ...words import quoted
from ..match import Match
from .folder import config_of_shapes
from .keys import split_trained

MARK = "mllm.image_queries.q"
# needed to edit images and videos; early stages have not trained them yet
NEEDED = (
    "queries.image",
    "queries.video",
    "connector.linear_in.weight",
    "connector.linear_out.weight",
    "denoiser.source_embedding.weight",
)
_LORA = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
_MLLM = re.compile(r"mllm\.(?:model\.)+")  # prefix before transformers' own names


def recognise(path: Path) -> Match | None:
    """Recognise such a file by its tensors, whatever it is called; None for others.

    Raises:
        CheckpointError: a file that is damaged or not safetensors, a stage that cannot edit videos yet, or tensors that
            are not Kiwi-Edit's.
    """
    if not is_file(path) or is_gguf(path) or is_pickle(path):
        return None
    stored = read_stored(path)
    if not any(name.endswith(MARK) for name in stored):
        return None
    with naming(path):
        dit, adapter, rest = split_trained({name: name for name in stored})
    check_trained(path, adapter, "which its stage did not train; give a file of stage 2 or 3")
    pairs = lora_pairs(path, rest, "Kiwi-Edit")
    dit_lora = {f"{name}.weight": pair for name, pair in pairs.items() if not name.startswith("mllm.")}
    with naming(path):
        config = config_of_shapes({own: stored[there].shape for own, there in adapter.items()}, source=path).checked()
        loras = {Part.DIT: dit_to_diffusers(dit_lora), Part.MLLM: mllm_weights(pairs)}
    whole = {name: stored[name] for name in dit.values()}
    return Match(
        kind="Kiwi-Edit, a training checkpoint",
        path=path,
        config=config,
        adapter={path: {there: own for own, there in adapter.items()}},
        stored={path: stored},
        folders={},
        held={Part.DIT: Form(path, (path,), Part.DIT, Names.ORIGINAL, whole)} if whole else {},
        loras=loras,
    )


def check_trained(path: Path, adapter: Mapping[str, str], advice: str) -> None:
    """Raise CheckpointError, ending with `advice`, unless everything in `NEEDED` is there."""
    if missing := [name for name in NEEDED if name not in adapter]:
        raise CheckpointError(f"{str(path)!r} holds no {missing[0]}, {advice}.")


def mllm_weights(pairs: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """The pairs of `lora_pairs` for the MLLM's language model, keyed by the bare names of its weights."""
    return {
        f"{_MLLM.sub('', name).removeprefix('language_model.')}.weight": pair
        for name, pair in pairs.items()
        if name.startswith("mllm.")
    }


def lora_pairs(path: Path, rest: Mapping[str, str], family: str) -> dict[str, tuple[str, str]]:
    """Modules -> the names of their A and B in the file. Raise CheckpointError if `rest` holds anything else."""
    halves: dict[str, dict[str, str]] = {}
    for name, there in rest.items():
        found = _LORA.fullmatch(name)
        if found is None:
            raise CheckpointError(
                f"{str(path)!r} holds {quoted(there)}, which does not belong to {family}; get the file again."
            )
        halves.setdefault(found[1], {})[found[2]] = there
    for module, half in halves.items():
        if half.keys() != {"A", "B"}:
            raise CheckpointError(
                f"{str(path)!r} holds only half of the LoRA for {quoted(module)}; get the file again."
            )
    return {module: (half["A"], half["B"]) for module, half in halves.items()}
