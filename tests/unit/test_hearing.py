"""The auxiliary loss that asks the DiT's tokens, where an edit changes something, for the instruction."""

from __future__ import annotations

import pytest
import torch

from recipes.tiny.hearing import InstructionHearer
from support import tiny

SIZE = (2, 4, 6)  # of the latents: t, h, w
TOKENS = 2 * 2 * 3
WORDS = torch.tensor([[3, 1, 4], [1, 5, -100]])


@pytest.fixture
def hearer() -> InstructionHearer:
    torch.manual_seed(0)
    return InstructionHearer(tiny.transformer(), 8)


def test_only_what_changes_is_read(hearer: InstructionHearer) -> None:
    changed = torch.zeros(2, 1, *SIZE, dtype=torch.bool)
    changed[:, :, 0, 1, 2] = True  # in the second token of the first frame's first row
    tokens = torch.randn(2, TOKENS, tiny.WIDTH)
    before = hearer(tokens, changed, WORDS)
    elsewhere = torch.randn_like(tokens)
    elsewhere[:, 1] = tokens[:, 1]
    references = torch.randn(2, 3, tiny.WIDTH)
    torch.testing.assert_close(hearer(torch.cat([elsewhere, references], 1), changed, WORDS), before)
    tokens[:, 1] += 1.0
    assert not torch.allclose(hearer(tokens, changed, WORDS), before)


def test_of_an_edit_that_changes_nothing_all_is_read(hearer: InstructionHearer) -> None:
    tokens = torch.randn(2, TOKENS, tiny.WIDTH)
    nothing, everything = (torch.full((2, 1, *SIZE), value) for value in (False, True))
    found = hearer(tokens, nothing, WORDS)
    assert found.isfinite() and torch.equal(found, hearer(tokens, everything, WORDS))
