"""Load Stable Diffusion UNets, of the published size or others, as ComfyUI's own objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.utils

from ..instructx_core.errors import CheckpointError
from .unet import UNetDenoising, attach_unet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.families.opened import Opened

NATIVE = {"model_channels": 320, "context_dim": 768}  # the UNet that ComfyUI's loader detects: Stable Diffusion 1's
# the VAE that ComfyUI's loader can build
NATIVE_KL = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4}
ELSEWHERE = "use it on the command line (`instructx edit --model`)."
GROUPS = 32  # in every norm of ComfyUI's UNet


def load_unet(opened: Opened, options: dict[str, Any], read: Callable[..., dict[str, torch.Tensor]]) -> ModelPatcher:
    """Load a model's UNet as a native `SD15_instructpix2pix`.

    Args:
        options: "dtype" if one is requested.
        read: files -> their tensors.

    Raises:
        CheckpointError: a missing or damaged file, or a UNet that ComfyUI cannot build.
    """
    from ..instructx_core.weights.parts import Part

    own, state = _config(opened), unet_state(opened, read)
    if all(own[name] == value for name, value in NATIVE.items()):
        model = comfy.sd.load_diffusion_model_state_dict(state, model_options=options)
        if model is None:
            raise CheckpointError(
                f"ComfyUI does not recognise the UNet in {str(opened.form(Part.DIT).path)!r}; {ELSEWHERE}"
            )
        return model
    # the steps of `load_diffusion_model_state_dict` after it has detected a model's size
    config = comfy.supported_models.SD15_instructpix2pix(own)
    config.unet_config |= {"num_heads": own["num_heads"]}
    device, kinds = management.get_torch_device(), list(config.supported_inference_dtypes)
    count, stored = comfy.utils.calculate_parameters(state), comfy.utils.weight_dtype(state)
    dtype = options.get("dtype") or management.unet_dtype(count, supported_dtypes=kinds, weight_dtype=stored)
    config.set_inference_dtype(dtype, management.unet_manual_cast(dtype, device, kinds))
    model = config.get_model(state, "")
    patcher = comfy.model_patcher.CoreModelPatcher(
        model, load_device=device, offload_device=management.unet_offload_device()
    )
    model.load_model_weights(state, "", assign=patcher.is_dynamic())
    return patcher


def unet_state(opened: Opened, read: Callable[..., dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The state dict of a model's UNet, under ComfyUI's names. Raises CheckpointError if it is damaged."""
    from ..instructx_core.weights.parts import Part
    from ..instructx_core.weights.unet import checked_unet
    from ..instructx_core.weights.unet_keys import unet_name

    form = opened.form(Part.DIT)
    plain = checked_unet(form).config
    attends = tuple("CrossAttn" in kind for kind in plain.up_block_types)
    state = read(form.files)
    return {unet_name(name, plain.layers_per_block, attends): value for name, value in state.items()}


def attach_unet_checkpoint(model: ModelPatcher, opened: Opened) -> ModelPatcher:
    """Clone a Stable Diffusion MODEL and add a checkpoint's trained parts. Raises like `unet.attach_unet`."""
    from ..instructx_core.families.part_loaders import load_image_attention
    from .unet import attention_places, check_unet

    check_unet(model, opened.config)
    names = sorted(attention_places(model)) if opened.config.denoiser.image_tokens else []
    return attach_unet(model, UNetDenoising(opened.config, load_image_attention(opened, names)))


def is_native_kl(config: Mapping[str, Any]) -> bool:
    """Whether ComfyUI's loader can build the VAE with these arguments of `AutoencoderKL`."""
    return all(
        list(config.get(name)) == value if isinstance(value, list) else config.get(name) == value
        for name, value in NATIVE_KL.items()
    )


def _config(opened: Opened) -> dict[str, Any]:
    """The arguments for ComfyUI's UNet.

    Raises:
        CheckpointError: ComfyUI cannot build this UNet.
    """
    from ..instructx_core.weights.parts import Part
    from ..instructx_core.weights.unet import checked_unet

    form = opened.form(Part.DIT)
    plain = checked_unet(form).config
    widths, layers, heads = plain.block_out_channels, plain.layers_per_block, plain.attention_head_dim
    first = widths[0]
    problem = next(
        (
            said
            for is_so, said in (
                (any(width % first for width in widths), f"widths {list(widths)}, not all multiples of the first"),
                (plain.norm_num_groups != GROUPS, f"norms of {plain.norm_num_groups} groups, not {GROUPS}"),
                (not isinstance(layers, int), "levels of different depths"),
                (not isinstance(heads, int), "a separate number of heads for each level"),
                (plain.use_linear_projection, "linear projections, like Stable Diffusion 2"),
            )
            if is_so
        ),
        None,
    )
    if problem is not None:
        raise CheckpointError(
            f"The UNet in {str(form.path)!r} has {problem}, which ComfyUI's Stable Diffusion 1 does not support;"
            f" {ELSEWHERE}"
        )
    down = [int("CrossAttn" in kind) for kind in plain.down_block_types]
    up = [int("CrossAttn" in kind) for kind in reversed(plain.up_block_types)]  # shallowest first
    return {
        "image_size": 32,
        "in_channels": plain.in_channels,
        "out_channels": plain.out_channels,
        "model_channels": first,
        "num_res_blocks": [layers] * len(widths),
        "channel_mult": [width // first for width in widths],
        "transformer_depth": [depth for depth in down for _ in range(layers)],
        "transformer_depth_output": [depth for depth in up for _ in range(layers + 1)],
        "transformer_depth_middle": 1,
        "context_dim": plain.cross_attention_dim,
        "num_heads": heads,
        "num_head_channels": -1,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "legacy": False,
    }
