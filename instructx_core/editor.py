"""The front door: a sentence and a picture or clip in, the edited frames out.

pixels + instruction -> guidance -> connector -> context; pixels -> VAE -> latents;
both -> denoiser -> sampling -> VAE -> pixels
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from . import families
from .bounded import is_dir, is_file
from .compositing import restore_edit
from .conditions.condition import Condition
from .config import Detail, Margin, ReferenceInjection
from .context import Context
from .detail import parse_detail
from .device import pick_device
from .edit_model import edit_canvas
from .errors import CheckpointError, InputError
from .families.components import Components
from .families.instructx.folder import BUNDLED, save_checkpoint
from .families.loading import load_model
from .families.networks import network_kind
from .families.overrides import Overrides
from .fit import Fit, check_aspect, fit_reference, own_size, pad_reference, plan_fit
from .guidance_modes import formula_of, mode_of, needs_both, scales_source, terms
from .local_edits import check_places, read_local
from .memory.choice import parse_memory
from .memory.decide import decide
from .memory.formats import pick_dtype
from .memory.placement import place, store_in_fp8
from .paths import as_path
from .request import EditRequest, as_request
from .sampling import StepCallback, initial_noise, sample
from .source import Source, load_source
from .speed.options import cache_settings, check_speed, speed_up
from .weights.hub import fetch_into_cache
from .weights.loras import load_lora
from .words import quoted_path, shown

if TYPE_CHECKING:
    from .config import ModelConfig

ContextTransform = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class EditResult:
    """The result of an edit."""

    frames: torch.Tensor  # float32 [T, H, W, 3] in [0, 1], or uint8 where asked for; T, H, W as the source's
    latents: torch.Tensor  # normalised [1, C, t, h, w], of the model's canvas
    context: torch.Tensor  # [1, N, D]
    masks: torch.Tensor | None = None  # [K, t, h, w] in [0, 1]: where each of several instructions acts, coarsely


class Editor:
    """A loaded model. Make one with `Editor.from_pretrained` and call `edit` as often as you like."""

    def __init__(self, components: Components, device: torch.device | None = None) -> None:
        """`device`: where edits run, if that is not where the weights are (see `memory` of `from_pretrained`)."""
        self.components = components
        self.device = components.guidance.device if device is None else device
        self.config: ModelConfig = components.config
        self.guidance = components.guidance
        self.connector = components.connector
        self.denoiser = components.denoiser
        self.codec = components.codec
        self.masks = components.masks

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        download: bool = False,
        transformer: str | Path | None = None,
        vae: str | Path | None = None,
        mllm: str | Path | None = None,
        loras: Sequence[tuple[str | Path, float]] = (),
        memory: str = "auto",
        fp8: bool = False,
        attention: str = "sdpa",
        compile: bool = False,
        cache: str | None = None,
    ) -> Editor:
        """Load a model.

        Args:
            path: a model folder, this library's own or Kiwi-Edit's as published; an `instructx.safetensors` or a
                training checkpoint of Kiwi-Edit's alone; None for the bundled InstructX Tiny; a hub id ("owner/name")
                only with `download`.
            device: None for the machine's accelerator, else the CPU.
            dtype: of the weights: "float32", "bfloat16", "float16", or "auto" (None): bfloat16, but on a CPU float32
                where main memory has room for it.
            download: allow fetching a hub id into the hub client's own cache, which keeps what is whole: an interrupted
                download continues with the file that it stopped in. Nothing is ever fetched without it.
            transformer, vae, mllm: base weights that take the place of the model's own, or that it does not have: a
                folder or a file each, in any of the forms in docs/weights.md.
            loras: LoRA files for the DiT and how much of each, 1 as it was trained, negative for its opposite; merged
                into the weights one after the other, as ComfyUI would, see `weights.loras`.
            memory: where weights are while they are not needed: "full" (on the device), "model", "group", "sequential"
                (from fast and large to slow and small, see `Memory`), or "auto": the first of these with which an edit
                as the model was trained fits into what a GPU has free now. On a CPU "model" releases the memory of
                parts that are not working, and "auto" is that for models of more than a GiB.
            fp8: keep the DiT's weights in 8-bit floats: half the memory, less exact.
            attention: of the DiT: "sdpa" (PyTorch's), "flash" or "sage", where these packages are installed.
            compile: compile the DiT's block with torch.compile, at the first step of each new size.
            cache: use outputs of earlier steps again where they hardly change: "first-block", "taylor", or "mag", which
                needs the model's folder calibrated (`calibration.calibrate`) first; less exact.

        Raises:
            CheckpointError: no model there, a damaged one, base weights that it was not trained on, or a file that is
                no LoRA for this DiT.
            InputError: a device that this machine does not have, an option that does not exist or cannot work here, a
                model that does not fit into main memory, or a LoRA for a DiT that is quantised.
        """
        device, wanted, asked = pick_device(device), pick_dtype(dtype), parse_memory(memory)
        check_speed(attention, compile, cache, device)
        parts = {"transformer": transformer, "vae": vae, "mllm": mllm}
        overrides = Overrides(*(None if given is None else as_path(given, name) for name, given in parts.items()))
        merged = _pairs(loras)
        model = _find_model(path, download)
        reuse = cache_settings(cache, model)
        opened = families.open(model, overrides)
        if not network_kind(opened.config).takes_extras and (merged or compile or cache or fp8 or attention != "sdpa"):
            raise InputError(
                f"{quoted_path(model)} has no Wan DiT, for which LoRA files, fp8, attention, compile and cache are; "
                "leave them out."
            )
        decision = decide(opened, device, wanted, asked, merged=bool(merged), fp8=fp8)
        components = load_model(opened, "cpu", decision.dtype)
        for file, strength in merged:
            load_lora(components.denoiser.transformer, file, strength)
        if fp8:
            store_in_fp8(components)
        place(components, decision.plan, device)
        if network_kind(opened.config).takes_extras:
            speed_up(components.denoiser.transformer, attention, compile, reuse)
        return cls(components, device)

    @property
    def default_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the checkpoint was trained at."""
        return self.config.default_size

    @property
    def default_frames(self) -> int:
        """The length in frames that the checkpoint was trained at."""
        return self.config.default_frames

    @property
    def stride(self) -> int:
        """Height and width of what the model edits are multiples of this many pixels."""
        return self.codec.stride * self.denoiser.patch

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model to a folder that `from_pretrained` reads, atomically."""
        save_checkpoint(self.components, folder)

    def edit(
        self,
        source: Any,
        request: EditRequest | str | None = None,
        *parts: Any,
        detail: str = Detail.SOURCE.value,
        callback: StepCallback | None = None,
        dtype: torch.dtype = torch.float32,
        **named: Any,
    ) -> EditResult:
        """Edit an image or a video from a sentence.

        Args:
            source: a path, a PIL image, or an array or tensor [T, H, W, 3] or [H, W, 3], uint8 or float in [0, 1].
                Arrays of one frame are images; a video file stays a video however short it is.
            request: what is asked for; or its parts, as `EditRequest.of` takes them:
                `edit("in.png", "make it blue", reference="ref.png", steps=4)`. Of a model that finds places by itself
                (`config.masks`) also a list of instructions for a clip; their masks are in the result.
            detail, callback, dtype: as `edit_loaded`.

        Raises:
            InputError: any of these cannot be used; raised before long work starts.
            CheckpointError: the model gave NaN, infinity or one colour.
            EditInterrupted: the callback returned False.
        """
        asked = as_request(request, *parts, **named)
        return self.edit_loaded(load_source(source), asked, detail, callback, dtype)

    def edit_loaded(
        self,
        source: Source,
        request: EditRequest,
        detail: str = Detail.SOURCE.value,
        callback: StepCallback | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> EditResult:
        """`edit` of a source that is in memory.

        Args:
            detail: of an edit made on a smaller canvas than its source: "source" carries the source's own detail over
                through the edit's colours (see `detail`), "model" resizes what the model made.
            callback: called as callback(step, total, latents) after each step; a return of False stops the edit.
            dtype: of the result's frames: torch.float32 in [0, 1], or torch.uint8, a quarter of the memory.
        """
        if dtype not in (torch.float32, torch.uint8):
            raise InputError(f"dtype is {shown(dtype)}; give torch.float32 or torch.uint8.")
        model = RequestedEdit(self, [request], source.is_video)
        return model.edit([source.pixels], parse_detail(detail), callback, dtype)[0]

    def edit_batch(
        self,
        sources: Sequence[torch.Tensor],
        instructions: Sequence[EditRequest] | Sequence[str],
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        seeds: Sequence[int] | None = None,
        detail: str = Detail.SOURCE.value,
        context_transform: ContextTransform | None = None,
        **sampling: Any,
    ) -> list[EditResult]:
        """Edit several sources of one shape together, as evaluation does; each as `edit` would (up to rounding).

        Args:
            sources: B tensors [T, H, W, 3] in [0, 1] of the same shape.
            instructions: B requests; or B sentences, beside which `references`, `seeds` and `sampling` say the rest.
            references: for each of the B, the same number of [H, W, 3] in [0, 1].
            seeds: B seeds; None for 0 each.
            detail: as `edit_loaded`.
            context_transform: applied to the context [B, N, D]; ablations zero or shuffle it with this.
            sampling: steps, shift, guidance_scale.
        """
        each = {name: one for name, one in (("reference", references), ("seed", seeds)) if one is not None}
        requests = [
            as_request(asked, **{name: one[index] for name, one in each.items()}, **sampling)
            for index, asked in zip(range(len(sources)), instructions, strict=True)
        ]
        model = RequestedEdit(self, requests, len(sources[0]) > 1, context_transform)
        return model.edit(sources, parse_detail(detail))

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
        """[B, T, H, W, 3] in [0, 1] of the model's stride and length -> normalised latents [B, C, t, h, w]."""
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
        """What the DiT cross-attends to, tokens [B, N, D]; `instructions` None: what a run is guided away from."""
        if instructions is None:
            inputs = self.guidance.prepare_without(len(sources), sources, references, is_video)
        else:
            inputs = self.guidance.prepare(instructions, sources, references, is_video)
        return self.connector(self.guidance(inputs.to(self.device)), inputs.reference_places)

    def reference_latents(
        self, references: Sequence[Sequence[torch.Tensor]], canvas: tuple[int, int]
    ) -> tuple[torch.Tensor, ...]:
        """References as latent frames: for each place in the list, [B, C, 1, h, w], of the canvas or its own size."""
        config = self.config.denoiser
        place = pad_reference if config.reference_margin is Margin.WHITE else fit_reference
        if config.reference is ReferenceInjection.STREAM:
            place, canvas = own_size, (self.stride, max(self.default_size))
        return tuple(
            self.encode(torch.stack([place(image, canvas)[None] for image in images]))
            for images in zip(*references, strict=True)
        )


class RequestedEdit:
    """See `EditModel`: a loaded model with a request for each source of a batch. References are encoded once."""

    def __init__(
        self,
        editor: Editor,
        requests: Sequence[EditRequest],
        is_video: bool,
        context_transform: ContextTransform | None = None,
    ) -> None:
        """Raises InputError where the requests of a batch cannot be run together."""
        self.editor = editor
        self.requests = requests
        self.is_video = is_video
        self.context_transform = context_transform
        together = {
            (request.sampling, request.size, len(request.references), len(request.each)) for request in requests
        }
        if len(together) != 1:
            raise InputError("The requests of a batch differ in sampling, size, number of references or instructions.")
        if requests[0].each:
            check_places(editor.config.name, editor.masks, is_video)
        asked = requests[0].sampling
        if asked.image_stream is not None and not editor.config.denoiser.image_tokens:
            raise InputError("image_stream is given, and this model has no image stream; leave it out.")
        self.sampling = requests[0].sampling.over(editor.config.sampling)
        self.mode = mode_of(self.sampling.guidance_mode, is_video, bool(requests[0].references))
        if asked.source_scale is not None and not scales_source(self.mode):
            raise InputError(
                f"source_scale (--image-guidance) is given, and guidance mode {self.mode.value} does not guide by the "
                "source apart from the instruction; leave it out, or choose guidance mode v2v_chain."
            )
        self._references: tuple[torch.Tensor, ...] | None = None

    def edit(
        self,
        sources: Sequence[torch.Tensor],
        detail: Detail,
        callback: StepCallback | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> list[EditResult]:
        """Edit [T, H, W, 3] each, of one shape; as `Editor.edit_loaded`."""
        fit = self.fit(len(sources[0]), tuple(sources[0].shape[1:3]))
        edit = edit_canvas(self, sources, fit, callback=callback)
        share, tokens, local = self.editor.config.keep_source, edit.guidance[0].tokens, edit.guidance[0].local
        results = []
        for index, (source, canvas) in enumerate(zip(sources, edit.canvas, strict=True)):
            frames = restore_edit(fit, source.cpu(), canvas.cpu(), edit.decoded[index], share, detail, dtype)
            masks = None if local is None else local.masks[index].cpu()
            results.append(EditResult(frames, edit.latents[index, None], tokens[index, None], masks))
        return results

    def fit(self, frames: int, size: tuple[int, int]) -> Fit:
        return self.editor.fit(frames, size, self.requests[0].size)

    def read(self, shown: Sequence[torch.Tensor]) -> tuple[Context, Context | None]:
        """The context with the instructions, and without them where the guidance scale asks for it."""
        references = [request.references for request in self.requests]
        context = self.editor.context(
            [request.instruction for request in self.requests], shown, references, self.is_video
        )
        if self.requests[0].each:
            own, each = self.editor, [one.each for one in self.requests]
            local = read_local(own.guidance, own.connector, own.masks, each, shown, own.device)
            context = replace(context, local=local)
        if self.context_transform is not None:
            context = replace(context, tokens=self.context_transform(context.tokens))
        context = replace(context, image_weight=self.sampling.image_stream)
        if not needs_both(self.mode, self.sampling.guidance_scale):
            return context, None
        unasking = self.editor.connector.unasking(context)
        return context, unasking or self.editor.context(None, shown, references, self.is_video)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return self.editor.encode(frames)

    def denoise(
        self,
        source: torch.Tensor,
        guidance: tuple[Context, Context | None],
        pinned: torch.Tensor | None = None,
        callback: StepCallback | None = None,
    ) -> torch.Tensor:
        editor, sampling = self.editor, self.sampling
        if self._references is None:  # all windows have the same canvas
            canvas = tuple(side * editor.codec.stride for side in source.shape[-2:])
            self._references = editor.reference_latents([request.references for request in self.requests], canvas)

        def conditions(with_source: bool, with_references: bool) -> tuple[Condition, ...]:
            given = (source if with_source else None), (self._references if with_references else ())
            return editor.denoiser.conditions(*given)

        made = formula_of(self.mode, sampling)
        noise = [initial_noise((1, *source.shape[1:]), request.seed) for request in self.requests]
        return sample(
            editor.denoiser,
            noise=torch.cat(noise).to(editor.device),
            terms=terms(made, *guidance, conditions),
            steps=sampling.steps,
            shift=sampling.shift,
            callback=callback,
            sigma_min=sampling.sigma_min,
            pinned=None if pinned is None else pinned.to(editor.device),
            solver=sampling.solver,
            projection=made.projection,
        )

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.editor.decode(latents)


def _pairs(loras: Any) -> list[tuple[Path, float]]:
    """LoRA files with their strengths. Raises InputError for anything else."""
    given = list(loras) if isinstance(loras, (list, tuple)) else [loras]
    for pair in given:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise InputError(f"loras is a list of pairs (path, strength), not {shown(pair)}.")
    return [(as_path(file, "A LoRA"), strength) for file, strength in given]


def _find_model(path: str | Path | None, download: bool) -> Path:
    if path is None:
        return BUNDLED
    folder = as_path(path, "The model")
    if is_file(folder) or is_dir(folder):
        return folder
    if not download:
        raise CheckpointError(f"There is no model folder {quoted_path(path)}; to fetch a hub id, say download=True.")
    return fetch_into_cache(str(path))
