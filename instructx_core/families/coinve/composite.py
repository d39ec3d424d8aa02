"""CoinVE-Edit's published checkpoint: one safetensors file, used with the base models it was trained on.

Facts, from its authors' code (coinve200k/CoinVE-200K ce091d4, trainers/utils.py, trainers/modules.py):
- The file holds LoRA for the DiT and the MLLM's language model, queries, connectors, patch embeddings, the mask head
  and the strength of local edits per block. LoRA is added unscaled, weight + B A: alpha = rank.
- The DiT's cross-attention is called `cross_attn.orig` because a wrapper is put around it after its LoRA.
- A training run's image and video settings are not in the file; the values here are those of the released scripts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...bounded import is_file
from ...config import MaskConfig, ModelConfig
from ...errors import CheckpointError
from ...weights.compare import count_layers, shape_of
from ...weights.detect import Form
from ...weights.files import check_finite, naming, read_tensors
from ...weights.gguf_header import is_gguf
from ...weights.parts import Names, Part
from ...weights.pickles import is_pickle
from ...weights.stored import read_stored
from ...weights.wan_keys import dit_to_diffusers
from ..kiwi.folder import config_of_shapes
from ..kiwi.keys import split_trained
from ..kiwi.trained import check_trained, lora_pairs, mllm_weights
from ..match import Match

WRAPPED = ".cross_attn.orig."
HEAD, HEADS = "mask_head.", 8  # default number of heads, if no tensor states it
SETTINGS = ("mask_predictor_config.", "mask_config.", "residual_attention_config.")  # one scalar tensor each
# strength of local edits per block; the second spelling is its place in the trained DiT
STRENGTH = re.compile(r"(?:residual_attention_module\.layers|dit\.blocks)\.(\d+)\.(?:cross_attn\.)?residual_alpha")


def recognise(path: Path) -> Match | None:
    """Recognise such a file by its tensors, whatever it is called; None for others.

    Raises:
        CheckpointError: a file that is damaged, not safetensors, or lacks what an edit needs.
    """
    if not is_file(path) or is_gguf(path) or is_pickle(path):
        return None
    stored = read_stored(path)
    if not any(WRAPPED in name or name.startswith(HEAD) for name in stored):
        return None
    masks = {f"masks.{name.removeprefix(HEAD)}": name for name in stored if name.startswith(HEAD)}
    strength = {f"denoiser.local_strength.{found[1]}": name for name in stored if (found := STRENGTH.fullmatch(name))}
    if len(strength) < sum(bool(STRENGTH.fullmatch(name)) for name in stored):
        raise CheckpointError(f"{str(path)!r} holds the residual_alpha of a block twice; get the file again.")
    if bool(masks) != bool(strength):
        held, missing = ("residual_alpha", "mask head") if strength else ("a mask head", "residual_alpha")
        raise CheckpointError(f"{str(path)!r} holds {held} but no {missing}; get the file again.")
    others = (name for name in stored if not name.startswith((HEAD, *SETTINGS)) and not STRENGTH.fullmatch(name))
    plain = {name.replace(WRAPPED, ".cross_attn."): name for name in others}
    with naming(path):
        dit, adapter, rest = split_trained(plain)
    check_trained(path, adapter, "which editing needs; get the file again")
    pairs = lora_pairs(path, rest, "CoinVE-Edit")
    dit_lora = {f"{name}.weight": pair for name, pair in pairs.items() if not name.startswith("mllm.")}
    with naming(path):
        adapter |= masks | strength
        config = _config({own: stored[there].shape for own, there in adapter.items()}, path)
        if masks:
            config = _with_masks(config, path, {name: stored[there].shape for name, there in masks.items()})
        config = config.checked()
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


def _with_masks(config: ModelConfig, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> ModelConfig:
    """The config extended for a model that locates each of several instructions.

    Raises:
        CheckpointError: a mask head with a different structure.
    """

    def sides(name: str) -> tuple[int, ...]:
        return shape_of(shapes, f"masks.{name}", 2, path)

    tokens, width = sides("query_embed")
    said = {name: value for name, value in read_tensors(path).items() if name.endswith("_config.heads")}
    check_finite(said, path)
    heads = next((int(value) for value in said.values() if value.numel() == 1), HEADS)
    masks = MaskConfig(
        input_dim=sides("proj_v.weight")[1],
        context_dim=sides("proj_c.weight")[1],
        width=width,
        layers=count_layers(shapes, "masks.blocks.{}.norm_q1.weight"),
        heads=heads,
        tokens=tokens,
        grid=tuple(sides(f"pe_{axis}")[0] for axis in "thw"),
    )
    return replace(config, masks=masks, denoiser=replace(config.denoiser, local_edits=True))
