"""What CoinVE-Edit publishes: one safetensors file, used with the base models that it was trained on.

Facts, from its authors' code (coinve200k/CoinVE-200K ce091d4, trainers/utils.py, trainers/modules.py):
- The file holds LoRA of the DiT and of the MLLM's language model, queries, connectors, patch embeddings, the mask head
  and how much of each local edit enters. LoRA is added as it stands, weight + B A: alpha = rank.
- The DiT's cross-attention is `cross_attn.orig`, for a wrapper is put around it after its LoRA.
- What a training run was told about pictures is not in the file; the values here are those of the released scripts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...bounded import is_file
from ...config import ModelConfig
from ...weights.detect import Form, Names, Part
from ...weights.files import naming
from ...weights.gguf_header import is_gguf
from ...weights.pickles import is_pickle
from ...weights.stored import read_stored
from ...weights.wan_keys import dit_to_diffusers
from ..kiwi.folder import config_of_shapes
from ..kiwi.keys import split_trained
from ..kiwi.trained import check_trained, lora_pairs, mllm_weights
from ..match import Match

WRAPPED = ".cross_attn.orig."
MASKS = ("mask_head.", "mask_predictor_config.", "mask_config.")
RESIDUAL = ("residual_attention_module.", "residual_attention_config.")


def recognise(path: Path) -> Match | None:
    """What such a file is, known by its tensors, whatever it is called; None for others.

    Raises:
        CheckpointError: a file that is damaged or no safetensors, or one that lacks what an edit needs.
    """
    if not is_file(path) or is_gguf(path) or is_pickle(path):
        return None
    stored = read_stored(path)
    if not any(WRAPPED in name or name.startswith(MASKS[0]) for name in stored):
        return None
    plain = {name.replace(WRAPPED, ".cross_attn."): name for name in stored if not name.startswith(MASKS + RESIDUAL)}
    with naming(path):
        dit, adapter, rest = split_trained(plain)
    check_trained(path, adapter)
    pairs = lora_pairs(path, rest, "CoinVE-Edit")
    dit_lora = {f"{name}.weight": pair for name, pair in pairs.items() if not name.startswith("mllm.")}
    with naming(path):
        config = _config({own: stored[there].shape for own, there in adapter.items()}, path).checked()
        loras = {Part.DIT: dit_to_diffusers(dit_lora), Part.MLLM: mllm_weights(pairs)}
    whole = {name: stored[name] for name in dit.values()}
    return Match(
        kind="CoinVE-Edit",
        path=path,
        config=config,
        adapter={path: {there: own for own, there in adapter.items()}},
        stored={path: stored},
        folders={},
        held={Part.DIT: Form(path, (path,), Part.DIT, Names.ORIGINAL, whole)} if whole else {},
        loras=loras,
    )


def _config(shapes: Mapping[str, tuple[int, ...]], path: Path) -> ModelConfig:
    config = config_of_shapes(shapes, source=path)
    return replace(
        config,
        name="CoinVE-Edit",
        default_size=(720, 1280),
        default_frames=49,
        guidance=replace(config.guidance, dialect="coinve"),
        sampling=replace(config.sampling, sigma_min=0.0),
    )
