"""The procedural world: exact ground truth, determinism, and words that fit the pictures."""

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instructx_core.errors import InputError
from instructx_core.world import EDIT_KINDS, GROUPS, HELD_OUT_SEED, sample_triplet
from instructx_core.world.drawing import REACH, Edge, draw_shape
from instructx_core.world.language import caption
from instructx_core.world.scenes import ADDED_RADIUS, Canvas, is_clear, render
from instructx_core.world.triplets import draft_triplet, make_rng
from instructx_core.world.vocabulary import BACKGROUNDS, COLOURS, GRID, NOUNS, PLACES, SHAPES, SYNONYMS
from recipes.tiny.questions import corpus, sample_question

LOCAL = ("recolor", "remove", "add", "replace", "reference_swap", "reference_add")
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.one_of(st.integers(0, 10**6), st.integers(HELD_OUT_SEED, HELD_OUT_SEED + 10**6))
sizes = st.sampled_from([(1, 64, 64), (1, 48, 80), (1, 96, 64), (5, 64, 64), (9, 64, 48), (33, 32, 32)])


def drafted(seed, group, size):
    canvas = Canvas(*size)
    return draft_triplet(make_rng(seed, GROUPS.index(group), canvas), group, canvas)


def polygon(shape, radius):
    """Corners (y, x) of a shape around the origin, straight from its definition."""
    if shape == "square":
        h = 0.85 * radius
        return np.array([(-h, -h), (-h, h), (h, h), (h, -h)])
    if shape == "triangle":
        return np.array([(-radius, 0), (0.55 * radius, 0.87 * radius), (0.55 * radius, -0.87 * radius)])
    corners = 10 if shape == "star" else 400
    angle = 2 * np.pi * np.arange(corners) / corners
    r = np.where(np.arange(corners) % 2, 0.45, 1.0) * radius if shape == "star" else np.full(corners, radius)
    return np.stack([-r * np.cos(angle), r * np.sin(angle)], 1)


