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

from .bounded import is_dir, is_file
from .compositing import restore_edit
from .config import Detail, Margin
from .context import Context
from .detail import parse_detail
from .device import pick_device
from .errors import CheckpointError, InputError
from .families.components import Components
from .families.instructx.folder import BUNDLED, save_checkpoint
from .families.loading import load_model
from .families.overrides import Base
from .fit import Fit, check_aspect, fit_reference, pad_reference, plan_fit
from .instruction import check_instruction
from .memory.choice import parse_memory
from .memory.decide import decide
from .memory.formats import pick_dtype
from .memory.placement import place, store_in_fp8
from .paths import as_path
from .results import check_frames
from .sampling import StepCallback, check_guidance_scale, initial_noise, instruction_guidance, sample, schedule
from .source import Source, load_references, load_source
from .speed.options import cache_settings, check_speed, speed_up
from .weights.hub import PATTERNS, first_line, transport_errors
from .weights.loras import load_lora
from .words import quoted_path, shown

if TYPE_CHECKING:
    from .config import ModelConfig

ContextTransform = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class EditResult:
    """What an edit gives back."""

    frames: torch.Tensor  # float32 [T, H, W, 3] in [0, 1], or uint8 where asked for; T, H, W as the source's
    latents: torch.Tensor  # normalised [1, C, t, h, w], of the model's canvas
    context: torch.Tensor  # [1, N, D]


