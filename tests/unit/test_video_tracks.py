"""What lies beside the pictures: it goes over where the container takes it, and what does not is one line, by name."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from instructx_core.errors import InputError
from instructx_core.source import check_output
from instructx_core.video import VideoReader, VideoWriter, check_writer, probe
from instructx_core.video import writer as writer_module
from instructx_core.video.other_tracks import held_beside_sound
from support.rich_videos import CHAPTERS, TAGS, rich_video, with_sound
from support.video_files import clip, copy, make_video, read

needs_chapters = pytest.mark.skipif(
    not hasattr(av.container.OutputContainer, "set_chapters"), reason="older PyAV has no chapters"
)


def tags_of(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {name.lower(): text for name, text in container.metadata.items()}


def subtitles_of(path: Path) -> dict[str, list[tuple[float, bytes]]]:
    """By language, when each begins and its text."""
    found: dict[str, list[tuple[float, bytes]]] = {}
    with av.open(str(path)) as container:
        tracks = container.streams.subtitles
        for packet in container.demux(*tracks) if tracks else ():
            text = bytes(packet).removeprefix(b"\x00\x05")
            if text.strip(b"\x00"):
                time = round(float(packet.pts * packet.time_base), 3)
                found.setdefault(packet.stream.metadata["language"], []).append((time, text))
    return found


def chapters_of(path: Path) -> list[tuple[str, float, float]]:
    with av.open(str(path)) as container:
        return [
            (one["metadata"]["title"], float(one["start"] * one["time_base"]), float(one["end"] * one["time_base"]))
            for one in container.chapters()
        ]


def timecode_of(path: Path) -> str | None:
    with av.open(str(path)) as container:
        tags = {name.lower(): text for name, text in container.streams.video[0].metadata.items()}
    return tags.get("timecode")


def test_what_a_part_of_a_file_lacks_is_known(tmp_path: Path):
    rich = rich_video(tmp_path / "a.mkv", tags={"title": "Hello"}, subtitles={"eng": "subrip"}, font=b"x")
    assert held_beside_sound(rich) == ["subtitles", "attachments", "tags"]
    assert held_beside_sound(make_video(tmp_path / "plain.mp4", audio=["aac"])) == []


# --- tags, chapters, timecode


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".m4v"])
@pytest.mark.parametrize("origin", [".mp4", ".mkv"])
def test_tags_go_over(origin: str, suffix: str, tmp_path: Path, said: pytest.LogCaptureFixture):
    target = copy(rich_video(tmp_path / f"a{origin}", tags=TAGS), tmp_path / f"b{suffix}")
    found = tags_of(target)
    assert {name: found[name] for name in ("title", "comment", "creation_time")} == {
        name: TAGS[name] for name in ("title", "comment", "creation_time")
    }
    assert found["location"].startswith("+48.1") and not said.messages


def test_tags_that_a_format_does_not_take_are_named(tmp_path: Path, said: pytest.LogCaptureFixture):
    source = rich_video(tmp_path / "a.mkv", tags=TAGS | {"REEL": "A001", "scene": "7"})
    copy(source, tmp_path / "b.mp4")
    assert len(said.messages) == 1
    assert said.messages[0].startswith(f"{source}: left out of b.mp4: the tags ")
    assert "REEL" in said.messages[0] and "SCENE" in said.messages[0].upper() and "title" not in said.messages[0]


def test_tags_of_devices_go_over(tmp_path: Path, said: pytest.LogCaptureFixture):
    """An iPhone's, which MP4 and MOV keep in a table of their own."""
    tags = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.location.ISO6709": "+48.1+011.5+519.9/"}
    source = rich_video(tmp_path / "a.mov", tags=tags, header={"movflags": "use_metadata_tags"})
    for suffix in (".mov", ".mp4", ".mkv"):
        found = tags_of(copy(source, tmp_path / f"b{suffix}"))
        assert {name.lower(): text for name, text in tags.items()}.items() <= found.items()
    assert not said.messages


def test_tags_in_another_encoding_are_no_error(tmp_path: Path):
    source = rich_video(tmp_path / "a.mkv", tags=TAGS)
    source.write_bytes(source.read_bytes().replace(b"Hello", b"H\xe9llo"))
    assert tags_of(copy(source, tmp_path / "b.mp4"))["title"] == "H\N{REPLACEMENT CHARACTER}llo"


