"""A pair of Wan DiTs of one shape (Wan2.2-A14B): the first denoises at high noise, the second at low.

`Backbone.at` chooses by diffusers' rule: the first from the boundary up, the second below it. Both share what a
checkpoint adds to a DiT (the source's embedding and the like).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from .backbone import Backbone
from .conditions.condition import Condition
from .context import Context
from .denoiser import Denoiser
from .errors import InputError

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

ROUNDING = 1e-6  # float32 error of a level on the boundary


class DenoiserPair(Backbone):
    """See `Backbone`.

    Args:
        first: for high noise.
        second: for low noise, of the same shape; its added modules are replaced by the first's.
        boundary: the lowest noise level of the first, above 0 and below 1.
    """

    repeated = Denoiser.repeated

    def __init__(self, first: Denoiser, second: Denoiser, boundary: float) -> None:
        super().__init__()
        self.config = first.config
        self.boundary = boundary
        self.first, self.second = first, second
        for name, module in first.gained().items():
            setattr(second, name, module)

    @property
    def transformer(self) -> WanTransformer3DModel:  # the first stands for both where they are alike
        return self.first.transformer

    @property
    def halves(self) -> tuple[Backbone, ...]:
        return self.first, self.second

    def at(self, sigma: float) -> Backbone:
        return self.first if sigma >= self.boundary - ROUNDING else self.second

    @property
    def dtype(self) -> torch.dtype:
        return self.first.dtype

    @property
    def patch(self) -> int:
        return self.first.patch

    @property
    def blocks(self) -> Iterable[nn.Module]:
        return self.first.blocks

    def conditions(
        self, source: torch.Tensor | None = None, references: Sequence[torch.Tensor] = ()
    ) -> tuple[Condition, ...]:
        return self.first.conditions(source, references)

    def forward(
        self, latents: torch.Tensor, sigma: torch.Tensor, context: Context, conditions: Sequence[Condition] = ()
    ) -> torch.Tensor:
        """As `Backbone.forward`.

        Raises:
            InputError: a batch with noise levels on both sides of the boundary.
        """
        half = self.at(float(sigma.min()))
        if half is not self.at(float(sigma.max())):
            raise InputError(
                f"A batch has noise levels on both sides of {self.boundary:g}, where the second DiT takes over; give a "
                "separate batch for each side."
            )
        return half(latents, sigma, context, conditions)

    def gained(self) -> dict[str, nn.Module]:
        return self.first.gained()

    def save(self, folder: Path) -> None:
        """Write both; the second's folder lies next to the first's, with `_2` appended to its name."""
        self.first.save(folder)
        self.second.save(folder.with_name(f"{folder.name}_2"))
