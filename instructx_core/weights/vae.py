"""Load a Wan VAE from weights in any form: diffusers folders, or the original names of Wan2.1 and Wan2.2.

Widths, depth and strides are read from tensor shapes. No weight holds the latents' mean and deviation: a folder has
them in its config; for a single file, the number of channels tells which of the two published VAEs it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ..errors import CheckpointError
from ..words import quoted_path
from .build import check_shapes, empty_model, fill
from .compare import shape_of, shapes_of
from .detect import Form
from .files import naming, read_json
from .library_load import load_or_explain, load_weights
from .part_configs import check_vae_config
from .parts import Names
from .quantised import check_readable
from .wan_keys import VAE_LIBRARY, vae_config_from_original, vae_to_diffusers, vae_to_original

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

T = TypeVar("T")

LAST = "post_quant_conv.weight"  # the first layer of decoding, as wide as the latents

# channels -> the latent normalisation of the published VAE: Wan2.1 (`wan/modules/vae2_1.py`, 16 channels) and Wan2.2
# (`vae2_2.py`, 48); the same values as in ComfyUI's `latent_formats.py`
SCALES = {
    16: {
        "latents_mean": [
            -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
            0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
        ],
        "latents_std": [
            2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
            3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
        ],
    },
    48: {
        "latents_mean": [
            -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557,
            -0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825,
            -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
            -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230,
            -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748,
            0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
        ],
        "latents_std": [
            0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013,
            0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
            0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
            0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
            0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
            0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
        ],
    },
}  # fmt: skip


def load_vae(form: Form, dtype: torch.dtype) -> AutoencoderKLWan:
    """Load a VAE onto the CPU.

    Args:
        dtype: of the weights.

    Raises:
        CheckpointError: it is incomplete or damaged, or the scale of its latents is unknown.
    """
    from diffusers import AutoencoderKLWan

    if form.is_library_folder:
        vae_config(form)
        return load_weights(form.path, AutoencoderKLWan, torch_dtype=dtype)
    model = checked_vae(form)
    return fill(model, form, to_diffusers(form, {name: name for name in form.tensors}), dtype)


def checked_vae(form: Form) -> AutoencoderKLWan:
    """An empty VAE in the sizes of `form`, after checking that it has all tensors in a readable form.

    Raises:
        CheckpointError: as in `load_vae`, from the headers alone.
    """
    from diffusers import AutoencoderKLWan

    check_readable(form.stored, form.path)
    model = load_or_explain(form.path, lambda: empty_model(AutoencoderKLWan, vae_config(form)))
    check_shapes(model, to_diffusers(form, form.tensors), form.path, "Wan VAE")
    return model


def vae_config(form: Form) -> dict[str, Any]:
    """The arguments of `AutoencoderKLWan`: a diffusers folder's own, else from shapes plus the scale of the latents.

    Raises:
        CheckpointError: a folder whose config lacks the scale, or a single file of an unpublished VAE.
    """
    said = form.path / "config.json"
    if form.has_config:
        config = read_json(said)
        check_vae_config(config, said)
        return config
    with naming(form.path):
        is_original = form.names is Names.ORIGINAL
        original = form.tensors if is_original else vae_to_original(form.tensors)
        config = vae_config_from_original(original)
    channels = config["z_dim"]
    scale = read_json(said) if said.is_file() else SCALES.get(channels)
    if scale is None:
        raise CheckpointError(
            f"{str(form.path)!r} is a VAE of {channels} channels, whose latents' mean and deviation are unknown; give "
            "a folder whose config.json states latents_mean and latents_std."
        )
    for name in ("latents_mean", "latents_std"):
        if not isinstance(scale.get(name), list) or len(scale[name]) != channels:
            raise CheckpointError(f"{quoted_path(said)} has no {name} of {channels} values; get the folder again.")
        config[name] = scale[name]
    check_vae_config(config, said if said.is_file() else form.path)
    return config


def vae_channels(form: Form) -> int:
    """The number of latent channels."""
    return shape_of(shapes_of(to_diffusers(form, form.tensors)), LAST, 5, form.path)[0]


def to_diffusers(form: Form, state: Mapping[str, T]) -> dict[str, T]:
    """Tensors of `form` under diffusers' names.

    Raises:
        CheckpointError: a tensor that no Wan VAE has.
    """
    with naming(form.path):
        return VAE_LIBRARY.unwrapped(state) if form.names is Names.LIBRARY else vae_to_diffusers(state)
