"""The DiT with a source and references against a plain `WanTransformer3DModel` that is fed the same by hand."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch
from torch import nn

from instructx_core.config import ContextEntry, DenoiserConfig, Prediction, ReferenceInjection, SourceInjection
from instructx_core.denoiser import Conditions, Denoiser, batch_conditions, keep_still, zero_patch_embedding
from instructx_core.errors import InputError

SHAPE = (2, tiny.CHANNELS, 3, 4, 6)
CLOSE = {"atol": 2e-6, "rtol": 1e-5}


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LATENTS, SOURCE = rand(*SHAPE, seed=1), rand(*SHAPE, seed=2)
FIRST, SECOND = rand(2, tiny.CHANNELS, 1, 4, 6, seed=3), rand(2, tiny.CHANNELS, 2, 4, 6, seed=4)
CONTEXT = rand(2, 5, tiny.TEXT_DIM, seed=5)
SIGMA = torch.tensor([0.9, 0.25])


@pytest.fixture(scope="module")
def plain():
    return tiny.transformer()


@pytest.fixture(scope="module")
def latent() -> Denoiser:
    return Denoiser(tiny.transformer(), DenoiserConfig(SourceInjection.LATENT)).requires_grad_(False)


@pytest.fixture(scope="module")
def embedding() -> Denoiser:
    denoiser = Denoiser(tiny.transformer(), DenoiserConfig(SourceInjection.EMBEDDING))
    tiny.shake(denoiser.source_embedding, 0.3)
    return denoiser.requires_grad_(False)


@torch.no_grad()
def wan(transformer: nn.Module, latents: torch.Tensor, context: torch.Tensor = CONTEXT) -> torch.Tensor:
    return transformer(latents, SIGMA * 1000, context, return_dict=False)[0]


def test_without_source_and_references_it_is_the_transformer(plain, latent, embedding):
    for denoiser in (latent, embedding):
        velocity = denoiser(LATENTS, SIGMA, Conditions(CONTEXT))
        assert velocity.shape == SHAPE
        torch.testing.assert_close(velocity, wan(plain, LATENTS), **CLOSE)


def test_one_sigma_serves_a_batch(latent):
    velocity = latent(LATENTS, torch.tensor(0.5), Conditions(CONTEXT))
    torch.testing.assert_close(velocity, latent(LATENTS, torch.tensor([0.5, 0.5]), Conditions(CONTEXT)), **CLOSE)


def test_source_is_added_to_the_noisy_latent(plain, latent):
    velocity = latent(LATENTS, SIGMA, Conditions(CONTEXT, SOURCE))
    torch.testing.assert_close(velocity, wan(plain, LATENTS + SOURCE), **CLOSE)


def test_source_embedding_starts_without_effect(plain):
    fresh = Denoiser(tiny.transformer(), DenoiserConfig(SourceInjection.EMBEDDING))
    velocity = fresh(LATENTS, SIGMA, Conditions(CONTEXT, SOURCE))
    torch.testing.assert_close(velocity, wan(plain, LATENTS), **CLOSE)
    velocity.square().mean().backward()
    assert fresh.source_embedding.weight.grad.abs().max() > 0  # but it learns from the first step on


def widened(denoiser: Denoiser) -> nn.Module:
    """A Wan whose one patch embedding takes the latent and the source as channels side by side."""
    transformer = tiny.transformer()
    own, added = transformer.patch_embedding, denoiser.source_embedding
    both = nn.Conv3d(2 * own.in_channels, own.out_channels, own.kernel_size, own.stride)
    both.weight.data = torch.cat([own.weight, added.weight], dim=1)
    both.bias.data = own.bias + added.bias
    transformer.patch_embedding = both
    return transformer


def test_source_embedding_is_one_convolution_over_both(embedding):
    velocity = embedding(LATENTS, SIGMA, Conditions(CONTEXT, SOURCE))
    torch.testing.assert_close(velocity, wan(widened(embedding), torch.cat([LATENTS, SOURCE], dim=1)), **CLOSE)


def test_references_are_frames_behind_the_latents(plain, latent):
    velocity = latent(LATENTS, SIGMA, Conditions(CONTEXT, references=(FIRST, SECOND)))
    expected = wan(plain, torch.cat([LATENTS, FIRST, SECOND], dim=2))[:, :, :3]
    torch.testing.assert_close(velocity, expected, **CLOSE)


def test_source_and_references_together(plain, latent):
    velocity = latent(LATENTS, SIGMA, Conditions(CONTEXT, SOURCE, (FIRST, SECOND)))
    expected = wan(plain, torch.cat([LATENTS + SOURCE, FIRST, SECOND], dim=2))[:, :, :3]
    torch.testing.assert_close(velocity, expected, **CLOSE)


def test_embedded_source_and_references_together():
    denoiser = Denoiser(tiny.transformer(), DenoiserConfig(SourceInjection.EMBEDDING)).requires_grad_(False)
    tiny.shake(denoiser.source_embedding, 0.3)
    denoiser.source_embedding.bias.zero_()  # the wide convolution has one bias, for references too
    velocity = denoiser(LATENTS, SIGMA, Conditions(CONTEXT, SOURCE, (FIRST, SECOND)))
    frames = torch.cat([LATENTS, FIRST, SECOND], dim=2)
    sources = torch.cat([SOURCE, torch.zeros_like(FIRST), torch.zeros_like(SECOND)], dim=2)
    expected = wan(widened(denoiser), torch.cat([frames, sources], dim=1))[:, :, :3]
    torch.testing.assert_close(velocity, expected, **CLOSE)


def test_every_condition_matters(latent):
    base = Conditions(CONTEXT, SOURCE, (FIRST, SECOND))
    velocity = latent(LATENTS, SIGMA, base)
    others = {
        "context": dataclasses.replace(base, context=CONTEXT.flip(1) * 2),
        "source": dataclasses.replace(base, source=-SOURCE),
        "reference": dataclasses.replace(base, references=(FIRST, -SECOND)),
        "number of references": dataclasses.replace(base, references=(FIRST,)),
        "order of references": dataclasses.replace(base, references=(SECOND, FIRST)),
    }
    for name, changed in others.items():
        assert (latent(LATENTS, SIGMA, changed) - velocity).abs().max() > 1e-4, name


@pytest.mark.parametrize("kind", ["latent", "embedding"])
def test_prepared_conditions_give_the_same(kind: str, request):
    denoiser = request.getfixturevalue(kind)
    conditions = Conditions(CONTEXT, SOURCE, (FIRST,))
    prepared = denoiser.prepare(conditions, frames=3)
    for _ in range(2):  # nothing stays behind from one step to the next
        velocity = denoiser(LATENTS, SIGMA, prepared)
        assert torch.equal(velocity, denoiser(LATENTS, SIGMA, conditions))
    assert not denoiser.transformer.patch_embedding._forward_hooks


def test_nothing_stays_behind_after_an_error(embedding):
    with pytest.raises(RuntimeError):
        embedding(LATENTS, SIGMA, Conditions(CONTEXT[..., :3], SOURCE))
    assert not embedding.transformer.patch_embedding._forward_hooks


def test_context_past_the_text_embedding(plain):
    denoiser = Denoiser(tiny.transformer(), DenoiserConfig(), ContextEntry.WIDTH)
    context = rand(2, 5, tiny.WIDTH, seed=6)
    velocity = denoiser(LATENTS, SIGMA, Conditions(context))
    handle = plain.condition_embedder.text_embedder.register_forward_hook(lambda *_: context)
    expected = wan(plain, LATENTS)
    handle.remove()
    torch.testing.assert_close(velocity, expected, **CLOSE)
    assert denoiser.transformer.state_dict().keys() == plain.state_dict().keys()


def test_several_conditions_in_one_batch(latent):
    first, second = Conditions(CONTEXT, SOURCE, (FIRST,)), Conditions(-CONTEXT, -SOURCE, (-FIRST,))
    both = latent(torch.cat([LATENTS, LATENTS]), SIGMA.repeat(2), batch_conditions(first, second))
    one_by_one = torch.cat([latent(LATENTS, SIGMA, first), latent(LATENTS, SIGMA, second)])
    torch.testing.assert_close(both, one_by_one, **CLOSE)
    assert batch_conditions(Conditions(CONTEXT), Conditions(CONTEXT)).source is None


def test_a_predicted_change_leads_to_the_source_with_the_change(embedding):
    change = Denoiser(
        embedding.transformer, DenoiserConfig(SourceInjection.EMBEDDING, Prediction.CHANGE)
    ).requires_grad_(False)
    change.source_embedding = embedding.source_embedding
    conditions = Conditions(CONTEXT, SOURCE, (FIRST, SECOND))
    output = embedding(LATENTS, SIGMA, conditions)
    velocity = change(LATENTS, SIGMA, conditions)
    data = LATENTS - SIGMA.view(-1, 1, 1, 1, 1) * velocity  # (1 - sigma) data + sigma noise, less sigma velocity
    torch.testing.assert_close(data, SOURCE + output, **CLOSE)
    assert torch.equal(velocity, change(LATENTS, SIGMA, change.prepare(conditions, frames=3)))


def test_a_deadband_keeps_still_what_changes_little():
    change = torch.zeros(2, 4, 1, 2, 2)
    change[:, :, 0, 0, 0], change[:, :, 0, 0, 1], change[:, :, 0, 1, 0] = 2.0, 0.2, 0.6
    change[1] *= 100  # its own measure for every example
    rms = ((2**2 + 0.2**2 + 0.6**2) / 4) ** 0.5
    still = keep_still(change, 0.3)
    expected = torch.tensor([2 - (0.3 * rms) ** 2 / 2, 0.0, 0.6 - (0.3 * rms) ** 2 / 0.6, 0.0]).view(1, 1, 2, 2)
    torch.testing.assert_close(still[0], expected.expand(4, 1, 2, 2))
    torch.testing.assert_close(still[1], 100 * still[0])
    assert keep_still(change, 0.0) is change
    assert torch.equal(keep_still(torch.zeros_like(change), 0.3), torch.zeros_like(change))


def test_a_deadband_learns_from_nothing():
    """A DiT that changes nothing yet still gets gradients."""
    change = torch.zeros(1, 4, 1, 2, 2, requires_grad=True)
    (keep_still(change, 0.3) - 1).square().sum().backward()
    assert (change.grad != 0).all()


def test_a_change_needs_a_source():
    denoiser = Denoiser(tiny.transformer(), DenoiserConfig(prediction=Prediction.CHANGE))
    with pytest.raises(InputError, match="predicts what to change in a source"):
        denoiser(LATENTS, SIGMA, Conditions(CONTEXT))


def test_sizes_that_do_not_fit(latent):
    with pytest.raises(InputError, match="source has 3 latent frames but 2 are being edited"):
        latent(LATENTS[:, :, :2], SIGMA, Conditions(CONTEXT, SOURCE))
    with pytest.raises(InputError, match=r"reference has latent size \(4, 4\), the source \(4, 6\)"):
        latent.prepare(Conditions(CONTEXT, SOURCE, (FIRST[..., :4],)), frames=3)


def test_zero_patch_embedding_follows_the_transformer():
    transformer = tiny.transformer(patch=(1, 2, 2)).to(torch.bfloat16)
    zero, own = zero_patch_embedding(transformer), transformer.patch_embedding
    assert zero.weight.shape == own.weight.shape and zero.stride == own.stride and zero.weight.dtype == torch.bfloat16
    assert not zero.weight.any() and not zero.bias.any() and zero.weight.requires_grad


@pytest.mark.parametrize("source", SourceInjection)
def test_bfloat16_weights_take_and_give_float32(source: SourceInjection):
    """A sampler's state stays in float32; so does the noise level, which bfloat16 would round to eight bits."""
    exact = Denoiser(tiny.transformer(), DenoiserConfig(source)).requires_grad_(False)
    if exact.source_embedding is not None:
        tiny.shake(exact.source_embedding, 0.3)
    conditions = Conditions(CONTEXT, SOURCE, (FIRST,))
    expected = exact(LATENTS, SIGMA, conditions)
    seen = []
    exact.to(torch.bfloat16).transformer.condition_embedder.register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0])
    )
    velocity = exact(LATENTS, SIGMA, conditions)
    assert velocity.dtype == torch.float32
    assert torch.equal(seen[0], SIGMA * 1000)
    assert (velocity - expected).abs().max() < 0.1 * expected.abs().max()


