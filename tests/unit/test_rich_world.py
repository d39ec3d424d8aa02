"""The rich world: looks are exact, grounds natural, words known, and what was there before is as it was."""

import hashlib
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instructx_core.errors import InputError
from instructx_core.world import (
    CLIP_GROUPS,
    EVERY_GROUP,
    GROUPS,
    HELD_OUT_SEED,
    PLAIN,
    RICH,
    Variety,
    sample_triplet,
)
from instructx_core.world.chinese import PHRASES as CHINESE_PHRASES
from instructx_core.world.grounds import sample_ground
from instructx_core.world.look_phrases import LOOK_PHRASES, LOOK_STATEMENTS
from instructx_core.world.looks import LOOKS, blur, pixelated
from instructx_core.world.outside import THINGS, outside_sentence
from instructx_core.world.scenes import Canvas, render
from instructx_core.world.triplets import draft_triplet, make_rng, stream_of
from instructx_core.world.vocabulary import BLUR, PHRASES, STYLES, TONES, WEATHER
from recipes.tiny.questions import rich_texts, sample_question
from recipes.tiny.tokenizer import train_tokenizer

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.one_of(st.integers(0, 10**6), st.integers(HELD_OUT_SEED, HELD_OUT_SEED + 10**6))
CHINESE = re.compile("[一-鿿]")


def drafted(seed, group, size=(1, 48, 48), variety=RICH):
    canvas = Canvas(*size)
    return draft_triplet(make_rng(seed, stream_of(group), canvas), group, canvas, variety, seed >= HELD_OUT_SEED)


def frames_of(group, frames=1):
    return max(frames, 3) if group in CLIP_GROUPS else frames


def test_the_plain_world_is_as_version_5_was_trained():
    """Recorded before the rich world was there."""
    digest = hashlib.sha256()
    for group in GROUPS:
        for seed, size in ((0, (1, 64, 64)), (77, (5, 48, 80)), (HELD_OUT_SEED + 3, (9, 64, 64))):
            t = sample_triplet(seed, group, frames=size[0], height=size[1], width=size[2])
            for array in (t.source, t.target, *t.references):  # coarse enough for another machine's rounding
                digest.update(np.round(array[..., ::7, ::7, :] * 50).astype(np.uint8).tobytes())
            digest.update(f"{t.instruction}{t.target_caption}".encode())
    for seed in range(40):
        question = sample_question(seed)
        digest.update(f"{question.question}{question.answer}".encode())
    assert digest.hexdigest()[:16] == "2e4fb548c3f82b46"


@quick
@given(seeds, st.sampled_from(EVERY_GROUP), st.sampled_from([(1, 64, 64), (1, 48, 80), (6, 32, 48)]))
def test_rich_triplets_are_deterministic_and_well_formed(seed, group, size):
    frames, height, width = frames_of(group, size[0]), *size[1:]
    one, two = (sample_triplet(seed, group, frames=frames, height=height, width=width, variety=RICH) for _ in range(2))
    assert one.instruction == two.instruction and one.instruction.strip()
    for a, b in ((one.source, two.source), (one.target, two.target)):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.float32 and a.shape == (frames, height, width, 3)
        assert a.min() >= 0 and a.max() <= 1
    assert (group == "outside") == np.array_equal(one.source, one.target)
    assert len(one.references) == group.startswith("reference")


