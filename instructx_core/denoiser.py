"""A Wan DiT that sees the source and the references: (latents, sigma, conditions) -> velocity.

- The source is *added*: to the noisy latent itself, or after a patch embedding of its own (`SourceInjection`).
- References are latent frames behind the noisy ones, or before them; RoPE counts them all, their outputs are dropped.
  They share the DiT's patch embedding or have their own (`ReferenceInjection`).
- All latents here are normalised. What does not change between steps is computed once: by `prepare`, or by the DiT's
  own layers at the first step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .config import ContextEntry, DenoiserConfig, Prediction, ReferenceInjection, SourceInjection
from .errors import InputError
from .speed.options import begin_run

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

    from .speed.remembering import Kept

TokenChange = Callable[[torch.Tensor], torch.Tensor]

TIMESTEPS = 1000  # Wan counts noise from 0 to 1000; sigma from 0 to 1


@dataclass(frozen=True)
class Conditions:
    """What steers a denoising, as a value. Batch size B is shared by all."""

    context: torch.Tensor  # [B, N, D] from the connector
    source: torch.Tensor | None = None  # [B, C, T, H, W] normalised latents
    references: tuple[torch.Tensor, ...] = ()  # each [B, C, t, H, W] normalised latents


@dataclass(frozen=True)
class Prepared:
    """`Conditions` after everything that is the same in every step has been computed, for the steps of one run."""

    context: torch.Tensor  # [B, N, D]
    source: torch.Tensor | None  # [B, C, T, H, W]
    addend: torch.Tensor | None  # [B, C, T + R, H, W] for LATENT, [B, width, T + R, H / p, W / p] for EMBEDDING
    references: torch.Tensor | None  # [B, C, R, H, W]
    reference_tokens: torch.Tensor | None  # [B, width, R, H / p, W / p] where they have an embedding of their own
    kept: tuple[Kept, ...]  # what the DiT's own layers computed at the first step, see `Keepers`


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
        from .speed.remembering import Keepers

        super().__init__()
        self.config = config
        self.transformer = transformer
        self.source_embedding: nn.Conv3d | None = None
        if config.source is SourceInjection.EMBEDDING:
            self.source_embedding = zero_patch_embedding(transformer)
        self.reference_embedding: nn.Conv3d | None = None
        if config.reference is ReferenceInjection.EMBEDDING:
            self.reference_embedding = zero_patch_embedding(transformer)
        if entry is ContextEntry.WIDTH:
            # by its forward alone: its weights stay, so that the saved DiT is one that any Wan loader takes
            transformer.condition_embedder.text_embedder.forward = _unchanged
        self._keepers = Keepers(transformer)

    @property
    def dtype(self) -> torch.dtype:
        """What the DiT's patch embedding takes; some of its other layers stay in float32 next to bfloat16 ones."""
        return self.transformer.patch_embedding.weight.dtype

    def prepare(self, conditions: Conditions, frames: int, steps: int = 1) -> Prepared:
        """Everything that is the same in every step of a denoising of `frames` latent frames; a step cache begins anew.

        Args:
            conditions: what steers all of its steps.
            frames: T of the latents.
            steps: of the whole denoising; a step cache may plan with it.

        Raises:
            InputError: the source or a reference has another latent size than the edit, or a model that predicts what
                to change has no source.
        """
        begin_run(self.transformer, steps)
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
        reference_tokens = None
        if appended is not None and self.reference_embedding is not None:
            reference_tokens = self.reference_embedding(appended.to(self.dtype))
        addend = source
        if source is not None and self.source_embedding is not None:
            addend = self.source_embedding(source.to(self.dtype))
        if addend is not None and appended is not None:
            more = appended.shape[2] // self.transformer.config.patch_size[0]
            addend = F.pad(addend, (0, 0, 0, 0, *((more, 0) if self.config.references_first else (0, more))))
        context, kept = conditions.context.to(self.dtype), self._keepers.nothing_yet()
        return Prepared(context, source, addend, appended, reference_tokens, kept)

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
        hidden = self._beside(latents, prepared.references)
        if prepared.addend is not None and self.source_embedding is None:
            hidden = hidden + prepared.addend
        self._check_extent(hidden)
        timestep = sigma.to(latents.device, torch.float32).expand(latents.shape[0]) * TIMESTEPS
        with self._after_patchify(self._injected(prepared, sigma)), self.caching(), self._remembering(conditions):
            output = self.transformer(hidden.to(self.dtype), timestep, prepared.context, return_dict=False)[0]
        first = output.shape[2] - frames if self.config.references_first else 0
        output = output[:, :, first : first + frames].to(latents.dtype)
        if self.config.prediction is Prediction.CHANGE:
            return velocity_of_change(output, latents, prepared.source, sigma, self.config.deadband)
        return output

    def _check_extent(self, hidden: torch.Tensor) -> None:
        """Raise InputError where [B, C, T + R, H, W] has more places along an axis than the DiT's positions reach."""
        config = self.transformer.config
        places = [size // patch for size, patch in zip(hidden.shape[2:], config.patch_size, strict=True)]
        if max(places) > config.rope_max_seq_len:
            raise InputError(
                f"The edit has {' x '.join(map(str, places))} places (time, height, width), more along one than this "
                f"DiT's {config.rope_max_seq_len}; edit fewer frames or a smaller size."
            )

    def _beside(self, frames: torch.Tensor, references: torch.Tensor | None) -> torch.Tensor:
        """Frames and references in one tensor along time, in the order in which this model takes them."""
        if references is None:
            return frames
        both = (references, frames) if self.config.references_first else (frames, references)
        return torch.cat(both, dim=2)

    def _injected(self, prepared: Prepared, sigma: torch.Tensor) -> TokenChange | None:
        """What happens to the patch embedding's output [B, width, T + R, h, w]; None: nothing."""
        addend, tokens = prepared.addend if self.source_embedding is not None else None, prepared.reference_tokens
        if addend is None and tokens is None:
            return None
        if addend is not None and self.config.source_fades:
            share = sigma.to(addend.device, torch.float32).view(-1, 1, 1, 1, 1)
            addend = (addend * share).to(addend.dtype)

        def change(embedded: torch.Tensor) -> torch.Tensor:
            if addend is not None:
                embedded = embedded + addend
            if tokens is not None:  # in the place of what the DiT's own embedding made of the references
                frames = embedded.shape[2] - tokens.shape[2]
                start = tokens.shape[2] if self.config.references_first else 0
                embedded = self._beside(embedded[:, :, start : start + frames], tokens)
            return embedded

        return change

    @contextmanager
    def _after_patchify(self, change: TokenChange | None) -> Iterator[None]:
        """Apply `change` to the patch embedding's output for one forward: the DiT's own code stays untouched."""
        if change is None:
            yield
            return
        handle = self.transformer.patch_embedding.register_forward_hook(lambda _module, _inputs, output: change(output))
        try:
            yield
        finally:
            handle.remove()

    def _remembering(self, conditions: Conditions | Prepared) -> AbstractContextManager[None]:
        """A forward alone has nothing to remember; training computes all that its gradients go through."""
        if isinstance(conditions, Conditions) or torch.is_grad_enabled():
            return nullcontext()
        return self._keepers.lent(conditions.kept)

    def caching(self) -> AbstractContextManager[None]:
        """What a step cache asks for around a forward; both halves of a guided batch are one to it."""
        return self.transformer.cache_context("edit") if self.transformer.is_cache_enabled else nullcontext()


def velocity_of_change(
    change: torch.Tensor, latents: torch.Tensor, source: torch.Tensor, sigma: torch.Tensor, deadband: float = 0.0
) -> torch.Tensor:
    """The velocity that leads from `latents` to source + change, all [B, C, T, H, W]; sigma [B] or scalar, above 0.

    Args:
        deadband: see `keep_still`.
    """
    return (latents - source - keep_still(change, deadband)) / sigma.to(latents).view(-1, 1, 1, 1, 1)


def keep_still(change: torch.Tensor, deadband: float) -> torch.Tensor:
    """`change` [B, C, T, H, W] with nothing left of it where it is small.

    A regression never predicts exactly nothing, so what an edit should leave alone drifts a little everywhere. A place
    (all channels of one t, h, w) stays as it is when its RMS is below `deadband` times the RMS of the whole change;
    above, it shrinks by less and less: the non-negative garrote (Breiman 1995), continuous where places cross over.
    """
    if not deadband:
        return change
    power = change.float().square().mean(1, keepdim=True)
    floor = deadband**2 * power.mean((2, 3, 4), keepdim=True).detach()
    tiny = torch.finfo(power.dtype).tiny
    return change * (1 - floor / power.clamp(min=tiny)).clamp(min=0).to(change)


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
