"""Measure the activation memory of an edit's phases by running the model's own classes on the meta device.

There a forward allocates as usual but computes nothing, so any size takes about a second. All tensors that are alive
at the same time count, inputs included. The workspace of convolution and attention kernels and gaps in the allocator
are not counted; the plan keeps a reserve for them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..backbone import Backbone
from ..config import ModelConfig
from ..context import PARTS, Context, LocalEdits, joined_contexts
from ..guidance.guidance import Guidance
from ..guidance_modes import formula_of, mode_of
from ..latents import Codec
from ..weights.packed_linear import packed_layers
from ..weights.parts import Part
from .live import META, FlashAttention, LiveMemory
from .phases import Job, Phase

if TYPE_CHECKING:
    from ..families.components import Components

FULL_PRECISION = 4  # bytes of a float32
TILE = 256  # side of a tile in pixels, in diffusers' tiled VAE
OVERLAP = (256 / 192) ** 2  # tiles overlap, so all together have this many times the clip's pixels
STEADY = 9  # frames; beyond these, a longer clip adds only its own bytes

_known: dict[tuple[Any, ...], int] = {}


def measure_phases(model: Components, job: Job, tiled: bool = False) -> tuple[Phase, ...]:
    """The phases of an edit in order, with their working memory. Cached by the model's configs.

    Args:
        model: on the meta device (see `families.meta_model`), in the dtype that it would be loaded in.
        tiled: the VAE works on tiles of 256 pixels.
    """
    identity = _identity(model)

    def phase(name: str, part: Part, count: Callable[[], int]) -> Phase:
        key = (identity, name, job, tiled and part is Part.VAE)
        if key not in _known:
            _known[key] = count()
        return Phase(name, part, _known[key])

    names = {Part.DIT: "DiT step", Part.DIT_2: "DiT 2 step"}
    return (
        phase("MLLM reads", Part.MLLM, lambda: reading_bytes(model.guidance, job)),
        phase("VAE encodes", Part.VAE, lambda: encoding_bytes(model.codec, job, tiled)),
        *(
            phase(name, part, partial(step_bytes, model, job, half))
            for (part, name), half in zip(names.items(), model.denoiser.halves, strict=False)
        ),
        phase("VAE decodes", Part.VAE, lambda: decoding_bytes(model.codec, job, tiled)),
    )


@torch.no_grad()
def reading_bytes(guidance: Guidance, job: Job) -> int:
    """Peak bytes of the guidance model while it reads a source with one instruction, or several side by side."""
    with _shortened(guidance), LiveMemory(guidance) as live, FlashAttention():
        guidance.rehearse(job.frames, job.height, job.width, max(1, job.places))
    return live.peak


@torch.no_grad()
def step_bytes(model: Components, job: Job, half: Backbone | None = None) -> int:
    """Peak bytes of a denoiser's step: of the second one, when everything that steps share is cached.

    If all blocks are alike, runs with two and with three blocks are measured, and each additional block is assumed to
    add as much as the third.

    Args:
        model: without weights, as `outline` makes it.
        half: one of the denoiser's halves; None for the first.
    """
    codec, denoiser = model.codec, half or model.denoiser.halves[0]
    denoiser.transformer.to(META)  # buffers included: rotary frequencies of a long clip take gigabytes
    forwards = _forwards(model.config, job)
    size = (codec.channels, 1 + (job.frames - 1) // codec.temporal_stride)
    size += (job.height // codec.stride, job.width // codec.stride)
    with _shortened(model.guidance), LiveMemory(), FlashAttention():
        read = model.connector(model.guidance.rehearse(job.frames, job.height, job.width)).to(denoiser.dtype)

    def count() -> int:
        with _unpacked(denoiser), LiveMemory(denoiser) as live, FlashAttention():
            source = torch.empty(1, *size, device=META)  # shared by all terms
            sigma, run = torch.tensor(0.5, device=META), []
            for place, (terms, with_source) in enumerate(forwards):
                context = joined_contexts([_anew(read, job.places)] * terms)
                conditions = denoiser.conditions(source if with_source else None)
                run.append((torch.empty(terms, *size, device=META), context, conditions, denoiser.constants(place)))
            for _ in range(2):
                velocities = []  # those of all forwards are alive until they are summed
                for latents, context, conditions, constants in run:
                    with constants():
                        velocities.append(denoiser(latents, sigma, context, conditions))
        return live.peak

    def count_first(blocks: int) -> int:
        with _first(denoiser.transformer, denoiser.repeated, blocks):
            return count()

    blocks = len(getattr(denoiser.transformer, denoiser.repeated)) if denoiser.repeated else 0
    if blocks <= 2:
        return count()
    two, three = count_first(2), count_first(3)
    return two + (blocks - 2) * (three - two)


@torch.no_grad()
def encoding_bytes(codec: Codec, job: Job, tiled: bool = False) -> int:
    """Peak bytes of encoding: the clip as given and as the VAE takes it, and the encoder's own tensors."""
    height, width = (min(side, TILE * _patch(codec)) if tiled else side for side in (job.height, job.width))
    frames = _steady(codec, job)
    with _plain_convolutions(codec), LiveMemory(codec) as live, FlashAttention():
        codec.encode(torch.empty(1, frames, height, width, 3, device=META))
    item = codec.vae.dtype.itemsize
    return live.peak + _beyond(job, frames, height, width) * (FULL_PRECISION + item * (1 + (_patch(codec) > 1)))


