"""The auxiliary loss that asks a DiT's tokens where the edit changes something."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from instructx_core.config import DenoiserConfig
from instructx_core.context import Context
from instructx_core.denoiser import Denoiser
from recipes.tiny.inner_tokens import inner_tokens
from recipes.tiny.locating import ChangeLocator
from support import tiny

SIZE = (2, 4, 6)  # of the latents: t, h, w


@pytest.fixture
def changed() -> torch.Tensor:
    return torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(0)) < 0.3


@pytest.fixture
def literal() -> ChangeLocator:
    """One that takes the first four channels of a token for its four latent positions."""
    locator = ChangeLocator(tiny.transformer())
    locator.norm = nn.Identity()
    with torch.no_grad():
        locator.head.weight.copy_(torch.eye(4, tiny.WIDTH))
        locator.head.bias.zero_()
    return locator


def tokens_that_tell(changed: torch.Tensor) -> torch.Tensor:
    """[B, L, width], positions within a patch row by row, tokens frame by frame and row by row, as Wan lays them."""
    t, h, w = SIZE
    told = torch.zeros(2, t * (h // 2) * (w // 2), tiny.WIDTH)
    for token in range(told.shape[1]):
        frame, rest = divmod(token, (h // 2) * (w // 2))
        row, column = divmod(rest, w // 2)
        patch = changed[:, 0, frame, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(2, 4)
        told[:, token, :4] = 20.0 * (2 * patch - 1.0)
    return told


def test_tokens_meet_their_own_place(literal: ChangeLocator, changed: torch.Tensor) -> None:
    told = tokens_that_tell(changed.float())
    assert literal(told, changed) < 1e-6
    assert literal(told.roll(1, dims=1), changed) > 1
    references = torch.randn(2, 6, tiny.WIDTH)
    assert literal(torch.cat([told, references], dim=1), changed) < 1e-6


def test_small_and_large_edits_count_alike(literal: ChangeLocator) -> None:
    """Telling nothing costs ln 2, whether a corner changes or all but a corner."""
    for kind in (torch.zeros, torch.ones):
        changed = kind(2, 1, *SIZE)
        changed[..., :2, :2] = 1 - changed[..., :2, :2]
        silent = torch.zeros(2, SIZE[0] * 6, tiny.WIDTH)
        assert literal(silent, changed.bool()).item() == pytest.approx(0.6931, abs=1e-3)


def test_tokens_are_those_of_the_dit_and_nothing_stays_behind() -> None:
    denoiser = Denoiser(tiny.transformer(), DenoiserConfig())
    latents = torch.randn(1, tiny.CHANNELS, *SIZE)
    reference = torch.randn(1, tiny.CHANNELS, 1, *SIZE[1:])
    given = Context(torch.randn(1, 3, tiny.TEXT_DIM)), denoiser.conditions(latents, (reference,))
    with inner_tokens(denoiser.transformer) as tokens:
        denoiser(latents, torch.ones(1), *given)
    assert [tuple(one.shape) for one in tokens] == [(1, 3 * 6, tiny.WIDTH)]
    denoiser(latents, torch.ones(1), *given)
    assert len(tokens) == 1
