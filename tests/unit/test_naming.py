"""The auxiliary loss that asks the DiT's tokens, where an edit changes something, for the new object's shape."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from instructx_core.training.config import DataConfig
from instructx_core.training.data.world import world_examples
from instructx_core.world import RICH, sample_new_object
from instructx_core.world.vocabulary import SHAPES
from recipes.tiny.naming import ShapeNamer, new_shapes
from support import tiny

SIZE = (2, 4, 6)  # of the latents: t, h, w
TOKENS = 2 * 2 * 3
WANTED = torch.tensor([2, 0])


@pytest.fixture
def namer() -> ShapeNamer:
    torch.manual_seed(0)
    return ShapeNamer(tiny.transformer())


@pytest.fixture
def changed() -> torch.Tensor:
    """The second token of the first frame's first row in the first example, two rows of frame 2 in the second."""
    changed = torch.zeros(2, 1, *SIZE, dtype=torch.bool)
    changed[0, :, 0, 1, 2] = True
    changed[1, :, 1] = True
    return changed


def test_only_what_changes_is_asked_for_what_is_drawn(namer: ShapeNamer, changed: torch.Tensor) -> None:
    tokens = torch.randn(2, TOKENS, tiny.WIDTH)
    before = namer.drawn(tokens, changed, WANTED)
    elsewhere = torch.randn_like(tokens)
    elsewhere[0, 1], elsewhere[1, TOKENS // 2 :] = tokens[0, 1], tokens[1, TOKENS // 2 :]
    references = torch.randn(2, 3, tiny.WIDTH)
    torch.testing.assert_close(namer.drawn(torch.cat([elsewhere, references], 1), changed, WANTED), before)
    tokens[0, 1] = -tokens[0, 1]
    assert not torch.allclose(namer.drawn(tokens, changed, WANTED), before)


def test_only_references_are_asked_for_what_they_show(namer: ShapeNamer, changed: torch.Tensor) -> None:
    references = torch.randn(2, 3, tiny.WIDTH)
    before = namer.seen(torch.cat([torch.randn(2, TOKENS, tiny.WIDTH), references], 1), changed, WANTED)
    tokens = torch.randn(2, TOKENS, tiny.WIDTH)
    torch.testing.assert_close(namer.seen(torch.cat([tokens, references], 1), changed, WANTED), before)
    assert not torch.allclose(namer.seen(torch.cat([tokens, -references], 1), changed, WANTED), before)
    assert namer.seen(tokens, changed, WANTED) == 0 and before > 0


def test_both_are_asked(namer: ShapeNamer, changed: torch.Tensor) -> None:
    early, late = torch.randn(2, 2, TOKENS + 3, tiny.WIDTH)
    loss = namer(early, late, changed, WANTED)
    torch.testing.assert_close(loss, namer.drawn(late, changed, WANTED) + namer.seen(early, changed, WANTED))
    namer(early[:, :TOKENS], late[:, :TOKENS], changed, WANTED).backward()  # processes wait for every gradient
    assert all(parameter.grad is not None for parameter in namer.parameters())


def test_each_example_counts_once(namer: ShapeNamer, changed: torch.Tensor) -> None:
    """One that changes a single token, and one that changes six; one without a new object counts not at all."""
    tokens = torch.randn(2, TOKENS, tiny.WIDTH)
    alone = [namer.drawn(tokens[i : i + 1], changed[i : i + 1], WANTED[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(namer.drawn(tokens, changed, WANTED), (alone[0] + alone[1]) / 2)
    torch.testing.assert_close(namer.drawn(tokens, changed, torch.tensor([2, -100])), alone[0])
    together = torch.randn(2, TOKENS + 3, tiny.WIDTH)
    assert namer(together, together, changed, torch.tensor([-100, -100])) == 0
    assert namer.drawn(tokens, torch.zeros_like(changed), WANTED) == 0


def test_telling_nothing_costs_what_a_guess_does(namer: ShapeNamer, changed: torch.Tensor) -> None:
    for head in (namer.head, namer.reference_head):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    tokens = torch.randn(2, TOKENS + 3, tiny.WIDTH)
    for ask in (namer.drawn, namer.seen):
        assert ask(tokens, changed, WANTED).item() == pytest.approx(math.log(len(SHAPES)))


def test_the_world_s_examples_know_their_new_shapes() -> None:
    """Those of additions and replacements stand in their captions, which name every object."""
    groups = {"add": 1.0, "replace": 1.0, "reference_add": 1.0, "reference_swap": 1.0, "remove": 1.0}
    data = DataConfig(world="rich", images=120, videos=0, sizes=((48, 64),), groups=groups)
    found = set()
    for example in world_examples(data):
        latents = SimpleNamespace(source=torch.empty(1, 16, 1, 12, 16), names=[example.name], frames=1)
        (shape,) = new_shapes(latents, 4, data.variety).tolist()
        group, seed = example.name.split()[:2]
        new = sample_new_object(int(seed), group, height=48, width=64, variety=RICH)
        assert (shape == -100) == (group == "remove") and (new is None) == (group == "remove")
        if new is not None:
            assert f"{new.colour} {SHAPES[shape]}" in example.caption
            found.add((group, shape))
    assert len(found) == 4 * len(SHAPES)
