"""Stable Diffusion's UNet as an editor (InsightEdit, section 4.3), in flow-matching coordinates.

- The source's latent enters as four additional channels, v_txt after the first convolution, f_txt in place of CLIP's
  text.
- f_img has separate keys and values in every cross-attention (IP-Adapter's, eq. 6); Q is shared.
- It predicts eps or v; `diffusion` derives the velocity of a flow model from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from .backbone import Backbone
from .conditions.condition import Condition
from .conditions.source_channels import SourceChannels
from .config import DenoiserConfig, Prediction
from .context import Context
from .diffusion import LATENT_SCALE, diffusion_schedule, nearest_level, scales
from .errors import CheckpointError, InputError
from .schedules import check_steps

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0


class UNetDenoiser(Backbone):
    """`UNet2DConditionModel` that edits one picture.

    Args:
        transformer: the UNet, with 2 C channels in and C out.
        config: what is predicted; `image_tokens` above 0 gives every cross-attention keys and values for an image
            stream.

    Raises:
        CheckpointError: a UNet that does not have channels for the source.
    """

    exact = ("norm", "conv_in", "conv_out", "time_embedding")

    def __init__(self, transformer: UNet2DConditionModel, config: DenoiserConfig) -> None:
        super().__init__()
        channels = transformer.config.in_channels, 2 * transformer.config.out_channels
        if channels[0] != channels[1]:
            raise CheckpointError(
                f"The UNet takes {channels[0]} channels, but editing needs {channels[1]}, half of them for the "
                "source; give a UNet that was trained to edit."
            )
        self.config = config
        self.transformer = transformer
        if config.image_tokens:
            add_image_attention(transformer, config.image_tokens)

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.conv_in.weight.dtype

    @property
    def blocks(self) -> Iterable[nn.Module]:
        return (*self.transformer.down_blocks, *self.transformer.up_blocks)

    def conditions(
        self, source: torch.Tensor | None = None, references: Sequence[torch.Tensor] = ()
    ) -> tuple[Condition, ...]:
        # the source's latents enter unscaled, as the VAE gives them, like in InstructPix2Pix
        if references:
            raise InputError("This model takes no reference pictures; leave them out.")
        return () if source is None else (SourceChannels(source / LATENT_SCALE),)

    def forward(
        self, latents: torch.Tensor, sigma: torch.Tensor, context: Context, conditions: Sequence[Condition] = ()
    ) -> torch.Tensor:
        if latents.shape[2] != 1:
            raise InputError(f"This model edits one picture, not {latents.shape[2]} frames; give a picture.")
        sigma = sigma.to(latents.device).expand(len(latents))  # [B]
        # a and s of x_t, [B, 1, 1, 1, 1] each
        kept, noise = (scale.view(-1, 1, 1, 1, 1) for scale in scales(sigma))
        noisy = latents * (kept + noise)  # x_t = a x_0 + s eps

        hidden = noisy
        for condition in conditions:
            hidden = condition.enter(hidden)  # [B, C, 1, H, W] -> [B, 2 C, 1, H, W]
        if not conditions:  # without a source zeros, as in training where one was dropped
            hidden = F.pad(hidden, (0, 0) * 3 + (0, hidden.shape[1]))

        context = context.to(self.dtype)
        with self._adding(context.addend):
            # the UNet is two-dimensional: drop the time axis, whose length is 1
            output = self.transformer(
                hidden[:, :, 0].to(self.dtype), nearest_level(sigma), self._entering(context), return_dict=False
            )[0][:, :, None]
        output = output.to(latents.dtype)

        if self.config.prediction is Prediction.V:  # a eps - s x_0, and x_t = a x_0 + s eps
            eps, data = noise * noisy + kept * output, kept * noisy - noise * output
        else:
            eps, data = output, (noisy - noise * output) / kept
        return eps - data

    def levels(self, steps: int, shift: float, sigma_min: float = 0.0) -> torch.Tensor:
        check_steps(steps)
        if shift != 1:
            raise InputError(f"shift is {shift:g}; give 1, because this model uses a diffusion model's noise levels.")
        return diffusion_schedule(steps)

    def begin(self, noise: torch.Tensor, sigma: float) -> torch.Tensor:
        # x_T is assumed to be pure noise, as in every Stable Diffusion sampler
        kept, own = scales(torch.tensor(sigma, dtype=torch.float64))
        return noise / float(kept + own)

    def gained(self) -> dict[str, nn.Module]:
        processors = list(image_attentions(self.transformer))
        return {"image_attention": nn.ModuleList(processors)} if processors else {}

    def save(self, folder: Path) -> None:
        # the image attention is saved with the modules of `gained`, so that diffusers can load the UNet's folder
        own = self.transformer.attn_processors
        self.transformer.set_default_attn_processor()
        try:
            self.transformer.save_pretrained(folder)
        finally:
            self.transformer.set_attn_processor(own)

    def _entering(self, context: Context) -> torch.Tensor | tuple[torch.Tensor, list[torch.Tensor]]:
        """The input of the cross-attentions: text tokens, with image tokens if there are any."""
        processors = list(image_attentions(self.transformer))
        if context.image is None and not processors:
            return context.tokens
        if context.image is None or not processors:
            raise InputError(
                "The UNet has image attention, but its context has no image stream; give both or neither."
                if processors
                else "The UNet has no image attention, but its context has an image stream; give both or neither."
            )
        for processor in processors:
            processor.scale = [context.image_weight]  # diffusers keeps lambda on the processor, not in the call
        return context.tokens, [context.image]

    @contextmanager
    def _adding(self, addend: torch.Tensor | None) -> Iterator[None]:
        """For one forward, add v_txt, resized, to the output of the first convolution."""
        if addend is None:
            yield
            return

        def add(_module: nn.Module, _inputs: tuple[torch.Tensor], hidden: torch.Tensor) -> torch.Tensor:
            return hidden + F.interpolate(addend, hidden.shape[-2:], mode="bilinear", align_corners=False)

        handle = self.transformer.conv_in.register_forward_hook(add)
        try:
            yield
        finally:
            handle.remove()


def add_image_attention(unet: UNet2DConditionModel, tokens: int) -> None:
    """Give every cross-attention keys and values for image tokens, in place.

    Their weights start as copies of the text's, as in IP-Adapter, so that image tokens enter in a form that the UNet
    already understands.
    """
    from diffusers.models.attention_processor import AttnProcessor2_0, IPAdapterAttnProcessor2_0

    processors: dict[str, nn.Module | AttnProcessor2_0] = {}
    processors |= {name: AttnProcessor2_0() for name in unet.attn_processors}
    for name in image_attended(unet):
        attention = unet.get_submodule(name)
        key, value = attention.to_k.weight, attention.to_v.weight
        with torch.device(key.device):
            own = IPAdapterAttnProcessor2_0(attention.inner_dim, attention.cross_attention_dim, num_tokens=(tokens,))
        own.to_k_ip[0].weight.data, own.to_v_ip[0].weight.data = key.detach().clone(), value.detach().clone()
        processors[f"{name}.processor"] = own
    unet.set_attn_processor(processors)


def image_attended(unet: UNet2DConditionModel) -> list[str]:
    """The names of the cross-attentions, in the order of the image attentions' numbers in checkpoints."""
    return sorted(name.removesuffix(".processor") for name in unet.attn_processors if name.endswith("attn2.processor"))


def image_attentions(unet: UNet2DConditionModel) -> Iterator[IPAdapterAttnProcessor2_0]:
    """The image attention processors of all cross-attentions, in the order of `image_attended`."""
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    for name in image_attended(unet):
        processor = unet.get_submodule(name).processor
        if isinstance(processor, IPAdapterAttnProcessor2_0):
            yield processor
