"""A loaded model with its requests, as the `EditModel` that the steps of an edit take (`edit_model`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from .compositing import restore_edit
from .conditions.condition import Condition
from .config import Detail, Network
from .context import Context
from .edit_model import edit_canvas
from .errors import InputError
from .fit import Fit
from .guidance.guidance import NO_CLIPS
from .guidance_modes import formula_of, mode_of, needs_both, scales_source, second_scales, terms
from .loaded_model import LoadedModel
from .local_edits import check_places, over_latents, read_local
from .request import EditRequest
from .sampling import StepCallback, generator_of, sample

ContextTransform = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class EditResult:
    """The result of an edit."""

    frames: torch.Tensor  # float32 [T, H, W, 3] in [0, 1], or uint8 if requested; T, H, W are the source's
    latents: torch.Tensor  # normalised [1, C, t, h, w], of the model's canvas
    context: torch.Tensor  # [1, N, D]
    masks: torch.Tensor | None = None  # [K, t, h, w] in [0, 1]: where each of several instructions acts, coarsely


class RequestedEdit:
    """See `EditModel`: a loaded model with a request for each source of a batch. References are encoded once."""

    def __init__(
        self,
        model: LoadedModel,
        requests: Sequence[EditRequest],
        is_video: bool,
        context_transform: ContextTransform | None = None,
    ) -> None:
        """Raises InputError if the requests cannot be run together, or not by this model."""
        self.model = model
        self.requests = requests
        self.is_video = is_video
        self.context_transform = context_transform
        together = {
            (request.sampling, request.size, len(request.references), len(request.each)) for request in requests
        }
        if len(together) != 1:
            raise InputError("The requests of a batch differ in sampling, size, number of references or instructions.")
        if is_video and model.guidance.edits_pictures_alone:
            raise InputError(NO_CLIPS)
        if requests[0].each:
            check_places(model.config.name, model.masks, is_video)
        asked = requests[0].sampling
        if asked.image_stream is not None and not model.config.denoiser.image_tokens:
            raise InputError("image_stream is given, but this model has no image stream; leave it out.")
        if asked.renoise and model.config.denoiser.network is Network.UNET:
            raise InputError("renoise is given, but this model uses a diffusion model's noise levels; leave it out.")
        self.sampling = requests[0].sampling.over(model.config.sampling)
        self.mode = mode_of(self.sampling.guidance_mode, is_video, bool(requests[0].references))
        if asked.source_scale is not None and not scales_source(self.mode):
            raise InputError(
                f"source_scale (--image-guidance) is given, but guidance mode {self.mode.value} does not guide by the "
                "source separately; leave it out, or choose guidance mode v2v_chain."
            )
        self.formula = formula_of(self.mode, self.sampling)
        self.second = formula_of(self.mode, second_scales(self.mode, self.sampling))
        without = not all(part.source for part in (*self.formula.parts, *self.second.parts))
        if without and model.config.source_prediction:
            raise InputError(
                f"guidance_mode {self.mode.value} also denoises without the source, but this model predicts what to "
                "change in it; give v2v or v2v_apg."
            )
        self.takes_back_loss = model.config.keep_source > 0
        self._references: tuple[torch.Tensor, ...] | None = None

    def edit(
        self,
        sources: Sequence[torch.Tensor],
        detail: Detail,
        callback: StepCallback | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> list[EditResult]:
        """Edit sources [T, H, W, 3] of the same shape; as `Editor.edit_loaded`."""
        fit = self.fit(len(sources[0]), tuple(sources[0].shape[1:3]))
        edit = edit_canvas(self, sources, fit, callback=callback)
        share, tokens, local = self.model.config.keep_source, edit.guidance[0].tokens, edit.guidance[0].local
        results = []
        for index, (source, canvas) in enumerate(zip(sources, edit.canvas, strict=True)):
            frames = restore_edit(fit, source.cpu(), canvas.cpu(), edit.decoded[index], share, detail, dtype)
            masks = None if local is None else local.masks[index].cpu()
            results.append(EditResult(frames, edit.latents[index, None], tokens[index, None], masks))
        return results

    def fit(self, frames: int, size: tuple[int, int]) -> Fit:
        return self.model.fit(frames, size, self.requests[0].size)

    def read(self, shown: Sequence[torch.Tensor]) -> tuple[Context, Context | None]:
        """The context with the instructions, and if guidance needs it the one without them."""
        references = [request.references for request in self.requests]
        context = self.model.context(
            [request.instruction for request in self.requests], shown, references, self.is_video
        )
        if self.requests[0].each:
            own, each = self.model, [one.each for one in self.requests]
            local = read_local(own.guidance, own.connector, own.masks, each, shown, own.device)
            context = replace(context, local=local)
        if self.context_transform is not None:
            streams = {name: getattr(context, name) for name in ("tokens", "image", "addend")}
            change = self.context_transform
            context = replace(context, **{name: change(one) for name, one in streams.items() if one is not None})
        context = replace(context, image_weight=self.sampling.image_stream)
        if not needs_both(self.mode, self.sampling.guidance_scale):
            return context, None
        unasking = self.model.connector.unasking(context)
        return context, unasking or self.model.context(None, shown, references, self.is_video)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return self.model.encode(frames)

    def denoise(
        self,
        source: torch.Tensor,
        guidance: tuple[Context, Context | None],
        pinned: torch.Tensor | None = None,
        callback: StepCallback | None = None,
    ) -> torch.Tensor:
        model, sampling = self.model, self.sampling
        positive, negative = guidance
        if positive.local is not None:
            strides = (model.codec.temporal_stride, model.codec.stride)
            positive = replace(positive, local=over_latents(positive.local, tuple(source.shape[2:]), strides))
        if self._references is None:  # all windows have the same canvas
            canvas = tuple(side * model.codec.stride for side in source.shape[-2:])
            self._references = model.reference_latents([request.references for request in self.requests], canvas)

        def conditions(with_source: bool, with_references: bool) -> tuple[Condition, ...]:
            given = (source if with_source else None), (self._references if with_references else ())
            return model.denoiser.conditions(*given)

        generators = [generator_of(request.seed) for request in self.requests]
        noise = [torch.randn((1, *source.shape[1:]), generator=generator) for generator in generators]
        return sample(
            model.denoiser,
            noise=torch.cat(noise).to(model.device),
            terms=terms(self.formula, positive, negative, conditions),
            steps=sampling.steps,
            shift=sampling.shift,
            callback=callback,
            sigma_min=sampling.sigma_min,
            pinned=None if pinned is None else pinned.to(model.device),
            solver=sampling.solver,
            projection=self.formula.projection,
            renoise=self.requests[0].sampling.renoise or (),
            generators=generators,
            second=() if self.second == self.formula else terms(self.second, positive, negative, conditions),
        )

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.model.decode(latents)
