"""A Wan DiT that sees the source and the references: (latents, sigma, conditions) -> velocity.

- The source is *added*: to the noisy latent itself, or after a patch embedding of its own (`SourceInjection`).
- References are latent frames appended behind the noisy ones; RoPE simply continues, their outputs are dropped.
- All latents here are normalised. What does not change between steps is computed once, by `prepare`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .config import ContextEntry, DenoiserConfig, Prediction, SourceInjection
from .errors import InputError

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

TIMESTEPS = 1000  # Wan counts noise from 0 to 1000; sigma from 0 to 1


@dataclass(frozen=True)
class Conditions:
    """What steers a denoising, as a value. Batch size B is shared by all."""

    context: torch.Tensor  # [B, N, D] from the connector
    source: torch.Tensor | None = None  # [B, C, T, H, W] normalised latents
    references: tuple[torch.Tensor, ...] = ()  # each [B, C, t, H, W] normalised latents


@dataclass(frozen=True)
class Prepared:
    """`Conditions` after everything that is the same in every step has been computed."""

    context: torch.Tensor  # [B, N, D]
    source: torch.Tensor | None  # [B, C, T, H, W]
    addend: torch.Tensor | None  # [B, C, T + R, H, W] for LATENT, [B, width, T + R, H / p, W / p] for EMBEDDING
    references: torch.Tensor | None  # [B, C, R, H, W]


class Denoiser(nn.Module):
    """`WanTransformer3DModel` with the source and reference injection of section 3.1.

    Args:
        transformer: the DiT, of any size its config allows.
        config: how the source enters.
        entry: whether the context passes through the DiT's text embedding.
    """

    def __init__(
        self,
        transformer: WanTransformer3DModel,
        config: DenoiserConfig,
        entry: ContextEntry = ContextEntry.TEXT,
    ) -> None:
        super().__init__()
        self.config = config
        self.transformer = transformer
        self.source_embedding: nn.Conv3d | None = None
        if config.source is SourceInjection.EMBEDDING:
            self.source_embedding = zero_patch_embedding(transformer)
        if entry is ContextEntry.WIDTH:
            # by its forward alone: its weights stay, so that the saved DiT is one that any Wan loader takes
            transformer.condition_embedder.text_embedder.forward = _unchanged

    @property
    def dtype(self) -> torch.dtype:
        """What the DiT's patch embedding takes; some of its other layers stay in float32 next to bfloat16 ones."""
        return self.transformer.patch_embedding.weight.dtype

    def prepare(self, conditions: Conditions, frames: int) -> Prepared:
        """Everything that is the same in every step of a denoising of `frames` latent frames.

        Raises:
            InputError: the source or a reference has another latent size than the edit, or a model that predicts what
                to change has no source.
        """
        source, references = conditions.source, conditions.references
        if source is None and self.config.prediction is Prediction.CHANGE:
            raise InputError("This model predicts what to change in a source, but there is none; give the source.")
        if source is not None and source.shape[2] != frames:
            raise InputError(f"The source has {source.shape[2]} latent frames but {frames} are being edited.")
        for reference in references:
            if source is not None and reference.shape[-2:] != source.shape[-2:]:
                raise InputError(
                    f"A reference has latent size {tuple(reference.shape[-2:])}, "
                    f"the source {tuple(source.shape[-2:])}; bring the reference to the source's size first."
                )
        appended = torch.cat(references, dim=2) if references else None
        addend = source
        if source is not None and self.source_embedding is not None:
            addend = self.source_embedding(source.to(self.dtype))
        if addend is not None and appended is not None:
            addend = F.pad(addend, (0, 0, 0, 0, 0, appended.shape[2] // self.transformer.config.patch_size[0]))
        return Prepared(conditions.context.to(self.dtype), source, addend, appended)

    def forward(self, latents: torch.Tensor, sigma: torch.Tensor, conditions: Conditions | Prepared) -> torch.Tensor:
        """One velocity estimate.

        Args:
            latents: [B, C, T, H, W] normalised, (1 - sigma) * data + sigma * noise.
            sigma: [B] or scalar, 1 = noise.
            conditions: what steers it; a `Prepared` saves the work that every step shares.

        Returns:
            [B, C, T, H, W], noise - data, in the dtype of `latents`: samplers add up in float32 whatever the weights.
        """
        frames = latents.shape[2]
        prepared = conditions if isinstance(conditions, Prepared) else self.prepare(conditions, frames)
        hidden = latents
        if prepared.references is not None:
            hidden = torch.cat([latents, prepared.references], dim=2)
        embedded = None
        if prepared.addend is not None:
            if self.source_embedding is None:
                hidden = hidden + prepared.addend
            else:
                embedded = prepared.addend
        timestep = sigma.to(latents.device, torch.float32).expand(latents.shape[0]) * TIMESTEPS
        with self._adding_after_patchify(embedded):
            output = self.transformer(hidden.to(self.dtype), timestep, prepared.context, return_dict=False)[0]
        output = output[:, :, :frames].to(latents.dtype)
        if self.config.prediction is Prediction.CHANGE:
            return velocity_of_change(output, latents, prepared.source, sigma)
        return output

    @contextmanager
    def _adding_after_patchify(self, embedded: torch.Tensor | None) -> Iterator[None]:
        """Add `embedded` to the patch embedding's output for one forward: the DiT's own code stays untouched."""
        if embedded is None:
            yield
            return
        handle = self.transformer.patch_embedding.register_forward_hook(
            lambda _module, _inputs, output: output + embedded
        )
        try:
            yield
        finally:
            handle.remove()


def velocity_of_change(
    change: torch.Tensor, latents: torch.Tensor, source: torch.Tensor, sigma: torch.Tensor
) -> torch.Tensor:
    """The velocity that leads from `latents` to source + change, all [B, C, T, H, W]; sigma [B] or scalar, above 0."""
    return (latents - source - change) / sigma.to(latents).view(-1, 1, 1, 1, 1)


def _unchanged(hidden: torch.Tensor) -> torch.Tensor:
    return hidden


def zero_patch_embedding(transformer: WanTransformer3DModel) -> nn.Conv3d:
    """A patch embedding like the DiT's own that starts at zero: adding it changes nothing until it is trained."""
    own = transformer.patch_embedding
    embedding = nn.Conv3d(own.in_channels, own.out_channels, own.kernel_size, own.stride, dtype=own.weight.dtype)
    nn.init.zeros_(embedding.weight)
    nn.init.zeros_(embedding.bias)
    return embedding.to(own.weight.device)


def batch_conditions(first: Conditions, second: Conditions) -> Conditions:
    """Two conditions side by side along the batch, for classifier-free guidance in one forward."""
    return replace(
        first,
        context=torch.cat([first.context, second.context]),
        source=None if first.source is None else torch.cat([first.source, second.source]),
        references=tuple(torch.cat(pair) for pair in zip(first.references, second.references, strict=True)),
    )
