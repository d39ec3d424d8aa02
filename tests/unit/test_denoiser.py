"""The DiT with a source and references against a plain `WanTransformer3DModel` that is fed the same by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from instructx_core.config import ContextEntry, DenoiserConfig, ReferenceInjection, SourceInjection
from instructx_core.context import Context
from instructx_core.denoiser import Denoiser, zero_patch_embedding
from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.tiny.prediction import AffinePrediction, ChangePrediction, keep_still
from support import tiny

SHAPE = (2, tiny.CHANNELS, 3, 4, 6)
CLOSE = {"atol": 2e-6, "rtol": 1e-5}


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LATENTS, SOURCE = rand(*SHAPE, seed=1), rand(*SHAPE, seed=2)
FIRST, SECOND = rand(2, tiny.CHANNELS, 1, 4, 6, seed=3), rand(2, tiny.CHANNELS, 2, 4, 6, seed=4)
TOKENS = rand(2, 5, tiny.TEXT_DIM, seed=5)
CONTEXT = Context(TOKENS)
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


def velocity_of(
    denoiser: Denoiser,
    source: torch.Tensor | None = None,
    references: tuple[torch.Tensor, ...] = (),
    context: Context = CONTEXT,
) -> torch.Tensor:
    return denoiser(LATENTS, SIGMA, context, denoiser.conditions(source, references))


@torch.no_grad()
def wan(transformer: nn.Module, latents: torch.Tensor, context: torch.Tensor = TOKENS) -> torch.Tensor:
    return transformer(latents, SIGMA * 1000, context, return_dict=False)[0]


def test_without_source_and_references_it_is_the_transformer(plain, latent, embedding):
    for denoiser in (latent, embedding):
        velocity = velocity_of(denoiser)
        assert velocity.shape == SHAPE
        torch.testing.assert_close(velocity, wan(plain, LATENTS), **CLOSE)


def test_one_sigma_serves_a_batch(latent):
    velocity = latent(LATENTS, torch.tensor(0.5), CONTEXT)
    torch.testing.assert_close(velocity, latent(LATENTS, torch.tensor([0.5, 0.5]), CONTEXT), **CLOSE)


def test_source_is_added_to_the_noisy_latent(plain, latent):
    velocity = velocity_of(latent, SOURCE)
    torch.testing.assert_close(velocity, wan(plain, LATENTS + SOURCE), **CLOSE)


def test_source_embedding_starts_without_effect(plain):
    fresh = Denoiser(tiny.transformer(), DenoiserConfig(SourceInjection.EMBEDDING))
    velocity = velocity_of(fresh, SOURCE)
    torch.testing.assert_close(velocity, wan(plain, LATENTS), **CLOSE)
    velocity.square().mean().backward()
    assert fresh.source_embedding.weight.grad.abs().max() > 0  # but it learns from the first step on


def test_a_placed_source_makes_the_same_edit_elsewhere_another():
    denoiser = Denoiser(tiny.transformer(), DenoiserConfig(SourceInjection.EMBEDDING, source_waves=2))
    denoiser.requires_grad_(False)
    even = torch.ones_like(SOURCE)  # nothing but its place tells one token from another
    tokens = denoiser.conditions(even)[0].tokens
    assert not tokens.any()
    tiny.shake(denoiser.source_embedding, 0.3)
    tokens = denoiser.conditions(even)[0].tokens  # [B, width, t, h, w]
    assert (tokens[..., 1:] - tokens[..., :1]).abs().amin((0, 1, 2)).min() > 0
    assert (tokens[..., 1:, :] - tokens[..., :1, :]).abs().amin((0, 1, 2)).min() > 0


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
    velocity = velocity_of(embedding, SOURCE)
    torch.testing.assert_close(velocity, wan(widened(embedding), torch.cat([LATENTS, SOURCE], dim=1)), **CLOSE)


def test_references_are_frames_behind_the_latents(plain, latent):
    velocity = velocity_of(latent, None, (FIRST, SECOND))
    expected = wan(plain, torch.cat([LATENTS, FIRST, SECOND], dim=2))[:, :, :3]
    torch.testing.assert_close(velocity, expected, **CLOSE)


def test_source_and_references_together(plain, latent):
    velocity = velocity_of(latent, SOURCE, (FIRST, SECOND))
    expected = wan(plain, torch.cat([LATENTS + SOURCE, FIRST, SECOND], dim=2))[:, :, :3]
    torch.testing.assert_close(velocity, expected, **CLOSE)


def test_embedded_source_and_references_together():
    denoiser = Denoiser(tiny.transformer(), DenoiserConfig(SourceInjection.EMBEDDING)).requires_grad_(False)
    tiny.shake(denoiser.source_embedding, 0.3)
    denoiser.source_embedding.bias.zero_()  # the wide convolution has one bias, for references too
    velocity = velocity_of(denoiser, SOURCE, (FIRST, SECOND))
    frames = torch.cat([LATENTS, FIRST, SECOND], dim=2)
    sources = torch.cat([SOURCE, torch.zeros_like(FIRST), torch.zeros_like(SECOND)], dim=2)
    expected = wan(widened(denoiser), torch.cat([frames, sources], dim=1))[:, :, :3]
    torch.testing.assert_close(velocity, expected, **CLOSE)


def test_every_condition_matters(latent):
    velocity = velocity_of(latent, SOURCE, (FIRST, SECOND))
    others = {
        "context": velocity_of(latent, SOURCE, (FIRST, SECOND), Context(TOKENS.flip(1) * 2)),
        "source": velocity_of(latent, -SOURCE, (FIRST, SECOND)),
        "reference": velocity_of(latent, SOURCE, (FIRST, -SECOND)),
        "number of references": velocity_of(latent, SOURCE, (FIRST,)),
        "order of references": velocity_of(latent, SOURCE, (SECOND, FIRST)),
    }
    for name, changed in others.items():
        assert (changed - velocity).abs().max() > 1e-4, name


@pytest.mark.parametrize("kind", ["latent", "embedding"])
def test_conditions_serve_any_number_of_steps(kind: str, request):
    denoiser = request.getfixturevalue(kind)
    conditions = denoiser.conditions(SOURCE, (FIRST,))
    for _ in range(2):  # nothing stays behind from one step to the next
        velocity = denoiser(LATENTS, SIGMA, CONTEXT, conditions)
        assert torch.equal(velocity, velocity_of(denoiser, SOURCE, (FIRST,)))
    assert not denoiser.transformer.patch_embedding._forward_hooks


def test_nothing_stays_behind_after_an_error(embedding):
    with pytest.raises(RuntimeError):
        velocity_of(embedding, SOURCE, context=Context(TOKENS[..., :3]))
    assert not embedding.transformer.patch_embedding._forward_hooks


def test_context_past_the_text_embedding(plain):
    denoiser = Denoiser(tiny.transformer(), DenoiserConfig(), ContextEntry.WIDTH)
    context = rand(2, 5, tiny.WIDTH, seed=6)
    velocity = denoiser(LATENTS, SIGMA, Context(context))
    handle = plain.condition_embedder.text_embedder.register_forward_hook(lambda *_: context)
    expected = wan(plain, LATENTS)
    handle.remove()
    torch.testing.assert_close(velocity, expected, **CLOSE)
    assert denoiser.transformer.state_dict().keys() == plain.state_dict().keys()


def test_a_predicted_change_leads_to_the_source_with_the_change(embedding):
    change = Denoiser(
        embedding.transformer, DenoiserConfig(SourceInjection.EMBEDDING), ContextEntry.TEXT, ChangePrediction()
    ).requires_grad_(False)
    change.source_embedding = embedding.source_embedding
    output = velocity_of(embedding, SOURCE, (FIRST, SECOND))
    velocity = velocity_of(change, SOURCE, (FIRST, SECOND))
    data = LATENTS - SIGMA.view(-1, 1, 1, 1, 1) * velocity  # (1 - sigma) data + sigma noise, less sigma velocity
    torch.testing.assert_close(data, SOURCE + output, **CLOSE)


def test_a_predicted_gain_and_offset_change_the_source_alike_at_every_place():
    source, latents = rand(2, 4, 1, 4, 6, seed=7), rand(2, 4, 1, 4, 6, seed=8)
    red = torch.tensor([0.5, -1.0, 2.0, 0.0]).view(1, 4, 1, 1, 1)
    drawn = torch.zeros(2, 8, 1, 4, 6)
    drawn[:, :4, ..., :2], drawn[:, 4:, ..., :2] = -1.0, red  # a red shape at the left, on any ground
    velocity = AffinePrediction().velocity(drawn, latents, source, SIGMA)
    data = latents - SIGMA.view(-1, 1, 1, 1, 1) * velocity
    torch.testing.assert_close(data[..., :2], red.expand(2, 4, 1, 4, 2))
    torch.testing.assert_close(data[..., 2:], source[..., 2:])


def test_a_dit_has_the_outputs_of_its_prediction():
    with pytest.raises(CheckpointError, match="4 output channels, but its config needs 8 for what it predicts"):
        Denoiser(tiny.transformer(), DenoiserConfig(SourceInjection.EMBEDDING), ContextEntry.TEXT, AffinePrediction())


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
    denoiser = Denoiser(tiny.transformer(), DenoiserConfig(), ContextEntry.TEXT, ChangePrediction())
    with pytest.raises(InputError, match="predicts what to change in a source"):
        velocity_of(denoiser)


def test_sizes_that_do_not_fit(latent):
    with pytest.raises(InputError, match="source has 3 latent frames but 2 are being edited"):
        latent(LATENTS[:, :, :2], SIGMA, CONTEXT, latent.conditions(SOURCE))
    with pytest.raises(InputError, match=r"reference has latent size \(4, 4\), the source \(4, 6\)"):
        latent.conditions(SOURCE, (FIRST[..., :4],))


def test_zero_patch_embedding_follows_the_transformer():
    transformer = tiny.transformer(patch=(1, 2, 2)).to(torch.bfloat16)
    zero, own = zero_patch_embedding(transformer), transformer.patch_embedding
    assert zero.weight.shape == own.weight.shape and zero.stride == own.stride and zero.weight.dtype == torch.bfloat16
    assert not zero.weight.any() and not zero.bias.any() and zero.weight.requires_grad


@pytest.mark.parametrize("source", tiny.DIT_SOURCES)
def test_bfloat16_weights_take_and_give_float32(source: SourceInjection):
    """A sampler's state stays in float32; so does the noise level, which bfloat16 would round to eight bits."""
    exact = Denoiser(tiny.transformer(), DenoiserConfig(source)).requires_grad_(False)
    if exact.source_embedding is not None:
        tiny.shake(exact.source_embedding, 0.3)
    expected = velocity_of(exact, SOURCE, (FIRST,))
    seen = []
    exact.to(torch.bfloat16).transformer.condition_embedder.register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0])
    )
    velocity = velocity_of(exact, SOURCE, (FIRST,))
    assert velocity.dtype == torch.float32
    assert torch.equal(seen[0], SIGMA * 1000)
    assert (velocity - expected).abs().max() < 0.1 * expected.abs().max()


