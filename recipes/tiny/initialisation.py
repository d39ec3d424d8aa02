"""Initialisations that stand in for the pre-training that a tiny model cannot afford.

A VAE that starts as the best *linear* code (principal components) has only its last few decibels to learn. Wan's blocks
allow that exactly: residual branches start at zero, and the two normalised activations at the ends are undone by

- a constant channel far larger than the signal, so that the RMS norm divides by (almost) a constant, and
- pairs of channels (+x, -x), because silu(x) - silu(-x) = x.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

    from instructx_core.connectors import Connector
    from instructx_core.denoiser import Denoiser

CONSTANT = 55.0  # about ten times the norm of the other channels together


@torch.no_grad()
def start_vae_linear(vae: AutoencoderKLWan, pixels: torch.Tensor) -> None:
    """Initialise a one-level `AutoencoderKLWan` to encode by principal components and decode by their basis.

    Args:
        vae: with `dim_mult` [1], so that all spatial compression is its `patch_size`.
        pixels: [N, 3, 1, H, W] in [-1, 1], a few hundred frames to compute the components from.
    """
    from diffusers.models.autoencoders.autoencoder_kl_wan import (
        WanAttentionBlock,
        WanCausalConv3d,
        WanResidualBlock,
        WanRMS_norm,
        patchify,
    )

    width, channels = vae.config.base_dim, vae.config.z_dim
    patches = patchify(pixels, vae.config.patch_size).movedim(1, -1).flatten(0, -2).double()
    mean = patches.mean(0)
    basis, variances, _ = torch.linalg.svd((patches - mean).T @ (patches - mean) / len(patches))
    scale = variances.clamp_min(1e-8).sqrt()
    whiten, basis, mean = (basis / scale).T.float(), (basis * scale).float(), mean.float()

    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            zero(module.conv2)
        elif isinstance(module, WanAttentionBlock):
            zero(module.proj)
        elif isinstance(module, WanRMS_norm):
            module.gamma.fill_(CONSTANT / width**0.5)
        elif isinstance(module, WanCausalConv3d):
            module.weight[:, :, :-1] = (
                0  # past frames; a VAE trained only on images keeps encoding each frame independently
            )
    for convolution in (vae.encoder.conv_in, vae.encoder.conv_out, vae.decoder.conv_in, vae.decoder.conv_out):
        zero(convolution)
    for pointwise in (vae.quant_conv, vae.post_quant_conv):
        zero(pointwise)
        now(pointwise).copy_(torch.eye(len(pointwise.weight)))

    signal, mirror, constant, rest = channels, 2 * channels, 2 * channels, 2 * channels + 1
    spare = min(width - rest, len(whiten) - channels)  # finer components, for the non-linear layers to use
    for entry, rows in ((vae.encoder.conv_in, whiten), (vae.decoder.conv_in, torch.eye(channels))):
        now(entry)[:signal] = rows[:channels]
        now(entry)[signal:mirror] = -rows[:channels]
        entry.bias[constant] = CONSTANT
    now(vae.encoder.conv_in)[rest : rest + spare] = whiten[channels : channels + spare]
    vae.encoder.conv_in.bias[:signal] = -(whiten[:channels] @ mean)
    vae.encoder.conv_in.bias[signal:mirror] = whiten[:channels] @ mean
    vae.encoder.conv_in.bias[rest : rest + spare] = -(whiten[channels : channels + spare] @ mean)
    nn.init.kaiming_uniform_(vae.decoder.conv_in.weight[rest:, :, -1], a=5**0.5)

    for exit_, columns in (
        (vae.encoder.conv_out, torch.eye(2 * channels)[:, :channels]),
        (vae.decoder.conv_out, basis[:, :channels]),
    ):
        now(exit_)[:, :signal] = columns
        now(exit_)[:, signal:mirror] = -columns
    vae.encoder.conv_out.bias[channels:] = -7.0  # log variance: next to no noise
    vae.decoder.conv_out.bias.copy_(mean)


def now(convolution: nn.Conv3d) -> torch.Tensor:
    """The tap [out, in] of a causal convolution at the current frame and position."""
    _, height, width = convolution.kernel_size
    return convolution.weight[:, :, -1, height // 2, width // 2]


def zero(module: nn.Module) -> None:
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)


@torch.no_grad()
def fold_statistics(vae: AutoencoderKLWan, pixels: torch.Tensor) -> None:
    """Shift and scale the code of `pixels` [N, 3, 1, H, W] to the statistics in the VAE's config, in place.

    The outermost 1 x 1 x 1 convolutions of encoder and decoder absorb the change, so reconstructions do not change, and
    a program that knows only Wan's published statistics normalises this VAE's latents correctly. A normalised channel's
    deviation is a compromise between 1 for all (grain would count as much as colour) and its effect on pixels (a little
    noise would drown all but the colour): the root of that effect, with a mean square of 1 over the channels.
    """
    code = torch.cat([vae.encode(part).latent_dist.mean for part in pixels.split(64)])
    dims = (0, 2, 3, 4)
    deviation = code.std(dims)
    shares = (channel_effect(vae, code[:64]).sqrt() * deviation).sqrt()
    wanted_mean, wanted_std = (torch.tensor(values) for values in (vae.config.latents_mean, vae.config.latents_std))
    gain = wanted_std * shares / shares.square().mean().sqrt() / deviation
    offset = wanted_mean - gain * code.mean(dims)
    channels = vae.config.z_dim
    entry, exit_ = vae.post_quant_conv, vae.quant_conv
    # decoder side first: it takes (code - offset) / gain
    entry.bias += now(entry) @ (-offset / gain)
    entry.weight /= gain.view(1, -1, 1, 1, 1)
    exit_.weight[:channels] *= gain.view(-1, 1, 1, 1, 1)
    exit_.bias[:channels] = exit_.bias[:channels] * gain + offset
    exit_.bias[channels:] += 2 * gain.log()  # the posterior's log variance grows with the code


@torch.no_grad()
def channel_effect(vae: AutoencoderKLWan, code: torch.Tensor) -> torch.Tensor:
    """Effect of each channel of raw `code` [B, C, t, h, w]: mean square change of pixels per unit of it, [C].

    A tiny VAE's first channels hold colour and position, the last ones the grain.
    """
    generator = torch.Generator().manual_seed(0)
    unchanged = vae.decode(code).sample
    effects = []
    for channel in range(code.shape[1]):
        size = 0.5 * code[:, channel].std()
        disturbed = code.clone()
        disturbed[:, channel] += size * torch.randn(code[:, channel].shape, generator=generator).to(code)
        effects.append((vae.decode(disturbed).sample - unchanged).square().mean() / size.square())
    return torch.stack(effects)


@torch.no_grad()
def start_unchanging(connector: Connector, denoiser: Denoiser) -> None:
    """Initialise edits to change nothing, and every layer to roughly preserve the scale of its input.

    With torch's and diffusers' defaults, the layers between the guidance and the DiT's blocks shrink the context to a
    twentieth of a token's scale: while no block hears it, the guidance forgets which object was meant and what colour
    it should get.
    """
    transformer = denoiser.transformer
    embedder = transformer.condition_embedder
    for module in (*connector.projections(), *embedder.text_embedder.modules(), transformer.patch_embedding):
        if isinstance(module, nn.Linear | nn.Conv3d):
            preserve(module)
    for block in transformer.blocks:
        for attention in (block.attn1, block.attn2):
            for projection in (attention.to_q, attention.to_k, attention.to_v):
                preserve(projection)
        preserve(block.ffn.net[0].proj)
        for last in (block.attn1.to_out[0], block.attn2.to_out[0], block.ffn.net[2]):
            preserve(last, gain=(2 * len(transformer.blocks)) ** -0.5)  # as in GPT-2: the sum does not grow with depth
        # rows: shift, scale, gate of the attention, then of the feed-forward
        block.scale_shift_table.zero_()
        block.scale_shift_table[:, [2, 5]] = 1.0
    transformer.scale_shift_table.zero_()
    zero(embedder.time_proj)
    zero(transformer.proj_out)
    if denoiser.source_embedding is not None:
        preserve(denoiser.source_embedding)


def preserve(layer: nn.Linear | nn.Conv3d, gain: float = 1.0) -> None:
    """Draw weights that turn independent inputs of scale 1 into outputs of scale `gain`."""
    nn.init.normal_(layer.weight, std=gain / layer.weight[0].numel() ** 0.5)
    nn.init.zeros_(layer.bias)
