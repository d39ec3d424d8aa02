"""Stable Diffusion's UNet as an editor: SmartEdit's numbers, DDIM's steps, guidance over a picture and a sentence."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from instructx_core.config import DenoiserConfig, Network, Prediction, SourceInjection
from instructx_core.context import Context
from instructx_core.diffusion import LATENT_SCALE, diffusion_schedule, nearest_level, scales, trained_sigmas
from instructx_core.errors import InputError
from instructx_core.sampling import GuidanceTerm, initial_noise, sample
from instructx_core.unet_denoiser import UNetDenoiser, image_attentions
from support.golden_runs import GOLDEN

WIDTH = 24


def unet(seed: int = 0):
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    model = UNet2DConditionModel(
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval().requires_grad_(False)


def denoiser(image_tokens: int = 4, prediction: Prediction = Prediction.NOISE) -> UNetDenoiser:
    torch.manual_seed(1)
    config = DenoiserConfig(SourceInjection.CHANNELS, prediction, network=Network.UNET, image_tokens=image_tokens)
    return UNetDenoiser(unet(), config).requires_grad_(False)


def context(seed: int = 0, image: bool = True, **parts: object) -> Context:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, 5, WIDTH, generator=generator)
    return Context(tokens, image=torch.randn(1, 4, WIDTH, generator=generator) if image else None, **parts)


def latents(seed: int = 0, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 4, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_the_noise_it_predicts_is_smartedits() -> None:
    recorded = load_file(GOLDEN / "smartedit.safetensors")
    model = denoiser(image_tokens=0)
    model.transformer.load_state_dict(
        {name.removeprefix("unet."): value for name, value in recorded.items() if name.startswith("unet.")}
    )
    sigma = trained_sigmas()[recorded["in.timestep"]].float()
    kept, noise = (scale.view(-1, 1, 1, 1, 1) for scale in scales(sigma))
    noisy, source = recorded["in.latents"][:, :, None].chunk(2, dim=1)
    given = noisy / (kept + noise)
    velocity = model(given, sigma, Context(recorded["out.text"], addend=recorded["out.visual"]),
                     model.conditions(source * LATENT_SCALE))  # fmt: skip
    predicted = given + (1 - sigma.view(-1, 1, 1, 1, 1)) * velocity  # eps
    torch.testing.assert_close(predicted[:, :, 0], recorded["out.noise"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", [Prediction.NOISE, Prediction.V])
@pytest.mark.parametrize("steps", [20, 50, 100])
@torch.no_grad()
def test_a_run_is_ddims(steps: int, prediction: Prediction) -> None:
    """The same UNet through diffusers' DDIM, from the same noise."""
    from diffusers import DDIMScheduler

    model, own, source = denoiser(prediction=prediction), context(), latents(3)
    noise = initial_noise((1, 4, 1, 6, 6), 7)
    ours = sample(model, noise, [GuidanceTerm(1.0, own, model.conditions(source))], steps, 1.0)

    scheduler = DDIMScheduler(
        1000, 0.00085, 0.012, "scaled_linear", clip_sample=False, timestep_spacing="trailing",
        prediction_type={Prediction.NOISE: "epsilon", Prediction.V: "v_prediction"}[prediction],
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    theirs = noise[:, :, 0]
    for timestep in scheduler.timesteps:
        given = torch.cat([theirs, source[:, :, 0] / LATENT_SCALE], dim=1)
        output = model.transformer(given, timestep, (own.tokens, [own.image]), return_dict=False)[0]
        theirs = scheduler.step(output, timestep, theirs, return_dict=False)[0]
    torch.testing.assert_close(ours[:, :, 0], theirs, atol=2e-3, rtol=2e-3)


@torch.no_grad()
def test_a_step_is_ddims_to_the_last_digits() -> None:
    """In float64, with any prediction: 1e-12."""
    sigmas, given, eps = diffusion_schedule(20), latents().double(), latents(1).double()
    for before, after in pairwise(sigmas):
        (kept, noise), (kept_after, noise_after) = scales(before), scales(after)
        noisy = given * (kept + noise)
        data = (noisy - noise * eps) / kept
        euler = given + (after - before) * (eps - data)
        ddim = (kept_after * data + noise_after * eps) / (kept_after + noise_after)
        torch.testing.assert_close(euler, ddim, atol=1e-12, rtol=1e-12)


def test_each_trained_level_finds_itself() -> None:
    assert torch.equal(nearest_level(trained_sigmas().float()), torch.arange(1000))
    for steps in (1, 20, 37, 100, 1000):
        sigmas = diffusion_schedule(steps)
        assert len(sigmas) == steps + 1 and sigmas[0] == trained_sigmas()[-1] and sigmas[-1] == 0
        assert bool((sigmas[1:] < sigmas[:-1]).all())


@torch.no_grad()
def test_the_image_stream_counts_as_much_as_lambda_says() -> None:
    model, sigma = denoiser(), torch.tensor(0.5)
    conditions = model.conditions(latents(3))

    def velocity(own: Context) -> torch.Tensor:
        return model(latents(), sigma, own, conditions)

    none, half, full = (velocity(context(image_weight=weight)) for weight in (0.0, 0.5, 1.0))
    assert not torch.allclose(none, half, atol=1e-3) and not torch.allclose(half, full, atol=1e-3)
    # zeros are keys and values of zeros: nothing is found
    zeros = context()
    assert torch.allclose(velocity(Context(zeros.tokens, image=torch.zeros_like(zeros.image))), none, atol=1e-6)
    # the text has keys and values of its own: without image attention it is the plain UNet
    assert torch.allclose(denoiser(0)(latents(), sigma, context(image=False), conditions), none, atol=1e-6)


@torch.no_grad()
def test_fresh_image_attention_reads_tokens_as_text() -> None:
    model = denoiser()
    attention = model.transformer.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    assert torch.equal(attention.processor.to_k_ip[0].weight, attention.to_k.weight)
    assert len(list(image_attentions(model.transformer))) == 4 and set(model.gained()) == {"image_attention"}
    assert not denoiser(0).gained()


@torch.no_grad()
def test_v_txt_is_added_behind_the_first_convolution_at_any_size() -> None:
    model, seen = denoiser(), []
    model.transformer.down_blocks[0].resnets[0].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    conditions, sigma = model.conditions(latents(3)), torch.tensor(0.5)
    model(latents(), sigma, context(), conditions)
    model(latents(), sigma, context(addend=torch.full((1, 8, 3, 3), 2.0)), conditions)
    torch.testing.assert_close(seen[1], seen[0] + 2)
    model(latents(), sigma, context(), conditions)
    assert torch.equal(seen[2], seen[0])  # nothing stays behind


@torch.no_grad()
def test_no_source_is_one_of_zeros() -> None:
    model, sigma = denoiser(), torch.tensor(0.5)
    without = model(latents(), sigma, context(), model.conditions(None))
    assert torch.equal(without, model(latents(), sigma, context(), model.conditions(torch.zeros_like(latents()))))
    assert not torch.allclose(without, model(latents(), sigma, context(), model.conditions(latents(3))), atol=1e-3)


def test_a_saved_unet_is_a_plain_one(tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    model = denoiser()
    model.save(tmp_path)
    plain = UNet2DConditionModel.from_pretrained(tmp_path)
    assert not [name for name in plain.state_dict() if "processor" in name]
    assert len(list(image_attentions(model.transformer))) == 4


def test_what_it_cannot_take_is_named() -> None:
    model, sigma = denoiser(), torch.tensor(0.5)
    with pytest.raises(InputError, match="one picture, not 2 frames"):
        model(torch.cat([latents(), latents()], dim=2), sigma, context())
    with pytest.raises(InputError, match="no image stream"):
        model(latents(), sigma, context(image=False), model.conditions(latents()))
    with pytest.raises(InputError, match="no reference pictures"):
        model.conditions(latents(), [latents()])
    with pytest.raises(InputError, match="shift is 3"):
        model.levels(20, 3.0)
