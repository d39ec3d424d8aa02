"""A loaded model and its single operations: fit, read, encode, decode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from .config import Margin, ReferenceInjection
from .context import Context
from .errors import InputError
from .fit import Fit, check_aspect, fit_reference, own_size, pad_reference, plan_fit

if TYPE_CHECKING:
    from .config import ModelConfig
    from .families.components import Components


class LoadedModel:
    """The components of a model, on a device."""

    def __init__(self, components: Components, device: torch.device | None = None) -> None:
        """`device`: where edits run, if the weights are kept elsewhere (see `memory` of `from_pretrained`)."""
        self.components = components
        self.device = components.guidance.device if device is None else device
        self.config: ModelConfig = components.config
        self.guidance = components.guidance
        self.connector = components.connector
        self.denoiser = components.denoiser
        self.codec = components.codec
        self.masks = components.masks
        self.shortcuts: dict[str, str] = {}  # speed options in use that change pixels: option -> value

    @property
    def default_size(self) -> tuple[int, int]:
        """The checkpoint's training size, (height, width) in pixels."""
        return self.config.default_size

    @property
    def default_frames(self) -> int:
        """The checkpoint's training length in frames."""
        return self.config.default_frames

    @property
    def stride(self) -> int:
        """Pixels that the canvas's height and width must be multiples of."""
        return self.codec.stride * self.denoiser.patch

    def fit(self, frames: int, size: tuple[int, int], canvas: tuple[int, int] | None = None) -> Fit:
        """How a source fits the model's frames; see `plan_fit`.

        Raises:
            InputError: a canvas that is not a multiple of the stride; a source that is too narrow.
        """
        area = self.default_size[0] * self.default_size[1]
        fit = plan_fit(frames, size, self.stride, self.codec.frame_multiple, area, canvas)
        check_aspect(size, fit.inner)
        return fit

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """[B, T, H, W, 3] in [0, 1], in a size and length of the model -> normalised latents [B, C, t, h, w]."""
        return self.codec.encode(frames.to(self.device))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Normalised latents [B, C, t, h, w] -> [B, T, H, W, 3] in [0, 1] on the CPU."""
        return self.codec.decode(latents).cpu()

    @torch.no_grad()
    def context(
        self,
        instructions: Sequence[str] | None,
        sources: Sequence[torch.Tensor],
        references: Sequence[Sequence[torch.Tensor]],
        is_video: bool,
    ) -> Context:
        """The DiT's context, tokens [B, N, D]; `instructions` None: the one that a run is guided away from."""
        if instructions is None:
            inputs = self.guidance.prepare_without(len(sources), sources, references, is_video)
        else:
            inputs = self.guidance.prepare(instructions, sources, references, is_video)
        return self.connector(self.guidance(inputs.to(self.device)), inputs.reference_places)

    def reference_latents(
        self, references: Sequence[Sequence[torch.Tensor]], canvas: tuple[int, int]
    ) -> tuple[torch.Tensor, ...]:
        """References as latent frames: [B, C, 1, h, w] per reference, in the canvas's size or its own.

        Raises:
            InputError: references that keep their own size and differ in it within a batch.
        """
        config = self.config.denoiser
        place = pad_reference if config.reference_margin is Margin.WHITE else fit_reference
        if config.reference is ReferenceInjection.STREAM:
            place, canvas = own_size, (self.stride, max(self.default_size))
        placed = [[place(image, canvas)[None] for image in images] for images in zip(*references, strict=True)]
        if any(len({image.shape for image in images}) > 1 for images in placed):
            raise InputError(
                "The references of a batch differ in size, and this model does not resize them; edit the sources one "
                "by one."
            )
        return tuple(self.encode(torch.stack(images)) for images in placed)
