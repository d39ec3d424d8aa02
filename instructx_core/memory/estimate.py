"""What an edit computes with, in bytes, from a model's sizes alone: before anything is loaded or run.

Counted are the tensors that diffusers' and transformers' own code holds at its fullest moment, read off line by line:
what a function still has a name for lives on. Not counted is what a convolution or an attention kernel takes for itself
for an instant (next to nothing with flash attention), nor the allocator's gaps; the plan keeps a reserve for these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from ..config import DenoiserConfig, SourceInjection
from .sizes import DiTSizes, MLLMSizes, ModelSizes, VAESizes
from .vae_estimate import decoding_bytes, encoding_bytes

FULL_PRECISION = 4  # bytes of a float32
TILE = 256  # pixels of a tile's side in diffusers' tiled VAE
WORDS = 64  # tokens of the chat form and an instruction
PATCH_VALUES = 3 * 2 * 14 * 14  # of the MLLM's vision tower
MERGED = 4  # of its patches fill one place of the sequence


class Part(str, Enum):
    """The parts of a model that need not be on the device at the same time."""

    MLLM = "mllm"
    DIT = "dit"
    VAE = "vae"


@dataclass(frozen=True)
class Job:
    """What is to be edited, in the model's own frames, without references."""

    width: int  # pixels
    height: int
    frames: int
    guided: bool = False  # classifier-free guidance: two forwards side by side

    @property
    def values(self) -> int:
        """Numbers of the clip."""
        return 3 * self.frames * self.height * self.width


@dataclass(frozen=True)
class Phase:
    """A stretch of an edit in which one part of the model works."""

    name: str
    part: Part
    working: int  # bytes beside all weights, at most


def estimate(sizes: ModelSizes, job: Job, tiled: bool = False) -> tuple[Phase, ...]:
    """The phases of an edit in their order, and what each computes with.

    Args:
        tiled: the VAE works on tiles of 256 pixels.
    """
    return (
        Phase("MLLM reads", Part.MLLM, mllm_working(sizes, job)),
        Phase("VAE encodes", Part.VAE, encoding_working(sizes.vae, job, tiled)),
        Phase("DiT step", Part.DIT, _steps(sizes, job)),
        Phase("VAE decodes", Part.VAE, decoding_working(sizes.vae, job, tiled)),
    )


def mllm_working(sizes: ModelSizes, job: Job) -> int:
    """Bytes of the MLLM's activations: the vision tower's rotation or MLP, or the language model's MLP."""
    patches, queries = _seen(sizes, job)
    tokens = patches // MERGED + queries + WORDS
    lora = sizes.config.guidance.lora_rank > 0
    return max(_vision_bytes(sizes.mllm, patches), _language_bytes(sizes.mllm, tokens, lora))


def dit_working(dit: DiTSizes, vae: VAESizes, job: Job, source_copies: int = 0) -> int:
    """Bytes of a DiT forward: `WanTransformerBlock` in its feed-forward, or in the sum in float32 behind it.

    `source_copies`: how often the source is there as tokens of the DiT's width.
    """
    tokens = dit_tokens(dit, vae, job)
    feed_forward = 4 * dit.width * dit.item + 2 * dit.ffn * dit.item
    casts = 3 if dit.item < FULL_PRECISION else 2  # a float32 turned into float32 is no copy
    sum_behind = 5 * dit.width * dit.item + casts * dit.width * FULL_PRECISION
    rotation = 2 * dit.head * FULL_PRECISION  # the same for both halves of a guided batch
    source = source_copies * dit.width * dit.item
    return tokens * ((1 + job.guided) * (max(feed_forward, sum_behind) + source) + rotation)


def kept_working(dit: DiTSizes, queries: int, guided: bool) -> int:
    """Bytes of what a run keeps (`speed.remembering`): the context's embedding, its keys and values in each block."""
    return (1 + guided) * queries * dit.width * dit.item * (2 * dit.layers + 1)


def dit_tokens(dit: DiTSizes, vae: VAESizes, job: Job) -> int:
    """Places of the DiT's sequence."""
    frames = 1 + (job.frames - 1) // vae.temporal_stride
    sides = (frames, job.height // vae.stride, job.width // vae.stride)
    return math.prod(math.ceil(side / patch) for side, patch in zip(sides, dit.patch, strict=True))


def encoding_working(vae: VAESizes, job: Job, tiled: bool = False) -> int:
    """Bytes of encoding: the clip as it came and as the VAE takes it, and the encoder's own tensors."""
    clip = job.values * (FULL_PRECISION + vae.item * (1 + (vae.patch > 1)))
    return clip + encoding_bytes(vae, *_tile(job, tiled), job.frames)


def decoding_working(vae: VAESizes, job: Job, tiled: bool = False) -> int:
    """Bytes of decoding: the frames so far, twice while one is added, or all of them being made pixels in [0, 1]."""
    growing = 2 * job.values * vae.item + decoding_bytes(vae, *_tile(job, tiled), job.frames)
    leaving = job.values * (vae.item + 2 * FULL_PRECISION)
    return max(growing, leaving)


def _steps(sizes: ModelSizes, job: Job) -> int:
    forward = dit_working(sizes.dit, sizes.vae, job, _source_copies(sizes.config.denoiser))
    return forward + kept_working(sizes.dit, _queries(sizes, job), job.guided)


def _source_copies(config: DenoiserConfig) -> int:
    """An embedded source is kept for all steps, and where it fades once more for this one."""
    return (1 + config.source_fades) * (config.source is SourceInjection.EMBEDDING)


def _tile(job: Job, tiled: bool) -> tuple[int, int]:
    """Width and height of what the VAE works on at a time."""
    return (min(job.width, TILE), min(job.height, TILE)) if tiled else (job.width, job.height)


def _seen(sizes: ModelSizes, job: Job) -> tuple[int, int]:
    """Patches of the source in the MLLM's vision tower, and how many queries follow."""
    from ..guidance.vision import PATCH, TEMPORAL, smart_resize

    guidance, is_video = sizes.config.guidance, job.frames > 1
    limit = (is_video and guidance.video_max_pixels) or guidance.max_pixels
    height, width = smart_resize(job.height, job.width, guidance.min_pixels, limit)
    shown = min(job.frames, guidance.video_frames) if is_video else 1
    patches = math.ceil(shown / TEMPORAL) * (height // PATCH) * (width // PATCH)
    return patches, _queries(sizes, job)


def _queries(sizes: ModelSizes, job: Job) -> int:
    guidance = sizes.config.guidance
    return guidance.video_queries if job.frames > 1 else guidance.image_queries


def _vision_bytes(mllm: MLLMSizes, patches: int) -> int:
    """Bytes in the vision tower: its rotation is in float32, its MLP in the weights' type."""
    rotation = 6 * mllm.vision_hidden * mllm.item + 5 * mllm.vision_hidden * FULL_PRECISION
    feed_forward = 3 * mllm.vision_hidden * mllm.item + 3 * mllm.vision_intermediate * mllm.item
    return patches * (max(rotation, feed_forward) + PATCH_VALUES * FULL_PRECISION)


def _language_bytes(mllm: MLLMSizes, tokens: int, lora: bool) -> int:
    """Bytes in the language model's MLP: gate, its activation, the other half, LoRA's share of it, and the stream."""
    return tokens * mllm.item * (4 * mllm.hidden + (5 if lora else 3) * mllm.intermediate)
