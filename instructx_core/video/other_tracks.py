"""Everything in a video file except the pictures: sound, subtitles, chapters, tags, timecode, cover, fonts.

What the edited file's container supports is copied bit for bit; other sound is re-encoded. A warning names what is left
out.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from .audio import SoundEncoder
from .container import clock_start, open_media

if TYPE_CHECKING:
    from av import Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

# Tags about how a file was written, not about its content.
_OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "encoded_by", "duration", "bps"}
_TRACK_TAGS = ("language", "title", "handler_name", "creation_time")
# QuickTime knows some languages only by the other of their two codes, and few beyond its own list.
_QUICKTIME_LANGUAGES = {
    "fre": "fra", "deu": "ger", "nld": "dut", "swe": "sve", "ell": "gre", "isl": "ice", "zho": "chi",
}  # fmt: skip
_QUICKTIME = "com."  # prefix of Apple's and Android's own tags, which MP4 stores differently from the usual ones
_PICTURE_SUFFIX = {"mjpeg": ("jpg", "image/jpeg"), "png": ("png", "image/png")}
_DISCARD_ALL = 48  # FFmpeg's AVDISCARD_ALL
_NO_SUBTITLE = b"\x00\x00"  # MP4's empty subtitle between two others; the muxer writes these itself


class OtherTracks:
    """Carries these tracks over into a container that is being written.

    Packets are written up to the time of the pictures, so that the file is interleaved and nothing piles up in memory.

    Attributes:
        left_out: what is not carried over, in words.
        tags: the file's own, which go into the output.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises av.FFmpegError or InputError if it cannot be opened."""
        self.path = path
        self.left_out: list[str] = []
        self._input = open_media(path)
        self._start = clock_start(self._input)
        self._copied: dict[int, Stream] = {}
        self._encoded: dict[int, SoundEncoder] = {}
        self._last: dict[int, int] = {}  # the last decoding time of each copied track
        self._languages: list[str] = []
        self._refused = 0  # packets
        self._packets: Iterator[Packet] = iter(())
        self._waiting: Packet | None = None
        self.tags = {name: text for name, text in self._input.metadata.items() if name.lower() not in _OF_THE_FILE}

    @property
    def has_device_tags(self) -> bool:
        """True if MP4 and MOV need an option to keep the tags."""
        return any(name.startswith(_QUICKTIME) for name in self.tags)

    def add_to(self, output: OutputContainer, pictures: VideoStream, encoder: str | None, sound: bool) -> None:
        """Set up all tracks, before the first packet of `output`.

        Args:
            pictures: the video track of the output, which gets the tags of the edited one.
            encoder: FFmpeg's encoder for sound that cannot be copied; None for a container without sound.
            sound: whether sound is wanted.

        Raises:
            av.FFmpegError, ValueError: an encoder cannot be opened.
        """
        self._output = output
        output.metadata.update(self.tags)
        self._add_chapters()
        edited = False
        for track in self._input.streams:
            if track.type == "audio":
                if sound:
                    self._add_sound(track, encoder)
            elif track.type == "video" and _is_cover(track):
                self._add_cover(track)
            elif track.type == "video" and not edited:
                edited = True
                tags = {name.lower(): text for name, text in track.metadata.items()}
                pictures.metadata.update({name: tags[name] for name in (*_TRACK_TAGS, "timecode") if name in tags})
            elif track.type == "video":
                self.left_out.append("another video track")
            elif track.type == "subtitle":
                if not self._shows_chapters(track):
                    self._add_copy(track, f"subtitles ({_name(track)}{_in_language(track)})")
            elif track.type == "attachment":
                self._add_attachment(track.name, track.mimetype, track.data, f"the attachment {track.name}")
            elif not self._is_known_data(track):
                self.left_out.append("a data track")
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
            for packet in encoder.rest():
                self._mux(packet)

    def missing_from(self, written: Path) -> list[str]:
        """What the finished file lacks, in words: `left_out`, and tags and chapters that were not kept."""
        import av

        if self._refused:
            self.left_out.append(f"{self._refused} damaged packets of other tracks")
        chapters, timecode = self._chapters(), _timecode(self._input)
        if not (chapters or timecode or self.tags or self._languages):
            return self.left_out
        # not with `open_media`, which does not read every format that is written
        with av.open(f"file:{written}", metadata_errors="replace") as output:
            lost = list(self.left_out)
            if chapters and len(_chapters(output)) != len(chapters):
                lost.append("chapters")
            if timecode and not _timecode(output):
                lost.append("the timecode")
            spoken = [track.metadata.get("language") for track in output.streams]
            lost += [f"the language {language}" for language in self._languages if language not in spoken]
            kept = {_plain(name) for name in output.metadata}
            names = [name for name in self.tags if _plain(name) not in kept]
            if names:
                lost.append(f"the tags {', '.join(names)}")
        return lost

    def close(self) -> None:
        """Close the file."""
        self._input.close()

    def _chapters(self) -> list:
        return _chapters(self._input)

    def _add_chapters(self) -> None:
        chapters = self._chapters()
        if chapters and hasattr(self._output, "set_chapters"):  # since PyAV 15
            for chapter in chapters:
                shift = int(self._start / chapter["time_base"])
                chapter["start"], chapter["end"] = chapter["start"] - shift, chapter["end"] - shift
            self._output.set_chapters(chapters)

    def _add_sound(self, track: AudioStream, encoder: str | None) -> None:
        """Copy a sound track, or re-encode it."""
        if track.codec_context is None:  # no decoder in this FFmpeg, so neither way works
            self.left_out.append(f"audio track {track.index} (its codec is unknown)")
        elif encoder is None:
            self.left_out.append(f"the sound ({_name(track)}{_in_language(track)})")
        elif _can_copy(track, self._output):
            self._copied[track.index] = self._tagged(self._output.add_stream_from_template(track), track)
        else:
            made = SoundEncoder(track, self._output, encoder)
            self._encoded[track.index] = made
            self._tagged(made.stream, track)

    def re_encoded(self) -> list[str]:
        """The conversion of each re-encoded sound track, in words."""
        said = []
        for index, made in self._encoded.items():
            context = self._input.streams[index].codec_context
            before, after = (
                f"{context.name} {context.layout.name}",
                f"{made.stream.codec_context.codec.canonical_name} {made.layout}",
            )
            said.append(f"{before} to {after}")
        return said

    def _add_copy(self, track: Stream, words: str) -> None:
        if track.codec_context is not None and _can_copy(track, self._output):
            self._copied[track.index] = self._tagged(self._output.add_stream_from_template(track), track)
        else:
            self.left_out.append(words)

    def _add_cover(self, track: VideoStream) -> None:
        """Add the cover picture: as a track in MP4, as an attachment in Matroska."""
        muxer, codec = self._output.format.name, _name(track)
        in_fragments = "frag" in self._output.container_options.get("movflags", "")  # FFmpeg 8 aborts, with subtitles
        if muxer == "matroska" and codec in _PICTURE_SUFFIX:
            suffix, kind = _PICTURE_SUFFIX[codec]
            with open_media(self.path) as again:  # `_input` would lack these packets later
                packets = again.demux(again.streams[track.index])
                picture = next((bytes(packet) for packet in packets if packet.size), b"")
            self._add_attachment(f"cover.{suffix}", kind, picture, "the cover picture")
        elif muxer == "mp4" and not in_fragments and codec in _PICTURE_SUFFIX:
            self._add_copy(track, "the cover picture")
        else:
            self.left_out.append("the cover picture")

    def _add_attachment(self, name: str | None, kind: str | None, data: bytes, words: str) -> None:
        if self._output.format.name == "matroska" and hasattr(self._output, "add_attachment") and name and data:
            self._output.add_attachment(name, kind or "application/octet-stream", data)
        else:
            self.left_out.append(words)

    def _shows_chapters(self, track: Stream) -> bool:
        """True if an MP4 subtitle track only names the chapters, which the muxer writes itself."""
        starts = [round(Fraction(chapter["start"]) * chapter["time_base"], 2) for chapter in self._chapters()]
        entries = getattr(track, "index_entries", [])
        stamps = {round(entry.timestamp * track.time_base, 2) for entry in entries}
        return bool(starts) and _name(track) == "mov_text" and stamps == set(starts)

    def _is_known_data(self, track: Stream) -> bool:
        """True if a data track is carried over in another way: a timecode, or chapter names."""
        # FFmpeg itself discards the chapter track only
        discarded = int(getattr(track, "discard", 0)) >= _DISCARD_ALL
        return discarded or "timecode" in {name.lower() for name in track.metadata}

    def _tagged(self, added: Stream, track: Stream) -> Stream:
        tags = {name: text for name, text in track.metadata.items() if name in _TRACK_TAGS}
        if "language" in tags and self._output.format.name == "mov":
            tags["language"] = _QUICKTIME_LANGUAGES.get(tags["language"], tags["language"])
        added.metadata.update(tags)
        if tags.get("language", "und") != "und":
            self._languages.append(tags["language"])
        added.disposition = track.disposition.value  # such as default, or commentary
        return added

    def _read(self, tracks: list[Stream]) -> Iterator[Packet]:
        import av

        try:
            yield from (packet for packet in self._input.demux(tracks) if packet.size)
        except av.FFmpegError as error:
            logger.warning("%s: the sound ends early (%s).", self.path, error.strerror)

    def _time(self, packet: Packet) -> Fraction:
        stamp = packet.dts if packet.dts is not None else packet.pts
        return Fraction(-1) if stamp is None else stamp * packet.time_base - self._start

    def _write(self, packet: Packet) -> None:
        index, shift = packet.stream_index, int(self._start / packet.time_base)
        if packet.pts is not None:
            packet.pts -= shift
        packet.dts = packet.pts if packet.dts is None else packet.dts - shift
        if packet.dts is not None and index in self._copied:  # damaged clocks jump back, which muxers reject
            packet.dts = self._last[index] = max(packet.dts, self._last.get(index, packet.dts - 1) + 1)
            packet.pts = max(packet.pts, packet.dts) if packet.pts is not None else packet.dts
        if index in self._encoded:
            for encoded in self._encoded[index].packets(packet):
                self._mux(encoded)
        elif not (_name(packet.stream) == "mov_text" and bytes(packet) == _NO_SUBTITLE):
            packet.stream = self._copied[index]
            self._mux(packet)

    def _mux(self, packet: Packet) -> None:
        """Write a packet; one that the muxer refuses, such as one without a time, must not cost the pictures."""
        import av

        try:
            self._output.mux(packet)
        except (av.error.ArgumentError, av.error.InvalidDataError):
            self._refused += 1


