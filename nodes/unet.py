"""Turn a native Stable Diffusion UNet (ComfyUI's `SD15_instructpix2pix`) into InsightEdit's denoiser.

- The source is ComfyUI's own `concat_latent_image`, as in its InstructPix2Pix conditioning.
- v_txt and the image tokens are in the conditioning too; a DIFFUSION_MODEL wrapper passes them to the patches: v_txt is
  added after the first convolution (`input_block_patch`), and every cross-attention also attends to the tokens, with
  separate keys and values (`attn2_replace`). A conditioning without them changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.conds
import comfy.model_sampling
import comfy.utils
import torch
import torch.nn.functional as F
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.patcher_extension import WrappersMP

from ..instructx_core.config import Prediction
from ..instructx_core.errors import InputError
from .conditioning import SOURCE_CHANNELS
from .denoising import ATTACHMENT

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.config import ModelConfig
    from ..instructx_core.context import Context
    from .conditioning import Conditioning

ADDEND, IMAGE = "instructx_addend", "instructx_image"
FIRST = ("input", 0)  # the first convolution among the UNet's blocks
Place = tuple[str, int, int]  # kind of block, its index, index of the transformer block in it
KeyValue = tuple[torch.Tensor, torch.Tensor]  # projections of an image stream, [inner, width] each


@dataclass(frozen=True)
class UNetDenoising:
    """A checkpoint's description of its UNet; the loaders attach it to a MODEL."""

    config: ModelConfig
    image_attention: Mapping[str, KeyValue]  # by the cross-attentions' names in diffusers


def is_unet(model: ModelPatcher) -> bool:
    """Whether a MODEL is a UNet with an attached checkpoint."""
    return isinstance(model.get_attachment(ATTACHMENT), UNetDenoising)


def check_unet(model: ModelPatcher, config: ModelConfig) -> None:
    """Raise InputError unless `model` is a UNet that edits."""
    unet = getattr(model.model, "diffusion_model", None)
    if not isinstance(unet, UNetModel) or not hasattr(model.model, "process_ip2p_image_in"):
        raise InputError(
            f"The MODEL is {type(model.model).__name__}, but {config.name!r} needs a Stable Diffusion UNet that edits "
            "(8 input channels); load the checkpoint's own with InstructX Load Model."
        )


def attach_unet(model: ModelPatcher, what: UNetDenoising) -> ModelPatcher:
    """Clone a Stable Diffusion MODEL and patch it to take this checkpoint's context.

    Raises:
        InputError: as for `check_unet`; or the UNet's sizes do not match the checkpoint's.
    """
    check_unet(model, what.config)
    places = attention_places(model)
    connector = what.config.connector
    widths = {"a context": (connector.output_dim, context_width(model))}
    if connector.two_stream.bim:
        widths["an addend"] = (connector.two_stream.addend_dim, model.model.diffusion_model.model_channels)
    for name, (made, taken) in widths.items():
        if made != taken:
            raise InputError(
                f"The checkpoint {what.config.name!r} makes {name} of width {made}, but the MODEL takes {taken}; choose"
                " the MODEL that it was trained with."
            )
    for name, (key, _) in what.image_attention.items():
        own = None if name not in places else model.model.get_submodule(f"diffusion_model.{_module(places[name])}")
        if own is None or own.to_k.weight.shape != key.shape:
            raise InputError(
                f"The checkpoint {what.config.name!r} has an image attention for {name} that does not fit the "
                "MODEL; choose the MODEL that it was trained with."
            )
    patched = model.clone()
    patched.set_attachments(ATTACHMENT, what)
    for kind, wrapper in ((WrappersMP.DIFFUSION_MODEL, hand_on), (WrappersMP.PREPARE_SAMPLING, check_fits)):
        patched.remove_wrappers_with_key(kind, ATTACHMENT)
        patched.add_wrapper_with_key(kind, ATTACHMENT, wrapper)
    if not any(patch is add_addend for patch in _patches(model, "input_block_patch")):
        patched.set_model_input_block_patch(add_addend)
    start = PureStartV if what.config.denoiser.prediction is Prediction.V else PureStartNoise
    patched.add_object_patch("model_sampling", start(model.model.model_config))
    weight = what.config.sampling.image_stream
    for name, key_value in what.image_attention.items():
        patched.set_model_attn2_replace(ImageAttention(*key_value, weight), *places[name])
    return patched


class PureStart(comfy.model_sampling.ModelSamplingDiscrete):
    """ComfyUI's sampling for eps or v, except that a full run starts from noise only, as in the library.

    ComfyUI adds the LATENT to the starting noise, and expects editing nodes to provide zeros. Here the LATENT is the
    source, because a mask and a denoise below 1 need it.
    """

    def noise_scaling(
        self, sigma: torch.Tensor, noise: torch.Tensor, latent_image: torch.Tensor, max_denoise: bool = False
    ) -> torch.Tensor:
        return super().noise_scaling(sigma, noise, latent_image * (not max_denoise), max_denoise)


