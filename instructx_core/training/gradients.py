"""Check that a stage trains something, and that gradients reach it: a frozen DiT may pass none on."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from ..config import ContextEntry
from ..errors import InputError
from ..families.components import Components
from .config import TrainConfig

BEFORE_THE_DIT = {"queries", "lora", "connector"}


def check_trained(components: Components, config: TrainConfig) -> None:
    """Refuse a stage that trains nothing.

    Args:
        components: with `requires_grad` set for what is trained.

    Raises:
        InputError: the model has none of the parts in `config.train`.
    """
    modules = (components.guidance, components.connector, components.denoiser)
    if not any(parameter.requires_grad for module in modules for parameter in module.parameters()):
        raise InputError(
            f"train: the model has no {' or '.join(config.train)}, so nothing would be trained; add a part that it has."
        )


def check_gradient(components: Components, config: TrainConfig) -> None:
    """Refuse a stage whose gradient would be exactly zero, or that trains nothing.

    Args:
        components: with `requires_grad` set for what is trained.

    Raises:
        InputError: nothing is trained, or zero weights of the frozen DiT block the gradient.
    """
    check_trained(components, config)
    if "transformer" in config.train:
        return
    transformer = components.denoiser.transformer
    if transformer.proj_out.weight.is_meta:  # sharded: the main process, which has the weights, checks them
        return
    dead = "proj_out" if _is_zero([transformer.proj_out]) else None
    if BEFORE_THE_DIT & set(config.train):
        if components.config.connector.entry is ContextEntry.TEXT:
            embedder = transformer.condition_embedder.text_embedder
            dead = dead or next((f"text_embedder.{n}" for n, m in _linear(embedder) if _is_zero([m])), None)
        attentions = [block.attn2 for block in transformer.blocks]
        for part in ("to_v", "to_out"):
            layers = [layer for attention in attentions for _, layer in _linear(getattr(attention, part))]
            dead = dead or (f"attn2.{part} of every block" if _is_zero(layers) else None)
    if dead is not None:
        raise InputError(
            f"The gradient of {', '.join(config.train)} would be exactly zero, because {dead} is zero in the DiT of "
            f"{'/'.join(config.start.values())!r}; start from a pre-trained DiT (such as Wan's, with `instructx new`), "
            "or add transformer to train."
        )


def _linear(module: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]


def _is_zero(layers: Iterable[nn.Module]) -> bool:
    return not any(bool(layer.weight.any()) for layer in layers)