@pytest.mark.parametrize("name", LOOKS)
def test_looks_are_exact_and_the_same_at_every_size(name):
    """A look of a picture twice as large, brought down, is the look of the picture: nothing hangs on pixels."""
    rng = np.random.default_rng(0)
    small = blur(rng.random((2, 48, 64, 3)).astype(np.float32), 0.12)
    small = np.clip((small - small.mean()) * 4 + 0.5, 0.02, 0.98)
    large = small.repeat(2, 1).repeat(2, 2)
    look = LOOKS[name]
    np.testing.assert_array_equal(look(small), look(small.copy()))
    down = look(large).reshape(2, 48, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(down - look(small)).mean() < 0.02
    assert np.abs(look(small) - small).mean() > 0.01
    assert look(small).min() >= 0 and look(small).max() <= 1


def test_tone_style_and_weather_follow_their_definitions():
    """Each target is the look of the source, and the words are those of the look."""
    met = set()
    for group, looks in (("tone", TONES), ("style", STYLES), ("weather", WEATHER)):
        for seed in range(40):
            draft = drafted(seed, group, (1, 24, 24))
            assert draft.plan in looks
            met.add(draft.plan)
            if draft.plan == BLUR:
                assert draft.target.blurred and not draft.source.blurred
                continue
            np.testing.assert_allclose(render(draft.target), np.clip(LOOKS[draft.plan](render(draft.source)), 0, 1))
    assert met == {*TONES, *STYLES, *WEATHER}


def test_cells_of_a_pixelated_picture_have_one_colour():
    frames = np.random.default_rng(1).random((1, 64, 64, 3)).astype(np.float32)
    cells = pixelated(frames).reshape(1, 16, 4, 16, 4, 3)
    assert np.ptp(cells, axis=(2, 4)).max() == 0
    np.testing.assert_allclose(cells[:, :, 0, :, 0], frames.reshape(1, 16, 4, 16, 4, 3).mean((2, 4)), atol=1e-6)


@quick
@given(seeds)
def test_a_mask_is_white_where_its_object_is(seed):
    draft = drafted(seed, "segment")
    source, mask = render(draft.source), render(draft.target)
    assert np.ptp(mask, axis=-1).max() == 0
    shown = draft.target.masks
    without = render(draft_without(draft.source, shown))
    changed = np.abs(source - without).max(-1) > 0.02
    assert (mask[..., 0][changed] > 0).mean() > (0.3 if draft.source.shadow else 0.99)
    y, x = shown.path(draft.source.canvas)[0]
    assert mask[0, int(y), int(x), 0] == 1


def draft_without(scene, o):
    from dataclasses import replace

    return replace(scene, objects=tuple(other for other in scene.objects if other is not o))


@quick
@given(seeds, st.sampled_from([5, 9, 17]))
def test_late_objects_are_not_there_at_first_and_whole_at_the_end(seed, frames):
    draft = drafted(seed, "late", (frames, 48, 64))
    source, target = render(draft.source), render(draft.target)
    late = next(o for o in draft.source.objects if o not in draft.target.objects)
    before = frames // 2
    if not draft.source.shadow:  # a shadow may come in a little earlier
        np.testing.assert_array_equal(source[:before], target[:before])
    assert np.abs(source[-1] - target[-1]).max() > 0.1
    y, x = late.path(draft.source.canvas)[-1]
    reach = late.reach(draft.source.canvas)
    assert reach <= y <= 48 - reach and reach <= x <= 64 - reach


def test_an_image_has_nothing_that_comes_late():
    with pytest.raises(InputError, match="late"):
        sample_triplet(0, "late")


def test_both_languages_are_spoken_by_every_group():
    for group in EVERY_GROUP:
        texts = [drafted(seed, group, (frames_of(group, 2), 16, 16)).instruction for seed in range(40)]
        chinese = sum(bool(CHINESE.search(text)) for text in texts)
        assert len(set(texts)) > 20, group
        assert 0 < chinese < 30, group
        for text in texts:
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  |[{}]|\s$", text.lower()) or group == "outside", text
    assert set(CHINESE_PHRASES) == set(PHRASES) | set(LOOK_PHRASES)
    assert set(LOOK_PHRASES) == set(LOOK_STATEMENTS)


def test_sentences_of_no_meaning_are_held_out_by_their_words():
    def words(held_out):
        rng = np.random.default_rng(3)
        return {outside_sentence(rng, held_out) for _ in range(600)}

    seen, unseen = words(False), words(True)
    assert len(seen) > 350 and len(unseen) > 250
    for word in THINGS:
        meeting = [any(re.search(rf"\b{word}s?\b", text, re.IGNORECASE) for text in texts) for texts in (seen, unseen)]
        assert meeting != [True, True], word


def test_natural_grounds_have_the_statistics_of_photographs():
    """Power falls about as one over frequency squared, and large gradients are rare: kurtosis above a Gaussian's."""
    slopes, kurtosis = [], []
    for seed in range(30):
        ground = sample_ground(np.random.default_rng(seed), 1, 128, 128)[0].mean(-1)
        assert ground.min() >= 0 and ground.max() <= 1
        power = np.abs(np.fft.fft2(ground - ground.mean())) ** 2
        radius = np.hypot(*np.meshgrid(np.fft.fftfreq(128) * 128, np.fft.fftfreq(128) * 128))
        bands = [power[(radius >= low) & (radius < 2 * low)].mean() for low in (2, 4, 8, 16)]
        slopes.append(np.polyfit(np.log([3, 6, 12, 24]), np.log(bands), 1)[0])
        gradient = np.diff(ground, axis=1).ravel()
        kurtosis.append(((gradient - gradient.mean()) ** 4).mean() / gradient.var() ** 2)
    assert -3.2 < np.median(slopes) < -1.2
    assert np.mean(np.array(kurtosis) > 4) > 0.3


def test_cameras_move_smoothly_over_a_ground():
    moved = 0
    for seed in range(12):
        clip = sample_ground(np.random.default_rng(seed), 9, 48, 64)
        assert clip.shape in ((1, 48, 64, 3), (9, 48, 64, 3))
        if len(clip) > 1:
            steps = np.abs(np.diff(clip, axis=0)).mean((1, 2, 3))
            assert steps.max() < 4 * steps.min() + 0.01
            moved += 1
    assert moved >= 3


def test_an_object_that_enters_a_clip_of_two_frames_is_in_the_second():
    for seed in range(20):
        t = sample_triplet(seed, "late", frames=2, height=48, width=64, variety=RICH)
        assert np.abs(t.source - t.target)[1].max() > 0.1


def test_the_tokenizer_of_a_rich_world_knows_its_words():
    """Sentences of either language come in few tokens and come back whole."""
    tokenizer = train_tokenizer(rich_texts(RICH), 1500)
    for group in EVERY_GROUP[:-1]:
        for seed in range(6):
            text = drafted(seed, group, (frames_of(group), 32, 32)).instruction
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.decode(ids).strip() == text.lower().strip()
            assert len(ids) <= 30, text


def test_questions_of_a_rich_world_ask_about_every_group():
    plans = [sample_question(seed, frames=5, height=32, width=32, variety=RICH) for seed in range(60)]
    answers = [question.answer for question in plans if question.question.startswith("instruction")]
    assert any(answer in (*TONES, *STYLES, *WEATHER) for answer in answers)
    assert any(answer == "nothing" for answer in answers)
    assert Variety() == PLAIN
