"""What lies beside the pictures: it goes over where the container takes it, and what does not is one line, by name."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from video_files import SIZE, clip, copy, make_video, packets, read

from instructx_core.errors import InputError
from instructx_core.source import check_output
from instructx_core.video import VideoReader, VideoWriter, check_writer, probe
from instructx_core.video import writer as writer_module

MILLISECOND = Fraction(1, 1000)
TAGS = {"title": "Hello", "comment": "seen", "creation_time": "2020-01-02T03:04:05.000000Z", "location": "+48.1+011.5/"}
CHAPTERS = [("one", 0, 500), ("two", 500, 1000)]

needs_chapters = pytest.mark.skipif(
    not hasattr(av.container.OutputContainer, "set_chapters"), reason="older PyAV has no chapters"
)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "instructx_core")
    return caplog


def rich_video(
    path: Path,
    *,
    tags: dict[str, str] | None = None,
    chapters: bool = False,
    subtitles: dict[str, str] | None = None,
    timecode: str | None = None,
    font: bytes = b"",
    cover: bool = False,
    header: dict[str, str] | None = None,
) -> Path:
    """A second of ten frames; subtitles: language -> codec, each with two of them."""
    with av.open(str(path), "w", container_options=header or {}) as output:
        stream = output.add_stream("libvpx-vp9" if path.suffix == ".webm" else "libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        if timecode:
            stream.metadata["timecode"] = timecode
        tracks = []
        for language, codec in (subtitles or {}).items():
            track = output.add_mux_stream(codec, rate=1000)
            track.time_base, track.metadata["language"] = MILLISECOND, language
            tracks.append((track, codec))
        if cover:
            picture = output.add_stream("mjpeg", rate=1, width=16, height=16, pix_fmt="yuvj420p")
            picture.disposition = av.stream.Disposition.attached_pic.value
        if font:
            output.add_attachment("font.ttf", "application/x-truetype-font", font)
        output.metadata.update(tags or {})
        if chapters:
            output.set_chapters(
                [
                    {"id": index, "start": start, "end": end, "time_base": MILLISECOND, "metadata": {"title": title}}
                    for index, (title, start, end) in enumerate(CHAPTERS)
                ]
            )
        for index, frame in enumerate(clip()):
            made = av.VideoFrame.from_ndarray(frame)
            made.pts = index
            output.mux(stream.encode(made))
        output.mux(stream.encode(None))
        if cover:
            output.mux(picture.encode(av.VideoFrame(16, 16, "yuvj420p")))
            output.mux(picture.encode(None))
        for track, codec in tracks:
            for start, text in ((100, b"hello"), (600, b"there")):
                content = len(text).to_bytes(2, "big") + text if codec == "mov_text" else text
                packet = av.Packet(content)
                packet.stream, packet.pts, packet.dts, packet.duration = track, start, start, 300
                packet.time_base, packet.is_keyframe = MILLISECOND, True
                output.mux(packet)
    return path


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


# --- sound


def with_sound(path: Path, codec: str, layout: str = "stereo", rate: int = 48_000, seconds: float = 0.5) -> Path:
    """Each channel with a tone of its own: 300 Hz, 400 Hz, ..."""
    with av.open(str(path), "w") as output:
        video = "msmpeg4v3" if path.suffix == ".wmv" else "libx264"
        stream = output.add_stream(video, rate=10, width=48, height=32, pix_fmt="yuv420p")
        track = output.add_stream(codec, rate=rate, layout=layout)
        track.codec_context.bit_rate = 64_000 * track.codec_context.channels
        for index, frame in enumerate(clip(round(seconds * 10))):
            made = av.VideoFrame.from_ndarray(frame)
            made.pts = index
            output.mux(stream.encode(made))
        output.mux(stream.encode(None))
        times = np.arange(round(rate * seconds))[:, None] / rate
        tones = 300 + 100 * np.arange(av.AudioLayout(layout).nb_channels)
        wave = (np.sin(times * tones * 2 * np.pi) * 6000).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="s16", layout=layout)
        sound.rate, sound.pts = rate, 0
        output.mux(track.encode(sound))
        output.mux(track.encode(None))
    return path


def heard(path: Path) -> tuple[str, str, np.ndarray]:
    """Codec, layout and samples [N, channels] of the first track."""
    with av.open(str(path)) as container:
        track = container.streams.audio[0]
        layout = track.codec_context.layout
        resampler = av.AudioResampler(format="s16")  # interleaved: PyAV 18 reads 8 planes wrongly
        parts = [part.to_ndarray() for frame in container.decode(track) for part in resampler.resample(frame)]
        return track.codec_context.name, layout.name, np.concatenate(parts, axis=1).reshape(-1, layout.nb_channels)


LAYOUTS = ["mono", "2.1", "4.0", "5.0(side)", "5.1(side)", "6.1(back)", "7.1(wide)", "5.1.2"]
MORE_LAYOUTS = [
    "stereo",
    "downmix",
    "3.0",
    "3.0(back)",
    "quad",
    "quad(side)",
    "3.1",
    "5.0",
    "4.1",
    "5.1",
    "6.0",
    "6.0(front)",
    "3.1.2",
    "hexagonal",
    "6.1",
    "6.1(front)",
    "7.0",
    "7.0(front)",
    "7.1",
    "7.1(wide-side)",
    "5.1.2(back)",
    "octagonal",
    "cube",
]


@pytest.mark.parametrize("layout", [*LAYOUTS, *(pytest.param(one, marks=pytest.mark.slow) for one in MORE_LAYOUTS)])
def test_every_layout_of_up_to_eight_channels_is_written(layout: str, tmp_path: Path):
    source = with_sound(tmp_path / "a.mov", "pcm_s16le", layout, seconds=0.2)
    channels = av.AudioLayout(layout).nb_channels
    for suffix in (".mp4", ".mov", ".mkv", ".webm"):
        target = tmp_path / f"b{suffix}"
        check_writer(target, probe(source))
        _, _, samples = heard(copy(source, target))
        assert samples.shape[1] == channels and abs(len(samples) / 48_000 - 0.2) < 0.03
        assert np.abs(samples[:, 0].astype(float)).mean() > 1000


@pytest.mark.parametrize("codec", ["ac3", "eac3"])
def test_side_channels_of_dolby_become_back_channels_of_opus(codec: str, tmp_path: Path):
    source = with_sound(tmp_path / "a.mp4", codec, "5.1(side)")
    name, layout, samples = heard(copy(source, tmp_path / "b.webm"))
    assert (name, layout) == ("opus", "5.1")
    spectrum = np.abs(np.fft.rfft(samples[4800:14400].astype(float), axis=0))
    loudest = spectrum.argmax(axis=0) * 5  # 9,600 samples of 48 kHz: steps of 5 Hz
    assert [int(tone) for tone in loudest[[0, 1, 2, 4, 5]]] == [300, 400, 500, 700, 800]
    with av.open(str(copy(source, tmp_path / "b.mp4"))) as container:
        assert container.streams.audio[0].codec_context.layout.name == "5.1(side)"  # copied


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 44_100, 96_000, 192_000])
def test_every_rate_is_written(rate: int, tmp_path: Path):
    source = with_sound(tmp_path / "a.mov", "pcm_s16le", rate=rate, seconds=0.2)
    for suffix in (".mp4", ".webm"):
        check_writer(tmp_path / f"b{suffix}", probe(source))
        heard(copy(source, tmp_path / f"b{suffix}"))


def test_sound_that_is_encoded_anew_is_said(tmp_path: Path, said: pytest.LogCaptureFixture):
    source = with_sound(tmp_path / "a.mov", "pcm_s16le", "5.1(side)")
    check_writer(tmp_path / "b.webm", probe(source))
    assert not said.messages
    copy(source, tmp_path / "b.webm")
    copy(source, tmp_path / "b.mp4")
    copy(source, tmp_path / "b.mov")
    assert said.messages == [
        f"{source}: its sound is encoded anew for .webm: pcm_s16le 5.1(side) to opus 5.1.",
        f"{source}: its sound is encoded anew for .mp4: pcm_s16le 5.1(side) to aac 5.1(side).",
    ]


@pytest.mark.parametrize(("name", "codec"), [("a.wmv", "wmav2"), ("a.mkv", "flac"), ("a.mkv", "libmp3lame")])
def test_the_end_of_the_sound_is_kept(name: str, codec: str, tmp_path: Path):
    """Decoders hold packets back: wmav2's last is 2,048 samples, 0.043 s, of 0.8 s."""
    source = with_sound(tmp_path / name, codec, seconds=0.8)
    with av.open(str(source)) as container:
        decoded = sum(frame.samples for frame in container.decode(audio=0))
    _, _, samples = heard(copy(source, tmp_path / "b.mov"))
    assert len(samples) >= decoded
    before, after = (np.abs(part.astype(float)).mean() for part in (samples[4800:9600], samples[36_000:36_800]))
    assert after > before / 2