def _can_copy(track: Stream, output: OutputContainer) -> bool:
    """True if a container takes the packets of `track` unchanged, tested by writing a header to memory.

    FFmpeg's own codec table promises more than its muxers can write. Bare PCM in MP4 is legal and can be written, but
    browsers play it silently, so it is not copied.
    """
    import av

    muxer, options = output.format.name, output.container_options
    options = {name: text for name, text in options.items() if "faststart" not in text}  # needs a real file
    if muxer == "mp4" and track.codec_context.name.startswith("pcm_"):
        return False
    try:
        with av.open(io.BytesIO(), "w", format=muxer, container_options=options) as trial:
            trial.add_stream_from_template(track)
            trial.start_encoding()
    except (ValueError, av.FFmpegError):
        return False
    return True


def held_beside_sound(path: Path) -> list[str]:
    """What a file holds besides pictures and sound, in words. Raises av.FFmpegError, InputError."""
    with open_media(path) as file:
        kinds = {track.type for track in file.streams if track.type not in ("video", "audio")}
        held = {
            "subtitles": "subtitle" in kinds,
            "attachments": "attachment" in kinds,
            "data tracks": "data" in kinds,
            "cover": any(map(_is_cover, file.streams.video)),
            "chapters": bool(_chapters(file)),
            "timecode": _timecode(file) is not None,
            "tags": any(name.lower() not in _OF_THE_FILE for name in file.metadata),
        }
    return [name for name, is_there in held.items() if is_there]


def _chapters(container: InputContainer) -> list:
    return container.chapters() if hasattr(container, "chapters") else []


def _is_cover(track: VideoStream) -> bool:
    from av.stream import Disposition

    return bool(track.disposition & Disposition.attached_pic)


def _timecode(container: InputContainer) -> str | None:
    """The timecode of the first frame, which MP4 and MOV store with a track and others among the tags."""
    tags = [container.metadata, *(track.metadata for track in container.streams.video)]
    return next((text for one in tags for name, text in one.items() if name.lower() == "timecode"), None)


def _plain(name: str) -> str:
    """A tag's name without case and language, in which formats differ."""
    return name.lower().partition("-")[0]


def _name(track: Stream) -> str:
    return track.codec_context.name if track.codec_context is not None else "unknown"


def _in_language(track: Stream) -> str:
    language = track.metadata.get("language", "und")
    return "" if language == "und" else f", {language}"
