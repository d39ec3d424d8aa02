"""Model folders as ComfyUI's own objects: a native MODEL, a VAE, an MLLM, a connector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.latent_formats
import comfy.model_management as management
import comfy.sd
import comfy.utils
import torch

from ..instructx_core.errors import CheckpointError, InputError
from .codec_vae import CodecVAE
from .folders import stamp
from .load_bar import weight_files
from .memory import dtype_of, manage
from .sampling import shifted
from .sockets import LoadedConnector, LoadedMllm
from .wan import Denoising, attach, check_wan

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.latents import LatentCodec
    from .load_bar import LoadBar

# the VAEs that ComfyUI's loader builds, Wan 2.1's and Wan 2.2's; it reads width and depth from nothing else
NATIVE_VAES = (
    {"base_dim": 96, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "z_dim": 16, "in_channels": 3},
    {"base_dim": 160, "decoder_base_dim": 256, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "z_dim": 48},
)


def load_model(folder: Path, precision: str, bar: LoadBar) -> ModelPatcher:
    """The DiT of a model folder as a native MODEL that knows the checkpoint.

    Raises:
        CheckpointError: a missing or damaged file, or a DiT that ComfyUI cannot build.
    """
    from ..instructx_core.weights.library_load import check_part
    from ..instructx_core.weights.wan_keys import dit_to_original

    check_part(folder / "transformer")
    state = dit_to_original(read_folder(folder / "transformer", bar))
    device = management.get_torch_device()
    options = {} if precision == "default" else {"dtype": dtype_of(precision, device)}
    model = comfy.sd.load_diffusion_model_state_dict(state, model_options=options)
    if model is None:
        raise CheckpointError(
            f"ComfyUI does not know the DiT in {str(folder / 'transformer')!r}; it must be a Wan DiT."
        )
    return attach_checkpoint(model, folder)


def attach_checkpoint(model: ModelPatcher, folder: Path) -> ModelPatcher:
    """A clone of a Wan MODEL with a checkpoint's embeddings, context entry and schedule shift."""
    from ..instructx_core.families.loading import read_model_config
    from ..instructx_core.families.part_loaders import load_embeddings

    config = read_model_config(folder)
    patched = attach(model, Denoising(config, *load_embeddings(folder)))
    patched.add_object_patch("model_sampling", shifted(model, config.sampling.shift))
    return patched


def load_vae(folder: Path, bar: LoadBar) -> tuple[Any, LatentCodec | None]:
    """The VAE of a model folder: ComfyUI's own class where it can build it, else a `CodecVAE` and its codec.

    Raises:
        CheckpointError: a missing or damaged file.
    """
    from ..instructx_core.latents import LatentCodec
    from ..instructx_core.weights.detect import Family, Names, find_form
    from ..instructx_core.weights.library_load import check_part
    from ..instructx_core.weights.vae import load_vae as load_library_vae
    from ..instructx_core.weights.vae import vae_config
    from ..instructx_core.weights.wan_keys import VAE_ORIGINAL, vae_to_original

    part = folder / "vae"
    check_part(part)
    form = find_form(part, Family.VAE)
    if is_native_vae(vae_config(form)):
        state = read_folder(part, bar)
        is_original = form.names is Names.ORIGINAL
        return comfy.sd.VAE(sd=VAE_ORIGINAL.unwrapped(state) if is_original else vae_to_original(state)), None
    vae = load_library_vae(part, torch.float32)
    for path in weight_files(part):
        bar(path.stat().st_size)
    codec = LatentCodec(vae).eval().requires_grad_(False)
    return CodecVAE(codec), codec


def is_native_vae(config: Mapping[str, Any]) -> bool:
    """Whether ComfyUI's own loader builds the VAE of these arguments of `AutoencoderKLWan`."""
    return any(all(config.get(name) == value for name, value in native.items()) for native in NATIVE_VAES)


def use_codec(model: ModelPatcher, codec: LatentCodec) -> None:
    """Tell a freshly loaded MODEL, in place, of latents that are not stock Wan's: scale, strides, preview colours.

    Raises:
        CheckpointError: a VAE of another number of channels than the DiT.
    """
    from ..instructx_core.preview import rgb_factors

    stock = model.model.latent_format
    if codec.channels != stock.latent_channels:
        raise CheckpointError(
            f"The VAE makes {codec.channels} channels, the DiT takes {stock.latent_channels}; the model folder is"
            " mixed up."
        )
    own = comfy.latent_formats.Wan21()
    own.latent_channels = codec.channels
    own.latents_mean, own.latents_std = codec.mean.cpu(), codec.std.cpu()
    own.spacial_downscale_ratio, own.temporal_downscale_ratio = codec.stride, codec.temporal_stride
    factors, bias = rgb_factors(codec)
    own.latent_rgb_factors, own.latent_rgb_factors_bias = factors.tolist(), bias.tolist()
    own.taesd_decoder_name = None
    model.model.latent_format = own


def load_mllm(base: Path, adapter: Path, precision: str, name: str, bar: LoadBar) -> LoadedMllm:
    """An MLLM with a checkpoint's queries and LoRA."""
    from ..instructx_core.families.part_loaders import load_guidance_part

    dtype = dtype_of(precision, management.text_encoder_device())
    return manage(load_guidance_part(base, adapter, dtype, bar), name, stamp(base) + stamp(adapter))


def load_connector(folder: Path) -> LoadedConnector:
    """The connector of a model folder."""
    from ..instructx_core.families.loading import read_model_config
    from ..instructx_core.families.part_loaders import load_connector as load

    return LoadedConnector(load(folder), read_model_config(folder), stamp(folder))


def read_folder(folder: Path, bar: LoadBar) -> dict[str, torch.Tensor]:
    """All tensors of a folder of safetensors, the way that ComfyUI's memory management wants them."""
    state: dict[str, torch.Tensor] = {}
    for path in weight_files(folder):
        state |= comfy.utils.load_torch_file(str(path), safe_load=True)
        bar(path.stat().st_size)
    return state


def replace_weights(model: ModelPatcher, folder: Path, bar: LoadBar) -> ModelPatcher:
    """A clone of a Wan MODEL whose weights a checkpoint's DiT takes the place of, as patches: the MODEL itself stays.

    Raises:
        InputError: the checkpoint's DiT has other tensors than the MODEL.
    """
    from ..instructx_core.weights.library_load import check_part
    from ..instructx_core.weights.wan_keys import dit_to_original

    check_wan(model)
    check_part(folder / "transformer")
    state = dit_to_original(read_folder(folder / "transformer", bar))
    weights = {f"diffusion_model.{name}": value for name, value in state.items()}
    own = dict(model.model.named_parameters())  # a state dict holds GGUF weights in their packed shape
    for name, value in weights.items():
        if name not in own or own[name].shape != value.shape:
            raise InputError(
                f"The DiT in {str(folder)!r} does not fit the MODEL ({name} differs); choose the MODEL that it was"
                " trained from."
            )
    patched = model.clone()
    for name, value in weights.items():
        if _is_patchable(model, name):
            patched.add_patches({name: ("set", (value,))})
        else:
            patched.add_object_patch(name, torch.nn.Parameter(value.to(own[name].dtype), requires_grad=False))
    return patched


def _is_patchable(model: ModelPatcher, name: str) -> bool:
    """Whether weight patches reach a tensor: ComfyUI applies none to what a module with children of its own holds.

    Of Wan that is the modulation of blocks and head, which its forward brings to the right device by itself.
    """
    owner = model.model.get_submodule(name.rpartition(".")[0])
    return not any(True for child in owner.children() for _ in child.parameters())