def test_languages_and_defaults_of_several_tracks_are_kept(tmp_path: Path):
    source = make_video(tmp_path / "a.mkv", audio=["flac", "libopus"])
    for suffix in (".mkv", ".mp4", ".webm"):
        with av.open(str(copy(source, tmp_path / f"b{suffix}"))) as after, av.open(str(source)) as before:
            assert [one.metadata["language"] for one in after.streams.audio] == ["eng", "fra"]
            kept = [[int(one.disposition) & 1 for one in file.streams.audio] for file in (before, after)]
            assert suffix != ".mkv" or kept[0] == kept[1]


def test_a_language_that_a_format_does_not_know_is_named(tmp_path: Path, said: pytest.LogCaptureFixture):
    source = rich_video(tmp_path / "a.mp4", subtitles={"gla": "mov_text", "swe": "mov_text"})
    copy(source, tmp_path / "b.mov")
    assert said.messages == [f"{tmp_path / 'a.mp4'}: left out of b.mov: the language gla."]


def test_channels_that_change_within_a_track(tmp_path: Path):
    """AC-3 in a transport stream, as broadcast switches from stereo to 5.1."""
    parts = [with_sound(tmp_path / f"{n}.ts", "ac3", layout) for n, layout in enumerate(("stereo", "5.1(side)"))]
    source = tmp_path / "a.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    _, layout, samples = heard(copy(source, tmp_path / "b.webm"))
    assert layout in ("stereo", "5.1") and len(samples) > 0.8 * 48_000


