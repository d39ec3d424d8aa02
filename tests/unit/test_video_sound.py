"""The sound of a video: every layout, rate and codec comes out, copied where it can be; what is lost is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.source import check_output
from instructx_core.video import VideoWriter, check_writer, probe
from instructx_core.video import writer as writer_module
from support.rich_videos import heard, with_sound
from support.video_files import SIZE, copy, make_video, packets, read

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
        f"{source}: its sound is re-encoded for .webm: pcm_s16le 5.1(side) to opus 5.1.",
        f"{source}: its sound is re-encoded for .mp4: pcm_s16le 5.1(side) to aac 5.1(side).",
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
    assert "damaged packets of other tracks" in said.messages[0] and len(said.messages) == 1


def test_a_gif_has_no_sound_and_says_so(tmp_path: Path, said: pytest.LogCaptureFixture):
    copy(make_video(tmp_path / "a.mp4", audio=["aac"]), tmp_path / "b.gif")
    assert said.messages == [f"{tmp_path / 'a.mp4'}: left out of b.gif: the sound (aac, eng)."]


def test_pictures_alone_say_nothing_of_the_sound(tmp_path: Path, said: pytest.LogCaptureFixture):
    source = make_video(tmp_path / "a.mp4", audio=["aac"])
    with VideoWriter(tmp_path / "b.mp4", like=replace(probe(source), has_audio=False)) as writer:
        writer.write(torch.zeros(*SIZE, 3, dtype=torch.uint8))
    assert not said.messages and not probe(tmp_path / "b.mp4").has_audio


def test_sound_that_cannot_be_written_is_found_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = with_sound(tmp_path / "a.mov", "pcm_s16le", "5.1")
    mp4 = writer_module._CONTAINERS[".mp4"]
    monkeypatch.setitem(writer_module._CONTAINERS, ".mp4", replace(mp4, audio_codec="libvorbis"))
    with pytest.raises(InputError, match="cannot be written in this format"):
        check_output(tmp_path / "b.mp4", source)


def test_packets_of_copied_sound_are_unchanged(tmp_path: Path):
    source = with_sound(tmp_path / "a.mp4", "ac3", "5.1(side)")
    assert packets(copy(source, tmp_path / "b.mkv")) == packets(source)
