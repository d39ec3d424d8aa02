"""Turn a clone of a native Wan MODEL into an InstructX denoiser; the original MODEL is not changed.

- All inputs are in the conditioning (see `conditioning.py`), so that they follow CFG batching, batches, areas and
  context windows. The patches on the MODEL only consume them, and change nothing without them.
- The library's conditions enter and leave inside the DiT's call (a DIFFUSION_MODEL wrapper): outside it, the sampler
  would see a changed latent.
- Separate embeddings for source and references are in a replaced patch embedding; see `embeddings.py`.
- If a DiT predicts what to change in the source, the same wrapper turns its output into a velocity for the sampler.
- References are `time_dim_concat`, as in ComfyUI's own nodes; the wrapper concatenates them with the frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from comfy.ldm.wan.model import WanModel
from comfy.patcher_extension import WrappersMP

from ..instructx_core.conditions.condition import Condition
from ..instructx_core.conditions.local_edits import masks_of_tokens
from ..instructx_core.conditions.reference_frames import ReferenceFrames
from ..instructx_core.conditions.source_add import SourceAdd
from ..instructx_core.conditions.source_places import CHANNELS_OF_WAVE, with_places
from ..instructx_core.config import ContextEntry, SourceInjection
from ..instructx_core.denoiser import TIMESTEPS, check_outputs
from ..instructx_core.errors import InputError
from .conditioning import REFERENCES, SOURCE, STREAMS
from .denoising import ATTACHMENT, Denoising, denoising
from .embeddings import ChannelsBehind, PatchEmbedding, TextEmbedding, marked
from .placed_attention import LOCAL, PlacedAttention

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def check_wan(model: ModelPatcher) -> None:
    """Raise InputError unless `model` is a Wan DiT."""
    if not isinstance(getattr(model.model, "diffusion_model", None), WanModel):
        kind = type(model.model).__name__
        raise InputError(
            f"The MODEL is {kind}, not Wan; connect InstructX Load Model, or a Wan model from Load Diffusion Model."
        )


def attach(model: ModelPatcher, what: Denoising) -> ModelPatcher:
    """Clone `model` and patch it to take this checkpoint's source, references and context.

    Raises:
        InputError: not Wan, a Wan whose width differs from the checkpoint's, or a ComfyUI too old for its source.
    """
    check_wan(model)
    dit = model.model.diffusion_model
    config = what.config.connector
    expected = dit.dim if config.entry is ContextEntry.WIDTH else dit.text_dim
    if config.output_dim != expected:
        raise InputError(
            f"The checkpoint {what.config.name!r} makes a context of width {config.output_dim}, but the MODEL takes "
            f"{expected}; choose the MODEL that it was trained with."
        )
    if what.config.denoiser.source is SourceInjection.STREAM and not takes_streams(dit):
        raise InputError(
            f"The checkpoint {what.config.name!r} gives its DiT the source as separate tokens, which this ComfyUI's Wan"
            " does not support; update ComfyUI to 0.33.0 or newer."
        )
    taken = (dit.dim, dit.patch_embedding.in_channels)
    for embedding, more in ((what.source, CHANNELS_OF_WAVE * what.config.denoiser.source_waves), (what.reference, 0)):
        if embedding is not None and tuple(embedding.weight.shape[:2]) != (taken[0], taken[1] + more):
            width, channels = embedding.weight.shape[0], embedding.weight.shape[1] - more
            raise InputError(
                f"The checkpoint {what.config.name!r} is for a DiT of width {width} and {channels} channels, but the"
                f" MODEL has {taken[0]} and {taken[1]}; choose the MODEL that it was trained with."
            )
    check_outputs(what.config.source_prediction, taken[1], dit.out_dim)
    patched = model.clone()
    patched.set_attachments(ATTACHMENT, what)
    patched.remove_wrappers_with_key(WrappersMP.DIFFUSION_MODEL, ATTACHMENT)
    patched.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, ATTACHMENT)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, ATTACHMENT, ConditionWrapper(what))
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, ATTACHMENT, check_and_estimate)
    if what.source is not None or what.reference is not None:
        name = "diffusion_model.patch_embedding.forward"
        own = dit.patch_embedding.in_channels
        patched.add_object_patch(name, PatchEmbedding(_unpatched(model, name), own, what.source, what.reference))
    for block, strength in enumerate(what.local_strength):
        name = f"diffusion_model.blocks.{block}.cross_attn.forward"
        module = model.get_model_object(name.removesuffix(".forward"))
        patched.add_object_patch(name, PlacedAttention(module, _unpatched(model, name), strength))
    if config.entry is ContextEntry.WIDTH:
        name = "diffusion_model.text_embedding.forward"
        patched.add_object_patch(name, TextEmbedding(_unpatched(model, name), dit.dim))
    return patched


def prepare(model: ModelPatcher) -> ModelPatcher:
    """`model` itself if a loader attached a checkpoint, else a clone with the paper's defaults attached."""
    check_wan(model)
    return model if model.get_attachment(ATTACHMENT) is not None else attach(model, denoising(model))


