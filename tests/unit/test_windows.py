"""Windows cover every frame once, each beginning with what the last one edited."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructx_core.errors import InputError
from instructx_core.windows import Span, final_frames, parse_cuts, plan_windows, snap


@st.composite
def plans(draw):
    """(frames, length, overlap, multiple, cuts) as the long path makes them: length and overlap 1 + n * multiple."""
    multiple = draw(st.sampled_from([1, 2, 4, 8]))
    length = 1 + multiple * draw(st.integers(1, 20))
    overlap = draw(st.sampled_from([0, *range(1, length, multiple)]))
    frames = draw(st.integers(1, 300))
    cuts = draw(st.sets(st.integers(1, max(1, frames - 1)), max_size=4)) if frames > 1 else set()
    return frames, length, overlap, multiple, cuts


def new_frames(windows):
    return [frame for window in windows for frame in range(window.start + window.head, window.stop)]


@given(frames=st.integers(1, 300), length=st.integers(1, 90), data=st.data())
def test_every_frame_is_new_in_exactly_one_window(frames, length, data):
    overlap = data.draw(st.integers(0, length - 1))
    windows = plan_windows(frames, length, overlap)
    assert new_frames(windows) == list(range(frames))
    assert all(len(window) <= length for window in windows)
    assert all(later.start + later.head == earlier.stop for earlier, later in itertools.pairwise(windows))


@given(plans())
def test_every_frame_is_made_once_however_the_last_window_is_placed(plan):
    frames, length, overlap, multiple, cuts = plan
    windows = plan_windows(frames, length, overlap, multiple=multiple, cuts=cuts)
    assert new_frames(windows) == list(range(frames))
    assert [frame for part in final_frames(windows) for frame in part] == list(range(frames))
    assert all(window.head < len(window) <= length for window in windows)


@given(plans())
def test_windows_of_a_scene_meet_on_latent_frames_and_are_full(plan):
    frames, length, overlap, multiple, cuts = plan
    windows = plan_windows(frames, length, overlap, multiple=multiple, cuts=cuts)
    for earlier, later in itertools.pairwise(windows):
        if later.start in cuts:  # a new scene
            assert later.head == 0 and later.start == earlier.stop
            continue
        assert later.start > earlier.start and later.head >= overlap
        assert len(earlier) == length and len(later) > length - multiple
        if overlap:
            assert (later.start - earlier.start) % multiple == 0 and later.head % multiple == 1 % multiple


@given(plans())
def test_no_window_reaches_over_a_cut(plan):
    frames, length, overlap, multiple, cuts = plan
    windows = plan_windows(frames, length, overlap, multiple=multiple, cuts=cuts)
    assert not any(window.start < cut < window.stop for window in windows for cut in cuts)
    assert cuts <= {window.start for window in windows}


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (1, [(0, 1, 0)]),
        (9, [(0, 9, 0)]),
        (10, [(0, 9, 0), (4, 10, 5)]),
        (17, [(0, 9, 0), (8, 17, 1)]),
        (19, [(0, 9, 0), (8, 17, 1), (12, 19, 5)]),
    ],
)
def test_the_last_window_is_drawn_back(frames, expected):
    windows = plan_windows(frames, 9, 1, multiple=4)
    assert [(window.start, window.stop, window.head) for window in windows] == expected


@pytest.mark.parametrize(("length", "overlap"), [(5, 5), (5, -1), (0, 0)])
def test_windows_that_cannot_advance_are_refused(length, overlap):
    with pytest.raises(InputError, match="overlap"):
        plan_windows(10, length, overlap)


@pytest.mark.parametrize("cuts", [[0], [10], [3, 12], [-1]])
def test_cuts_outside_the_video_are_refused(cuts):
    with pytest.raises(InputError, match=r"cuts: .* is outside the video"):
        plan_windows(10, 5, 1, cuts=cuts)


@given(st.integers(1, 500), st.sampled_from([1, 2, 4, 8]))
def test_a_snapped_length_is_the_nearest_that_the_codec_takes(frames, multiple):
    snapped = snap(frames, multiple)
    assert snapped >= 1 and (snapped - 1) % multiple == 0 and abs(snapped - frames) <= multiple / 2
    assert snap(snapped, multiple) == snapped


@pytest.mark.parametrize(
    ("text", "fps", "frames"),
    [
        ("5s", 16, 80),
        ("5s", Fraction(30000, 1001), 150),
        ("2.5s", 10, 25),
        ("33f", 24, 33),
        (" 33 ", 24, 33),
        ("0", 9, 0),
    ],
)
def test_spans_in_seconds_and_frames(text, fps, frames):
    assert Span.parse(text).frames(Fraction(fps)) == frames


@pytest.mark.parametrize(
    "text",
    [
        *("", "s", "five", "-1f", "1.5f", "2.5", "nan", "infs", "1/0s", "5m", "1e99s"),
        *("1/3s", "10/2f", "1e3f", "1e1s", "1_000f", "+5s", "5.s", ".s", "\u0663s"),  # the last: an Arabic 3
    ],
)
def test_other_spans_are_refused(text):
    with pytest.raises(InputError, match="is not a length"):
        Span.parse(text)


def test_cuts_from_text():
    assert parse_cuts("120, 0480") == (120, 480)
    for text in ("", "0", "1,,2", "-3", "1.5", "x", "٣", "9" * 5000):
        with pytest.raises(InputError, match="is not the first frame of a scene"):
            parse_cuts(text)
