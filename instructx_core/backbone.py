"""What all denoisers have in common: (latents, sigma, context, conditions) -> velocity, whatever network is inside.

Sampling, training, saving and placing in memory use only this protocol. One network per file: `denoiser` (Wan's DiT),
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
    """A network that denoises, under conditions. All latents are normalised."""

    config: DenoiserConfig
    transformer: nn.Module  # the network itself, as its library saves and loads it
    exact: ClassVar[tuple[str, ...] | None] = None  # modules that 8-bit floats leave alone; None: diffusers' list
    repeated: ClassVar[str | None] = None  # where it keeps blocks that are all alike

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """What the network's first layer takes."""

    @property
    def patch(self) -> int:
        """Latent positions that one place of the network spans, on either side."""
        return 1

    @property
    def blocks(self) -> Iterable[nn.Module]:
        """Those that run one after the other."""
        return ()

    @property
    def halves(self) -> tuple[Backbone, ...]:
        """Those that take turns in a run, each with a network of its own: of a pair two, else itself."""
        return (self,)

    def at(self, sigma: float) -> Backbone:
        """Which of `halves` denoises at a noise level."""
        return self

    @abstractmethod
    def conditions(
        self, source: torch.Tensor | None = None, references: Sequence[torch.Tensor] = ()
    ) -> tuple[Condition, ...]:
        """A source and references as this model takes them: the same values for all steps of a denoising.

        Args:
            source: [B, C, T, H, W] normalised latents, or None.
            references: each [B, C, r, H, W] normalised latents; R frames together.

        Raises:
            InputError: a reference of another size than the source, or one that this model does not take.
        """

    @abstractmethod
    def forward(
        self, latents: torch.Tensor, sigma: torch.Tensor, context: Context, conditions: Sequence[Condition] = ()
    ) -> torch.Tensor:
        """One velocity estimate, noise - data, [B, C, T, H, W] in the dtype of `latents`.

        Args:
            latents: [B, C, T, H, W], (1 - sigma) * data + sigma * noise.
            sigma: [B] or scalar, 1 = noise.
            context: what the network cross-attends to.
            conditions: applied in this order, usually from `conditions`.
        """

    def levels(self, steps: int, shift: float, sigma_min: float = 0.0) -> torch.Tensor:
        """The noise levels of a run, float64 [steps + 1], falling to 0; see `schedules.schedule`."""
        return schedule(steps, shift, sigma_min)

    def begin(self, noise: torch.Tensor, sigma: float) -> torch.Tensor:
        """The latents that a run begins with at its first noise level, from noise of deviation 1."""
        return noise

    def prepare(self, steps: int) -> None:
        """Get ready for a run of `steps` steps."""

    def constants(self, place: int) -> Callable[[], AbstractContextManager[None]]:
        """What the forwards of one context of one run have in common: a context manager around each of them.

        Args:
            place: of the forward among those of a step.
        """
        return nullcontext

    def gained(self) -> dict[str, nn.Module]:
        """What a checkpoint's network has beside its base model, by name."""
        return {}

    def beside(self) -> list[nn.Module]:
        """What of it lies outside the networks themselves."""
        inside = {module for half in self.halves for module in half.transformer.modules()}
        return [module for module in self.gained().values() if inside.isdisjoint(module.modules())]

    def save(self, folder: Path) -> None:
        """Write the network without what it gained, as its library does."""
        self.transformer.save_pretrained(folder)
