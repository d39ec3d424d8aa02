"""Load opened models as the objects that ComfyUI passes around: a native MODEL, a VAE, an MLLM, a connector."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import comfy.latent_formats
import comfy.model_management as management
import comfy.sd
import comfy.utils
import torch
from comfy.quant_ops import QUANT_ALGOS

from ..instructx_core.config import Network
from ..instructx_core.errors import CheckpointError, InputError
from .codec_vae import CodecVAE, StillVAE
from .denoising import Denoising
from .folders import stamp
from .memory import dtype_of, manage
from .natives import is_unet
from .sampling import shifted
from .sockets import LoadedConnector, LoadedMllm
from .unet_loading import attach_unet_checkpoint, is_native_kl, load_unet, unet_state
from .wan import attach, check_wan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.families.opened import Opened
    from ..instructx_core.latents import Codec
    from ..instructx_core.weights.detect import Form
    from .load_bar import LoadBar

# the only VAE sizes that ComfyUI's loader can build: Wan 2.1's and Wan 2.2's
NATIVE_VAES = (
    {"base_dim": 96, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "z_dim": 16, "in_channels": 3},
    {"base_dim": 160, "decoder_base_dim": 256, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "z_dim": 48},
)


def load_model(opened: Opened, precision: str, bar: LoadBar) -> ModelPatcher:
    """Load a model's DiT or UNet as a native MODEL that takes the source, references and context of its checkpoint.

    Raises:
        CheckpointError: a missing or damaged file, or a DiT that ComfyUI cannot build.
    """
    from ..instructx_core.weights.parts import Part

    device = management.get_torch_device()
    options = {} if precision == "default" else {"dtype": dtype_of(precision, device)}
    if opened.config.denoiser.network is Network.UNET:
        return attach_unet_checkpoint(load_unet(opened, options, partial(read_files, bar=bar)), opened)
    state = dit_state(opened, bar, **options)
    model = comfy.sd.load_diffusion_model_state_dict(state, model_options=options)
    if model is None:
        raise CheckpointError(
            f"ComfyUI does not recognise the DiT in {str(opened.form(Part.DIT).path)!r}; it must be a Wan DiT."
        )
    return attach_checkpoint(model, opened)


def check_one_dit(opened: Opened) -> None:
    """Raise CheckpointError for a pair of DiTs, which need a MODEL each."""
    if opened.config.denoiser.boundary:
        raise CheckpointError(
            f"{str(opened.path)!r} has a pair of DiTs, but this node takes one MODEL; convert each to a file "
            "(`instructx convert`), load both with Load Diffusion Model and InstructX Load Adapter (weights: the "
            "MODEL's own), and connect them to model and model_low."
        )


def attach_checkpoint(model: ModelPatcher, opened: Opened) -> ModelPatcher:
    """Clone a native MODEL and add a checkpoint's embeddings, context entry and schedule shift."""
    if opened.config.denoiser.network is Network.UNET:
        return attach_unet_checkpoint(model, opened)
    from ..instructx_core.families.part_loaders import load_embeddings, load_local_strength

    patched = attach(model, Denoising(opened.config, *load_embeddings(opened), load_local_strength(opened)))
    patched.add_object_patch("model_sampling", shifted(model, opened.config.sampling.shift))
    return patched


