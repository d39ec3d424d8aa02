"""Only formats that hold their own media are opened; a file that names others is refused by what it is."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from instructx_core import cli
from instructx_core.errors import InputError
from instructx_core.source import load_source
from instructx_core.video import VideoReader
from support.video_files import COUNT, make_video, read

HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{0}\n#EXT-X-ENDLIST\n"
REFERRING = {
    "an HLS playlist": HLS,
    "a DASH manifest": '<?xml version="1.0"?>\n<!-- made -->\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">{0}</MPD>',
    "a concat script": "ffconcat version 1.0\nfile '{0}'\n",
    "an SDP description": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=video 5004 RTP/AVP 96\r\n",
    "an ASX playlist": '<ASX version="3.0"><entry><ref href="{0}"/></entry></ASX>',
    "a PLS playlist": "[playlist]\nFile1={0}\n",
    "an XSPF playlist": '<?xml version="1.0"?><playlist version="1"><location>{0}</location></playlist>',
    "a SMIL playlist": '<smil><body><video src="{0}"/></body></smil>',
    "an IMF package": '<?xml version="1.0"?><AssetMap xmlns="http://x">{0}</AssetMap>',
    "an internet shortcut": "[InternetShortcut]\nURL=file://{0}\n",
}


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that nobody gave."""
    return make_video(tmp_path_factory.mktemp("elsewhere") / "secret.ts")


@pytest.mark.parametrize("suffix", ["m3u8", "mp4", "mkv", "ts", "txt", "png", "gif"])
@pytest.mark.parametrize("kind", REFERRING)
def test_files_that_name_others_are_refused_by_name(kind: str, suffix: str, secret: Path, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_text(REFERRING[kind].format(f"file://{secret}"))
    with pytest.raises(InputError, match=rf"a\.{suffix}: it is {kind}, which names other files"):
        load_source(path)


def test_a_playlist_behind_tags_and_spaces_is_one(secret: Path, tmp_path: Path) -> None:
    playlist = HLS.format(secret).encode()
    tag = b"ID3\x03\0\0" + bytes([0, 0, 1, 2]) + bytes(130)
    for number, content in enumerate(
        (tag + playlist, tag + tag + playlist, b"\xef\xbb\xbf" + playlist, b"\n " + playlist)
    ):
        path = tmp_path / f"{number}.mp3"
        path.write_bytes(content)
        with pytest.raises(InputError, match="an HLS playlist"):
            VideoReader(path)


def test_a_pattern_of_pictures_is_one_file_only(tmp_path: Path) -> None:
    for index in range(3):
        Image.new("RGB", (16, 16)).save(tmp_path / f"frame{index:03d}.png")
    for name in ("frame%03d.png", "frame*.png"):
        (tmp_path / name).write_bytes(b"junk" * 99)
        with pytest.raises(InputError, match="an image sequence"):
            VideoReader(tmp_path / name)
    Image.new("RGB", (16, 16), "red").save(tmp_path / "frame%03d.png")
    assert load_source(tmp_path / "frame%03d.png").frames[0, 0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize("name", ["a.srt", "a.ass", "a.vtt", "a.idx", "a.nfo", "a.svg", "a.xpm", "a.ffmeta", "a.mlv"])
def test_texts_and_scripts_are_no_videos(name: str, tmp_path: Path) -> None:
    texts = {
        "a.srt": "1\n00:00:00,000 --> 00:00:01,000\nhello\n",
        "a.ass": "[Script Info]\nScriptType: v4.00+\n[Events]\nDialogue: 0,0:00:00.00,0:00:01.00,,,,,,,a\n",
        "a.vtt": "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n",
        "a.idx": "# VobSub index file, v7\nsize: 720x480\n",
        "a.nfo": "hello \x1b[2J" * 500,
        "a.svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/hostname"/></svg>',
        "a.xpm": '/* XPM */\nstatic char *a[] = {"1 1 1 1", "a c #000000", "a"};',
        "a.ffmeta": ";FFMETADATA1\ntitle=a\n",
        "a.mlv": "MLVI" + "\0" * 200,
    }
    (tmp_path / name).write_text(texts[name])
    with pytest.raises(InputError, match="neither an image nor a video that can be read"):
        VideoReader(tmp_path / name)


def test_a_movie_with_its_media_in_another_file_gives_none_of_it(tmp_path: Path) -> None:
    """A QuickTime movie may say in `dref` that its samples lie elsewhere."""
    whole = make_video(tmp_path / "whole.mov", header={"movflags": "+faststart"}).read_bytes()
    (tmp_path / "elsewhere.mov").write_bytes(whole)
    at = whole.index(b"dref") - 4
    size = struct.unpack(">I", whole[at : at + 4])[0]
    said = b"/elsewhere.mov"
    alias = bytes(10) + b"\0" * 28 + bytes(12) + b"\0" * 64 + bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    alias += struct.pack(">HH", 2, len(said)) + said + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    dref = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    moved = bytearray(whole[:at] + dref + whole[at + size :])
    for atom in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        start = moved.index(atom) - 4
        moved[start : start + 4] = struct.pack(
            ">I", struct.unpack(">I", moved[start : start + 4])[0] + len(dref) - size
        )
    data = moved.index(b"mdat")
    moved[data + 4 :] = bytes(len(moved) - data - 4)  # its own samples are gone: only the other file has them
    (tmp_path / "a.mov").write_bytes(moved)
    trusting = {"enable_drefs": "1", "protocol_whitelist": "file"}
    with av.open(str(tmp_path / "a.mov"), options=trusting) as container:
        assert len(list(container.decode(video=0))) == COUNT  # so the reference is a true one
    with pytest.raises(InputError, match="no frame of this video can be decoded"):
        load_source(tmp_path / "a.mov")


def test_what_holds_its_own_pictures_is_opened_under_any_name(tmp_path: Path) -> None:
    for suffix, muxer, codec in (
        ("mp4", "mp4", "libx264"),
        ("mov", "mov", "mjpeg"),
        ("mkv", "matroska", "libx264"),
        ("webm", "webm", "libvpx-vp9"),
        ("avi", "avi", "mpeg4"),
        ("ts", "mpegts", "libx264"),
        ("mpg", "mpeg", "mpeg2video"),
        ("flv", "flv", "libx264"),
        ("wmv", "asf", "wmv2"),
        ("nut", "nut", "ffv1"),
        ("mxf", "mxf", "mpeg2video"),
        ("ivf", "ivf", "libvpx-vp9"),
        ("h264", "h264", "libx264"),
    ):
        path = tmp_path / f"clip.{suffix}"
        with av.open(str(path), "w", format=muxer) as output:
            stream = output.add_stream(codec, rate=25)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for index in range(COUNT):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), index * 20, np.uint8))
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        assert len(read(path)[0]) == COUNT, suffix
        assert len(read(path.rename(tmp_path / f"{suffix}.m3u8"))[0]) == COUNT, suffix


def test_the_command_says_it_in_one_line(
    secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.mp4").write_text(REFERRING["a concat script"].format(secret))
    for extra in ((), ("--window", "33f")):
        code = cli.main(["edit", str(tmp_path / "a.mp4"), "make it gray", "-o", str(tmp_path / "o.mp4"), *extra])
        captured = capsys.readouterr()
        assert code == 2 and captured.err.count("\n") == 1 and "it is a concat script" in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]
