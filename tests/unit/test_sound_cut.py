"""The sound of a part of a file, to the sample; and the part's frames without decoding anything anew."""

from fractions import Fraction as F

import av
import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.long_video.footage import look_through, take_span
from instructx_core.video.sound import cut_sound, read_sound
from instructx_core.windows import Window
from support import video_files


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A second of 10 frames with two tracks of 48,000 samples."""
    return video_files.make_video(tmp_path_factory.mktemp("sound") / "a.mkv", audio=["pcm_s16le", "pcm_s16le"])


def test_whole_sound(path):
    sound = read_sound(path)
    assert sound.rate == 48000
    assert sound.samples.shape == (2, 48000)


@pytest.mark.parametrize(("start", "stop"), [(F(1, 4), F(3, 4)), (F(1, 3), None), (F(0), F(1, 10)), (F(9, 10), F(5))])
def test_a_part_of_it(path, start, stop):
    whole = read_sound(path).samples
    first, last = round(start * 48000), min(48000, 48000 if stop is None else round(stop * 48000))
    assert torch.equal(read_sound(path, start, stop).samples, whole[:, first:last])


def test_nothing_to_hear(path, tmp_path):
    assert read_sound(path, F(2)) is None
    target = tmp_path / "cut.mka"
    assert not cut_sound(path, F(2), None, target)
    assert not target.exists()
    assert read_sound(video_files.make_video(tmp_path / "silent.mp4")) is None


def test_sound_that_begins_late_keeps_its_time(path, tmp_path):
    late = tmp_path / "late.mkv"
    with av.open(str(path)) as file, av.open(str(late), "w") as output:
        (video, _, track) = file.streams
        added = {one.index: output.add_stream_from_template(one) for one in (video, track)}
        for packet in file.demux(video, track):
            if packet.dts is None:
                continue
            if packet.stream_index == track.index:
                packet.pts, packet.dts = packet.pts + 250, packet.dts + 250  # milliseconds
            packet.stream = added[packet.stream_index]
            output.mux(packet)
    sound = read_sound(late).samples
    assert sound.shape[1] == 60000
    assert not sound[:, :12000].any()
    assert torch.equal(sound[:, 12000:], read_sound(path).samples)


def ac3(path, layouts):
    """A track whose layout changes every half second: raw AC3 packets, one encoder after the other."""
    with av.open(str(path), "w", format="ac3") as output:
        track = output.add_stream("ac3", rate=48000, layout=layouts[0])
        for number, layout in enumerate(layouts):
            encoder = av.CodecContext.create("ac3", "w")
            encoder.sample_rate, encoder.layout, encoder.format = 48000, layout, "fltp"
            encoder.open()
            for start in range(0, 24576, 1536):
                wave = torch.sin(torch.arange(start, start + 1536) * 0.05) * 0.5
                frame = av.AudioFrame.from_ndarray(wave.expand(encoder.channels, -1).numpy(), "fltp", layout)
                frame.sample_rate, frame.pts, frame.time_base = 48000, start, F(1, 48000)
                for packet in encoder.encode(frame):
                    packet.stream, packet.pts, packet.dts = track, number * 24576 + start, number * 24576 + start
                    output.mux(packet)
    return path


def test_sound_whose_channels_change_comes_in_one_layout(tmp_path):
    source = ac3(tmp_path / "a.ac3", ["stereo", "5.1(side)"])
    samples = read_sound(source).samples
    assert samples.shape[1] == 49152 and min(samples[:, :2000].abs().amax(), samples[:, -2000:].abs().amax()) > 0.1
    target = tmp_path / "cut.mka"
    assert cut_sound(source, F(0), None, target)
    assert read_sound(target).samples.shape == samples.shape


def test_a_gap_is_silence(tmp_path):
    source = video_files.make_video(tmp_path / "a.mkv", audio=["flac"])
    gapped = tmp_path / "gapped.mkv"
    with av.open(str(source)) as file, av.open(str(gapped), "w") as output:
        track = file.streams.audio[0]
        added = output.add_stream_from_template(track)
        for packet in file.demux(track):
            if packet.dts is None or F(1, 4) <= packet.pts * packet.time_base < F(3, 4):
                continue
            packet.stream = added
            output.mux(packet)
    whole, found = read_sound(source).samples, read_sound(gapped).samples
    assert abs(found.shape[1] - whole.shape[1]) < 100  # a clock of milliseconds
    assert torch.equal(found[:, :10000], whole[:, :10000]) and torch.equal(found[:, -8000:], whole[:, -8000:])
    assert not found[:, 18000:34000].any() and whole[:, 18000:34000].any()


def test_short_gaps_add_up_to_silence_too(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        track = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(20):  # 70 ms of sound every 100 ms
            frame = av.AudioFrame.from_ndarray(torch.full((1, 560), 1000, dtype=torch.int16).numpy(), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, 800 * number, F(1, 8000)
            output.mux(track.encode(frame))
    samples = read_sound(tmp_path / "a.mkv").samples
    assert abs(samples.shape[1] / 8000 - 1.97) <= 0.05


@pytest.mark.parametrize("first", [0, 1], ids=["between", "before"])
def test_a_pause_that_does_not_fit_into_memory_is_refused(first, tmp_path, monkeypatch):
    with av.open(str(tmp_path / "a.mkv"), "w") as output:
        track = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in (0, 1)[first:]:
            frame = av.AudioFrame.from_ndarray(torch.full((1, 800), 1000, dtype=torch.int16).numpy(), "s16", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, 800_000 * number, F(1, 8000)
            output.mux(track.encode(frame))
    assert read_sound(tmp_path / "a.mkv", F(0), F(1, 2)).samples.shape == (1, 4000)
    assert read_sound(tmp_path / "a.mkv").samples.shape == (1, 800_800)
    monkeypatch.setattr("instructx_core.video.sound.free_main_memory", lambda: 1_000_000)
    with pytest.raises(InputError, match=r"a\.mkv: its sound pauses for 100 s"):
        read_sound(tmp_path / "a.mkv")


def test_sound_that_does_not_fit_into_memory_is_refused(path, monkeypatch):
    monkeypatch.setattr("instructx_core.video.sound.CHECKED_EVERY", 100_000)
    monkeypatch.setattr("instructx_core.video.sound.free_main_memory", lambda: 200_000)
    assert read_sound(path, F(0), F(1, 4)).samples.shape == (2, 12000)
    with pytest.raises(InputError, match=r"a\.mkv: its sound is longer than fits into memory"):
        read_sound(path)


def test_every_track_is_cut(path, tmp_path):
    target = tmp_path / "cut.mka"
    assert cut_sound(path, F(1, 4), F(3, 4), target)
    with av.open(str(target)) as file:
        assert [track.metadata["language"] for track in file.streams.audio] == ["eng", "fra"]
    assert torch.equal(read_sound(target).samples, read_sound(path).samples[:, 12000:36000])


def test_the_frames_of_a_part(path, tmp_path):
    whole = look_through(path)
    part = take_span(whole, F(1, 4), F(7, 10), sound=None)
    assert [pts * part.info.time_base for pts in part.pts] == [F(0), F(1, 10), F(2, 10), F(3, 10)]
    assert part.last_duration * part.info.time_base == F(1, 10)
    assert part.info.frames == 4
    assert not part.info.has_audio
    assert part.sha256 not in (whole.sha256, take_span(whole, F(1, 4), None).sha256)
    (wanted,) = whole.read([Window(3, 7, 0)])
    (found,) = part.read([Window(0, 4, 0)])
    assert torch.equal(found, wanted)
    with pytest.raises(InputError, match=r"has no frames from 2 s to 3 s"):
        take_span(whole, F(2), F(3))
