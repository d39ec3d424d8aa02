"""What diffusers' `AutoencoderKLWan` computes with, stage by stage, in bytes.

It works through a clip in chunks, and every causal convolution remembers the last two frames that it saw. The fullest
moment is nearly always a norm or an upsampling at the pixels' end, which 16-bit models compute in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from .sizes import VAESizes

FULL_PRECISION = 4  # bytes of a float32
CACHED = 2  # frames that a causal convolution remembers
CHUNK = 4  # frames that are encoded at a time


@dataclass(frozen=True)
class Stage:
    """A run of residual blocks at one resolution; counts are of one chunk of frames."""

    entering: int  # channels
    channels: int
    places: int  # positions of one frame
    frames: int
    cached: int  # frames that a convolution remembers
    blocks: int
    held: int = 0  # tensors of what entered that live until the stage is through
    attends: bool = False
    grown: int = 0  # positions of all frames behind the blocks' upsampling; 0: there is none


def encoding_bytes(vae: VAESizes, width: int, height: int, frames: int) -> int:
    """Bytes of the encoder's own tensors, at most, for a clip of this size."""
    return _busiest(vae, list(_encoder(vae, width * height // vae.patch**2, frames)))


def decoding_bytes(vae: VAESizes, width: int, height: int, frames: int) -> int:
    """Bytes of the decoder's own tensors, at most, for a clip of this size."""
    return _busiest(vae, list(_decoder(vae, width * height // vae.stride**2, frames)))


def _encoder(vae: VAESizes, places: int, frames: int) -> Iterator[Stage]:
    chunk, cached, entering = min(frames, CHUNK), min(frames, CACHED), vae.encoder[0]
    for index, channels in enumerate(vae.encoder):
        yield Stage(entering, channels, places, chunk, cached, vae.res_blocks, held=2 * vae.residual)
        entering = channels
        if index < len(vae.halves_time):
            places //= 4
            chunk = max(1, chunk // 2) if vae.halves_time[index] else chunk
    yield Stage(entering, entering, places, chunk, cached, blocks=2, attends=True)


def _decoder(vae: VAESizes, places: int, frames: int) -> Iterator[Stage]:
    chunk, cached, widths = 1, min(frames, CACHED), vae.decoder[::-1]
    yield Stage(widths[0], widths[0], places, chunk, cached, blocks=2, attends=True)
    for index, (before, channels) in enumerate(pairwise((widths[0], *widths))):
        entering = before if vae.residual or index == 0 else before // 2
        stage = Stage(entering, channels, places, chunk, cached, vae.res_blocks + 1, held=1 + vae.residual)
        if index < len(vae.halves_time):
            places *= 4
            chunk *= 2 if vae.halves_time[::-1][index] and frames > 1 else 1
            stage = replace(stage, grown=places * chunk)
        yield stage


def _busiest(vae: VAESizes, stages: list[Stage]) -> int:
    """The fullest moment of any stage, and what is remembered then: from the second chunk on, everything."""
    remembered = list(accumulate(map(_remembered, stages)))
    if stages[0].cached > 1:
        remembered = [remembered[-1]] * len(stages)
    return max(_fullest(vae, stage) + before for stage, before in zip(stages, remembered, strict=True)) * vae.item


def _remembered(stage: Stage) -> int:
    """Numbers that the convolutions of a stage remember: two in each block, the first of what enters."""
    channels = stage.entering + (2 * stage.blocks - 1) * stage.channels
    return channels * stage.places * stage.cached


def _fullest(vae: VAESizes, stage: Stage) -> int:
    """Numbers at the fullest moment of a stage."""
    cast = 0 if vae.item == FULL_PRECISION else FULL_PRECISION // vae.item  # what a float32 copy counts as
    size = stage.places * stage.frames
    norm = size * (2 * cast or 3)  # in 16 bits input and quotient as float32; in float32 three of its own
    joined = stage.places * (stage.frames + stage.cached)  # with what is remembered; then once more, padded
    convolution = 3 * size if stage.cached == 1 else stage.places * stage.cached + 2 * joined
    held = stage.held * stage.entering * size
    shortcut = stage.channels * size if stage.entering != stage.channels else 0
    moments = [
        held + shortcut + stage.entering * ((not stage.held) * size + max(norm, size + convolution)),
        held + stage.channels * (2 * size + max(norm, convolution)),
    ]
    if stage.attends:  # input, its norm, query, key and value, and these once more in another order
        moments.append(stage.channels * size * 9)
    if stage.grown:
        moments.append(held + stage.channels * (stage.grown // 4 + stage.grown) * (1 + cast))
        if vae.residual:  # what was upsampled, and the stage's shortcut: repeated, in order, and the sum
            moments.append(held + 4 * stage.channels * stage.grown)
    return max(moments)
