"""A Wan DiT with conditions: (latents, sigma, context, conditions) -> velocity.

- A forward reads top to bottom: conditions enter, the DiT runs, conditions leave, a velocity comes out.
- `conditions` builds the conditions of this model's config; a caller may apply others.
- All latents here are normalised. What is constant over the steps is computed once: in the conditions, and for the
  DiT's own layers by the sampling loop (`speed.run_cache`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .backbone import Backbone
from .conditions.condition import Condition, SourceCondition
from .conditions.local_edits import masks_of_tokens
from .conditions.reference_frames import ReferenceFrames
from .conditions.source_add import SourceAdd
from .conditions.source_embed import SourceEmbed
from .conditions.source_places import CHANNELS_OF_WAVE, with_places
from .conditions.source_stream import Rope, SourceStream, source_streams
from .config import ContextEntry, DenoiserConfig, ReferenceInjection, SourceInjection
from .context import Context
from .errors import CheckpointError, InputError
from .schedules import TIMESTEPS
from .speed.options import STEP_CACHE, begin_run, step_caching
from .speed.run_cache import RunCache

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

    from .prediction import SourcePrediction


class Denoiser(Backbone):
    """`WanTransformer3DModel` with the source and reference injection of section 3.1.

    Args:
        transformer: the DiT, of any size.
        config: how a source and references enter.
        entry: whether the context passes through the DiT's text embedding.
        prediction: what the DiT predicts instead of a velocity; None: a velocity (4.1).

    Raises:
        CheckpointError: the DiT's number of output channels does not match its prediction.
    """

    def __init__(
        self,
        transformer: WanTransformer3DModel,
        config: DenoiserConfig,
        entry: ContextEntry = ContextEntry.TEXT,
        prediction: SourcePrediction | None = None,
    ) -> None:
        from .cross_attention import install

        super().__init__()
        check_outputs(prediction, transformer.config.in_channels, transformer.config.out_channels)
        self.config = config
        self.prediction = prediction
        self.transformer = transformer
        self.source_embedding: nn.Conv3d | None = None
        if config.source is SourceInjection.EMBEDDING:
            self.source_embedding = zero_patch_embedding(transformer, CHANNELS_OF_WAVE * config.source_waves)
        self.reference_embedding: nn.Conv3d | None = None
        if config.reference is ReferenceInjection.EMBEDDING:
            self.reference_embedding = zero_patch_embedding(transformer)
        self.local_strength: nn.ParameterList | None = None  # per block: how far tokens follow local instructions
        if config.local_edits:
            blocks = len(transformer.blocks)
            self.local_strength = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in range(blocks))
        if entry is ContextEntry.WIDTH:
            # only its forward is replaced: the weights stay, so that any Wan loader can read the saved DiT
            transformer.condition_embedder.text_embedder.forward = _unchanged
        install(transformer)

    repeated = "blocks"

    @property
    def patch(self) -> int:
        return self.transformer.config.patch_size[1]

    @property
    def blocks(self) -> Iterable[nn.Module]:
        return self.transformer.blocks

    @property
    def dtype(self) -> torch.dtype:
        """Input dtype of the DiT's patch embedding; some other layers stay in float32 next to bfloat16 ones."""
        return self.transformer.patch_embedding.weight.dtype

    def conditions(
        self, source: torch.Tensor | None = None, references: Sequence[torch.Tensor] = ()
    ) -> tuple[Condition, ...]:
        if self.config.source is SourceInjection.STREAM:
            return tuple(source_streams([latents for latents in (source, *references) if latents is not None]))
        for reference in references:
            if source is not None and reference.shape[-2:] != source.shape[-2:]:
                raise InputError(
                    f"A reference has latent size {tuple(reference.shape[-2:])}, "
                    f"the source {tuple(source.shape[-2:])}; bring the reference to the source's size first."
                )
        found: list[Condition] = []
        appended = torch.cat(tuple(references), dim=2) if references else None  # [B, C, R, H, W]
        if source is not None and self.source_embedding is None:
            found.append(SourceAdd(source))
        elif source is not None:
            placed = with_places(source, self.config.source_waves)
            tokens = self.source_embedding(placed.to(self.dtype))  # [B, width, t, h, w]
            more = 0 if appended is None else appended.shape[2] // self.transformer.config.patch_size[0]
            around = (more, 0) if self.config.references_first else (0, more)
            tokens = F.pad(tokens, (0, 0, 0, 0, *around))  # [B, width, t + r, h, w]: once, not at every step
            found.append(SourceEmbed(source, tokens, self.config.source_fades))
        if appended is not None:
            # without their own embedding, references pass through the DiT's, like the noisy latents
            own = None if self.reference_embedding is None else self.reference_embedding(appended.to(self.dtype))
            found.append(ReferenceFrames(appended, self.config.references_first, own))
        return tuple(found)

    def forward(
        self, latents: torch.Tensor, sigma: torch.Tensor, context: Context, conditions: Sequence[Condition] = ()
    ) -> torch.Tensor:
        """As `Backbone.forward`; the result is in the latents' dtype, whatever the weights'.

        Raises:
            InputError: a condition that differs from the latents in size, more tokens along an axis than the DiT has
                positions for, no source for a model that predicts what to change in one, or an image stream or local
                instructions that the DiT cannot take.
        """
        source = None if self.prediction is None else _source_of(conditions)

        hidden = latents
        for condition in conditions:
            hidden = condition.enter(hidden)  # [B, C, T, H, W] -> [B, C', T + R, H, W]
        self._check_extent(hidden)  # diffusers' RoPE would fail with a message about tensor shapes
        context = self._entering(context, latents.shape[2:], hidden.shape[2])

        # float32 whatever the weights' dtype: near 1000 bfloat16 has a resolution of 4
        timestep = sigma.to(latents.device, torch.float32).expand(latents.shape[0]) * TIMESTEPS  # [B]
        with self._embedding(conditions, sigma), self._beside(conditions):
            output = self.transformer(
                hidden.to(self.dtype), timestep, context.tokens, context.image, return_dict=False
            )[0]  # [B, C, T + R, H, W]

        # the last to enter leaves first: each removes only what it added
        for condition in reversed(conditions):
            output = condition.leave(output)  # -> [B, C, T, H, W]
        output = output.to(latents.dtype)  # a sampler sums up many small steps in float32

        if self.prediction is None:
            return output
        return self.prediction.velocity(output, latents, source, sigma)

    def prepare(self, steps: int) -> None:
        begin_run(self.transformer, steps)

    def constants(self, place: int) -> Callable[[], AbstractContextManager[None]]:
        cache, name = RunCache(self.transformer), f"edit {place}" if place else STEP_CACHE

        @contextmanager
        def around() -> Iterator[None]:
            with step_caching(self.transformer, name), cache.lent():
                yield

        return around

    def gained(self) -> dict[str, nn.Module]:
        names = ("source_embedding", "reference_embedding", "local_strength")
        return {name: module for name in names if (module := getattr(self, name)) is not None}

    def _entering(self, context: Context, extent: Sequence[int], frames: int) -> Context:
        """Pass the context's mask, image stream and local edits to the blocks; return it in the DiT's dtype.

        Args:
            extent: (T, H, W) of the edit's latents.
            frames: T + R, with references.
        """
        from .cross_attention import set_context

        if context.image is not None and self.transformer.condition_embedder.image_embedder is None:
            raise InputError("The context has an image stream, but this DiT has no projections for one; leave it out.")
        image_places = 0 if context.image is None else context.image.shape[1]
        if context.local is None:
            set_context(self.transformer, context.mask, image_places, context.image_weight)
            return context.to(self.dtype)
        if self.local_strength is None:
            raise InputError("The context has instructions with a mask each, which this DiT cannot take.")
        patch = self.transformer.config.patch_size
        time, height, width = (side // each for side, each in zip(extent, patch, strict=True))
        more = frames // patch[0] - time
        around = (more, 0) if self.config.references_first else (0, more)
        masks = masks_of_tokens(context.local.masks, (time, height, width), around)
        places, strength = context.local.tokens.shape[2], list(self.local_strength)
        set_context(self.transformer, context.mask, image_places, context.image_weight, masks, places, strength)
        # through the DiT's text embedding together; the blocks separate them again
        tokens = torch.cat([context.tokens, context.local.tokens.flatten(1, 2)], dim=1)
        return replace(context, tokens=tokens, local=None).to(self.dtype)

    def _check_extent(self, hidden: torch.Tensor) -> None:
        """Raise InputError if [B, C', T + R, H, W] has more tokens along an axis than the DiT has positions for."""
        config = self.transformer.config
        places = [size // patch for size, patch in zip(hidden.shape[2:], config.patch_size, strict=True)]
        if max(places) > config.rope_max_seq_len:
            raise InputError(
                f"The edit has {' x '.join(map(str, places))} tokens (time, height, width), but this DiT takes at most "
                f"{config.rope_max_seq_len} along each; edit fewer frames or a smaller size."
            )

    @contextmanager
    def _embedding(self, conditions: Sequence[Condition], sigma: torch.Tensor) -> Iterator[None]:
        """For one forward, let conditions change the patch embedding's output, without touching the DiT's code."""

        def change(_module: nn.Module, _inputs: tuple[torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
            for condition in conditions:
                tokens = condition.embed(tokens, sigma)  # [B, width, t + r, h, w]
            return tokens

        handle = self.transformer.patch_embedding.register_forward_hook(change)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _beside(self, conditions: Sequence[Condition]) -> Iterator[None]:
        """For one forward, prepend streams to the noisy tokens, from the patch embedding to the last projection."""
        streams = [condition for condition in conditions if isinstance(condition, SourceStream)]
        if not streams:
            yield
            return
        transformer, busy = self.transformer, False

        def embed(latents: torch.Tensor) -> torch.Tensor:
            nonlocal busy
            # Called as a module, so that hooks that load offloaded weights run; `longer` must not.
            busy = True
            try:
                return transformer.patch_embedding(latents.to(noisy.device, self.dtype))
            finally:
                busy = False

        def longer(_module: nn.Module, _inputs: tuple[torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
            nonlocal noisy
            if busy:
                return tokens
            noisy = flat = tokens.flatten(2)  # [B, width, L]
            for stream in streams:
                flat = stream.before(flat, embed)
            return flat[:, :, None, None]  # [B, width, 1, 1, S + L]

        def turned(rope: nn.Module, _inputs: tuple[torch.Tensor], given: Rope) -> Rope:
            for stream in streams:
                given = stream.turned_before(given, lambda latents: type(rope).forward(rope, latents))
            return given

        def shorter(_module: nn.Module, _inputs: tuple[torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
            return tokens[:, -noisy.shape[2] :]  # [B, L, patch]

        noisy = torch.empty(0)
        hooks = ((transformer.patch_embedding, longer), (transformer.rope, turned), (transformer.proj_out, shorter))
        handles = [module.register_forward_hook(hook) for module, hook in hooks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def check_outputs(prediction: SourcePrediction | None, channels: int, outputs: int | None) -> None:
    """Raise CheckpointError if a DiT with `channels` inputs does not have the `outputs` that `prediction` reads.

    A velocity (None) has as many channels as the latents; the inputs may be more, if they include the source.
    """
    found = channels if outputs is None else outputs
    if prediction is None:
        if found > channels:
            raise CheckpointError(
                f"The DiT has {channels} input and {found} output channels, so it belongs to another model and does "
                "not predict a velocity; give one that does, as Wan's do."
            )
        return
    wanted = channels * prediction.outputs
    if found != wanted:
        raise CheckpointError(
            f"The model's DiT has {found} output channels, but its config needs {wanted} for what it predicts; get the "
            "model again."
        )


def _source_of(conditions: Sequence[Condition]) -> torch.Tensor:
    """The source [B, C, T, H, W] among the conditions, for a model that predicts what to change in it."""
    for condition in conditions:
        if isinstance(condition, SourceCondition):
            return condition.source
    raise InputError("This model predicts what to change in a source, but has none; give a source.")


def _unchanged(hidden: torch.Tensor) -> torch.Tensor:
    return hidden


def zero_patch_embedding(transformer: WanTransformer3DModel, more: int = 0) -> nn.Conv3d:
    """A patch embedding like the DiT's, initialised to zero: adding its output changes nothing until it is trained.

    Args:
        more: input channels in addition to the latents'.
    """
    own = transformer.patch_embedding
    embedding = nn.Conv3d(own.in_channels + more, own.out_channels, own.kernel_size, own.stride, dtype=own.weight.dtype)
    nn.init.zeros_(embedding.weight)
    nn.init.zeros_(embedding.bias)
    return embedding.to(own.weight.device)