@torch.no_grad()
def decoding_bytes(codec: Codec, job: Job, tiled: bool = False) -> int:
    """Peak bytes of decoding: the decoder's own tensors and the frames so far, or the conversion to pixels."""
    height, width = (min(side, TILE) if tiled else side for side in (job.height, job.width))
    frames, item = _steady(codec, job), codec.vae.dtype.itemsize
    latent = 1 + (frames - 1) // codec.temporal_stride
    with _plain_convolutions(codec), LiveMemory(codec) as live, FlashAttention():
        codec.decode(torch.empty(1, codec.channels, latent, height // codec.stride, width // codec.stride, device=META))
    leaving = job.values * (item + 2 * FULL_PRECISION)
    if not tiled:
        return max(live.peak + _beyond(job, frames, height, width) * item, leaving)
    held = int(OVERLAP * job.values * item)  # all tiles, before they are joined
    return max(live.peak + held, held + 3 * job.values * item, leaving)


def _steady(codec: Codec, job: Job) -> int:
    """Number of frames to measure with: the clip's, rounded up, but at most STEADY."""
    return min(1 + math.ceil((job.frames - 1) / codec.frame_multiple) * codec.frame_multiple, STEADY)


def _beyond(job: Job, frames: int, height: int, width: int) -> int:
    """How many more values the clip has than the measured one."""
    return max(0, job.values - 3 * frames * height * width)


def _patch(codec: Codec) -> int:
    """Side in pixels of the patches that the VAE folds into channels before encoding and unfolds after decoding."""
    return codec.vae.config.get("patch_size") or 1


def _anew(read: Context, places: int) -> Context:
    """A new context of the same shapes, so that it is counted, with local edits for `places` instructions."""
    parts = {name: getattr(read, name) for name in PARTS}
    own = replace(read, **{name: None if part is None else torch.empty_like(part) for name, part in parts.items()})
    if not places:
        return own
    local = torch.empty(len(read.tokens), places, *read.tokens.shape[1:], dtype=read.tokens.dtype, device=META)
    return replace(own, local=LocalEdits(local, torch.empty(len(local), places, 2, 8, 8, device=META)))


def _forwards(config: ModelConfig, job: Job) -> list[tuple[int, bool]]:
    """For each forward of a step: the number of terms, and whether it sees the source. References are ignored."""
    mode = mode_of(config.sampling.guidance_mode, job.frames > 1, False)
    parts = formula_of(mode, replace(config.sampling, guidance_scale=2.0 if job.guided else 1.0)).parts
    sources = [part.source for part in parts]
    return [(sources.count(seen), seen) for seen in dict.fromkeys(sources)]


@contextmanager
def _shortened(guidance: Guidance) -> Iterator[None]:
    """Reduce an MLLM's language model to two layers, since the others take no more; a text encoder is unchanged."""
    language = getattr(getattr(guidance.mllm, "model", None), "language_model", None)
    with _first(language, "layers", 2) if language is not None else nullcontext():
        yield


@contextmanager
def _first(model: nn.Module, name: str, count: int) -> Iterator[None]:
    """Keep only the first `count` of the layers that a model has under `name`."""
    layers = getattr(model, name)
    setattr(model, name, nn.ModuleList(list(layers)[:count]))
    try:
        yield
    finally:
        setattr(model, name, layers)


@contextmanager
def _plain_convolutions(codec: Codec) -> Iterator[None]:
    """Disable `skip_empty_taps`, which reads weights that the meta device does not have."""
    own = {module: vars(module).pop("forward") for module in codec.vae.modules() if "forward" in vars(module)}
    try:
        yield
    finally:
        for module, forward in own.items():
            module.forward = forward


def _identity(model: Components) -> tuple[str, ...]:
    """A key that differs if activations may: configs, dtypes, and bytes of weights packed into fewer bits."""
    mllm, vae, halves = model.guidance.mllm, model.codec.vae, model.denoiser.halves
    transformer = halves[0].transformer
    formats = (mllm.get_input_embeddings().weight, next(vae.parameters()))
    configs = (json.dumps(dict(part.config), sort_keys=True, default=str) for part in (transformer, vae))
    packed = (
        sum(tensor.nbytes for layer in packed_layers(part).values() for tensor in layer.as_stored())
        for part in (mllm, *(half.transformer for half in halves))
    )
    return (model.config.to_json(), mllm.config.to_json_string(), *configs, *(str(one.dtype) for one in formats),
            *(str(half.dtype) for half in halves), *map(str, packed))  # fmt: skip


@contextmanager
def _unpacked(denoiser: Backbone) -> Iterator[None]:
    """Replace weights packed into fewer bits by full-size ones, since each is unpacked when its layer runs.

    Subclasses of nn.Linear unpack theirs themselves.
    """
    linear = [module for module in denoiser.transformer.modules() if type(module) is nn.Linear]
    packed = {module: module.weight for module in linear if not module.weight.is_floating_point()}
    for module in packed:
        weight = torch.empty(module.out_features, module.in_features, dtype=denoiser.dtype, device=META)
        module.weight = nn.Parameter(weight, requires_grad=False)
    try:
        yield
    finally:
        for module, weight in packed.items():
            module.weight = weight
