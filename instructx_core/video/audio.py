"""Re-encode sound that a container cannot store unchanged, keeping the number of channels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import AudioFrame, Packet
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.filter import Graph

# The layouts that encoders support best, by number of channels: those of Vorbis and Opus, which take no others.
_USUAL_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


class SoundEncoder:
    """Transcodes one audio track.

    Attributes:
        stream: the output track.
        layout: its channel layout, by FFmpeg's name: the source's if the encoder supports it, else the usual one with
            the same number of channels, to which FFmpeg's resampler mixes (5.1(side) becomes 5.1 unchanged), else
            stereo.
    """

    def __init__(self, track: AudioStream, output: OutputContainer, encoder: str) -> None:
        """Raises av.FFmpegError or ValueError if the encoder is missing or does not support the track."""
        from av.codec import Codec

        self._track = track
        rate, layout = track.codec_context.sample_rate, track.codec_context.layout
        rates = Codec(encoder, "w").audio_rates
        rate = rate if rate and (not rates or rate in rates) else 48_000
        self.layout = _layout(encoder, rate, layout.name, layout.nb_channels)
        self.stream = output.add_stream(encoder, rate=rate, layout=self.layout)
        self.stream.codec_context.bit_rate = min(96_000, 4 * rate) * self.stream.codec_context.channels
        self._graph: Graph | None = None
        self._form: tuple[str, str, int] | None = None
        self._next: int | None = None  # end time of the last frame

    def packets(self, packet: Packet) -> Iterator[Packet]:
        """Transcode a packet of the track; a damaged one leaves a gap in the sound and does not end the edit."""
        import av

        with suppress(av.error.InvalidDataError):
            for frame in self._track.codec_context.decode(packet):
                yield from self._encode(frame)

    def rest(self) -> Iterator[Packet]:
        """Flush decoder, filter and encoder."""
        import av

        with suppress(av.error.InvalidDataError, av.error.EOFError):  # EOFError: it is flushed already
            for frame in self._track.codec_context.decode(None):
                yield from self._encode(frame)
        if self._graph is not None:
            yield from self._through(None)
        yield from self.stream.encode(None)

    def _encode(self, frame: AudioFrame) -> Iterator[Packet]:
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form:  # the first frame, or channels change within the track
            if self._graph is not None:
                yield from self._through(None)
            self._form, self._graph = form, self._converter(frame)
        if frame.pts is not None:
            length = int(frame.samples / frame.sample_rate / frame.time_base)
            if self._next is not None and frame.pts + length < self._next:  # damaged clocks jump back
                frame.pts = self._next
            self._next = frame.pts + length
        yield from self._through(frame)

    def _through(self, frame: AudioFrame | None) -> Iterator[Packet]:
        import av

        self._graph.push(frame)
        while True:
            try:
                converted = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield from self.stream.encode(converted)

    def _converter(self, like: AudioFrame) -> Graph:
        """A filter graph that converts frames like this one for the encoder."""
        import av
        from av.filter import Graph

        context = self.stream.codec_context
        sink = f"sample_fmts={context.format.name}:sample_rates={context.sample_rate}:channel_layouts={self.layout}"
        # lfe_mix_level: without an LFE channel in the output, mix its bass into the others instead of dropping it
        mixed = f"out_chlayout={self.layout}:lfe_mix_level=1"
        relabelled = "|".join([f"pan={self.layout}", *(f"c{n}=c{n}" for n in range(context.channels))])
        for name, arguments in (("aresample", mixed), ("pan", relabelled.removeprefix("pan="))):
            graph = Graph()
            try:
                graph.link_nodes(
                    graph.add_abuffer(
                        sample_rate=like.sample_rate,
                        format=like.format.name,
                        layout=like.layout.name,
                        time_base=like.time_base,
                    ),
                    graph.add(name, arguments),
                    graph.add("aformat", sink),
                    graph.add("abuffersink"),
                ).configure()
                return graph
            except (av.FFmpegError, ValueError):  # the resampler cannot mix these: map channels by number
                if name == "pan":
                    raise
        raise AssertionError


def _layout(encoder: str, rate: int, name: str, channels: int) -> str:
    """The channel layout to encode with."""
    named = "channel" not in name  # "2 channels": the file does not say which
    for layout in (name if named else None, _USUAL_LAYOUTS.get(channels), "stereo"):
        if layout is not None and _opens(encoder, rate, layout):
            return layout
    return "mono"


def _opens(encoder: str, rate: int, layout: str) -> bool:
    import av
    from av.codec import Codec, CodecContext

    context = CodecContext.create(encoder, "w")
    try:
        context.sample_rate, context.layout = rate, layout
        context.format = Codec(encoder, "w").audio_formats[0]
        context.open()
    except (av.FFmpegError, ValueError):
        return False
    return True
