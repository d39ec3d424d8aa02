"""Memory taken by the weights of a model's parts, read from its modules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..weights.packed_linear import packed_layers
from ..weights.parts import Part

if TYPE_CHECKING:
    from ..families.components import Components


@dataclass(frozen=True)
class Weights:
    """Bytes of a part's weights as they are in memory."""

    total: int
    block: int = 0  # of the largest of the sequential blocks
    outside: int = 0  # of everything outside these blocks
    layer: int = 0  # of the largest single layer
    packed: int = 0  # of weights kept quantised as in their file


@dataclass(frozen=True)
class ModelSizes:
    """Bytes of a whole model's weights."""

    mllm: Weights
    dit: Weights
    vae: Weights
    added: int  # always on the device: queries, connector, embeddings
    dit_2: Weights = Weights(0)  # the second of a pair

    @property
    def parts(self) -> dict[Part, Weights]:
        """Sizes by part; zero for the second DiT if the model has only one."""
        return {Part.MLLM: self.mllm, Part.DIT: self.dit, Part.DIT_2: self.dit_2, Part.VAE: self.vae}


def sizes_of(components: Components) -> ModelSizes:
    """The sizes of a model, loaded on any device or just outlined."""
    denoiser, guidance = components.denoiser, components.guidance
    masks = [] if components.masks is None else [components.masks]
    beside = (guidance.queries, guidance.rows, components.connector, *denoiser.beside(), *masks)
    dit, *dit_2 = (_weights(half.transformer, half.blocks) for half in denoiser.halves)
    return ModelSizes(
        _weights(guidance.mllm),
        dit,
        _weights(components.codec.vae),
        sum(map(_bytes, beside)),
        *dit_2,
    )


def _weights(module: nn.Module, blocks: Iterable[nn.Module] = ()) -> Weights:
    of_blocks, total = [_bytes(block) for block in blocks], _bytes(module)
    layers = (sum(own.nbytes for own in layer.parameters(recurse=False)) for layer in module.modules())
    packed = sum(own.nbytes for layer in packed_layers(module).values() for own in layer.as_stored())
    return Weights(total, max(of_blocks, default=0), total - sum(of_blocks), max(layers, default=0), packed)


def _bytes(module: nn.Module) -> int:
    """Bytes of all weights and buffers, each counted once."""
    tensors: Iterable[torch.Tensor] = (*module.parameters(), *module.buffers())
    return sum(tensor.nbytes for tensor in tensors)