def inside(corners, y, x):
    """Even-odd rule: does a ray to the right cross the outline an odd number of times?"""
    odd = np.zeros(np.broadcast(y, x).shape, bool)
    for (y0, x0), (y1, x1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if y0 != y1:
            odd ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return odd


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("edge", [Edge("hard"), Edge("supersampled"), Edge("soft", 1.0)], ids=lambda e: e.mode)
def test_shapes_cover_their_polygons(shape, edge):
    size, fine, radius = 40, 8, 11.3
    centre = np.array([19.37, 21.81])
    drawn = np.zeros((1, size, size, 3), np.float32)
    draw_shape(drawn, shape, (1, 1, 1), centre[None], radius, edge)
    at = (np.arange(size * fine) + 0.5) / fine
    if edge.mode == "hard":  # in or out by each pixel's centre
        y, x = np.arange(size)[:, None] + 0.5 - centre[0], np.arange(size)[None] + 0.5 - centre[1]
        np.testing.assert_array_equal(drawn[0, ..., 0] == 1, inside(polygon(shape, radius), y, x))
        return
    hits = inside(polygon(shape, radius), at[:, None] - centre[0], at[None] - centre[1])
    area = hits.reshape(size, fine, size, fine).mean((1, 3))
    whole = (area == 0) | (area == 1)
    error = np.abs(drawn[0, ..., 0] - area)
    # A soft edge reaches half a pixel, diagonally a little into neighbours that the outline does not cross.
    assert error[whole].max() <= (0.25 if edge.mode == "soft" else 0)
    assert error.mean() < 0.008
    assert abs(drawn[0, ..., 0].sum() - area.sum()) / area.sum() < 0.04
    assert np.hypot(*polygon(shape, radius).T).max() == pytest.approx(REACH[shape] * radius)


def test_a_shape_cut_by_the_border_matches_its_uncut_self():
    large, small = np.zeros((1, 60, 60, 3), np.float32), np.zeros((1, 40, 40, 3), np.float32)
    draw_shape(large, "star", (1, 0.5, 0), np.array([[12.0, 48.0]]), 9, Edge("soft"))
    draw_shape(small, "star", (1, 0.5, 0), np.array([[2.0, 38.0]]), 9, Edge("soft"))
    np.testing.assert_array_equal(small, large[:, 10:50, 10:50])
    draw_shape(small, "circle", (1, 1, 1), np.array([[200.0, -90.0]]), 9, Edge("soft"))
    np.testing.assert_array_equal(small, large[:, 10:50, 10:50])


@quick
@given(seeds, st.sampled_from(GROUPS), sizes)
def test_triplets_are_deterministic_and_well_formed(seed, group, size):
    frames, height, width = size
    one, two = (sample_triplet(seed, group, frames=frames, height=height, width=width) for _ in range(2))
    assert one.instruction == two.instruction and one.edits == two.edits
    for a, b in ((one.source, two.source), (one.target, two.target), *zip(one.references, two.references, strict=True)):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.float32 and a.min() >= 0 and a.max() <= 1
    assert one.source.shape == one.target.shape == (frames, height, width, 3)
    is_reference = group.startswith("reference")
    assert [r.shape for r in one.references] == [(min(height, width),) * 2 + (3,)] * is_reference
    assert one.edits == (group,) if group != "hybrid" else len(set(one.edits)) == 2 and set(one.edits) < set(EDIT_KINDS)
    edited = np.abs(one.target - one.source).max(-1) > 0.1
    assert edited.any(axis=(1, 2)).all(), "something changes in every frame"
    if group in LOCAL:
        assert edited.mean() < 0.2


def test_every_argument_changes_the_sample():
    base = sample_triplet(3, "recolor", frames=5)
    assert not np.array_equal(base.source, sample_triplet(4, "recolor", frames=5).source)
    assert not np.array_equal(base.source, sample_triplet(3, "remove", frames=5).source)
    assert not np.array_equal(base.source, sample_triplet(3, "recolor", frames=6).source[:5])


@quick
@given(seeds, st.sampled_from(LOCAL), sizes)
def test_local_edits_touch_only_their_object(seed, group, size):
    draft = drafted(seed, group, size)
    source, target = render(draft.source), render(draft.target)
    before, after = set(draft.source.objects), set(draft.target.objects)
    assert (len(before - after), len(after - before)) == {"remove": (1, 0), "add": (0, 1), "reference_add": (0, 1)}.get(
        group, (1, 1)
    )
    frames, height, width = size
    y, x = np.arange(height)[:, None] + 0.5, np.arange(width)[None] + 0.5
    near = np.zeros((frames, height, width), bool)
    for o in before ^ after:
        cy, cx = o.path(draft.source.canvas).T[:, :, None, None]
        near |= np.hypot(y - cy, x - cx) <= o.reach(draft.source.canvas) + 2
    np.testing.assert_array_equal(source[~near], target[~near])
    if group == "remove":  # what is uncovered is the ground that was there
        removed = next(iter(before - after))
        others = [o for o in draft.source.objects if o is not removed]
        assert list(draft.target.objects) == others
    for old, new in zip(sorted(before - after, key=str), sorted(after - before, key=str), strict=False):
        assert (old.start, old.velocity, old.radius) == (new.start, new.velocity, new.radius)


@quick
@given(seeds, st.sampled_from(GROUPS), sizes)
def test_objects_stay_apart_and_show_their_colours(seed, group, size):
    draft = drafted(seed, group, size)
    for scene in (draft.source, draft.target):
        canvas = scene.canvas
        assert is_clear(canvas, scene.objects)
        assert len({(o.colour, o.shape) for o in scene.objects}) == len(scene.objects)
        if scene.effects:
            continue
        pixels = render(scene)
        for o in scene.objects:
            for t, (y, x) in enumerate(o.path(canvas)):
                assert 0 <= y < canvas.height and 0 <= x < canvas.width
                np.testing.assert_allclose(pixels[t, int(y), int(x)], COLOURS[o.colour], atol=1e-6)
    for o in draft.source.objects:
        assert 1 / 8 <= o.radius <= 3 / 16


@quick
@given(seeds, sizes)
def test_pixel_and_background_edits_are_exact(seed, size):
    frames, height, width = size
    for group in ("grayscale", "invert", "background"):
        t = sample_triplet(seed, group, frames=frames, height=height, width=width)
        if group == "grayscale":
            luma = 0.299 * t.source[..., 0] + 0.587 * t.source[..., 1] + 0.114 * t.source[..., 2]
            np.testing.assert_allclose(t.target, np.repeat(luma[..., None], 3, -1), atol=1e-6)
        elif group == "invert":
            np.testing.assert_array_equal(t.target, 1 - t.source)
    draft = drafted(seed, "background", size)
    old, new = draft.source.background, draft.target.background
    assert old != new and draft.source.relief is draft.target.relief and draft.source.objects == draft.target.objects
    shift = (render(draft.target) - render(draft.source))[:, 0, 0]
    if not any(
        (o.path(draft.source.canvas) < 3 * o.reach(draft.source.canvas)).all(1).any() for o in draft.source.objects
    ):
        np.testing.assert_allclose(
            shift, np.tile(np.subtract(BACKGROUNDS[new], BACKGROUNDS[old]), (frames, 1)), atol=0.03
        )
    assert np.abs(draft.source.relief).max() <= 0.16


@quick
@given(seeds, st.sampled_from(["add", "reference_add"]), sizes)
def test_added_objects_stand_where_the_words_say(seed, group, size):
    draft = drafted(seed, group, size)
    new = draft.target.objects[-1]
    assert new.velocity == (0, 0) and new.radius == ADDED_RADIUS
    text = draft.instruction.lower()
    place = next(p for p, at in PLACES.items() if at == new.start)
    assert any(form in text for form in (place, *SYNONYMS[place]))
    if group == "add":
        assert any(c in text for c in (new.colour, *SYNONYMS.get(new.colour, ())))
        assert any(s in text for s in (new.shape, *SYNONYMS.get(new.shape, ())))
    else:
        shown = draft.references[0].objects
        assert [(o.colour, o.shape) for o in shown] == [(new.colour, new.shape)]


def spellings(word):
    return "|".join((word, *SYNONYMS.get(word, ())))


@quick
@given(
    seeds,
    st.sampled_from(["recolor", "remove", "replace", "reference_swap"]),
    st.sampled_from([(1, 64, 64), (9, 64, 64)]),
)
def test_an_instruction_names_exactly_the_object_it_changes(seed, group, size):
    draft = drafted(seed, group, size)
    changed = (set(draft.source.objects) - set(draft.target.objects)).pop()
    colours = {spelled: c for c in COLOURS for spelled in spellings(c).split("|")}
    shapes = {spelled: s for s in SHAPES for spelled in spellings(s).split("|")}
    named = re.findall(
        rf"\b(?:the|no) (?:({'|'.join(colours)}) ({'|'.join(shapes)}|{'|'.join(NOUNS)})"
        rf"|({'|'.join(shapes)}))\b(?! (?:in|from) the ref)",
        draft.instruction.lower(),
    )
    assert len(named) == 1, draft.instruction
    colour, noun, alone = named[0]
    meant = [
        o
        for o in draft.source.objects
        if (not colour or o.colour == colours[colour])
        and ((alone or noun) not in shapes or o.shape == shapes[alone or noun])
    ]
    assert meant == [changed], draft.instruction


def test_hybrids_touch_different_things_and_end_with_the_pixels():
    pairs = set()
    for seed in range(150):
        draft = drafted(seed, "hybrid", (1, 64, 64))
        pairs.add(draft.edits)
        assert draft.edits[0] not in ("grayscale", "invert")
        assert " then " in draft.plan and draft.plan.count(" then ") == 1
        assert re.search(r"\b(and|then)\b", draft.instruction.lower())
    assert len(pairs) > 20


def test_the_wordings_of_the_issue_all_occur():
    wanted = {
        "recolor": [r"change the \w+ \w+ to \w+$", r"make the \w+ \w+ \w+$"],
        "remove": [r"remove the \w+ \w+$", r"delete the \w+ \w+$"],
        "add": [r"add an? \w+ \w+ in the top left$", r"add an? \w+ \w+ in the center$"],
        "replace": [r"replace the \w+ \w+ with a \w+$", r"turn the \w+ \w+ into a \w+$"],
        "background": [r"make the background \w+$", r"change the background to \w+$"],
        "grayscale": [r"make it grayscale$"],
        "invert": [r"invert the colors$"],
    }
    for group, patterns in wanted.items():
        texts = [drafted(seed, group, (1, 32, 32)).instruction.lower().rstrip(".!") for seed in range(250)]
        for pattern in patterns:
            assert any(re.match(pattern, text) for text in texts), pattern


def test_instructions_vary_and_read_as_english():
    for group in GROUPS:
        texts = [drafted(seed, group, (1 + 4 * (seed % 2), 32, 32)).instruction for seed in range(80)]
        assert len(set(texts)) > 25, group
        assert (
            {t[-1] for t in texts} >= {".", "!"}
            and any(t.isupper() for t in texts)
            and any(t[0].islower() for t in texts)
        )
        for text in texts:
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|  |[{}]|\s$", text.lower()), text
            assert not re.search(r" [.!?,]|[.!?]{2}", text), text


def test_captions_say_what_is_there():
    for seed in range(40):
        t = sample_triplet(seed, "hybrid", frames=5)
        draft = drafted(seed, "hybrid", (5, 64, 64))
        assert t.source_caption == caption(draft.source)
        for scene, text in ((draft.source, t.source_caption), (draft.target, t.target_caption)):
            assert f"{scene.background} background" in text
            for o in scene.objects:
                assert f"{o.colour} {o.shape} at the {o.position()}" in text
            assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", text)
            assert ("in grayscale" in text) == ("grayscale" in scene.effects)


def test_positions_are_thirds_of_the_frame():
    draft = drafted(0, "recolor", (1, 48, 80))
    for o in draft.source.objects:
        y, x = o.path(draft.source.canvas)[0]
        assert o.position() == GRID[int(y // 16)][int(x // (80 / 3))]


@quick
@given(seeds, sizes)
def test_questions_have_answers_and_are_deterministic(seed, size):
    frames, height, width = size
    one, two = (sample_question(seed, frames=frames, height=height, width=width) for _ in range(2))
    assert (one.question, one.answer) == (two.question, two.answer)
    np.testing.assert_array_equal(one.frames, two.frames)
    assert one.frames.shape == (frames, height, width, 3)
    assert one.answer and one.answer == one.answer.lower()
    assert one.question[-1] in ".?!"


def test_question_answers_agree_with_the_pixels():
    asked = {"what color": 0, "point to": 0}
    for seed in range(200):
        q = sample_question(seed)
        text = q.question.lower()
        if text.startswith("what color is the") and "background" not in text:
            distance = np.abs(q.frames - np.array(COLOURS[q.answer], np.float32)).max(-1)
            assert (distance < 1e-5).sum() > 50
            asked["what color"] += 1
        elif text.startswith("point to"):
            row, column = (int(n) - 1 for n in re.findall(r"\d", q.answer))
            cell = q.frames[0, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].reshape(-1, 3)
            close = [np.abs(cell - np.array(c, np.float32)).max(-1).min() < 1e-5 for c in COLOURS.values()]
            assert any(close)
            asked["point to"] += 1
    assert min(asked.values()) > 3


def test_the_corpus_holds_every_word_of_the_samples():
    words = set()
    count = 0
    for text in corpus():
        count += 1
        words.update(re.findall(r"[a-z']+|\d", text.lower()))
    assert count > 10_000
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 40):
        for group in GROUPS:
            draft = drafted(seed, group, (1, 32, 32))
            assert set(re.findall(r"[a-z']+", draft.instruction.lower())) <= words
        question = sample_question(seed, height=32, width=32)
        assert set(re.findall(r"[a-z']+|\d", f"{question.question} {question.answer}".lower())) <= words


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"group": "recolour"}, "group"),
        ({"seed": -1}, "seed"),
        ({"frames": 0}, "frames"),
        ({"height": 8}, "size"),
    ],
)
def test_bad_arguments_are_named(arguments, word):
    with pytest.raises(InputError, match=word):
        sample_triplet(**{"seed": 0, "group": "recolor", **arguments})