@needs_chapters
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("origin", [".mp4", ".mkv"])
def test_chapters_go_over(origin: str, suffix: str, tmp_path: Path, said: pytest.LogCaptureFixture):
    target = copy(rich_video(tmp_path / f"a{origin}", chapters=True), tmp_path / f"b{suffix}")
    assert chapters_of(target) == [(title, start / 1000, end / 1000) for title, start, end in CHAPTERS]
    assert not said.messages and not subtitles_of(target)
    assert chapters_of(copy(target, tmp_path / f"c{suffix}")) == chapters_of(target)  # they do not pile up
    with av.open(str(tmp_path / f"c{suffix}")) as container, av.open(str(target)) as before:
        assert len(container.streams) == len(before.streams)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("origin", [".mov", ".mp4", ".mkv"])
def test_the_timecode_goes_over(origin: str, suffix: str, tmp_path: Path, said: pytest.LogCaptureFixture):
    source = rich_video(tmp_path / f"a{origin}", timecode="01:02:03:04")
    target = copy(source, tmp_path / f"b{suffix}")
    assert timecode_of(target).replace(":4", ":04") == "01:02:03:04" and not said.messages


@needs_chapters
def test_timecode_and_chapters_together(tmp_path: Path, said: pytest.LogCaptureFixture):
    source = rich_video(tmp_path / "a.mp4", timecode="01:02:03:04", chapters=True, subtitles={"ger": "mov_text"})
    for suffix in (".mp4", ".mov"):
        target = copy(source, tmp_path / f"b{suffix}")
        assert timecode_of(target) and len(chapters_of(target)) == 2 and list(subtitles_of(target)) == ["ger"]
    assert not said.messages


# --- subtitles


@pytest.mark.parametrize(
    ("origin", "codec", "suffix"),
    [(".mp4", "mov_text", ".mp4"), (".mp4", "mov_text", ".mov"), (".mkv", "subrip", ".mkv")],
)
def test_subtitles_go_over(origin: str, codec: str, suffix: str, tmp_path: Path, said: pytest.LogCaptureFixture):
    source = rich_video(tmp_path / f"a{origin}", subtitles={"ger": codec, "fre": codec})
    target = copy(source, tmp_path / f"b{suffix}")
    expected = [(0.1, b"hello"), (0.6, b"there")]
    assert subtitles_of(source) == {"ger": expected, "fre": expected}
    kept = {language.replace("fra", "fre"): texts for language, texts in subtitles_of(target).items()}
    assert kept == subtitles_of(source) and not said.messages


@pytest.mark.parametrize(
    ("origin", "codec", "suffix", "named"),
    [
        (".mkv", "subrip", ".mp4", "subtitles (srt, ger)"),
        (".mp4", "mov_text", ".mkv", "subtitles (mov_text, ger)"),
        (".mp4", "mov_text", ".webm", "subtitles (mov_text, ger)"),
        (".mp4", "mov_text", ".gif", "subtitles (mov_text, ger)"),
    ],
)
def test_subtitles_that_a_format_does_not_take_are_named(
    origin: str, codec: str, suffix: str, named: str, tmp_path: Path, said: pytest.LogCaptureFixture
):
    source = rich_video(tmp_path / f"a{origin}", subtitles={"ger": codec})
    copy(source, tmp_path / f"b{suffix}")
    messages = [message.replace("subrip", "srt") for message in said.messages]
    assert len(messages) == 1 and named in messages[0]


# --- covers and fonts


def test_a_cover_picture_goes_over(tmp_path: Path, said: pytest.LogCaptureFixture):
    source = rich_video(tmp_path / "a.mp4", cover=True)
    for suffix in (".mp4", ".mkv"):
        with av.open(str(copy(source, tmp_path / f"b{suffix}"))) as container:
            covers = [one for one in container.streams.video if one.disposition & av.stream.Disposition.attached_pic]
            assert len(covers) == 1 and (covers[0].width, covers[0].height) == (16, 16)
        assert len(read(tmp_path / f"b{suffix}")[0]) == 10
    assert not said.messages
    for suffix in (".mov", ".webm"):
        copy(source, tmp_path / f"b{suffix}")
        assert said.messages[-1] == f"{source}: left out of b{suffix}: the cover picture."


@pytest.mark.skipif(not hasattr(av.container.OutputContainer, "add_attachment"), reason="older PyAV")
def test_fonts_go_over(tmp_path: Path, said: pytest.LogCaptureFixture):
    source = rich_video(tmp_path / "a.mkv", font=b"\0\1\0\0letters")
    with av.open(str(copy(source, tmp_path / "b.mkv"))) as container:
        (font,) = container.streams.attachments
        assert (font.name, font.mimetype, font.data) == ("font.ttf", "application/x-truetype-font", b"\0\1\0\0letters")
    assert not said.messages
    copy(source, tmp_path / "b.mp4")
    assert said.messages == [f"{tmp_path / 'a.mkv'}: left out of b.mp4: the attachment font.ttf."]