def takes_streams(dit: torch.nn.Module) -> bool:
    """Whether this ComfyUI's Wan supports `STREAMS`; older versions would silently ignore the source."""
    return STREAMS in type(dit).forward_orig.__code__.co_consts


class ConditionWrapper:
    """Wraps the DiT's forward: applies the library's conditions before and after it, extends per-frame timesteps for
    references, and turns the DiT's prediction into a velocity."""

    def __init__(self, what: Denoising) -> None:
        self.what = what
        self.config = what.config.denoiser
        self.prediction = what.config.source_prediction

    def __call__(
        self,
        executor: Callable[..., torch.Tensor],
        x: torch.Tensor,
        timestep: torch.Tensor,
        context: torch.Tensor,
        clip_fea: torch.Tensor | None = None,
        time_dim_concat: torch.Tensor | None = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        options = transformer_options or {}
        carried = kwargs.pop(SOURCE, None)
        local = kwargs.pop(LOCAL, None)
        if local is not None:
            tokens, masks = local
            options = options | {LOCAL: (tokens, self._places(masks, x, time_dim_concat, options))}
        source = presence = None
        if carried is not None:
            source, presence = _of_window(carried, x, options).split([carried.shape[1] - 1, 1], dim=1)
        conditions = self._conditions(source, presence, time_dim_concat, options)

        hidden = x
        for condition in conditions:
            hidden = condition.enter(hidden)  # [B, C, T, H, W] -> [B, C', T + R, H, W]
        if source is not None:
            timestep = _of_run(timestep, x, options)
        timestep = self._for_references(timestep, time_dim_concat, x, options)
        output = executor(hidden, timestep, context, clip_fea, None, options, **kwargs)
        for condition in reversed(conditions):
            output = condition.leave(output)  # -> [B, C, T, H, W]

        if source is not None and self.prediction is not None:
            if output.shape[1] != self.prediction.outputs * x.shape[1]:
                raise InputError(
                    "EasyCache does not work with this MODEL, which predicts a gain and an offset of the source; use"
                    " LazyCache instead, or neither."
                )
            # the run's noise level, even for frames that a noise mask holds at zero
            return self.prediction.velocity(output.float(), x.float(), source.float(), _sigma(options))
        return output

    def _conditions(
        self,
        source: torch.Tensor | None,
        presence: torch.Tensor | None,
        references: torch.Tensor | None,
        options: dict[str, Any],
    ) -> list[Condition]:
        """The library's conditions for one forward; inputs with their own embedding become additional channels."""
        found: list[Condition] = []
        embeds_source = source is not None and self.what.source is not None
        embeds_references = references is not None and self.what.reference is not None
        if source is not None and not embeds_source:
            found.append(SourceAdd(source * presence))
        if embeds_source or embeds_references:
            strength = presence
            if embeds_source and self.config.source_fades:
                strength = presence * _sigma(options)
            count = 0 if self.what.source is None else self.what.source.weight.shape[1]
            placed = with_places(source, self.config.source_waves) if embeds_source else None
            found.append(ChannelsBehind(count, placed, strength if embeds_source else None))
            references = None if references is None else marked(references, count)
        if references is not None:
            found.append(ReferenceFrames(references, self.config.references_first))
        return found

    def _places(
        self,
        masks: torch.Tensor,
        x: torch.Tensor,
        references: torch.Tensor | None,
        options: dict[str, Any],
    ) -> torch.Tensor:
        """Masks [B, K, t, h, w] for the tokens of a forward, [B, K, tokens]; cut to the context window, if any."""
        more = 0 if references is None else references.shape[2]
        window = options.get("context_window")
        if window is not None:  # it is of the latent's frames; the masks have their own
            whole = (window.total_frames, *masks.shape[3:])
            masks = window.get_tensor(F.interpolate(masks, whole, mode="trilinear", align_corners=False), dim=2)
        size = (x.shape[2], *(math.ceil(side / 2) for side in x.shape[3:]))  # Wan's patches are 1 x 2 x 2
        return masks_of_tokens(masks, size, (more, 0) if self.config.references_first else (0, more))

    def _for_references(
        self, timestep: torch.Tensor, references: torch.Tensor | None, x: torch.Tensor, options: dict[str, Any]
    ) -> torch.Tensor:
        """With a noise mask, Wan 2.2 5B has a timestep per frame: give references the run's, as for noisy frames."""
        if references is None or timestep.ndim != 2 or timestep.shape[1] != x.shape[2]:
            return timestep
        run = (_sigma(options) * TIMESTEPS).to(timestep).expand(len(timestep), references.shape[2])
        return torch.cat([run, timestep] if self.config.references_first else [timestep, run], dim=1)


def _of_run(timestep: torch.Tensor, x: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """With a noise mask, Wan 2.2 5B has a timestep per frame, which ComfyUI sets to the run's times the unmasked share
    of the frame: a partly edited frame would be treated as nearly clean. Set it to the run's."""
    if timestep.ndim != 2 or timestep.shape[1] != x.shape[2]:
        return timestep
    return torch.where(timestep > 0, (_sigma(options) * TIMESTEPS).to(timestep), timestep)


def check_and_estimate(
    executor: Callable[..., Any],
    model: ModelPatcher,
    noise_shape: list[int],
    conds: dict[str, Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Before anything is loaded onto the GPU, check that source, latent and context match, and add the references to
    the shape that ComfyUI estimates memory for.

    Raises:
        InputError: the source's size differs from the latent's, a DiT that predicts what to change in a source has
            none, or the context's width is not the DiT's.
    """
    frames = 0
    for cond in (cond for group in conds.values() for cond in group):
        source = cond.get("model_conds", {}).get(SOURCE)
        if source is not None:
            _check_size(source.cond.shape, noise_shape)
        elif denoising(model).config.source_prediction is not None:
            raise InputError(
                "The MODEL predicts what to change in a source, but a conditioning has none; put InstructX Source"
                " before the sampler and use both its conditionings."
            )
        _check_width(model, cond.get("cross_attn"))
        beside = sum(stream[0, 0].numel() for stream in cond.get(STREAMS) or ())
        frames = max(frames, math.ceil(beside / math.prod(noise_shape[3:])))
        if cond.get(REFERENCES) is not None:
            frames = max(frames, cond[REFERENCES].shape[2])
    longer = [*noise_shape[:2], noise_shape[2] + frames, *noise_shape[3:]]
    return executor(model, longer, conds, *args, **kwargs)


def _check_size(source: tuple[int, ...], latent: list[int]) -> None:
    if list(source[2:]) != list(latent[2:]) or latent[0] % source[0]:
        raise InputError(
            f"The source is {_words(source)}, but the LATENT being sampled is {_words(latent)}; "
            "sample the LATENT from InstructX Source."
        )


def _check_width(model: ModelPatcher, context: torch.Tensor | None) -> None:
    dit = model.model.diffusion_model
    taken = {dit.text_dim}
    if denoising(model).config.connector.entry is ContextEntry.WIDTH:
        taken.add(dit.dim)
    if context is not None and context.shape[-1] not in taken:
        raise InputError(
            f"The conditioning is {context.shape[-1]} wide, but the MODEL takes {' or '.join(map(str, sorted(taken)))};"
            " use the connector of the checkpoint that the MODEL is from."
        )


def _words(shape: list[int] | tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[2]} frames of {shape[4]} x {shape[3]} (batch, time, width, height of latents)"


def _unpatched(model: ModelPatcher, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The object at `name` without this pack's patches; other packs' patches stay, wrapped by ours."""
    found = model.get_model_object(name)
    return found.own if isinstance(found, PatchEmbedding | TextEmbedding | PlacedAttention) else found


def _of_window(source: torch.Tensor, x: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """The part of the source that belongs to `x`: context windows cut x in time, but only some versions of ComfyUI also
    cut the source."""
    window = options.get("context_window")
    if source.shape[2] != x.shape[2] and window is not None:
        source = window.get_tensor(source, dim=2)
    if source.shape[2:] != x.shape[2:]:
        raise InputError(
            f"The source is {_words(source.shape)}, but the latent being sampled is {_words(x.shape)}; give both"
            " the same size."
        )
    return source


def _sigma(options: dict[str, Any]) -> torch.Tensor:
    """The run's noise level, a scalar for the whole batch, which CFG may have doubled."""
    return options["sigmas"].flatten()[0]