# --- what Kiwi-Edit does differently


def by_hand(denoiser: Denoiser, frames: torch.Tensor, change) -> torch.Tensor:
    """A plain Wan over `frames`, whose patch embedding's output goes through `change`."""
    transformer = tiny.transformer()
    transformer.patch_embedding.register_forward_hook(lambda _module, _inputs, output: change(output))
    return wan(transformer, frames)


def shaken(config: DenoiserConfig) -> Denoiser:
    denoiser = Denoiser(tiny.transformer(), config)
    for embedding in (denoiser.source_embedding, denoiser.reference_embedding):
        if embedding is not None:
            tiny.shake(embedding, 0.3)
    return denoiser.requires_grad_(False)


def test_references_before_the_latents(plain):
    denoiser = shaken(DenoiserConfig(references_first=True))
    velocity = denoiser(LATENTS, SIGMA, Conditions(CONTEXT, SOURCE, (FIRST, SECOND)))
    frames = torch.cat([FIRST, SECOND, LATENTS + SOURCE], dim=2)
    torch.testing.assert_close(velocity, wan(plain, frames)[:, :, 3:], **CLOSE)


def test_a_fading_source_counts_sigma_times():
    denoiser = shaken(DenoiserConfig(SourceInjection.EMBEDDING, source_fades=True))
    velocity = denoiser(LATENTS, SIGMA, Conditions(CONTEXT, SOURCE))
    addend = denoiser.source_embedding(SOURCE) * SIGMA.view(2, 1, 1, 1, 1)
    torch.testing.assert_close(velocity, by_hand(denoiser, LATENTS, lambda tokens: tokens + addend), **CLOSE)


