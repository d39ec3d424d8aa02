"""Conditions by themselves: small tensors in, what enters, is embedded and leaves out."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from instructx_core.conditions.condition import Condition, alike, joined
from instructx_core.conditions.image_stream import attend_apart
from instructx_core.conditions.reference_frames import ReferenceFrames, in_place_of
from instructx_core.conditions.source_add import SourceAdd
from instructx_core.conditions.source_channels import SourceChannels
from instructx_core.conditions.source_embed import SourceEmbed
from instructx_core.conditions.source_places import with_places
from instructx_core.config import DenoiserConfig
from instructx_core.context import Context, contexts_alike, joined_contexts
from instructx_core.denoiser import Denoiser
from instructx_core.errors import InputError
from support import tiny

CHANNELS, WIDTH = 4, 6


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LATENTS, SOURCE = rand(2, CHANNELS, 3, 4, 6, seed=1), rand(2, CHANNELS, 3, 4, 6, seed=2)
TOKENS, OWN = rand(2, WIDTH, 5, 2, 3, seed=3), rand(2, WIDTH, 5, 2, 3, seed=4)
REFERENCE, REFERENCE_TOKENS = rand(2, CHANNELS, 2, 4, 6, seed=5), rand(2, WIDTH, 2, 2, 3, seed=6)
SIGMA = torch.tensor([0.75, 0.25])
KINDS = [
    SourceAdd(SOURCE),
    SourceEmbed(SOURCE, OWN, fades=True),
    SourceEmbed(SOURCE, OWN, strength=torch.full((2, 1, 1, 1, 1), 0.5)),
    SourceChannels(SOURCE),
    ReferenceFrames(REFERENCE),
    ReferenceFrames(REFERENCE, first=True, tokens=REFERENCE_TOKENS),
]
NAMES = ["add", "embed", "strength", "channels", "references", "references first"]


def applied(condition: Condition, row: slice = slice(None)) -> list[torch.Tensor]:
    entered = condition.enter(LATENTS[row])
    left = condition.leave(rand(2, CHANNELS, entered.shape[2], 4, 6, seed=9)[row])
    return [entered, condition.embed(TOKENS[row], SIGMA[row]), left]


def test_a_condition_changes_nothing_by_itself():
    entered, embedded, left = applied(Condition())
    assert (
        torch.equal(entered, LATENTS)
        and torch.equal(embedded, TOKENS)
        and torch.equal(left, rand(2, CHANNELS, 3, 4, 6, seed=9))
    )


@pytest.mark.parametrize("condition", KINDS, ids=NAMES)
def test_conditions_are_pure_values(condition: Condition):
    given = [tensor.clone() for tensor in (LATENTS, TOKENS, SOURCE, OWN, REFERENCE)]
    first, second = applied(condition), applied(condition)
    assert all(map(torch.equal, first, second))
    assert all(map(torch.equal, given, (LATENTS, TOKENS, SOURCE, OWN, REFERENCE)))
    assert first[2].shape == LATENTS.shape
    with pytest.raises(FrozenInstanceError):
        condition.source = None


def test_what_each_changes():
    assert torch.equal(SourceAdd(SOURCE).enter(LATENTS), LATENTS + SOURCE)
    wider = torch.cat([LATENTS, LATENTS[:, :1]], dim=1)  # what an image-to-video model carries behind stays
    assert torch.equal(SourceAdd(SOURCE).enter(wider), torch.cat([LATENTS + SOURCE, LATENTS[:, :1]], dim=1))

    assert SourceEmbed(SOURCE, OWN).enter(LATENTS) is LATENTS
    assert torch.equal(SourceEmbed(SOURCE, OWN).embed(TOKENS, SIGMA), TOKENS + OWN)
    fading = SourceEmbed(SOURCE, OWN, fades=True).embed(TOKENS, SIGMA)
    assert torch.equal(fading, TOKENS + OWN * SIGMA.view(2, 1, 1, 1, 1))
    assert torch.equal(SourceEmbed(SOURCE, OWN, strength=torch.zeros(1)).embed(TOKENS), TOKENS)

    assert torch.equal(SourceChannels(SOURCE).enter(LATENTS), torch.cat([LATENTS, SOURCE], dim=1))

    behind, before = ReferenceFrames(REFERENCE), ReferenceFrames(REFERENCE, first=True)
    assert torch.equal(behind.enter(LATENTS), torch.cat([LATENTS, REFERENCE], dim=2))
    assert torch.equal(before.enter(LATENTS), torch.cat([REFERENCE, LATENTS], dim=2))
    assert torch.equal(behind.leave(behind.enter(LATENTS)), LATENTS)
    assert torch.equal(before.leave(before.enter(LATENTS)), LATENTS)
    own = ReferenceFrames(REFERENCE, False, REFERENCE_TOKENS).embed(TOKENS)
    assert torch.equal(own, torch.cat([TOKENS[:, :, :3], REFERENCE_TOKENS], dim=2))
    own = ReferenceFrames(REFERENCE, True, REFERENCE_TOKENS).embed(TOKENS)
    assert torch.equal(own, torch.cat([REFERENCE_TOKENS, TOKENS[:, :, 2:]], dim=2))
    assert torch.equal(in_place_of(TOKENS, OWN, torch.tensor(False)), TOKENS)


def test_references_have_no_source_in_further_channels():
    entered = ReferenceFrames(REFERENCE).enter(SourceChannels(SOURCE).enter(LATENTS))
    assert entered.shape == (2, 2 * CHANNELS, 5, 4, 6)
    assert torch.equal(entered[:, :CHANNELS, 3:], REFERENCE) and not entered[:, CHANNELS:, 3:].any()


@pytest.mark.parametrize("condition", KINDS, ids=NAMES)
def test_sizes_that_differ_are_refused(condition: Condition):
    for other in (LATENTS[..., :4], LATENTS[:, :, :, :2]):
        with pytest.raises(InputError, match="latent size"):
            condition.enter(other)
    if not isinstance(condition, ReferenceFrames):
        with pytest.raises(InputError, match="The source has 3 latent frames but 2 are being edited"):
            condition.enter(LATENTS[:, :, :2])


@pytest.mark.parametrize("condition", KINDS, ids=NAMES)
def test_a_batch_of_one_serves_any(condition: Condition):
    tensors = {name: value[:1] for name, value in vars(condition).items() if isinstance(value, torch.Tensor)}
    one = type(condition)(**(vars(condition) | tensors))
    for whole, row in zip(applied(one), applied(one, slice(1, 2)), strict=True):
        assert torch.equal(whole[1:], row)


def test_joining():
    one, other = (
        (SourceAdd(SOURCE[:1]), ReferenceFrames(REFERENCE[:1])),
        (
            SourceAdd(SOURCE[1:]),
            ReferenceFrames(REFERENCE[1:]),
        ),
    )
    assert alike(one, other)
    source, references = joined([one, other], 1)
    assert torch.equal(source.source, SOURCE) and torch.equal(references.latents, REFERENCE)
    assert joined([one, one], 1) == one  # one value for both: nothing is copied
    source, _ = joined([one, other], 2)
    assert torch.equal(source.source, SOURCE[[0, 0, 1, 1]])
    unlike = [
        one[:1],
        (one[0], ReferenceFrames(REFERENCE[:1], first=True)),
        (one[0], ReferenceFrames(REFERENCE[:1, :, :1])),
        (SourceChannels(SOURCE[:1]), one[1]),
    ]
    assert not any(alike(one, each) for each in unlike)


def test_joining_contexts():
    one = Context(rand(1, 3, 5), torch.tensor([[True, True, False]]), rand(1, 2, 7))
    other = Context(rand(1, 3, 5, seed=1), torch.tensor([[True, False, False]]), rand(1, 2, 7, seed=1))
    both = joined_contexts([one, other])
    assert contexts_alike(one, other) and joined_contexts([one]) is one
    for part in ("tokens", "mask", "image"):
        assert torch.equal(getattr(both, part), torch.cat([getattr(one, part), getattr(other, part)]))
    for unlike in (Context(one.tokens), Context(one.tokens, one.mask), Context(one.tokens[:, :2], one.mask, one.image)):
        assert not contexts_alike(one, unlike)


def test_an_image_stream_has_a_softmax_of_its_own():
    """As diffusers' IP-Adapter attention, written out: softmax(q k_i) v_i beside softmax(q k) v."""
    query, *words, key, value = (rand(1, count, 2, 4, seed=count) for count in (5, 7, 7, 3, 3))

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        weights = torch.einsum("bqhd,bkhd->bhqk", query, key).div(4**0.5).softmax(-1)
        return torch.einsum("bhqk,bkhd->bqhd", weights, value)

    found = attend(query, *words)
    both = attend_apart(attend, query, (key, value), found)
    expected = torch.nn.functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (query, key, value)))
    torch.testing.assert_close(both - found, expected.transpose(1, 2))


