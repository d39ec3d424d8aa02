"""Words that the procedural world has no use for, as the nodes say them of the bundled model."""

import numpy as np
import pytest

from instructx_core.world import GROUPS, sample_triplet, unknown_words
from instructx_core.world.outside import outside_sentence


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("make the cup blue", ("cup",)),
        ("Turn the SKY into a warm sunset, then the sky again.", ("sky", "sunset", "again")),
        ("change the red circle's colour to blue", ()),
        ("I don't want the star", ()),
        ("把红色的圆变成蓝色", ()),
        ("", ()),
    ],
)
def test_unknown_words(sentence, expected):
    assert unknown_words(sentence) == expected


@pytest.mark.parametrize("group", GROUPS)
def test_every_instruction_of_the_world_is_known(group):
    for seed in range(12):
        triplet = sample_triplet(seed, group, frames=1 + seed % 2, height=16, width=16)
        assert unknown_words(triplet.instruction) == (), triplet.instruction


def test_english_requests_about_other_things_are_not():
    told = [outside_sentence(np.random.default_rng(seed), held_out=True) for seed in range(200)]
    english = [words for words in told if words.isascii() and sum(map(str.isalpha, words)) > 12]
    assert len(english) > 100
    assert sum(bool(unknown_words(words)) for words in english) > 0.95 * len(english)