def dit_state(opened: Opened, bar: LoadBar, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """The state dict of a model's DiT, under ComfyUI's names; dtypes that ComfyUI can compute with are kept.

    Args:
        dtype: for weights that a LoRA in the model's file is merged into (None: as stored), and for quantised weights
            that this ComfyUI cannot compute with (None: bfloat16).

    Raises:
        CheckpointError: a missing or damaged file, or a GGUF file, which needs another pack's loader.
    """
    from ..instructx_core.families.part_loaders import lora_pairs, merge
    from ..instructx_core.weights.build import read_tensors
    from ..instructx_core.weights.dit import checked_dit, to_diffusers
    from ..instructx_core.weights.parts import Names, Part
    from ..instructx_core.weights.quantised import said_by_layer
    from ..instructx_core.weights.wan_keys import dit_to_original, split_embeddings

    form = opened.form(Part.DIT)
    if form.is_gguf:
        raise CheckpointError(
            f"{str(form.path)!r} is a GGUF file; load it with a GGUF loader and connect its MODEL to InstructX Load"
            " Adapter."
        )
    checked_dit(form, opened.sizes)
    opened.check_loras(Part.DIT)
    known = all(stored.packing is None or stored.packing.format.value in QUANT_ALGOS for stored in form.stored.values())
    if form.is_scaled and known and form.names is Names.ORIGINAL and not opened.merged:
        state = read_files(form.files, bar) | said_by_layer(form.stored)  # still quantised, with scales for ComfyUI
        return split_embeddings(state)[0]
    if form.is_scaled:
        state = {name: value.to(dtype or torch.bfloat16) for name, value in read_tensors(form)}
    else:
        state = read_files(form.files, bar)
    state = to_diffusers(form, {name: state[name] for name in form.tensors})
    if Part.DIT in opened.merged:
        state = {name: value.to(dtype or value.dtype, copy=True) for name, value in state.items()}
        merge(lora_pairs(opened, Part.DIT), state)
    return dit_to_original(state)


def load_vae(opened: Opened, bar: LoadBar) -> tuple[Any, Codec | None]:
    """Load a model's VAE: as ComfyUI's own class if that can build it, else as a `CodecVAE` with its codec.

    Raises:
        CheckpointError: a missing or damaged file.
    """
    from ..instructx_core.latents import LatentCodec
    from ..instructx_core.weights.parts import Names, Part
    from ..instructx_core.weights.vae import checked_vae, vae_config
    from ..instructx_core.weights.vae import load_vae as load_library_vae
    from ..instructx_core.weights.wan_keys import VAE_ORIGINAL, vae_to_original

    form = opened.form(Part.VAE)
    if opened.config.denoiser.network is Network.UNET:
        return _load_still_vae(form, bar)
    checked_vae(form)
    if is_native_vae(vae_config(form)) and not form.is_scaled:
        state = read_files(form.files, bar)
        is_original = form.names is Names.ORIGINAL
        return comfy.sd.VAE(sd=VAE_ORIGINAL.unwrapped(state) if is_original else vae_to_original(state)), None
    vae = load_library_vae(form, torch.float32)
    for path in form.files:
        bar(path.stat().st_size)
    codec = LatentCodec(vae).eval().requires_grad_(False)
    return CodecVAE(codec), codec


def _load_still_vae(form: Form, bar: LoadBar) -> tuple[Any, Codec | None]:
    """`load_vae` for Stable Diffusion's VAE."""
    from ..instructx_core.families.networks import load_codec
    from ..instructx_core.weights.unet import kl_config

    if is_native_kl(kl_config(form)):
        return comfy.sd.VAE(sd=read_files(form.files, bar)), None
    codec = load_codec(form, torch.float32).eval().requires_grad_(False)
    for path in form.files:
        bar(path.stat().st_size)
    return StillVAE(codec), codec


def is_native_vae(config: Mapping[str, Any]) -> bool:
    """Whether ComfyUI's loader can build the VAE with these arguments of `AutoencoderKLWan`."""
    return any(all(config.get(name) == value for name, value in native.items()) for native in NATIVE_VAES)


def use_codec(model: ModelPatcher, codec: Codec) -> None:
    """Set a freshly loaded MODEL's latent format, in place, to a custom VAE's: scale, strides, preview colours.

    Raises:
        CheckpointError: the VAE and the DiT have different numbers of channels.
    """
    from ..instructx_core.preview import rgb_factors

    stock = model.model.latent_format
    if codec.channels != stock.latent_channels:
        raise CheckpointError(
            f"The VAE makes {codec.channels} channels, but the DiT takes {stock.latent_channels}; the folder"
            " mixes two models: copy it again."
        )
    own: Any
    if is_unet(model):
        own = comfy.latent_formats.SD15()
        own.scale_factor = codec.vae.config.scaling_factor
    else:
        own = comfy.latent_formats.Wan21()
        own.latents_mean, own.latents_std = codec.mean.cpu(), codec.std.cpu()
        own.temporal_downscale_ratio = codec.temporal_stride
    own.latent_channels, own.spacial_downscale_ratio = codec.channels, codec.stride
    factors, bias = rgb_factors(codec)
    own.latent_rgb_factors, own.latent_rgb_factors_bias = factors.tolist(), bias.tolist()
    own.taesd_decoder_name = None
    model.model.latent_format = own


def load_mllm(opened: Opened, precision: str, name: str, files: str, bar: LoadBar) -> LoadedMllm:
    """Load a model's MLLM with its queries and LoRA.

    Args:
        name: shown to the user.
        files: the `stamp` of the files that it is read from.
    """
    from ..instructx_core.families.part_loaders import load_guidance_part

    dtype = dtype_of(precision, management.text_encoder_device())
    return manage(load_guidance_part(opened, dtype, bar), name, files)


def load_connector(opened: Opened) -> LoadedConnector:
    """Load a model's connector, and its mask head if it has one."""
    from ..instructx_core.families.part_loaders import load_connector as load
    from ..instructx_core.families.part_loaders import load_masks

    return LoadedConnector(load(opened), opened.config, stamp(opened.path), load_masks(opened))


def read_files(files: Iterable[Path], bar: LoadBar) -> dict[str, torch.Tensor]:
    """All tensors of safetensors files, loaded in the way that ComfyUI's memory management needs."""
    state: dict[str, torch.Tensor] = {}
    for path in files:
        state |= comfy.utils.load_torch_file(str(path), safe_load=True)
        bar(path.stat().st_size)
    return state


def replace_weights(model: ModelPatcher, opened: Opened, bar: LoadBar) -> ModelPatcher:
    """Clone a MODEL and replace its weights by a checkpoint's, as patches: the original MODEL is not changed.

    Raises:
        InputError: the checkpoint's tensors do not match the MODEL's.
    """
    if opened.config.denoiser.network is Network.UNET:
        state = unet_state(opened, partial(read_files, bar=bar))
    else:
        check_wan(model)
        state = dit_state(opened, bar)
    weights = {f"diffusion_model.{name}": value for name, value in state.items()}
    own = dict(model.model.named_parameters())  # a state dict holds GGUF weights in their packed shape
    for name, value in weights.items():
        if name not in own or own[name].shape != value.shape:
            raise InputError(
                f"The DiT in {str(opened.path)!r} does not fit the MODEL ({name} differs); choose the MODEL that it was"
                " trained from."
            )
    patched = model.clone()
    for name, value in weights.items():
        if _is_patchable(model, name):
            patched.add_patches({name: ("set", (value,))})
            patched.patches[name] = _set_first(patched.patches[name])
        else:
            patched.add_object_patch(name, torch.nn.Parameter(value.to(own[name].dtype), requires_grad=False))
    return patched


def _set_first(patches: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Reorder the patches of one weight: move the last, a "set", before the patches that add to the weight.

    A "set" discards the patches before it, so a LoRA that was applied earlier would be lost.
    """
    *earlier, last = patches
    sets = [at for at, patch in enumerate(earlier, 1) if isinstance(patch[1], tuple) and patch[1][0] == "set"]
    begin = max(sets, default=0)
    return [*earlier[:begin], last, *earlier[begin:]]


def _is_patchable(model: ModelPatcher, name: str) -> bool:
    """Whether ComfyUI applies weight patches to a tensor: not if its module also has children with parameters.

    In Wan these are the modulations of the blocks and the head, which its forward moves to the right device itself.
    """
    owner = model.model.get_submodule(name.rpartition(".")[0])
    return not any(True for child in owner.children() for _ in child.parameters())