@pytest.mark.parametrize("first", [False, True])
def test_references_with_an_embedding_of_their_own(first: bool):
    config = DenoiserConfig(
        SourceInjection.EMBEDDING, reference=ReferenceInjection.EMBEDDING, references_first=first, source_fades=True
    )
    denoiser = shaken(config)
    prepared = denoiser.prepare(Conditions(CONTEXT, SOURCE, (FIRST, SECOND)), 3)
    velocity = denoiser(LATENTS, SIGMA, prepared)
    source = denoiser.source_embedding(SOURCE) * SIGMA.view(2, 1, 1, 1, 1)
    references = denoiser.reference_embedding(torch.cat([FIRST, SECOND], dim=2))

    def change(tokens: torch.Tensor) -> torch.Tensor:
        if first:
            return torch.cat([references, tokens[:, :, 3:] + source], dim=2)
        return torch.cat([tokens[:, :, :3] + source, references], dim=2)

    anything = torch.randn(2, tiny.CHANNELS, 3, 4, 6)  # the DiT's own embedding never sees the references
    order = (anything, LATENTS) if first else (LATENTS, anything)
    output = by_hand(denoiser, torch.cat(order, dim=2), change)
    torch.testing.assert_close(velocity, output[:, :, 3:] if first else output[:, :, :3], **CLOSE)


def test_references_of_their_own_embedding_start_without_effect_on_the_weights():
    denoiser = Denoiser(tiny.transformer(), DenoiserConfig(reference=ReferenceInjection.EMBEDDING))
    assert not denoiser.reference_embedding.weight.any() and not denoiser.reference_embedding.bias.any()
