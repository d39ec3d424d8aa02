"""Interface of all denoisers: (latents, sigma, context, conditions) -> velocity, whatever the network.

Sampling, training, saving and memory placement use only this interface. One network per file: `denoiser` (Wan's DiT),
`unet_denoiser` (Stable Diffusion's).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from .conditions.condition import Condition
from .config import DenoiserConfig
from .context import Context
from .schedules import schedule


class Backbone(nn.Module, ABC):
    """A conditional denoising network. All latents are normalised."""

    config: DenoiserConfig
    transformer: nn.Module  # the network itself, as its library saves and loads it
    exact: ClassVar[tuple[str, ...] | None] = None  # modules not stored in 8-bit floats; None: diffusers' list
    repeated: ClassVar[str | None] = None  # attribute with its identical blocks

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """Input dtype of the network's first layer."""

    @property
    def patch(self) -> int:
        """Side of a patch in latent positions."""
        return 1

    @property
    def blocks(self) -> Iterable[nn.Module]:
        """The blocks that run one after the other."""
        return ()

    @property
    def halves(self) -> tuple[Backbone, ...]:
        """The denoisers that take turns in a run, each with its own network: both of a pair, else only itself."""
        return (self,)

    def at(self, sigma: float) -> Backbone:
        """The one of `halves` that denoises at a noise level."""
        return self

    @abstractmethod
    def conditions(
        self, source: torch.Tensor | None = None, references: Sequence[torch.Tensor] = ()
    ) -> tuple[Condition, ...]:
        """The conditions that inject a source and references into this model, constant over all steps of a run.

        Args:
            source: [B, C, T, H, W] normalised latents, or None.
            references: each [B, C, r, H, W] normalised latents; R frames together.

        Raises:
            InputError: a reference differs from the source in size, or this model does not take references.
        """

    @abstractmethod
    def forward(
        self, latents: torch.Tensor, sigma: torch.Tensor, context: Context, conditions: Sequence[Condition] = ()
    ) -> torch.Tensor:
        """One velocity estimate, noise - data, [B, C, T, H, W] in the dtype of `latents`.

        Args:
            latents: [B, C, T, H, W], (1 - sigma) * data + sigma * noise.
            sigma: [B] or scalar, 1 = noise.
            context: input of the cross-attention.
            conditions: applied in this order, usually from `conditions`.
        """

    def levels(self, steps: int, shift: float, sigma_min: float = 0.0) -> torch.Tensor:
        """The noise levels of a run, float64 [steps + 1], falling to 0; see `schedules.schedule`."""
        return schedule(steps, shift, sigma_min)

    def begin(self, noise: torch.Tensor, sigma: float) -> torch.Tensor:
        """A run's initial latents at its first noise level, from noise of standard deviation 1."""
        return noise

    def prepare(self, steps: int) -> None:
        """Get ready for a run of `steps` steps."""

    def constants(self, place: int) -> Callable[[], AbstractContextManager[None]]:
        """Make a context manager to wrap each forward of one context in one run, which caches what they share.

        Args:
            place: index of the forward among those of a step.
        """
        return nullcontext

    def gained(self) -> dict[str, nn.Module]:
        """The modules that a checkpoint adds to its base model, by name."""
        return {}

    def beside(self) -> list[nn.Module]:
        """The modules of `gained` that are not part of a network itself."""
        inside = {module for half in self.halves for module in half.transformer.modules()}
        return [module for module in self.gained().values() if inside.isdisjoint(module.modules())]

    def save(self, folder: Path) -> None:
        """Write the network in its library's format, without the modules of `gained`."""
        self.transformer.save_pretrained(folder)
