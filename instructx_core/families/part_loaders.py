"""Load a model's parts one at a time, for programs that keep the MLLM, the connector and the DiT separate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import ReferenceInjection, SourceInjection
from ..connectors import Connector
from ..errors import CheckpointError
from ..mask_head import MaskHead
from ..weights.compare import first_difference, shapes_of
from ..weights.files import check_finite, check_types, read_tensors
from ..weights.lora_changes import add_pair
from ..weights.packed_linear import put_beside
from ..weights.parts import Part, bare_mllm
from ..weights.readers import load_reader
from .components import fitting_connector, put_guidance, strip, with_queries
from .opened import Opened, check_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import nn

    from ..guidance.guidance import Guidance


Pair = tuple[torch.Tensor, torch.Tensor]  # a LoRA's down [rank, in] and up [out, rank]


@dataclass(frozen=True)
class AddedEmbedding:
    """The tensors of a patch embedding added to a DiT, for the source or for references."""

    weight: torch.Tensor  # [width, C, p_t, p_h, p_w]
    bias: torch.Tensor  # [width]


def load_guidance_part(opened: Opened, dtype: torch.dtype, progress: Callable[[int], None] | None = None) -> Guidance:
    """Load a model's MLLM with its queries and LoRA, on the CPU.

    Args:
        dtype: of the weights.
        progress: called with the byte count of each MLLM tensor after reading it; raising an exception aborts loading.

    Raises:
        CheckpointError: a missing or damaged file, or queries for an MLLM with a different width or depth.
    """
    check_reader(opened.config, opened.path, opened.form(Part.MLLM))
    opened.check_loras(Part.MLLM)
    state, loras = added_tensors(opened), lora_pairs(opened, Part.MLLM)
    mllm, tokenizer = load_reader(opened.form(Part.MLLM), opened.match.folder, dtype, progress)
    merge(loras, {bare_mllm(name): value for name, value in mllm.named_parameters()})
    guidance = with_queries(mllm, tokenizer, opened.config, dtype)
    _check_guidance(opened.match.named, state, guidance)
    put_guidance(state, guidance)
    return guidance.eval().requires_grad_(False)


def load_connector(opened: Opened) -> Connector:
    """Load a model's connector, float32 on the CPU.

    Raises:
        CheckpointError: a missing or damaged file, or one that does not fit its config.
    """
    state = added_tensors(opened)
    connector = fitting_connector(opened.config, state, opened.match.named)
    connector.load_state_dict(strip(state, "connector."))
    return connector.float().eval().requires_grad_(False)


def load_masks(opened: Opened) -> MaskHead | None:
    """Load a model's mask head, float32 on the CPU; None if the model does not locate edits.

    Raises:
        CheckpointError: a missing or damaged file, or one that does not fit its config.
    """
    if opened.config.masks is None:
        return None
    state = strip(added_tensors(opened), "masks.")
    head = MaskHead(opened.config.masks)
    if odd := first_difference(shapes_of(head.state_dict()), shapes_of(state)):
        raise CheckpointError(f"{str(opened.match.named)!r} does not fit its config: {odd}; get it again.")
    head.load_state_dict(state)
    return head.float().eval().requires_grad_(False)


def load_local_strength(opened: Opened) -> tuple[float, ...]:
    """How strongly tokens follow their local instruction in each block; () if the model does not locate edits.

    Raises:
        CheckpointError: a missing or damaged file, or not exactly one number per block.
    """
    state = strip(added_tensors(opened), "denoiser.local_strength.")
    wanted = {f"local_strength.{block}": () for block in range(len(state))}
    if odd := first_difference(wanted, shapes_of({f"local_strength.{name}": state[name] for name in state})):
        raise CheckpointError(f"{str(opened.match.named)!r} does not fit its config: {odd}; get it again.")
    return tuple(float(state[name]) for name in sorted(state, key=int))


def load_image_attention(opened: Opened, names: Sequence[str]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Load the image stream's key and value weights [inner, width] that a UNet gained, keyed by cross-attention.

    Args:
        names: of the cross-attentions, in the order of `unet_denoiser.image_attended`.

    Raises:
        CheckpointError: a missing or damaged file, or not one pair per cross-attention.
    """
    state = strip(added_tensors(opened), "denoiser.image_attention.")
    wanted = [f"{place}.to_{kind}_ip.0.weight" for place in range(len(names)) for kind in "kv"]
    if not opened.config.denoiser.image_tokens:
        wanted = []
    if sorted(state) != sorted(wanted):
        raise CheckpointError(
            f"{str(opened.match.named)!r} holds {len(state)} image attention tensors, but its UNet takes "
            f"{len(wanted)}; get it again."
        )
    pairs = zip(wanted[::2], wanted[1::2], strict=True)
    return {name: (state[key].float(), state[value].float()) for name, (key, value) in zip(names, pairs, strict=False)}