# --- what is in a context


def test_masked_places_are_not_looked_at(latent):
    """A context with places to leave out gives what the context without them does."""
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[0, :2] = False
    masked = velocity_of(latent, SOURCE, context=Context(TOKENS, mask))
    assert torch.equal(masked, velocity_of(latent, SOURCE, context=Context(TOKENS + 9 * ~mask[..., None], mask)))
    alone = latent(LATENTS[:1], SIGMA[:1], Context(TOKENS[:1, 2:]), latent.conditions(SOURCE[:1]))
    torch.testing.assert_close(masked[:1], alone, **CLOSE)
    assert (masked - velocity_of(latent, SOURCE)).abs().max() > 1e-4
    torch.testing.assert_close(velocity_of(latent), latent(LATENTS, SIGMA, CONTEXT), atol=0, rtol=0)  # forgotten again


def test_a_mask_reaches_blocks_that_checkpointing_computes_again():
    denoiser = Denoiser(tiny.transformer(), DenoiserConfig())
    context = Context(TOKENS, (torch.arange(5) < 3).expand(2, 5))
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            denoiser.transformer.train().enable_gradient_checkpointing()
        denoiser.zero_grad()
        denoiser(LATENTS, SIGMA, context).square().mean().backward()
        gradients.append(denoiser.transformer.blocks[0].attn2.to_k.weight.grad.clone())
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[1], gradients[0])


