"""The main entry point: an instruction and a picture or clip in, the edited frames out.

pixels + instruction -> guidance -> connector -> context; pixels -> VAE -> latents;
both -> denoiser -> sampling -> VAE -> pixels
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from . import families
from .atomic import bring_back
from .bounded import is_dir, is_file
from .config import Detail
from .detail import parse_detail
from .device import pick_device
from .errors import CheckpointError, InputError
from .families.bundled import located
from .families.instructx.folder import BUNDLED, save_checkpoint
from .families.loading import load_model
from .families.networks import network_kind
from .families.opened import Opened
from .families.overrides import Overrides
from .loaded_model import LoadedModel
from .memory.choice import parse_memory
from .memory.decide import decide
from .memory.formats import check_fp8, has_8_bit_floats, pick_dtype
from .memory.placement import place, store_in_fp8
from .paths import as_path
from .request import EditRequest, as_request
from .requested_edit import ContextTransform, EditResult, RequestedEdit
from .sampling import StepCallback
from .source import Source, load_source
from .speed.options import cache_settings, check_speed, speed_up
from .weights.hub import fetch_into_cache
from .weights.loras import check_lora, load_lora
from .weights.parts import Part
from .words import quoted_path, shown

HALVES = ("high", "low")  # of a pair of DiTs, by the noise level of each
Lora = tuple[str | Path, float] | tuple[str | Path, float, str | None]  # file, strength, half


class Editor(LoadedModel):
    """A loaded model. Create one with `Editor.from_pretrained` and call `edit` as often as you like."""

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
        loras: Sequence[Lora] = (),
        memory: str = "auto",
        fp8: bool = False,
        attention: str = "sdpa",
        compile: bool = False,
        cache: str | None = None,
        transformer_2: str | Path | None = None,
    ) -> Editor:
        """Load a model.

        Args:
            path: a model folder, this library's or Kiwi-Edit's as published; a single `instructx.safetensors` or
                Kiwi-Edit training checkpoint; a bundled model's name, "instructx-tiny" (None) or "insightedit-tiny"; a
                hub id ("owner/name") only with `download`.
            device: None for the machine's accelerator if there is one, else the CPU.
            dtype: of the weights: "float32", "bfloat16", "float16", or "auto" (None): bfloat16, but on a CPU float32
                if it fits in main memory.
            download: allow fetching a hub id into the hub client's cache. Complete files are kept: an interrupted
                download resumes with the file it stopped in. Nothing is ever fetched without this.
            transformer, vae, mllm: base weights that replace the model's own or supply missing ones: a folder or a file
                each, in any of the forms in docs/weights.md. A `transformer` that is a pipeline folder with two DiTs
                supplies both.
            loras: LoRA files for the DiT with their strengths: 1 as trained, negative for the opposite; merged into the
                weights one after the other, as ComfyUI would, see `weights.loras`. With a pair of DiTs, into both, or
                into the one that a third value names, "high" or "low".
            memory: where weights are kept while not needed: "full" (on the device), "model", "group", "sequential"
                (from fast and large to slow and small, see `Memory`), or "auto": the first of these with which an edit
                of the trained size fits into the GPU's free memory. On a CPU "model" releases the memory of idle parts,
                and "auto" chooses it for models of more than a GiB.
            fp8: keep the DiT's weights in 8-bit floats: half the memory, less exact.
            attention: of the DiT: "sdpa" (PyTorch's), "flash" or "sage", if these packages are installed.
            compile: compile the DiT's block with torch.compile, at the first step of each new size.
            cache: reuse outputs of earlier steps where they hardly change: "first-block", "taylor", or "mag", which
                requires a calibrated model folder (`calibration.calibrate`); less exact.
            transformer_2: of a pair of DiTs (Wan2.2-A14B), the one for low noise; turns a model with one DiT into a
                pair.

        Raises:
            CheckpointError: no model there, a damaged one, base weights that it was not trained on, a file that is not
                a LoRA for this DiT, or a LoRA for GGUF weights.
            InputError: a device that this machine does not have, an option that does not exist or cannot work here, or
                a model that does not fit into main memory.
        """
        device, wanted, asked = pick_device(device), pick_dtype(dtype), parse_memory(memory)
        check_speed(attention, compile, cache, device)
        check_fp8(fp8, device)
        parts = {"transformer": transformer, "vae": vae, "mllm": mllm, "transformer_2": transformer_2}
        overrides = Overrides(*(None if given is None else as_path(given, name) for name, given in parts.items()))
        merged = _checked(loras)
        model = _find_model(path, download)
        reuse = cache_settings(cache, model)
        opened = families.open(model, overrides)
        _check_halves(opened, merged, cache)
        if not network_kind(opened.config).takes_extras and (merged or compile or cache or attention != "sdpa"):
            raise InputError(
                f"{quoted_path(model)} has no Wan DiT, and LoRA files, attention, compile and cache work only with "
                "one; leave them out."
            )
        for file, strength, _ in merged:  # before loading the model, which takes minutes
            check_lora(file, strength)
        decision = decide(opened, device, wanted, asked, merged=bool(merged), fp8=fp8)
        components = load_model(
            opened, "cpu", decision.dtype, packed=has_8_bit_floats(device), dit_changes=bool(merged) or fp8
        )
        halves = components.denoiser.halves
        for file, strength, half in merged:
            for own in halves if half is None else [halves[HALVES.index(half)]]:
                load_lora(own.transformer, file, strength)
        if fp8:
            store_in_fp8(components)
        place(components, decision.plan, device)
        if network_kind(opened.config).takes_extras:
            for half in halves:
                speed_up(half.transformer, attention, compile, reuse)
        editor = cls(components, device)
        editor.shortcuts = {
            name: value for name, value in (("attention", attention), ("cache", cache)) if value not in ("sdpa", None)
        }
        return editor

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
        """Edit an image or a video from an instruction.

        Args:
            source: a path, a PIL image, or an array or tensor [T, H, W, 3] or [H, W, 3], uint8 or float in [0, 1].
                Arrays of one frame are images; a video file is a video however short it is.
            request: the request, or its parts as `EditRequest.of` takes them:
                `edit("in.png", "make it blue", reference="ref.png", steps=4)`. For a model with a mask head
                (`config.masks`) also a list of instructions for a clip; the result then has their masks.
            detail, callback, dtype: as in `edit_loaded`.

        Raises:
            InputError: any of these cannot be used; raised before long work starts.
            CheckpointError: the model gave NaN, infinity or a single colour.
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
        """`edit` for a source that is already in memory.

        Args:
            detail: if the canvas is smaller than the source: "source" transfers the source's detail in the edit's
                colours (see `detail`), "model" resizes the model's output.
            callback: called as callback(step, total, latents) after each step; returning False stops the edit.
            dtype: of the result's frames: torch.float32 in [0, 1], or torch.uint8, a quarter of the memory.
        """
        if dtype not in (torch.float32, torch.uint8):
            raise InputError(f"dtype is {shown(dtype)}; give torch.float32 or torch.uint8.")
        model = RequestedEdit(self, [request], source.is_video)
        return model.edit([source.pixels], parse_detail(detail), callback, dtype)[0]

    def edit_batch(
        self,
        sources: Sequence[Any],
        instructions: Sequence[EditRequest] | Sequence[str],
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        seeds: Sequence[int] | None = None,
        detail: str = Detail.SOURCE.value,
        context_transform: ContextTransform | None = None,
        **sampling: Any,
    ) -> list[EditResult]:
        """Edit several sources of one shape as a batch, as evaluation does; equal to `edit` on each up to rounding.

        Args:
            sources: B sources as for `edit`, of the same size and length.
            instructions: B requests; or B sentences, with the rest in `references`, `seeds` and `sampling`.
            references: for each of the B, the same number of [H, W, 3] in [0, 1].
            seeds: B seeds; None for 0 each.
            detail: as in `edit_loaded`.
            context_transform: applied to each tensor of the context [B, ...]; ablations use it to zero or shuffle them.
            sampling: other arguments of `EditRequest.of`, such as steps, shift and guidance_scale.

        Raises:
            InputError: as `edit`; no sources, sources that differ in size or kind, or arguments that differ in number.
        """
        counts = {"instructions": instructions, "references": references, "seeds": seeds}
        if wrong := [name for name, one in counts.items() if one is not None and len(one) != len(sources)]:
            found = len(counts[wrong[0]])
            raise InputError(f"There are {len(sources)} sources but {found} {wrong[0]}; give one for each source.")
        loaded = [load_source(source, f"source {number}") for number, source in enumerate(sources, start=1)]
        pixels = [source.pixels for source in loaded]
        if not pixels:
            raise InputError("A batch without sources; give at least one.")
        if len({frames.shape for frames in pixels}) > 1:
            raise InputError("The sources of a batch differ in size or length; edit them in separate batches.")
        if len({source.is_video for source in loaded}) != 1:
            raise InputError("The sources of a batch are both images and videos; give sources of one kind.")
        each = {name: one for name, one in (("reference", references), ("seed", seeds)) if one is not None}
        requests = [
            as_request(asked, **{name: one[index] for name, one in each.items()}, **sampling)
            for index, asked in enumerate(instructions)
        ]
        model = RequestedEdit(self, requests, loaded[0].is_video, context_transform)
        return model.edit(pixels, parse_detail(detail))


def _checked(loras: Any) -> list[tuple[Path, float, str | None]]:
    """Check `loras`: (file, strength, half of a pair of DiTs or None) each. Raises InputError for anything else."""
    given = list(loras) if isinstance(loras, (list, tuple)) else [loras]
    for one in given:
        if not isinstance(one, (list, tuple)) or len(one) not in (2, 3) or (*one, None)[2] not in (None, *HALVES):
            raise InputError(
                f"loras contains {shown(one)}; give pairs (path, strength), or (path, strength, "
                '"high" or "low") for one of a pair of DiTs.'
            )
    named = ((*one, None)[:3] for one in given)
    return [(as_path(file, "A LoRA"), strength, half) for file, strength, half in named]


def _check_halves(opened: Opened, loras: Sequence[tuple[Path, float, str | None]], cache: str | None) -> None:
    """Raise InputError for options that a pair of DiTs does not support, or that only a pair does."""
    is_pair = Part.DIT_2 in opened.parts
    for file, _, half in loras:
        if half is not None and not is_pair:
            raise InputError(
                f"{quoted_path(file)} is for the {half}-noise DiT, but {quoted_path(opened.path)} has only one DiT; "
                f"leave out {half!r}."
            )
    if is_pair and cache == "mag":
        raise InputError(
            f"cache 'mag' works with one DiT, but {quoted_path(opened.path)} has a pair; choose first-block or taylor."
        )


def _find_model(path: str | Path | None, download: bool) -> Path:
    if path is None:
        return BUNDLED
    folder = located(as_path(path, "The model"))
    bring_back(folder)
    if is_file(folder) or is_dir(folder):
        return folder
    if not download:
        raise CheckpointError(f"There is no model folder {quoted_path(path)}; to fetch a hub id, pass download=True.")
    return fetch_into_cache(str(path))
