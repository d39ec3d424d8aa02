"""Pixels to normalised latents and back, against diffusers' VAE used plainly."""

from __future__ import annotations

import pytest
import torch

from instructx_core.latents import LatentCodec, skip_empty_taps
from support import tiny

FRAME_BY_FRAME = {
    "dim_mult": [1],
    "temperal_downsample": [],
    "in_channels": 192,
    "out_channels": 192,
    "patch_size": 8,
    "scale_factor_temporal": 1,
    "scale_factor_spatial": 8,
}
VAES = {
    "wan": (tiny.WAN_STRIDES, 8, 4, 4),
    "other": (tiny.OTHER_STRIDES, 4, 2, 4),
    "frame by frame": (FRAME_BY_FRAME, 8, 1, 4),
}
CLOSE = {"atol": 1e-5, "rtol": 1e-4}


def statistics(vae) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)
    return mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)


@pytest.mark.parametrize("kind", VAES)
@torch.no_grad()
def test_as_the_plain_vae(kind: str):
    sizes, stride, temporal, multiple = VAES[kind]
    plain = tiny.vae(**sizes)
    codec = LatentCodec(tiny.vae(**sizes))
    mean, std = statistics(plain)
    assert (codec.channels, codec.stride, codec.temporal_stride) == (tiny.CHANNELS, stride, temporal)
    assert codec.frame_multiple == multiple
    for frames in (1, 9):
        clip = tiny.clip(frames, 16, 24)
        latents = codec.encode(clip[None])
        pixels = clip.permute(3, 0, 1, 2)[None] * 2 - 1
        expected = (plain.encode(pixels).latent_dist.mean - mean) / std
        assert latents.shape == (1, tiny.CHANNELS, 1 + (frames - 1) // temporal, 16 // stride, 24 // stride)
        torch.testing.assert_close(latents, expected, **CLOSE)

        decoded = codec.decode(latents)
        expected = plain.decode(latents * std + mean).sample[0].permute(1, 2, 3, 0) / 2 + 0.5
        assert decoded.shape == (1, frames, 16, 24, 3)
        torch.testing.assert_close(decoded[0], expected, **CLOSE)


def test_batches_are_independent():
    codec = LatentCodec(tiny.vae())
    clips = torch.stack([tiny.clip(5, 16, 16, seed) for seed in range(3)])
    latents = codec.encode(clips)
    torch.testing.assert_close(latents, torch.cat([codec.encode(clip[None]) for clip in clips]), **CLOSE)
    torch.testing.assert_close(codec.decode(latents)[1:2], codec.decode(latents[1:2]), **CLOSE)


def test_normalise_and_back():
    codec = LatentCodec(tiny.vae())
    raw = torch.randn(2, tiny.CHANNELS, 3, 2, 2)
    torch.testing.assert_close(codec.denormalise(codec.normalise(raw)), raw)
    torch.testing.assert_close(codec.normalise(raw)[:, 1], (raw[:, 1] + 0.2) / 1.5)


def test_decoded_pixels_stay_in_range_and_in_float32():
    codec = LatentCodec(tiny.vae()).to(torch.bfloat16)
    frames = codec.decode(torch.randn(1, tiny.CHANNELS, 2, 2, 2) * 1000)
    assert frames.dtype == torch.float32 and frames.min() >= 0 and frames.max() <= 1


@torch.no_grad()
def weights_on_the_present_only(vae):
    """As a VAE that never saw a video: no weight of a causal convolution on earlier frames."""
    for name, parameter in vae.named_parameters():
        if parameter.ndim == 5 and parameter.shape[2] == 3 and "time_conv" not in name:
            parameter[:, :, :-1] = 0
    return vae


@pytest.mark.parametrize("make", [lambda vae: vae, weights_on_the_present_only], ids=["causal", "present only"])
@pytest.mark.parametrize("frames", [1, 5])
@torch.no_grad()
def test_skipped_taps_change_nothing(make, frames: int):
    plain, quick = make(tiny.vae()), make(skip_empty_taps(tiny.vae()))
    pixels = torch.rand(2, 3, frames, 16, 16) * 2 - 1
    latents = plain.encode(pixels).latent_dist.mean
    torch.testing.assert_close(quick.encode(pixels).latent_dist.mean, latents, **CLOSE)
    torch.testing.assert_close(quick.decode(latents).sample, plain.decode(latents).sample, **CLOSE)


@torch.no_grad()
def test_taps_come_back_when_training_gives_them_weight():
    plain, quick = (weights_on_the_present_only(vae) for vae in (tiny.vae(), skip_empty_taps(tiny.vae())))
    pixels = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    before = quick.encode(pixels).latent_dist.mean
    for vae in (plain, quick):
        for module in vae.modules():
            if isinstance(module, torch.nn.Conv3d):
                module.weight.mul_(0.9).add_(0.01)
    after = quick.encode(pixels).latent_dist.mean
    assert not torch.allclose(before, after, atol=1e-3)
    torch.testing.assert_close(after, plain.encode(pixels).latent_dist.mean, **CLOSE)


def test_skipped_taps_train_alike():
    gradients = []
    for vae in (tiny.vae(), skip_empty_taps(tiny.vae())):
        vae.encode(tiny.clip(1, 16, 16).permute(3, 0, 1, 2)[None]).latent_dist.mean.square().sum().backward()
        gradients.append(vae.encoder.conv_in.weight.grad)
    torch.testing.assert_close(*gradients, **CLOSE)
    assert not gradients[1][:, :, :-1].any()