def test_a_second_video_track_is_named(tmp_path: Path, said: pytest.LogCaptureFixture):
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        streams = [output.add_stream("libx264", rate=10, width=48, height=32, pix_fmt="yuv420p") for _ in range(2)]
        for index, frame in enumerate(clip(3)):
            for stream in streams:
                made = av.VideoFrame.from_ndarray(frame)
                made.pts = index
                output.mux(stream.encode(made))
        for stream in streams:
            output.mux(stream.encode(None))
    copy(tmp_path / "a.mkv", tmp_path / "b.mkv")
    assert said.messages == [f"{tmp_path / 'a.mkv'}: left out of b.mkv: another video track."]


def test_a_language_that_a_format_does_not_know_is_named(tmp_path: Path, said: pytest.LogCaptureFixture):
    source = rich_video(tmp_path / "a.mp4", subtitles={"gla": "mov_text", "swe": "mov_text"})
    copy(source, tmp_path / "b.mov")
    assert said.messages == [f"{tmp_path / 'a.mp4'}: left out of b.mov: the language gla."]


# --- HDR10

MASTERED = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"


def hdr_video(path: Path) -> Path:
    """H.264, which says the same as HEVC in the same way; PyAV 18's libx265 frees what it should not, and aborts."""
    from instructx_core.video import Colour

    frames = [av.VideoFrame.from_ndarray(frame).reformat(format="yuv420p10le") for frame in clip(3)]
    options = {"x264-params": f"mastering-display={MASTERED}:cll=1000,400"}
    tags = Colour(9, 1, 9, 16)
    return make_video(path, frames, pix_fmt="yuv420p10le", options=options, colour=tags)


def test_hdr10_metadata_goes_over_and_the_depth_is_said(tmp_path: Path, said: pytest.LogCaptureFixture):
    source = hdr_video(tmp_path / "a.mp4")
    before = probe(source)
    assert before.hdr.light == (1000, 400) and before.hdr.mastering[8:] == (Fraction(1, 10_000), 1000)
    for suffix in (".mp4", ".mov", ".mkv"):
        after = probe(copy(source, tmp_path / f"b{suffix}"))
        assert (after.hdr, after.colour) == (before.hdr, before.colour)
    assert set(said.messages) == {f"{source}: it has 10 bits per channel, of which an edit keeps 8."}
    copy(source, tmp_path / "b.webm")
    assert said.messages[-1] == f"{tmp_path / 'a.mp4'}: left out of b.webm: the HDR10 metadata."


# --- before the edit


def test_what_cannot_be_written_is_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A codec that this FFmpeg lacks, a picture that an encoder refuses, and a container that refuses a codec."""
    source = make_video(tmp_path / "a.mp4")
    mp4 = writer_module._CONTAINERS[".mp4"]
    for change in ({"codec": "no_such_codec"}, {"codec": "libvpx"}, {"options": {"profile": "high422", "crf": "-"}}):
        monkeypatch.setitem(writer_module._CONTAINERS, ".mp4", replace(mp4, **change))
        with pytest.raises(InputError, match=r"b\.mp4: the tracks of a\.mp4 cannot be written in this format") as told:
            check_output(tmp_path / "b.mp4", source)
        assert "\n" not in str(told.value)
    monkeypatch.setitem(writer_module._CONTAINERS, ".mp4", mp4)
    assert check_output(tmp_path / "b.mp4", source) == tmp_path / "b.mp4"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".gif"])
@pytest.mark.parametrize("growing", [False, True])
def test_a_trial_refuses_nothing_that_can_be_written(suffix: str, growing: bool, tmp_path: Path):
    sources = [
        with_sound(tmp_path / "a.mp4", "ac3", "5.1(side)"),
        rich_video(tmp_path / "b.mp4", tags=TAGS, subtitles={"ger": "mov_text"}, cover=True, timecode="01:00:00:00"),
        make_video(tmp_path / "c.mkv", clip(3, 33, 47), pix_fmt="yuv444p"),
    ]
    for source in sources:
        check_writer(tmp_path / f"out{suffix}", probe(source), growing)
    with VideoReader(sources[1]) as reader, VideoWriter(tmp_path / f"out{suffix}", reader.info, growing=growing) as out:
        for frame, pts in reader:
            out.write(frame, pts)
    assert len(read(tmp_path / f"out{suffix}")[0]) == 10