IMAGE_DIM = 12


def image_reading() -> Denoiser:
    """A Wan with projections for an image stream, as its image-to-video DiTs have."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    sizes = {name: size for name, size in tiny.transformer().config.items() if not name.startswith("_")}
    sizes |= {"image_dim": IMAGE_DIM, "added_kv_proj_dim": tiny.WIDTH}
    transformer = WanTransformer3DModel(**sizes).eval()
    return Denoiser(transformer, DenoiserConfig()).requires_grad_(False)


def test_an_image_stream_is_attended_to_as_diffusers_does():
    """Diffusers splits it off 512 places of text; ours may have any number."""
    from diffusers.models.transformers.transformer_wan import WanAttnProcessor

    denoiser, text, image = image_reading(), rand(2, 512, tiny.TEXT_DIM, seed=7), rand(2, 3, IMAGE_DIM, seed=8)
    ours = denoiser(LATENTS, SIGMA, Context(text, image=image))
    plain = copy.deepcopy(denoiser.transformer)
    for block in plain.blocks:
        block.attn2.set_processor(WanAttnProcessor())
    with torch.no_grad():
        expected = plain(LATENTS, SIGMA * 1000, text, image, return_dict=False)[0]
    torch.testing.assert_close(ours, expected, **CLOSE)
    short = denoiser(LATENTS, SIGMA, Context(TOKENS, image=image))
    assert short.isfinite().all() and (short - denoiser(LATENTS, SIGMA, CONTEXT)).abs().max() > 1e-4


def test_an_image_stream_needs_projections(latent):
    with pytest.raises(InputError, match="no projections for one"):
        latent(LATENTS, SIGMA, Context(TOKENS, image=torch.zeros(2, 3, IMAGE_DIM)))


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
    velocity = velocity_of(denoiser, SOURCE, (FIRST, SECOND))
    frames = torch.cat([FIRST, SECOND, LATENTS + SOURCE], dim=2)
    torch.testing.assert_close(velocity, wan(plain, frames)[:, :, 3:], **CLOSE)


def test_a_fading_source_counts_sigma_times():
    denoiser = shaken(DenoiserConfig(SourceInjection.EMBEDDING, source_fades=True))
    velocity = velocity_of(denoiser, SOURCE)
    addend = denoiser.source_embedding(SOURCE) * SIGMA.view(2, 1, 1, 1, 1)
    torch.testing.assert_close(velocity, by_hand(denoiser, LATENTS, lambda tokens: tokens + addend), **CLOSE)


@pytest.mark.parametrize("first", [False, True])
def test_references_with_an_embedding_of_their_own(first: bool):
    config = DenoiserConfig(
        SourceInjection.EMBEDDING, reference=ReferenceInjection.EMBEDDING, references_first=first, source_fades=True
    )
    denoiser = shaken(config)
    velocity = velocity_of(denoiser, SOURCE, (FIRST, SECOND))
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
