"""Models that were opened as ComfyUI's own objects: a native MODEL, a VAE, an MLLM, a connector."""

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

# the VAEs that ComfyUI's loader builds, Wan 2.1's and Wan 2.2's; it reads width and depth from nothing else
NATIVE_VAES = (
    {"base_dim": 96, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "z_dim": 16, "in_channels": 3},
    {"base_dim": 160, "decoder_base_dim": 256, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "z_dim": 48},
)


def load_model(opened: Opened, precision: str, bar: LoadBar) -> ModelPatcher:
    """A model's DiT or UNet as a native MODEL that knows how the source, references and the context enter.

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
            f"ComfyUI does not know the DiT in {str(opened.form(Part.DIT).path)!r}; it must be a Wan DiT."
        )
    return attach_checkpoint(model, opened)


def check_one_dit(opened: Opened) -> None:
    """Raise CheckpointError for a pair of DiTs, each of which is a MODEL by itself."""
    if opened.config.denoiser.boundary:
        raise CheckpointError(
            f"{str(opened.path)!r} has a pair of DiTs, and one MODEL is loaded here; make a file of each (`instructx "
            "convert`), load both with Load Diffusion Model and InstructX Load Adapter (weights: the MODEL's own), and "
            "connect them to model and model_low."
        )


def attach_checkpoint(model: ModelPatcher, opened: Opened) -> ModelPatcher:
    """A clone of a native MODEL with a checkpoint's embeddings, context entry and schedule shift."""
    if opened.config.denoiser.network is Network.UNET:
        return attach_unet_checkpoint(model, opened)
    from ..instructx_core.families.part_loaders import load_embeddings, load_local_strength

    patched = attach(model, Denoising(opened.config, *load_embeddings(opened), load_local_strength(opened)))
    patched.add_object_patch("model_sampling", shifted(model, opened.config.sampling.shift))
    return patched


def dit_state(opened: Opened, bar: LoadBar, dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
    """A model's DiT under the names that ComfyUI's loader knows; types that ComfyUI can compute with are kept.

    Args:
        dtype: that a LoRA in the model's file is merged in, and that quantised weights get which this ComfyUI cannot
            compute with; None: as the weights are stored, or bfloat16.

    Raises:
        CheckpointError: a missing or damaged file, or GGUF, which other packs load.
    """
    from ..instructx_core.families.part_loaders import merge
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
        state = read_files(form.files, bar) | said_by_layer(form.stored)  # with its scales, which ComfyUI computes with
        return split_embeddings(state)[0]
    if form.is_scaled:
        state = {name: value.to(dtype or torch.bfloat16) for name, value in read_tensors(form)}
    else:
        state = read_files(form.files, bar)
    state = to_diffusers(form, {name: state[name] for name in form.tensors})
    if Part.DIT in opened.merged:
        state = {name: value.to(dtype or value.dtype, copy=True) for name, value in state.items()}
        merge(opened, Part.DIT, state)
    return dit_to_original(state)


def load_vae(opened: Opened, bar: LoadBar) -> tuple[Any, Codec | None]:
    """A model's VAE: ComfyUI's own class where it can build it, else a `CodecVAE` and its codec.

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
    """As `load_vae`, of Stable Diffusion's."""
    from ..instructx_core.families.networks import load_codec
    from ..instructx_core.weights.unet import kl_config

    if is_native_kl(kl_config(form)):
        return comfy.sd.VAE(sd=read_files(form.files, bar)), None
    codec = load_codec(form, torch.float32).eval().requires_grad_(False)
    for path in form.files:
        bar(path.stat().st_size)
    return StillVAE(codec), codec


def is_native_vae(config: Mapping[str, Any]) -> bool:
    """Whether ComfyUI's own loader builds the VAE of these arguments of `AutoencoderKLWan`."""
    return any(all(config.get(name) == value for name, value in native.items()) for native in NATIVE_VAES)


def use_codec(model: ModelPatcher, codec: Codec) -> None:
    """Tell a freshly loaded MODEL, in place, of latents that are not stock: scale, strides, preview colours.

    Raises:
        CheckpointError: a VAE of another number of channels than the DiT.
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
    """A model's MLLM with its queries and LoRA.

    Args:
        name: for people.
        files: the `stamp` of what it is read from.
    """
    from ..instructx_core.families.part_loaders import load_guidance_part

    dtype = dtype_of(precision, management.text_encoder_device())
    return manage(load_guidance_part(opened, dtype, bar), name, files)


def load_connector(opened: Opened) -> LoadedConnector:
    """A model's connector, and its mask head where it has one."""
    from ..instructx_core.families.part_loaders import load_connector as load
    from ..instructx_core.families.part_loaders import load_masks

    return LoadedConnector(load(opened), opened.config, stamp(opened.path), load_masks(opened))


def read_files(files: Iterable[Path], bar: LoadBar) -> dict[str, torch.Tensor]:
    """All tensors of safetensors files, in the form that ComfyUI's memory management needs."""
    state: dict[str, torch.Tensor] = {}
    for path in files:
        state |= comfy.utils.load_torch_file(str(path), safe_load=True)
        bar(path.stat().st_size)
    return state


def replace_weights(model: ModelPatcher, opened: Opened, bar: LoadBar) -> ModelPatcher:
    """A clone of a Wan MODEL whose weights a checkpoint's DiT takes the place of, as patches: the MODEL itself stays.

    Raises:
        InputError: the checkpoint's DiT has other tensors than the MODEL.
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
    """Patches of one weight, the last of which sets it, with that one before all that add to the weight.

    What sets a weight drops the patches before it: a LoRA that was there first would be lost.
    """
    *earlier, last = patches
    sets = [at for at, patch in enumerate(earlier, 1) if isinstance(patch[1], tuple) and patch[1][0] == "set"]
    begin = max(sets, default=0)
    return [*earlier[:begin], last, *earlier[begin:]]


def _is_patchable(model: ModelPatcher, name: str) -> bool:
    """Whether weight patches reach a tensor: ComfyUI applies none to what a module with children of its own holds.

    Of Wan that is the modulation of blocks and head, which its forward brings to the right device by itself.
    """
    owner = model.model.get_submodule(name.rpartition(".")[0])
    return not any(True for child in owner.children() for _ in child.parameters())
