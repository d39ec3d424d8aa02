"""Optimizers by name, and the learning rate schedule.

`muon` is two optimizers: Muon (Jordan et al. 2024) for the matrices of repeated layers, scaled to AdamW's step size,
and AdamW for the rest (embeddings, norms, biases, queries, LoRA, connector). Measured on the tiny editing stage, 240
steps from a random DiT: loss .832 with AdamW at 4e-4, .699 with Muon at 3e-3 and AdamW at 6e-4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from .config import TrainConfig

FINAL_RATE = 0.02  # fraction of the full rate that it falls to
REPEATED = re.compile(r"\.(blocks|layers)\.\d+\.")  # in names of DiT and MLLM weights
Shape = tuple[int, ...]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share an optimizer and a rate."""

    muon: bool
    rate: float
    parameters: list[nn.Parameter]


def parameter_groups(module: nn.Module, config: TrainConfig) -> list[ParameterGroup]:
    """The trained parameters in groups: Muon's matrices, the other ones of the guidance, the rest.

    Raises:
        InputError: `muon`, but no matrix of a repeated layer is trained.
    """
    matrices: list[nn.Parameter] = []
    guidance: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if config.optimizer == "muon" and is_layer_matrix(name, parameter):
            matrices.append(parameter)
        else:
            (guidance if name.startswith("guidance.") else others).append(parameter)
    if config.optimizer == "muon" and not matrices:
        raise InputError("optimizer: muon is for layers' weight matrices, and this stage trains none; use adamw.")
    groups = [
        ParameterGroup(True, config.muon_rate, matrices),
        ParameterGroup(False, config.learning_rate * config.guidance_rate, guidance),
        ParameterGroup(False, config.learning_rate, others),
    ]
    return [group for group in groups if group.parameters]


def is_layer_matrix(name: str, parameter: torch.Tensor) -> bool:
    """True for a matrix of a repeated layer, except a LoRA's: only the product of its two factors acts on the layer."""
    return parameter.ndim == 2 and "lora_" not in name and REPEATED.search(name) is not None


def make_optimizers(groups: list[ParameterGroup], config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Up to two optimizers: for Muon's groups and for the others. Each group stores its full rate as "whole".

    Raises:
        InputError: `muon` with a PyTorch that lacks it.
    """
    optimizers: list[torch.optim.Optimizer] = []
    for muon in (True, False):
        plain: list[dict[str, Any]] = [
            {"params": group.parameters, "lr": group.rate, "whole": group.rate}
            for group in groups
            if group.muon == muon
        ]
        if plain:
            optimizers.append(_muon(plain, config) if muon else _elementwise(plain, config))
    return optimizers


def _muon(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise InputError(f"optimizer: muon needs PyTorch 2.9 or later, this is {torch.__version__}; use adamw.")
    return torch.optim.Muon(groups, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw")


def _elementwise(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, weight_decay=config.weight_decay)
    return torch.optim.AdamW(groups, betas=config.betas, weight_decay=config.weight_decay, fused=True)


def set_rates(optimizers: list[Any], share: float) -> None:
    """Set the rate of every group to `share` of its full rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["whole"] * share


def rate_share(config: TrainConfig, step: int) -> float:
    """A step's fraction of the full rates, in [0, 1]: linear warm-up, constant, then linear decay to a fiftieth."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    start = config.decay_from * config.steps
    fallen = max(0.0, (step - start) / max(1.0, config.steps - start))
    return warm * (1 - (1 - FINAL_RATE) * fallen)


def state_shapes(shape: Shape, muon: bool, config: TrainConfig) -> dict[str, Shape]:
    """Names and shapes of the state that its optimizer may keep for a parameter of this shape.

    Args:
        muon: as in `ParameterGroup`.
    """
    if muon:
        return {"momentum_buffer": shape}
    if config.optimizer != "adafactor":
        return {"step": (), "exp_avg": shape, "exp_avg_sq": shape}
    if len(shape) < 2:
        return {"step": (), "variance": shape}
    return {"step": (), "row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}
