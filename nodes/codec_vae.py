"""VAEs that ComfyUI's loader cannot build, behind the interface of ComfyUI's VAE.

ComfyUI hard-codes the width and depth of a Wan VAE. A VAE of a different size (InstructX Tiny) is loaded as a
`CodecVAE`, which every stock node accepts. Latents are raw, as everywhere in ComfyUI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import torch
from comfy.model_patcher import ModelPatcher

from ..instructx_core.errors import InputError

if TYPE_CHECKING:
    from ..instructx_core.latents import Codec

BYTES_PER_PIXEL = 2048  # activations per pixel of a frame while encoding or decoding, a conservative estimate
FRAMES_AT_ONCE = 4  # a Wan VAE processes a clip in chunks of this many frames


class CodecHolder(torch.nn.Module):
    """A plain module around the codec: ComfyUI sets attributes on the module that it manages."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec


class CodecVAE:
    """A `Codec` with the interface of `comfy.sd.VAE`.

    Nothing is tiled: the models loaded this way are small.
    """

    latent_dim = 3
    output_channels = 3
    not_video = False

    def __init__(self, codec: Codec) -> None:
        self.device = management.vae_device()
        self.offload_device = management.vae_offload_device()
        self.output_device = management.intermediate_device()
        self.vae_dtype = codec.vae.dtype
        self.latent_channels = codec.channels
        self.first_stage_model = CodecHolder(codec)
        self.patcher = ModelPatcher(self.first_stage_model, load_device=self.device, offload_device=self.offload_device)

    @property
    def codec(self) -> Codec:
        return self.first_stage_model.codec

    def encode(self, pixel_samples: torch.Tensor) -> torch.Tensor:
        """[T, H, W, 3] (or [B, T, H, W, 3]) in [0, 1] -> raw latents [1 or B, C, t, h, w].

        As in ComfyUI, sides are centre-cropped to multiples of the stride, and the clip is cut to 1 + n *
        `frame_multiple` frames.
        """
        frames = self.vae_encode_crop_pixels(pixel_samples if pixel_samples.ndim == 5 else pixel_samples[None])
        multiple = self.codec.frame_multiple
        frames = frames[:, : 1 + (frames.shape[1] - 1) // multiple * multiple]
        self._load(frames.shape[2] * frames.shape[3])
        latents = [self._encode_one(clip[None]) for clip in frames]
        return torch.cat(latents).to(self.output_device)

    def decode(self, samples_in: torch.Tensor, vae_options: dict[str, Any] | None = None) -> torch.Tensor:
        """Raw latents [B, C, t, h, w] (or [B, C, h, w]: images) -> [B, T, H, W, 3] in [0, 1]."""
        samples = samples_in if samples_in.ndim == 5 else samples_in[:, :, None]
        self._load(samples.shape[3] * samples.shape[4] * self.codec.stride**2)
        clips = [self.codec.decode(self.codec.normalise(one[None].to(self._place()))) for one in samples]
        return torch.cat(clips).to(self.output_device)

    def encode_tiled(self, pixel_samples: torch.Tensor, **_tiles: Any) -> torch.Tensor:
        """Same as `encode`: nothing is tiled."""
        return self.encode(pixel_samples)

    def decode_tiled(self, samples: torch.Tensor, **_tiles: Any) -> torch.Tensor:
        """Same as `decode`: nothing is tiled."""
        return self.decode(samples)

    def vae_encode_crop_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """[..., H, W, C] -> [..., h, w, 3], centre-cropped to multiples of the stride; other packs call this.

        Raises:
            InputError: a side is shorter than the stride.
        """
        height, width = pixels.shape[-3:-1]
        stride = self.codec.stride
        if min(height, width) < stride:
            raise InputError(f"The picture is {width} x {height}; the VAE needs sides of at least {stride} pixels.")
        top, left = height % stride // 2, width % stride // 2
        return pixels[..., top : top + height // stride * stride, left : left + width // stride * stride, :3]

    def spacial_compression_encode(self) -> int:
        return self.codec.stride

    def spacial_compression_decode(self) -> int:
        return self.codec.stride

    def temporal_compression_decode(self) -> int:
        return self.codec.temporal_stride

    def vae_output_dtype(self) -> torch.dtype:
        return torch.float32

    def throw_exception_if_invalid(self) -> None:
        """A loaded codec is always valid."""

    def get_sd(self) -> dict[str, torch.Tensor]:
        """The weights under diffusers' names, which VAESave writes."""
        return self.codec.vae.state_dict()

    def is_dynamic(self) -> bool:
        return False

    def _load(self, area: int) -> None:
        needed = area * BYTES_PER_PIXEL * FRAMES_AT_ONCE
        management.load_models_gpu([self.patcher], memory_required=needed, force_full_load=True)

    def _encode_one(self, clip: torch.Tensor) -> torch.Tensor:
        return self.codec.denormalise(self.codec.encode(clip.to(self._place())))

    def _place(self) -> torch.device:
        """The weights' actual device: with --novram they stay on the CPU even after loading onto the GPU."""
        return next(self.codec.parameters()).device


class StillVAE(CodecVAE):
    """A `CodecVAE` for still images, like Stable Diffusion's: latents have no time axis."""

    latent_dim = 2
    not_video = True

    def encode(self, pixel_samples: torch.Tensor) -> torch.Tensor:
        """[B, H, W, 3] in [0, 1] -> raw latents [B, C, h, w]."""
        return super().encode(pixel_samples[:, None])[:, :, 0]

    def decode(self, samples_in: torch.Tensor, vae_options: dict[str, Any] | None = None) -> torch.Tensor:
        """Raw latents [B, C, h, w] -> [B, H, W, 3] in [0, 1]."""
        return super().decode(samples_in)[:, 0]

    def temporal_compression_decode(self) -> None:
        """None: there is no time axis."""
