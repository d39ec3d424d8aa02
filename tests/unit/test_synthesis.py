"""Recipes with the world's experts against the world's own truth, and the filter against damaged experts."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from instructx_core.synthesis import RECIPES, Candidate, Choices, Experts, Tray, World
from instructx_core.synthesis.checks import CHANGED, DEFAULT, measured, passed_judge, passed_measures
from instructx_core.synthesis.world import Drawing
from instructx_core.world.reading import LOOKS, asked_scene, read_request
from instructx_core.world.scenes import Canvas, Object, render, sample_scene
from instructx_core.world.vocabulary import LOCAL_KINDS
from support.damaged_experts import Damage, damaged
from support.peak_memory import bytes_taken

KINDS = {"remove": "remove", "add": "add", "swap": "replace", "colour": "recolor", "style": "look", "tone": "look"}


def candidates(recipe: str, world: World, experts: Experts, key: str) -> list[Candidate]:
    clip = world.read(key)
    tray = Tray(clip)
    RECIPES[recipe].make(clip, experts, Choices(), tray)
    return [passed_judge(passed_measures(one, DEFAULT), DEFAULT, experts.judge) for one in tray.candidates]


def world_of(recipe: str, count: int, frames: int) -> World:
    return World(count, 1 if recipe == "advanced_edit" else frames, 64)


def drawn(scene) -> torch.Tensor:
    return torch.from_numpy((render(scene) * 255).round().astype(np.uint8))


def true_mask(scene, o) -> torch.Tensor:
    return torch.from_numpy(render(replace(scene, masks=o))[..., 0] >= 0.5)


def iou(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one & other).sum() / (one | other).sum()).item()


def check_pair(world: World, one: Candidate) -> None:
    """A kept pair against scenes that are built here from the sentence alone."""
    backwards = one.task in ("add", "reference_add")
    before, after = (one.target, one.source) if backwards else (one.source, one.target)
    scene = world.known(before).scene
    sentence = one.instructions[0]
    request = read_request(sentence, scene)
    assert request is not None, sentence
    assert request.kind == KINDS.get(one.task, one.task), sentence
    subject = None
    if one.reference is not None:
        subject = world.known(one.reference).scene.objects[0]
        assert one.reference.shape[:2] == (64, 64)
    if backwards:
        colour, shape = (subject.colour, subject.shape) if subject else (request.colour, request.shape)
        named = [o for o in scene.objects if (o.colour, o.shape, o.position()) == (colour, shape, request.spot)]
        assert len(named) == 1, sentence
        old, truth = named[0], replace(scene, objects=tuple(o for o in scene.objects if o is not named[0]))
    else:
        old, truth = request.old, asked_scene(request, scene, subject)
    assert torch.equal(after, drawn(truth)), f"{one.key}: {sentence}"
    if old is None:
        assert one.mask is None
        return
    mask = true_mask(scene, old)
    for new in truth.objects:
        if new not in scene.objects:
            mask |= true_mask(truth, new)
    assert iou(one.mask, mask) >= 0.99, f"{one.key}: {sentence}"


def check_recipe(recipe: str, count: int, frames: int) -> Counter[str]:
    world = world_of(recipe, count, frames)
    experts, ends = world.experts(), Counter()
    for key in world.keys():
        made = candidates(recipe, world, experts, key)
        assert made
        for one in made:
            ends[one.reason or "kept"] += 1
            if not one.reason:
                check_pair(world, one)
    return ends


@pytest.mark.parametrize("recipe", RECIPES)
def test_pairs_are_the_worlds_own(recipe):
    ends = check_recipe(recipe, 4, 2)
    swaps = recipe.startswith("swap")
    assert ends["kept"] and (swaps or set(ends) == {"kept"})
    if swaps:
        assert set(ends) - {"kept"} <= {"static background", "dynamic background", "no alternative"}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_hundred_clips_are_the_worlds_own(recipe):
    ends = check_recipe(recipe, 200, 5)
    print(recipe, dict(ends))
    assert ends["kept"] >= (60 if recipe.startswith("swap") else 580)


def check_damage(kind: str, share: float, count: int, frames: int) -> tuple[float, float]:
    """The dropped share of damaged clips' pairs, and of the others'."""
    world, damage = World(count, frames, 64), Damage(share)
    experts = damaged(world, kind, damage)
    dropped, made = Counter(), Counter()
    for key in world.keys():
        damage.clip = key
        for one in candidates("add_remove", world, experts, key):
            struck = key in damage.struck
            made[struck] += 1
            dropped[struck] += bool(one.reason)
    assert made[True] and made[False]
    return dropped[True] / made[True], dropped[False] / made[False]


@pytest.mark.parametrize(("kind", "share"), [("detections", 0.4), ("masks", 0.5), ("erasure", 0.5)])
def test_the_filter_drops_what_is_damaged(kind, share):
    bad, good = check_damage(kind, share, 8, 2)
    assert bad >= 0.9
    assert good <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "share"), [("detections", 0.1), ("masks", 0.5), ("erasure", 0.5)])
def test_the_filter_drops_what_is_damaged_in_two_hundred_clips(kind, share):
    bad, good = check_damage(kind, share, 200, 5)
    print(kind, bad, good)
    assert bad >= 0.9
    assert good <= 0.05


def test_a_judge_sees_a_wrong_sentence():
    world = World(4, 1, 64)
    experts = world.experts()
    one = next(c for key in world.keys() for c in candidates("add_remove", world, experts, key) if c.task == "remove")
    assert experts.judge.rate(one.source, one.target, one.instructions[0], None) == {
        "follow": 10.0,
        "preserve": 10.0,
        "quality": 10.0,
    }
    assert experts.judge.rate(one.source, one.target, "make it sepia", None)["follow"] < 7
    assert experts.judge.rate(one.source, one.source, one.instructions[0], None)["follow"] == 0
    assert experts.judge.rate(one.source, one.target, "dance", None)["follow"] == 0


def test_measures_of_a_known_pair():
    source = torch.zeros(2, 10, 10, 3, dtype=torch.uint8)
    target, mask = source.clone(), torch.zeros(2, 10, 10, dtype=torch.bool)
    mask[0, :4, :5] = True
    target[0, :2, :5, 1] = CHANGED
    target[1, 9, 9] = 255
    one = Candidate("a-00", "a", "remove", source, target, ("x",), mask=mask)
    assert measured(one) == pytest.approx(
        {"change": 11 / 200, "area": 0.1, "seen": 0.5, "fit": 0.5, "outside": 1 / (200 - 6 * 7)}
    )
    assert passed_measures(one, {"fit": (0.6, 1)}).reason == "fit below 0.6"
    assert passed_measures(one, {"seen": (0, 0.4)}).reason == "seen above 0.4"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' counters of memory")
def test_measures_of_a_clip_take_few_bytes_per_pixel():
    source = torch.zeros(120, 192, 256, 3, dtype=torch.uint8)
    target, mask = source + 9, torch.zeros(120, 192, 256, dtype=torch.bool)
    mask[:, :90] = True
    one = Candidate("a-00", "a", "remove", source, target, ("x",), mask=mask)
    measured(replace(one, source=source[:1], target=target[:1], mask=mask[:1]))  # libraries start
    assert bytes_taken(lambda: measured(one)) <= 16 * mask.numel()


def test_without_a_subject_everything_is_dropped():
    world = World(1, 3, 64)
    scene = replace(world.known(world.read(world.keys()[0]).frames).scene, objects=())
    clip = replace(world.read(world.keys()[0]), frames=world.show(Drawing(scene)))
    for recipe in ("add_remove", "swap_static", "swap_dynamic", "advanced_edit"):
        tray = Tray(clip)
        RECIPES[recipe].make(clip, world.experts(), Choices(), tray)
        assert {one.reason for one in tray.candidates} <= {"no subject", "no person"}
        assert len(tray.candidates) >= 2


def test_every_wording_of_the_world_reads_back():
    """Sentences that the world's own edits draw, politely and not, against what the edit did."""
    from instructx_core.world.edits import apply_edit
    from instructx_core.world.language import style

    rng, read = np.random.default_rng(0), Counter()
    for kind in (*LOCAL_KINDS, "tone"):
        for _ in range(40):
            scene = sample_scene(rng, Canvas(1, 64, 64), free="center" if kind == "add" else None)
            step = apply_edit(rng, kind, scene, scene)
            if step is None:
                continue
            request = read_request(style(rng, step.request, polite=True), scene)
            assert request is not None, step.request
            if kind == "add":
                assert f"add {request.colour} {request.shape} at {request.spot}" == step.plan
            else:
                assert asked_scene(request, scene) == step.scene, step.request
            read[kind] += 1
    assert min(read.values()) >= 10
    assert read_request("remove the moon", scene) is None
    assert read_request("", scene) is None
    twins = replace(scene, objects=(Object("red", "star", 0.1, (0.2, 0.2)), Object("red", "circle", 0.1, (0.8, 0.8))))
    assert read_request("remove the red one", twins) is None
    assert read_request("remove the star", twins).old is twins.objects[0]
    assert "warmer" in LOOKS and read_request("make it warmer", twins).look == "warmer"
