"""A complete model of any family in memory: its parts, and the tensors it adds to its base models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..backbone import Backbone
from ..config import GuidanceKind, ModelConfig
from ..connectors import Connector, make_connector
from ..errors import CheckpointError
from ..guidance.encoder import MLLMGuidance
from ..guidance.guidance import Guidance
from ..guidance.hidden_states import HiddenStatesGuidance
from ..guidance.llava import LlavaGuidance
from ..guidance.text import TextGuidance
from ..latents import Codec
from ..mask_head import MaskHead
from ..weights.compare import first_difference, shapes_of
from ..weights.files import check_types
from ..words import quoted
from .bernini.prompt import BerniniGuidance
from .coinve.prompt import CoinveGuidance
from .kiwi.prompt import KiwiGuidance
from .networks import network_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

OWN_DIALECT = "instructx"
# dialect -> guidance kind -> the class that builds that family's prompts
DIALECTS: dict[str, dict[GuidanceKind, type[Guidance]]] = {
    OWN_DIALECT: {
        GuidanceKind.QUERIES: MLLMGuidance,
        GuidanceKind.HIDDEN_STATES: HiddenStatesGuidance,
        GuidanceKind.TEXT: TextGuidance,
    },
    "kiwi": {GuidanceKind.QUERIES: KiwiGuidance},
    "coinve": {GuidanceKind.QUERIES: CoinveGuidance},
    "bernini": {GuidanceKind.TEXT: BerniniGuidance},
    "insightedit": {GuidanceKind.QUERIES: LlavaGuidance},
}


def guidance_class(config: ModelConfig) -> type[Guidance]:
    """The guidance class for a model's kind and dialect.

    Raises:
        CheckpointError: an unknown dialect, or one without guidance of this kind.
    """
    dialect, kind = config.guidance.dialect, config.guidance.kind
    if dialect not in DIALECTS:
        raise CheckpointError(
            f"the config's guidance.dialect is {quoted(dialect)}, which this version does not know; expected one of "
            f"{', '.join(DIALECTS)}. Get the model again, or update InstructX."
        )
    if kind not in DIALECTS[dialect]:
        raise CheckpointError(
            f"the config's guidance.kind is {kind.value}, which the dialect {quoted(dialect)} does not have; set "
            f"guidance.dialect to {OWN_DIALECT}."
        )
    return DIALECTS[dialect][kind]


@dataclass(frozen=True)
class Components:
    """A complete model in memory."""

    config: ModelConfig
    guidance: Guidance
    connector: Connector
    denoiser: Backbone
    codec: Codec
    masks: MaskHead | None = None


def combine(
    config: ModelConfig,
    source: Path,
    adapter: Mapping[str, torch.Tensor],
    guidance: Guidance,
    denoiser: Backbone,
    vae: nn.Module,
    device: torch.device | str,
) -> Components:
    """Combine base models with what a checkpoint adds to them, on `device` and ready to edit.

    Args:
        config: the checkpoint's; `denoiser` is built from it, with additions still to be loaded.
        source: the checkpoint's path, for error messages.
        adapter: the checkpoint's tensors, named as in `adapter_state`.
        guidance: the MLLM with fresh queries and LoRA; the connector takes its dtype.

    Raises:
        CheckpointError: a tensor is missing, unexpected, or differs in shape from the config.
    """
    connector = fitting_connector(config, adapter, source).to(guidance.dtype)
    masks = None if config.masks is None else MaskHead(config.masks).to(guidance.dtype)
    put_adapter(adapter, source, guidance, connector, denoiser, masks)
    components = Components(config, guidance, connector, denoiser, network_kind(config).codec(vae), masks)
    for module in (guidance, connector, denoiser, components.codec, *([masks] if masks else [])):
        module.to(device).eval().requires_grad_(False)
    return components


def fitting_connector(config: ModelConfig, state: Mapping[str, torch.Tensor], path: Path) -> Connector:
    """Build a fresh connector, after checking that the tensors in `state`, read from `path`, fit it.

    Raises:
        CheckpointError: a tensor is missing, unexpected, or differs in shape from the config.
    """
    with torch.device("meta"):  # a wrong config may ask for more memory than there is
        empty = make_connector(config.connector)
    wanted = shapes_of({f"connector.{name}": value for name, value in empty.state_dict().items()})
    found = shapes_of({name: value for name, value in state.items() if name.startswith("connector.")})
    if odd := first_difference(wanted, found):
        raise CheckpointError(f"{str(path)!r} does not fit its config: {odd}; get it again.")
    return make_connector(config.connector)


def adapter_state(
    guidance: Guidance, connector: Connector, denoiser: Backbone, masks: MaskHead | None = None
) -> dict[str, torch.Tensor]:
    """The tensors of `instructx.safetensors`: `queries.`, `rows.`, `lora.`, `connector.`, `denoiser.` and `masks.`."""
    from peft import get_peft_model_state_dict

    state = {f"queries.{name}": value for name, value in guidance.queries.items()}
    state |= {f"rows.{name}": value for name, value in guidance.rows.items()}
    if guidance.config.lora_rank:
        lora = get_peft_model_state_dict(guidance.mllm.model.language_model)
        state |= {f"lora.{name}": value for name, value in lora.items()}
    state |= {f"connector.{name}": value for name, value in connector.state_dict().items()}
    for part, module in denoiser.gained().items():
        state |= {f"denoiser.{part}.{name}": value for name, value in module.state_dict().items()}
    if masks is not None:
        state |= {f"masks.{name}": value for name, value in masks.state_dict().items()}
    return state


def put_adapter(
    state: Mapping[str, torch.Tensor],
    path: Path,
    guidance: Guidance,
    connector: Connector,
    denoiser: Backbone,
    masks: MaskHead | None = None,
) -> None:
    """Copy `state`, read from `path` and named as in `adapter_state`, into the modules.

    Raises:
        CheckpointError: a tensor is missing, unexpected, or differs in shape from the config.
    """
    wanted = shapes_of(adapter_state(guidance, connector, denoiser, masks))
    if odd := first_difference(wanted, shapes_of(state)):
        raise CheckpointError(f"{str(path)!r} does not fit its config: {odd}.")
    check_types({name: value.dtype for name, value in state.items() if not value.is_floating_point()}, path)
    put_guidance(state, guidance)
    connector.load_state_dict(strip(state, "connector."))
    for part, module in denoiser.gained().items():
        module.load_state_dict(strip(state, f"denoiser.{part}."))
    if masks is not None:
        masks.load_state_dict(strip(state, "masks."))


def put_guidance(state: Mapping[str, torch.Tensor], guidance: Guidance) -> None:
    """Copy queries, their rows and LoRA from the checked tensors of an `instructx.safetensors`."""
    from peft import set_peft_model_state_dict

    with torch.no_grad():
        for name, query in guidance.queries.items():
            query.copy_(state[f"queries.{name}"])
        for name, row in guidance.rows.items():
            row.copy_(state[f"rows.{name}"])
    if guidance.config.lora_rank:
        set_peft_model_state_dict(guidance.mllm.model.language_model, strip(state, "lora."))


def strip(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The entries under `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def with_queries(
    mllm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    config: ModelConfig,
    dtype: torch.dtype,
) -> Guidance:
    """Give an MLLM fresh queries and LoRA, in the dialect the checkpoint was trained in."""
    guidance = guidance_class(config)(mllm, tokenizer, config.guidance)
    # not the whole module: rotary frequencies must stay in float32, or distant positions become indistinguishable
    guidance.queries.to(dtype)
    guidance.rows.to(dtype)
    return guidance