# --- a DiT that reads the source in channels of its own


def test_a_wan_with_the_source_in_its_channels():
    from diffusers import WanTransformer3DModel

    sizes = {name: size for name, size in tiny.transformer().config.items() if not name.startswith("_")}
    torch.manual_seed(0)
    wide = WanTransformer3DModel(**sizes | {"in_channels": 2 * tiny.CHANNELS}).eval()
    denoiser = Denoiser(wide, DenoiserConfig()).requires_grad_(False)
    context = Context(rand(2, 5, tiny.TEXT_DIM))
    conditions = (SourceChannels(SOURCE), ReferenceFrames(REFERENCE))
    velocity = denoiser(LATENTS, SIGMA, context, conditions)
    frames = torch.cat([LATENTS, REFERENCE], dim=2)
    sources = torch.cat([SOURCE, torch.zeros_like(REFERENCE)], dim=2)
    with torch.no_grad():
        expected = wide(torch.cat([frames, sources], dim=1), SIGMA * 1000, context.tokens, return_dict=False)[0]
    assert torch.equal(velocity, expected[:, :, :3])
    other = denoiser(LATENTS, SIGMA, context, (SourceChannels(-SOURCE), conditions[1]))
    assert (other - velocity).abs().max() > 1e-4


def test_places_are_fractions_of_the_picture():
    placed = with_places(SOURCE, 3)  # [2, 4 + 12, 3, 4, 6]
    assert placed.shape == (2, CHANNELS + 12, 3, 4, 6) and torch.equal(placed[:, :CHANNELS], SOURCE)
    down, across = placed[0, CHANNELS : CHANNELS + 6, 0], placed[0, CHANNELS + 6 :, 0]  # [6, 4, 6] each
    assert torch.equal(down, down[..., :1].expand_as(down)) and torch.equal(across, across[:, :1].expand_as(across))
    u = torch.tensor([1, 3, 5, 7]) / 8 * torch.pi  # the middles of four places
    torch.testing.assert_close(
        down[:, :, 0], torch.stack([f(k * u) for f in (torch.sin, torch.cos) for k in (1, 2, 4)])
    )
    finer = with_places(rand(1, CHANNELS, 1, 12, 18), 3)[0, CHANNELS:, 0]
    torch.testing.assert_close(finer[:, 1::3, 1::3], placed[0, CHANNELS:, 0])  # the same places on a finer grid
    assert torch.equal(placed[0, CHANNELS:], placed[1, CHANNELS:])
    assert with_places(SOURCE, 0) is SOURCE