def load_embeddings(opened: Opened) -> tuple[AddedEmbedding | None, AddedEmbedding | None]:
    """Load the embeddings a DiT gained for the source and for references, float32; None for one it does not have.

    Raises:
        CheckpointError: a missing or damaged file, or an embedding missing that the config asks for.
    """
    config = opened.config.denoiser
    source = _embedding(opened, "source", config.source is SourceInjection.EMBEDDING)
    return source, _embedding(opened, "reference", config.reference is ReferenceInjection.EMBEDDING)


def lora_pairs(opened: Opened, part: Part) -> dict[str, Pair]:
    """The LoRA in a model's single file for a part, keyed as in `Match.loras`; {} if it has none.

    Raises:
        CheckpointError: a damaged file, or NaN or infinity in the LoRA.
    """
    loras = opened.loras(part)
    if not loras:
        return {}
    state = read_tensors(opened.path)
    check_finite({name: state[name] for pair in loras.values() for name in pair}, opened.path)
    return {weight: (state[down], state[up]) for weight, (down, up) in loras.items()}


@torch.no_grad()
def merge(loras: Mapping[str, Pair], weights: Mapping[str, torch.Tensor]) -> None:
    """Merge `lora_pairs` into a part's weights of the same names, in place, in float32."""
    for name, pair in loras.items():
        add_pair(weights[name], *pair)


def put_loras(opened: Opened, part: Part, model: nn.Module, loras: Mapping[str, Pair], packed: bool) -> None:
    """Apply `lora_pairs` to a part.

    Args:
        packed: leave them unmerged where possible; see `load_model`.
    """
    if not loras:
        return
    bare = bare_mllm if part is Part.MLLM else str
    if packed:
        loras = put_beside(model, loras, opened.lora_targets(part), bare)
    merge(loras, {bare(name): value for name, value in model.named_parameters()})


def _embedding(opened: Opened, kind: str, wanted: bool) -> AddedEmbedding | None:
    if not wanted:
        return None
    gained = strip(added_tensors(opened), f"denoiser.{kind}_embedding.")
    if {"weight", "bias"} != set(gained):
        raise CheckpointError(
            f"{str(opened.match.named)!r} holds no {kind} embedding though its config asks for one; get it again."
        )
    return AddedEmbedding(gained["weight"].float(), gained["bias"].float())


def added_tensors(opened: Opened) -> dict[str, torch.Tensor]:
    """Everything a model adds to its MLLM, DiT and VAE, under the names of `instructx.safetensors`.

    Raises:
        CheckpointError: a damaged file, or integers, NaN or infinity in one.
    """
    state: dict[str, torch.Tensor] = {}
    for file, names in opened.match.adapter.items():
        held = read_tensors(file)  # mapped: a checkpoint's whole DiT may be in it, which is not read here
        added = {there: held[there] for there in names}
        check_finite(added, file)
        check_types({there: value.dtype for there, value in added.items() if not value.is_floating_point()}, file)
        state |= {own: added[there] for there, own in names.items()}
    return state


def _check_guidance(path: Path, state: Mapping[str, torch.Tensor], guidance: Guidance) -> None:
    """Raise CheckpointError unless the queries and LoRA match those of `guidance`."""
    _check_fits(path, "queries.", guidance.queries, state)
    _check_fits(path, "rows.", guidance.rows, state)
    if guidance.config.lora_rank:
        from peft import get_peft_model_state_dict

        _check_fits(path, "lora.", get_peft_model_state_dict(guidance.mllm.model.language_model), state)


def _check_fits(path: Path, prefix: str, taken: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError unless the tensors of `state` under a prefix match `taken` in names and shapes."""
    wanted = shapes_of({f"{prefix}{name}": value for name, value in taken.items()})
    found = shapes_of({name: value for name, value in state.items() if name.startswith(prefix)})
    if odd := first_difference(wanted, found):
        raise CheckpointError(f"{str(path)!r} does not fit this model: {odd}; choose the base that it was trained on.")
