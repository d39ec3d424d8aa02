"""Open media files, but only in formats that hold their own pictures and sound.

A playlist, a manifest or a concat script names other files, which FFmpeg would read as the video's own. FFmpeg detects
the format from the content, whatever the suffix, so there is an allow-list of formats.
"""

from __future__ import annotations

import errno
import io
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ..errors import InputError

if TYPE_CHECKING:
    from av.container import InputContainer

# Names of FFmpeg's demuxers, the first of each comma-separated family. None of them opens a second file: "mov" ignores
# external references (dref) by default.
_VIDEO_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,gxf,nut,ivf,dv,rm,wtv,nsv,dhav,pva,"
    "h264,hevc,vvc,av1,obu,m4v,mpegvideo,mjpeg,h263,h261,vc1,dirac,dnxhd,yuv4mpegpipe"
)
_SOUND_FORMATS = "mp3,wav,w64,flac,aac,aiff,caf,ac3,eac3,dts,truehd,amr,au,tta,wv,ape"
_OPTIONS = {
    "format_whitelist": f"{_VIDEO_FORMATS},{_SOUND_FORMATS}",  # applies to nested formats too
    "protocol_whitelist": "file",
}

# How files that name others begin, ignoring case, after spaces, a byte order mark and an XML prolog.
_REFERRING = {
    "an HLS playlist": rb"#extm3u",
    "a DASH manifest": rb"<(\w+:)?mpd\b",
    "a concat script": rb"ffconcat version",
    "an SDP description": rb"v=\d+\s*o=",
    "an ASX playlist": rb"<asx\b|asf\s+https?:|\[reference\]",
    "a PLS playlist": rb"\[playlist\]",
    "an XSPF playlist": rb"<playlist\b",
    "a SMIL playlist": rb"<(smil|smoothstreamingmedia)\b",
    "an IMF package": rb"<(\w+:)?(assetmap|compositionplaylist|packinglist)\b",
    "an internet shortcut": rb"\[internetshortcut\]|rtsptext|(rtsp|https?|file)://",
}
_HEAD = 4096  # bytes to look at
_TAGS = 8  # ID3 tags to skip
_SEQUENCE = re.compile(r"%0?\d*d|[*?]|\{\d+\.\.\d+\}")
_IMAGE_NAME = re.compile(r"\.(png|jpe?g|bmp|tiff?|webp|gif|dpx|exr|tga|p[bgp]m|jp2|j2k|sgi|xpm|xbm|pcx|qoi)$", re.I)


def open_media(path: Path) -> InputContainer:
    """Open a media file by exactly this name, which FFmpeg would otherwise read as a URL if it has a colon.

    Raises:
        InputError: it refers to other files instead of holding pictures or sound.
        av.FFmpegError: it is not a media file, or its format is not on the list.
    """
    import av

    _refuse_references(path)
    # old files have tags in any encoding
    return av.open(f"file:{path}", options=_OPTIONS, metadata_errors="replace")


def not_readable(error: OSError) -> str:
    """The message for a file that `open_media` could not open."""
    reason = error.strerror or str(error)
    if error.errno == errno.EINVAL:  # FFmpeg's error for a format that is not on the list
        reason = "its format is not supported"
    return f"it is neither an image nor a video that can be read ({reason}); give a PNG, JPEG, MP4, MOV or MKV file."


def clock_start(container: InputContainer) -> Fraction:
    """Seconds to subtract from every timestamp: broadcast formats (MPEG-TS) start their clock anywhere, others at 0."""
    from av.format import Flags

    runs_on = bool(Flags(container.format.flags) & Flags.ts_discont)
    return Fraction(container.start_time or 0, 1_000_000) if runs_on else Fraction(0)


def _refuse_references(path: Path) -> None:
    """Raise InputError if a file names others, saying what it is."""
    head = _head(path)
    kind = next((kind for kind, begin in _REFERRING.items() if re.match(begin, head, re.I | re.S)), None)
    if kind is None and _is_sequence(path, head):
        kind = "an image sequence"
    if kind is not None:
        raise InputError(
            f"{path}: it is {kind}, which names other files instead of holding pictures; give the video itself."
        )


def _head(path: Path) -> bytes:
    """The start of the content, after ID3 tags (which FFmpeg skips too), a byte order mark and an XML prolog."""
    with open(path, "rb") as file:
        head = _content(file)
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    while head.startswith((b"<?", b"<!")):
        end = b"-->" if head.startswith(b"<!--") else b">"
        head = head.partition(end)[2].lstrip()
    return head


def _content(file: BinaryIO) -> bytes:
    head = file.read(_HEAD)
    for _ in range(_TAGS):
        if head[:3] != b"ID3" or len(head) < 10:
            break
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        file.seek(10 + size - len(head), io.SEEK_CUR)
        head = file.read(_HEAD)
    return head


def _is_sequence(path: Path, head: bytes) -> bool:
    """True if FFmpeg would read the name as an image pattern, such as `frame%03d.png`; ISO files are excepted."""
    return bool(_SEQUENCE.search(path.name) and _IMAGE_NAME.search(path.name)) and head[4:8] != b"ftyp"
