"""Several instructions, each in its own place: what a token attends to, against the formula written out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from instructx_core.conditions.local_edits import attend_in_places, masks_of_tokens
from instructx_core.config import DenoiserConfig, MaskConfig
from instructx_core.context import Context, LocalEdits, contexts_alike, joined_contexts
from instructx_core.denoiser import Denoiser
from instructx_core.errors import InputError
from instructx_core.local_edits import over_latents
from instructx_core.mask_head import MaskHead
from instructx_core.speed.run_cache import RunCache
from support import tiny


def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2)


@pytest.fixture
def denoiser() -> Denoiser:
    model = Denoiser(tiny.transformer(), DenoiserConfig(local_edits=True)).eval()
    for place, strength in enumerate(model.local_strength):
        strength.data.fill_(0.5 + place / 4)
    return model


def test_each_token_moves_towards_what_is_asked_of_its_place():
    torch.manual_seed(0)
    query, attended = torch.randn(1, 5, 2, 4), torch.randn(1, 5, 2, 4)
    local = [(torch.randn(1, 3, 2, 4), torch.randn(1, 3, 2, 4)) for _ in range(2)]
    masks = torch.tensor([[[0.0, 1.0, 0.5, 0.25, 0.75], [0.0, 0.0, 0.5, 0.25, 0.75]]])
    found = attend_in_places(attend, query, local, masks, torch.tensor(0.75), attended)
    first, second = (attend(query, *pair) for pair in local)
    assert torch.equal(found[:, 0], attended[:, 0])
    wanted = [
        0.25 * attended[:, 1] + 0.75 * first[:, 1],
        0.25 * attended[:, 2] + 0.75 * (first + second)[:, 2] / 2,
        attended[:, 3] + 0.75 * 0.5 * ((first + second)[:, 3] / 2 - attended[:, 3]),
        0.25 * attended[:, 4] + 0.75 * (first + second)[:, 4] / 2,  # covered at most wholly
    ]
    for place, token in enumerate(wanted, start=1):
        torch.testing.assert_close(found[:, place], token)


@pytest.mark.parametrize("around", [(0, 0), (0, 1), (2, 0)])
def test_references_have_no_place(around: tuple[int, int]):
    masks = torch.rand(1, 2, 2, 5, 5)
    found = masks_of_tokens(masks, (3, 4, 6), around).unflatten(2, (-1, 4, 6))
    assert found.shape == (1, 2, 3 + sum(around), 4, 6)
    assert not found[:, :, : around[0]].any() and not found[:, :, around[0] + 3 :].any()
    assert found[:, :, around[0] : around[0] + 3].all()


@torch.no_grad()
def test_an_instruction_over_everything_takes_the_place_of_the_whole(denoiser: Denoiser):
    """With strength 1 and a mask of 1 everywhere the local instruction alone counts; with a mask of 0 it does not."""
    for strength in denoiser.local_strength:
        strength.data.fill_(1.0)
    torch.manual_seed(0)
    latents, sigma = torch.randn(1, tiny.CHANNELS, 2, 6, 6), torch.tensor(0.5)
    width = denoiser.transformer.config.text_dim
    whole, part = torch.randn(1, 7, width), torch.randn(1, 1, 4, width)
    over, nowhere = (LocalEdits(part, torch.full((1, 1, 1, 3, 3), value)) for value in (1.0, 0.0))
    run = lambda context: denoiser(latents, sigma, context)  # noqa: E731
    torch.testing.assert_close(run(Context(whole, local=over)), run(Context(part[:, 0])), rtol=0, atol=1e-5)
    torch.testing.assert_close(run(Context(whole, local=nowhere)), run(Context(whole)), rtol=0, atol=1e-5)
    assert (run(Context(whole)) - run(Context(part[:, 0]))).abs().max() > 1e-3


@torch.no_grad()
def test_steps_of_a_run_may_share_keys_and_values(denoiser: Denoiser):
    torch.manual_seed(0)
    width = denoiser.transformer.config.text_dim
    local = LocalEdits(torch.randn(1, 2, 4, width), torch.rand(1, 2, 1, 3, 3))
    context, cache = Context(torch.randn(1, 7, width), local=local), RunCache(denoiser.transformer)
    for step in range(2):
        latents, sigma = torch.randn(1, tiny.CHANNELS, 2, 6, 6), torch.tensor(0.5 - step / 4)
        with cache.lent():
            cached = denoiser(latents, sigma, context)
        assert torch.equal(cached, denoiser(latents, sigma, context))


def test_contexts_are_joined_with_what_is_local():
    contexts = [Context(torch.randn(1, 3, 8), local=LocalEdits(torch.randn(1, 2, 3, 8), torch.rand(1, 2, 1, 2, 2)))]
    contexts.append(Context(torch.randn(1, 3, 8), local=LocalEdits(torch.randn(1, 2, 3, 8), torch.rand(1, 2, 1, 2, 2))))
    assert contexts_alike(*contexts) and not contexts_alike(contexts[0], Context(contexts[1].tokens))
    joined = joined_contexts(contexts)
    assert joined.local.tokens.shape == (2, 2, 3, 8) and torch.equal(joined.local.masks[1:], contexts[1].local.masks)


def test_a_dit_without_strengths_says_so():
    model = Denoiser(tiny.transformer(), DenoiserConfig()).eval()
    width = model.transformer.config.text_dim
    context = Context(
        torch.randn(1, 3, width), local=LocalEdits(torch.randn(1, 1, 3, width), torch.rand(1, 1, 1, 2, 2))
    )
    with pytest.raises(InputError, match="which this DiT cannot take"):
        model(torch.randn(1, tiny.CHANNELS, 1, 4, 4), torch.tensor(0.5), context)


def test_a_clip_longer_than_masks_reach_is_named():
    head = MaskHead(MaskConfig(input_dim=8, context_dim=8, width=8, heads=2, grid=(2, 4, 4)))
    assert head(torch.randn(1, 12, 8), (1, 3, 4), torch.randn(1, 5, 8)).shape == (1, 1, 3, 4)
    with pytest.raises(InputError, match="as 1 x 5 x 4 tokens .* masks have at most 2 x 4 x 4"):
        head(torch.randn(1, 20, 8), (1, 5, 4), torch.randn(1, 5, 8))


def test_masks_of_a_clip_stay_on_it_on_a_larger_canvas():
    """A portrait on a wide canvas, and 6 frames of 9: the border and the repeated frames continue the edge."""
    left_then_right = torch.zeros(1, 2, 2, 2, 2)
    left_then_right[:, 0, ..., 0] = left_then_right[:, 1, 1] = 1
    local = LocalEdits(torch.zeros(1, 2, 3, 8), left_then_right, size=(6, 48, 24))
    found = over_latents(local, (3, 6, 8), (4, 8)).masks
    assert found.shape == (1, 2, 3, 6, 8)
    assert found[0, 0].mean() == 12 / 64
    assert not found[0, 0, ..., 3:].any()
    assert found[0, 1, :, 0, 0].tolist() == [0, 1, 1]


def test_masks_of_a_clip_that_fills_the_canvas_are_unchanged():
    local = LocalEdits(torch.zeros(1, 2, 3, 8), torch.rand(1, 2, 2, 5, 7), size=(9, 46, 64))  # 2 pixels of border
    assert over_latents(local, (3, 6, 8), (4, 8)).masks is local.masks
