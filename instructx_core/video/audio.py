"""The sound of a video: every audio track goes over into the edited file, packet by packet beside its pictures."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from .container import clock_start, open_media

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.stream import Stream

logger = logging.getLogger(__name__)

_USUAL_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}


class AudioTracks:
    """Carries the audio tracks of a file into a container that is being written.

    A track is copied bit by bit where the container takes its codec and encoded anew where it does not. Packets
    are handed over up to the time of the pictures, so that the file is interleaved and nothing piles up in memory.
    A track that cannot be read at all is left out with a warning.
    """

    def __init__(self, path: Path, output: OutputContainer, encoder: str) -> None:
        """path: the file with the sound; encoder: FFmpeg's encoder for tracks that cannot be copied.

        Must be called before the first packet of `output`. Raises av.FFmpegError when `path` cannot be opened.
        """
        self._path = path
        self._output = output
        self._input = open_media(path)
        self._start = clock_start(self._input)
        self._copied: dict[int, Stream] = {}
        self._encoded: dict[int, AudioStream] = {}
        for track in self._input.streams.audio:
            self._add(track, encoder)
        tracks = [self._input.streams[index] for index in (*self._copied, *self._encoded)]
        self._packets = self._read(tracks) if tracks else iter(())
        self._waiting = next(self._packets, None)

    def advance(self, seconds: Fraction) -> None:
        """Write all packets that begin before `seconds`."""
        while self._waiting is not None and self._time(self._waiting) < seconds:
            self._write(self._waiting)
            self._waiting = next(self._packets, None)

    def finish(self) -> None:
        """Write what is left, to the end of the sound."""
        while self._waiting is not None:
            self._write(self._waiting)
            self._waiting = next(self._packets, None)
        for encoder in self._encoded.values():
            self._output.mux(encoder.encode(None))

    def close(self) -> None:
        """Close the file with the sound."""
        self._input.close()

    def _add(self, track: AudioStream, encoder: str) -> None:
        """Set up a track of the output for `track`: a copy, else a new encoding."""
        if track.codec_context is None:  # no decoder in this FFmpeg, so neither way is open
            logger.warning("%s: audio track %d has an unknown codec and is left out.", self._path, track.index)
            return
        if _can_copy(track, self._output.format.name):
            added: Stream = self._output.add_stream_from_template(track)
            self._copied[track.index] = added
        else:
            added = _add_encoder(self._output, encoder, track)
            self._encoded[track.index] = added
        added.metadata.update({key: text for key, text in track.metadata.items() if key in ("language", "title")})
        added.disposition = track.disposition.value  # which one plays by default, which is a commentary

    def _read(self, tracks: list[Stream]) -> Iterator[Packet]:
        import av

        try:
            yield from (packet for packet in self._input.demux(tracks) if packet.size)
        except av.FFmpegError as error:
            logger.warning("%s: the sound breaks off early (%s).", self._path, error.strerror)

    def _time(self, packet: Packet) -> Fraction:
        stamp = packet.dts if packet.dts is not None else packet.pts
        return Fraction(-1) if stamp is None else stamp * packet.time_base - self._start

    def _write(self, packet: Packet) -> None:
        import av

        index = packet.stream_index
        if index in self._copied:
            shift = int(self._start / packet.time_base)
            if packet.pts is not None:
                packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
            packet.stream = self._copied[index]
            self._output.mux(packet)
            return
        with suppress(av.error.InvalidDataError):  # a damaged packet is a gap in the sound, not the end of the edit
            for frame in packet.decode():
                if frame.pts is not None:
                    frame.pts -= int(self._start / frame.time_base)
                self._output.mux(self._encoded[index].encode(frame))


def _can_copy(track: AudioStream, muxer: str) -> bool:
    """Whether a container takes the packets of `track` as they are, found out on a trial header in memory.

    FFmpeg's own table of codecs promises more than its muxers then write. Bare PCM in MP4 is legal and written, but
    browsers play it silently, so it counts as not taken.
    """
    import av

    if muxer == "mp4" and track.codec_context.name.startswith("pcm_"):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(track)
            trial.start_encoding()
    except (ValueError, av.FFmpegError):
        return False
    return True


def _add_encoder(output: OutputContainer, encoder: str, track: AudioStream) -> AudioStream:
    """A track of `output` that encodes anew what `track` holds: 96 kbit/s a channel, 48 kHz if its rate will not do."""
    from av.codec import Codec

    rate, layout = track.codec_context.sample_rate, track.codec_context.layout
    rates = Codec(encoder, "w").audio_rates
    added = output.add_stream(encoder, rate=rate if not rates or rate in rates else 48_000)
    named = "channel" not in layout.name  # "2 channels": the file does not say which
    added.codec_context.layout = layout.name if named else _USUAL_LAYOUTS.get(layout.nb_channels, "stereo")
    added.codec_context.bit_rate = min(96_000, 4 * added.codec_context.sample_rate) * layout.nb_channels
    return added