class PureStartNoise(PureStart, comfy.model_sampling.EPS):
    """For a UNet that predicts eps."""


class PureStartV(PureStart, comfy.model_sampling.V_PREDICTION):
    """For a UNet that predicts v."""


def carried(context: Context) -> dict[str, Any]:
    """The parts of a context that a conditioning carries in addition to the tokens."""
    streams = {ADDEND: context.addend, IMAGE: context.image}
    return {name: comfy.conds.CONDRegular(value.float().cpu()) for name, value in streams.items() if value is not None}


def with_channels(conditioning: Conditioning, raw: torch.Tensor, strength: float) -> Conditioning:
    """Add a source, raw latents [B, C, h, w], to every entry of a conditioning."""
    return [[tokens, options | {SOURCE_CHANNELS: raw.float() * strength}] for tokens, options in conditioning]


def hand_on(
    executor: Callable[..., torch.Tensor],
    x: torch.Tensor,
    timesteps: torch.Tensor,
    context: torch.Tensor,
    y: torch.Tensor | None = None,
    control: Any = None,
    transformer_options: dict[str, Any] | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """Wraps the UNet's forward: passes v_txt and the image tokens to the patches, in `transformer_options`."""
    streams = {name: kwargs.pop(name) for name in (ADDEND, IMAGE) if name in kwargs}
    return executor(x, timesteps, context, y, control, (transformer_options or {}) | streams, **kwargs)


def add_addend(hidden: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """Add v_txt, resized to match, to the first convolution's output [B, C, h, w]."""
    addend = options.get(ADDEND)
    if addend is None or options["block"] != FIRST:
        return hidden
    return hidden + F.interpolate(addend.to(hidden), hidden.shape[-2:], mode="bilinear", align_corners=False)


class ImageAttention:
    """Replacement for a cross-attention: attention to the text plus `weight` times attention to the image tokens."""

    def __init__(self, key: torch.Tensor, value: torch.Tensor, weight: float) -> None:
        self.key, self.value, self.weight = key, value, weight

    def to(self, where: torch.device | torch.dtype) -> ImageAttention:
        """Called by ComfyUI for every patch before a run."""
        return ImageAttention(self.key.to(where), self.value.to(where), self.weight)

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, options: dict[str, Any]
    ) -> torch.Tensor:
        found = optimized_attention(query, key, value, options["n_heads"])
        image = options.get(IMAGE)
        if image is None:
            return found
        tokens = image.to(query)  # [B, N, width]
        own_key, own_value = (F.linear(tokens, matrix.to(query)) for matrix in (self.key, self.value))
        return found + self.weight * optimized_attention(query, own_key, own_value, options["n_heads"])


def attention_places(model: ModelPatcher) -> dict[str, Place]:
    """The place of each cross-attention in ComfyUI's UNet, by its name in diffusers."""
    found = {}
    for theirs, own in comfy.utils.unet_to_diffusers(model.model.model_config.unet_config).items():
        if theirs.endswith(".attn2.to_k.weight"):
            kind, *numbers = own.split(".")  # "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
            block = 0 if kind == "middle_block" else int(numbers[0])
            depth = int(own.split(".transformer_blocks.")[1].split(".")[0])
            found[theirs.removesuffix(".to_k.weight")] = (kind.partition("_")[0], block, depth)
    return found


def context_width(model: ModelPatcher) -> int:
    """Width of the tokens that a UNet cross-attends to."""
    return model.model.model_config.unet_config["context_dim"]


def check_fits(
    executor: Callable[..., Any],
    model: ModelPatcher,
    noise_shape: list[int],
    conds: dict[str, Any],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Check, before anything is loaded onto the GPU, that source, latent and context match the MODEL.

    Raises:
        InputError: the source's size differs from the latent's, or the context's width from the MODEL's.
    """
    taken = context_width(model)
    for cond in (cond for group in conds.values() for cond in group):
        source, context = cond.get(SOURCE_CHANNELS), cond.get("cross_attn")
        if source is not None and list(source.shape[2:]) != list(noise_shape[2:]):
            raise InputError(
                f"The source's latents are {tuple(source.shape[2:])}, but the LATENT being sampled is "
                f"{tuple(noise_shape[2:])} (height, width); sample the LATENT from InstructX Source."
            )
        if context is not None and context.shape[-1] != taken:
            raise InputError(
                f"The conditioning is {context.shape[-1]} wide, but the MODEL takes {taken}; use the connector of "
                "the checkpoint that the MODEL is from."
            )
    return executor(model, noise_shape, conds, *args, **kwargs)


def _module(place: Place) -> str:
    """The module name of a cross-attention in ComfyUI's UNet."""
    kind, block, depth = place
    spatial = "middle_block.1" if kind == "middle" else f"{kind}_blocks.{block}.1"
    return f"{spatial}.transformer_blocks.{depth}.attn2"


def _patches(model: ModelPatcher, name: str) -> list[Any]:
    return model.model_options.get("transformer_options", {}).get("patches", {}).get(name, [])
