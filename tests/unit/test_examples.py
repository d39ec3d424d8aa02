"""The named examples: files that are there, sentences that fit, and pictures told apart from photographs."""

import json
import re

import pytest
import torch

from instructx_core.demo import ASSETS
from instructx_core.examples import examples
from instructx_core.instruction import check_instruction, speaks_of_a_reference
from instructx_core.source import load_source
from instructx_core.world import (
    CLIP_GROUPS,
    GROUPS,
    HELD_OUT_SEED,
    PLAIN,
    RICH,
    colour_entropy,
    looks_drawn,
    sample_triplet,
)

EVERY = examples().values()
THING = re.compile(r"the (\w+ (?:circle|square|triangle|star))")


def drawn(one):
    own = one.drawn
    return sample_triplet(
        HELD_OUT_SEED + own.seed,
        own.group,
        frames=own.frames,
        height=own.height,
        width=own.width,
        variety=RICH if own.rich else PLAIN,
    )


def test_no_entry_of_the_file_is_lost():
    told = json.loads((ASSETS / "examples.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in told] == list(examples())
    assert len({one.key for one in EVERY}) == len(told)
    assert any(one.file for one in EVERY)
    assert any(one.drawn for one in EVERY)


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_the_sentence_fits_the_picture(one):
    check_instruction(one.instruction)
    assert (one.file is None) != (one.drawn is None)
    assert speaks_of_a_reference(one.instruction) == ("reference" in one.name)
    if one.file:
        frames = load_source(one.file).frames
        assert (len(frames) > 1) == ("clip" in one.name)
        assert looks_drawn(frames[0].numpy()) != one.name.startswith("photograph")
        return
    triplet = drawn(one)
    assert (one.drawn.frames > 1) == ("clip" in one.name)
    assert bool(triplet.references) == ("reference" in one.name)
    for thing in THING.findall(one.instruction):
        assert thing in triplet.source_caption


def test_assets_names_every_file_and_who_made_it():
    told = (ASSETS / "ASSETS.md").read_text(encoding="utf-8")
    for path in ASSETS.iterdir():
        assert f"`{path.name}`" in told or path.name == "ASSETS.md", path.name


@pytest.mark.parametrize("side", [64, 128, 256])
def test_pictures_of_the_plain_world_look_drawn(side):
    groups = [group for group in GROUPS if group not in CLIP_GROUPS]
    for seed in range(4):
        for group in groups:
            assert looks_drawn(sample_triplet(HELD_OUT_SEED + seed, group, height=side, width=side).source[0]), group


def test_entropy_counts_colours():
    flat = torch.full((64, 64, 3), 0.3).numpy()
    assert colour_entropy(flat) == 0
    halves = flat.copy()
    halves[:32] = 0.9
    assert colour_entropy(halves) == pytest.approx(1)
    assert colour_entropy(torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0)).numpy()) > 8