@dataclass(frozen=True)
class Settings:
    """Sampler settings with the checkpoint's defaults filled in, checked."""

    steps: int
    shift: float
    guidance_scale: float


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
                download goes on with the file that it stopped in. Nothing is ever fetched without it.
            transformer, vae, mllm: base weights that take the place of the model's own, or that it does not have: a
                folder or a file each, in any of the forms in docs/weights.md.
            loras: LoRA files for the DiT and how much of each, 1 as it was trained, negative for its opposite; merged
                into the weights one after the other, as ComfyUI would, see `weights.loras`.
            memory: where weights are while they are not needed: "full" (on the device), "model", "group", "sequential"
                (from fast and large to slow and small, see `Memory`), or "auto": the first of these with which an edit
                as the model was trained fits into what a GPU has free now. On a CPU "model" gives back the memory of
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
        base = Base(*(None if given is None else as_path(given, name) for name, given in parts.items()))
        merged = _pairs(loras)
        model = _find_model(path, download)
        reuse = cache_settings(cache, model)
        decision = decide(model, device, wanted, asked, base, merged=bool(merged), fp8=fp8)
        components = load_model(model, "cpu", decision.dtype, base)
        for file, strength in merged:
            load_lora(components.denoiser.transformer, file, strength)
        if fp8:
            store_in_fp8(components)
        place(components, decision.plan, device)
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
        return self.codec.stride * self.denoiser.transformer.config.patch_size[1]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model to a folder that `from_pretrained` reads, atomically."""
        save_checkpoint(self.components, folder)

    def edit(
        self,
        source: Any,
        instruction: str,
        reference: Any = None,
        steps: int | None = None,
        shift: float | None = None,
        guidance_scale: float | None = None,
        seed: int = 0,
        height: int | None = None,
        width: int | None = None,
        detail: str = Detail.SOURCE.value,
        callback: StepCallback | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> EditResult:
        """Edit an image or a video from a sentence.

        Args:
            source: a path, a PIL image, or an array or tensor [T, H, W, 3] or [H, W, 3], uint8 or float in [0, 1].
                Arrays of one frame are images; a video file stays a video however short it is.
            instruction: what to change, in words.
            reference: an image (or a list) in any of these forms whose subject the instruction refers to.
            steps, shift, guidance_scale: of the sampler; None for the checkpoint's own.
            seed: the same seed gives the same pixels on the same machine.
            height, width: what the model works at, multiples of `stride`; None for its trained area in the source's
                aspect. The result always has the source's size.
            detail: of an edit made on a smaller canvas than its source: "source" carries the source's own detail over
                through the edit's colours (see `detail`), "model" resizes what the model made.
            callback: called as callback(step, total, latents) after each step; a return of False stops the edit.
            dtype: of the result's frames: torch.float32 in [0, 1], or torch.uint8, a quarter of the memory.

        Raises:
            InputError: any of these cannot be used; raised before long work starts.
            CheckpointError: the model gave NaN, infinity or one colour.
            EditInterrupted: the callback returned False.
        """
        settings = self.settings(steps, shift, guidance_scale)
        check_instruction(instruction)
        if dtype not in (torch.float32, torch.uint8):
            raise InputError(f"dtype is {shown(dtype)}; give torch.float32 or torch.uint8.")
        whose = parse_detail(detail)
        loaded = load_source(source)
        references = load_references(reference)
        fit = self.fit(loaded, height, width)
        noise_shape = self.latent_shape(fit)
        noise = initial_noise((1, *noise_shape), seed)
        (result,) = self._run(
            [loaded.pixels],
            [instruction],
            [references],
            loaded.is_video,
            fit,
            noise,
            settings,
            whose,
            callback,
            dtype=dtype,
        )
        return result

    def edit_batch(
        self,
        sources: Sequence[torch.Tensor],
        instructions: Sequence[str],
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        seeds: Sequence[int] | None = None,
        steps: int | None = None,
        shift: float | None = None,
        guidance_scale: float | None = None,
        detail: str = Detail.SOURCE.value,
        context_transform: ContextTransform | None = None,
    ) -> list[EditResult]:
        """Edit several sources of one shape together, as evaluation does; each as `edit` would (up to rounding).

        Args:
            sources: B tensors [T, H, W, 3] in [0, 1] of the same shape.
            instructions: B sentences.
            references: for each of the B, the same number of [H, W, 3] in [0, 1].
            seeds: B seeds; None for 0 each.
            steps, shift, guidance_scale, detail: as `edit`.
            context_transform: applied to the context [B, N, D]; ablations zero or shuffle it with this.
        """
        settings = self.settings(steps, shift, guidance_scale)
        for instruction in instructions:
            check_instruction(instruction)
        is_video = len(sources[0]) > 1
        fit = self.fit(Source(sources[0], is_video=is_video), None, None)
        shape = self.latent_shape(fit)
        noise = torch.cat([initial_noise((1, *shape), seed) for seed in seeds or [0] * len(sources)])
        references = references or [()] * len(sources)
        return self._run(
            sources,
            instructions,
            references,
            is_video,
            fit,
            noise,
            settings,
            parse_detail(detail),
            context_transform=context_transform,
        )

    def fit(self, source: Source, height: int | None, width: int | None) -> Fit:
        """How `source` lies in the model's frames; see `plan_fit`.

        Raises:
            InputError: height or width without the other, or no multiple of the stride; a source that is too narrow.
        """
        if (height is None) != (width is None):
            raise InputError("height and width go together; give both or neither.")
        canvas = None if height is None else (height, width)
        area = self.default_size[0] * self.default_size[1]
        frames, size = len(source.pixels), tuple(source.pixels.shape[1:3])
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
        instructions: Sequence[str],
        sources: Sequence[torch.Tensor],
        references: Sequence[Sequence[torch.Tensor]],
        is_video: bool,
    ) -> Context:
        """What the DiT cross-attends to, tokens [B, N, D]."""
        inputs = self.guidance.prepare(instructions, sources, references, is_video)
        return self.connector(self.guidance(inputs.to(self.device)), inputs.reference_places)

    @torch.no_grad()
    def _run(
        self,
        sources: Sequence[torch.Tensor],
        instructions: Sequence[str],
        references: Sequence[Sequence[torch.Tensor]],
        is_video: bool,
        fit: Fit,
        noise: torch.Tensor,
        settings: Settings,
        detail: Detail,
        callback: StepCallback | None = None,
        context_transform: ContextTransform | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> list[EditResult]:
        fitted = [fit.apply(frames) for frames in sources]
        # the MLLM sees the source's own frames, not the repeated ones at the end
        shown = [fit.cut(frames) for frames in fitted]
        context = self.context(instructions, shown, references, is_video)
        if context_transform is not None:
            context = replace(context, tokens=context_transform(context.tokens))
        source_latents = self.encode(torch.stack(fitted))
        conditions = self.denoiser.conditions(source_latents, self.reference_latents(references, fit))
        without = None
        if settings.guidance_scale != 1.0:
            without = self.context([""] * len(sources), shown, references, is_video)
        latents = sample(
            self.denoiser,
            noise.to(self.device),
            instruction_guidance(settings.guidance_scale, context, without, conditions),
            settings.steps,
            settings.shift,
            callback,
            self.config.sampling.sigma_min,
        )
        results = []
        for index, decoded in enumerate(self.decode(latents)):
            source, small = sources[index].cpu(), fitted[index].cpu()
            check_frames(decoded, small)
            share = self.config.keep_source
            frames = restore_edit(fit, source, small, decoded, share, detail, dtype)
            results.append(EditResult(frames, latents[index : index + 1], context.tokens[index : index + 1]))
        return results

    def reference_latents(self, references: Sequence[Sequence[torch.Tensor]], fit: Fit) -> tuple[torch.Tensor, ...]:
        """References as latent frames of the canvas: for each place in the list, [B, C, 1, h, w]."""
        place = pad_reference if self.config.denoiser.reference_margin is Margin.WHITE else fit_reference
        return tuple(
            self.encode(torch.stack([place(image, fit.canvas)[None] for image in images]))
            for images in zip(*references, strict=True)
        )

    def latent_shape(self, fit: Fit) -> tuple[int, int, int, int]:
        """[C, t, h, w] of one edit."""
        frames = 1 + (fit.padded_frames - 1) // self.codec.temporal_stride
        return (self.codec.channels, frames, *(side // self.codec.stride for side in fit.canvas))

    def settings(self, steps: int | None, shift: float | None, guidance_scale: float | None) -> Settings:
        """Fill in the checkpoint's defaults; out-of-range values raise InputError here, before anything is loaded."""
        own = self.config.sampling
        settings = Settings(
            own.steps if steps is None else steps,
            own.shift if shift is None else shift,
            own.guidance_scale if guidance_scale is None else guidance_scale,
        )
        schedule(settings.steps, settings.shift)
        check_guidance_scale(settings.guidance_scale)
        return settings


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
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(str(path), allow_patterns=list(PATTERNS)))
    except (HFValidationError, *transport_errors()) as error:
        raise CheckpointError(f"{str(path)!r} could not be fetched from the hub: {first_line(error)}") from error