def test_packets_that_a_muxer_refuses_do_not_cost_the_pictures(tmp_path: Path, said: pytest.LogCaptureFixture):
    """Their time jumps back on the way."""
    from instructx_core.video.other_tracks import OtherTracks

    source = make_video(tmp_path / "a.mp4", audio=["aac"])
    write = OtherTracks._mux

    def spoil(self: OtherTracks, packet: av.Packet) -> None:
        if packet.pts and packet.pts > 40_000:
            packet.pts = packet.dts = 0
        write(self, packet)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OtherTracks, "_mux", spoil)
        copy(source, tmp_path / "b.mkv")
    assert len(read(tmp_path / "b.mkv")[0]) == 10 and len(packets(tmp_path / "b.mkv")[0]) > 30
    assert "damaged packets beside the pictures" in said.messages[0] and len(said.messages) == 1


def test_a_gif_has_no_sound_and_says_so(tmp_path: Path, said: pytest.LogCaptureFixture):
    copy(make_video(tmp_path / "a.mp4", audio=["aac"]), tmp_path / "b.gif")
    assert said.messages == [f"{tmp_path / 'a.mp4'}: left out of b.gif: the sound (aac, eng)."]


def test_pictures_alone_say_nothing_of_the_sound(tmp_path: Path, said: pytest.LogCaptureFixture):
    source = make_video(tmp_path / "a.mp4", audio=["aac"])
    with VideoWriter(tmp_path / "b.mp4", like=replace(probe(source), has_audio=False)) as writer:
        writer.write(torch.zeros(*SIZE, 3, dtype=torch.uint8))
    assert not said.messages and not probe(tmp_path / "b.mp4").has_audio


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
    assert set(said.messages) == {f"{source}: it has 10 bits a channel, of which an edit keeps 8."}
    copy(source, tmp_path / "b.webm")
    assert said.messages[-1] == f"{tmp_path / 'a.mp4'}: left out of b.webm: the HDR10 metadata."


# --- before the edit


def test_what_cannot_be_written_is_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A codec that this FFmpeg lacks, a picture that an encoder refuses, and a container that refuses a codec."""
    source = make_video(tmp_path / "a.mp4")
    mp4 = writer_module._CONTAINERS[".mp4"]
    for change in ({"codec": "no_such_codec"}, {"codec": "libvpx"}, {"options": {"profile": "high422", "crf": "-"}}):
        monkeypatch.setitem(writer_module._CONTAINERS, ".mp4", replace(mp4, **change))
        with pytest.raises(InputError, match=r"b\.mp4: what a\.mp4 holds cannot be written in this format") as told:
            check_output(tmp_path / "b.mp4", source)
        assert "\n" not in str(told.value)
    monkeypatch.setitem(writer_module._CONTAINERS, ".mp4", mp4)
    assert check_output(tmp_path / "b.mp4", source) == tmp_path / "b.mp4"
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_sound_that_cannot_be_written_is_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = with_sound(tmp_path / "a.mov", "pcm_s16le", "5.1")
    mp4 = writer_module._CONTAINERS[".mp4"]
    monkeypatch.setitem(writer_module._CONTAINERS, ".mp4", replace(mp4, audio_codec="libvorbis"))
    with pytest.raises(InputError, match="cannot be written in this format"):
        check_output(tmp_path / "b.mp4", source)


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


def test_packets_of_copied_sound_are_unchanged(tmp_path: Path):
    source = with_sound(tmp_path / "a.mp4", "ac3", "5.1(side)")
    assert packets(copy(source, tmp_path / "b.mkv")) == packets(source)
