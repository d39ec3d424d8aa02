"""Cut the sound of a part of a file, to the sample: decoded into memory, or into a separate file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import InputError
from ..main_memory import USABLE, free_main_memory
from .container import clock_start, open_media

if TYPE_CHECKING:
    from av import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

Samples = np.ndarray  # [channels, N]
CHECKED_EVERY = 1 << 26  # bytes
LEAST_GAP = Fraction(1, 20)  # seconds; shorter ones may come from a clock of milliseconds


@dataclass(frozen=True)
class Sound:
    """One track in memory."""

    samples: torch.Tensor  # float32 [channels, N], usually in [-1, 1]
    rate: int  # samples per second


def read_sound(path: Path, start: Fraction = Fraction(0), stop: Fraction | None = None) -> Sound | None:
    """The sound from `start` to `stop` (seconds; None for the end) of the last track that can be decoded.

    ComfyUI takes that track too. None if there is no such track, or no sound in that part. Raises av.FFmpegError if the
    file cannot be opened, InputError if it does not fit into memory.
    """
    with open_media(path) as file:
        track = next((one for one in reversed(file.streams.audio) if one.codec_context is not None), None)
        if track is None:
            return None
        rate = track.codec_context.sample_rate
        pieces, held, checked = [], 0, 0  # the latter two in bytes
        for samples, _ in _cut(file, track, "fltp", start, stop):
            pieces.append(samples)
            held += samples.nbytes
            if held >= checked + CHECKED_EVERY:
                _check_memory(file, held, "is longer")  # the copy in one piece
                checked = held
    return Sound(torch.from_numpy(np.concatenate(pieces, axis=1)), rate) if pieces else None


def cut_sound(path: Path, start: Fraction, stop: Fraction | None, target: Path) -> bool:
    """Write the sound from `start` to `stop` (seconds; None for the end) of every track to `target`, a .mka file.

    Samples become 16-bit PCM. Returns False, and writes no file, if there is no sound. Raises as `read_sound`.
    """
    import av

    with open_media(path) as file:
        tracks = [track.index for track in file.streams.audio if track.codec_context is not None]
    written = False
    with av.open(str(target), "w", format="matroska") as output:
        added = {}
        for index in tracks:
            with open_media(path) as file:
                track = file.streams[index]
                added[index] = output.add_stream("pcm_s16le", rate=track.codec_context.sample_rate)
                added[index].codec_context.layout = track.codec_context.layout.name
                added[index].metadata.update(
                    {name: text for name, text in track.metadata.items() if name == "language"}
                )
        for index in tracks:
            with open_media(path) as file:
                done = 0
                for samples, layout in _cut(file, file.streams[index], "s16p", start, stop):
                    rate = added[index].codec_context.sample_rate
                    packed = np.ascontiguousarray(samples.T).reshape(1, -1)
                    frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
                    frame.sample_rate, frame.pts, frame.time_base = rate, done, Fraction(1, rate)
                    output.mux(added[index].encode(frame))
                    done += samples.shape[1]
                written |= done > 0
                output.mux(added[index].encode(None))
    if not written:
        target.unlink(missing_ok=True)
    return written


def _cut(
    file: InputContainer, track: AudioStream, kind: str, start: Fraction, stop: Fraction | None
) -> Iterator[tuple[Samples, str]]:
    """Samples in a planar format, each piece with the name of its layout.

    Silence fills the gaps of a track, and the time from `start` to its beginning.
    """
    rate = track.codec_context.sample_rate
    left = None if stop is None else max(0, round((stop - start) * rate))
    offset, begun, due = clock_start(file), False, Fraction(0)
    for frame in _decoded(file, track, kind):
        samples = frame.to_ndarray()
        at = due if frame.pts is None else frame.pts * frame.time_base - offset
        gap = at - due if begun else Fraction(0)
        if begun and gap <= LEAST_GAP:
            at = due  # short gaps add up until they are filled
        due = at + Fraction(samples.shape[1], rate)
        pause = round(gap * rate) if gap > LEAST_GAP else 0  # samples of silence before these
        if not begun:
            skipped = round((start - at) * rate)
            if skipped >= samples.shape[1]:
                continue
            begun = True
            pause, samples = max(0, -skipped), samples[:, max(0, skipped) :]
        if pause:
            pause = pause if left is None else min(pause, left)
            said = f"pauses for {pause / rate:.0f} s, more"
            _check_memory(file, 2 * pause * len(samples) * samples.itemsize, said)  # the silence, and a copy of it
            samples = np.pad(samples, ((0, 0), (pause, 0)))
        if left is not None:
            samples = samples[:, :left]
            left -= samples.shape[1]
        if samples.shape[1]:
            yield samples, frame.layout.name
        if left == 0:
            return


def _check_memory(file: InputContainer, needed: int, said: str) -> None:
    """Raise InputError if `needed` bytes do not fit into memory."""
    free = free_main_memory()
    if free is not None and needed > USABLE * free:
        name = file.name.removeprefix("file:")
        raise InputError(f"{name}: its sound {said} than fits into memory; cut it, or give the video without sound.")


def _decoded(file: InputContainer, track: AudioStream, kind: str) -> Iterator[AudioFrame]:
    """All decodable frames of a track, resampled to its own layout and rate; a damaged packet leaves a gap."""
    import av

    layout, rate = track.codec_context.layout.name, track.codec_context.sample_rate
    resampler, form = None, None
    packets = file.demux(track)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:  # the file breaks off
            packet = None
        if packet is None:
            if resampler is not None:
                yield from resampler.resample(None)
            return
        with suppress(av.error.InvalidDataError):
            for frame in packet.decode():
                now = (frame.format.name, frame.layout.name, frame.sample_rate)
                if now != form:  # such as a broadcast going from stereo to 5.1
                    if resampler is not None:
                        yield from resampler.resample(None)
                    form, resampler = now, av.AudioResampler(format=kind, layout=layout, rate=rate)
                yield from resampler.resample(frame)
