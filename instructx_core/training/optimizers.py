"""Optimizers by name, and the rate of every step.

`muon` is two optimizers: Muon (Jordan et al. 2024) for the matrices of repeated layers, scaled to AdamW's step size,
and AdamW for all else (embeddings, norms, biases, queries, LoRA, connector). Measured on the tiny editing stage, 240
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

FINAL_RATE = 0.02  # what the rate falls to, of the whole one
REPEATED = re.compile(r"\.(blocks|layers)\.\d+\.")  # in the names of a DiT's and an MLLM's weights
Shape = tuple[int, ...]


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share an optimizer and a rate."""

    muon: bool
    rate: float
    parameters: list[nn.Parameter]


def parameter_groups(module: nn.Module, config: TrainConfig) -> list[ParameterGroup]:
    """The trained parameters: Muon's matrices, the guidance's other ones, the rest.

    Raises:
        InputError: `muon` where no matrix of a repeated layer is trained.
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
        raise InputError("optimizer: muon is for the matrices of layers, and this stage trains none; use adamw.")
    groups = [
        ParameterGroup(True, config.muon_rate, matrices),
        ParameterGroup(False, config.learning_rate * config.guidance_rate, guidance),
        ParameterGroup(False, config.learning_rate, others),
    ]
    return [group for group in groups if group.parameters]


def is_layer_matrix(name: str, parameter: torch.Tensor) -> bool:
    """Whether it is a matrix of a repeated layer. A LoRA's are none: their product is what acts."""
    return parameter.ndim == 2 and "lora_" not in name and REPEATED.search(name) is not None


def make_optimizers(groups: list[ParameterGroup], config: TrainConfig) -> list[torch.optim.Optimizer]:
    """One optimizer for Muon's groups, one for the others, those that have any. Each group keeps its rate as "whole".

    Raises:
        InputError: `muon` with a PyTorch that has none.
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
    """Give every group `share` of its whole rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["whole"] * share


def rate_share(config: TrainConfig, step: int) -> float:
    """What a step gets of the whole rates, in [0, 1]: a linear warm-up, flat, then a linear fall to a fiftieth."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    start = config.decay_from * config.steps
    fallen = max(0.0, (step - start) / max(1.0, config.steps - start))
    return warm * (1 - (1 - FINAL_RATE) * fallen)


def state_shapes(shape: Shape) -> dict[str, Shape]:
    """What these optimizers may keep of a parameter of this shape."""
    same = dict.fromkeys(("exp_avg", "exp_avg_sq", "momentum_buffer", "variance"), shape)
    factors = {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])} if len(shape) > 1 else {}
    return {"step": (), **same, **factors}
