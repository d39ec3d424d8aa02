"""Load Stable Diffusion 1's UNet and VAE from diffusers folders."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from ..errors import CheckpointError
from ..words import quoted_path
from .build import check_shapes, empty_model
from .detect import Form
from .files import read_json
from .library_load import load_or_explain, load_weights
from .part_configs import check_kl_config, check_unet_config
from .quantised import check_readable
from .streaming import StoredTensor, computed
from .unet_keys import unet_name
from .values import form_tensors, value

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

# The published VAE has the attention names of diffusers before 0.17, which `from_pretrained` replaces.
_OLD_ATTENTION = re.compile(r"(.+\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def load_unet(form: Form, dtype: torch.dtype) -> UNet2DConditionModel:
    """Load a UNet onto the CPU.

    Raises:
        CheckpointError: it is incomplete, damaged or not a diffusers folder.
    """
    from diffusers import UNet2DConditionModel

    checked_unet(form)
    return load_weights(form.path, UNet2DConditionModel, torch_dtype=dtype)


def load_kl(form: Form, dtype: torch.dtype) -> AutoencoderKL:
    """Like `load_unet`, for a VAE."""
    from diffusers import AutoencoderKL

    checked_kl(form)
    return load_weights(form.path, AutoencoderKL, torch_dtype=dtype)


def checked_unet(form: Form) -> UNet2DConditionModel:
    """An empty UNet, after checking that `form` has all of its tensors."""
    from diffusers import UNet2DConditionModel

    return _checked(UNet2DConditionModel, form, unet_config(form))


def checked_kl(form: Form) -> AutoencoderKL:
    """An empty VAE, after checking that `form` has all of its tensors."""
    from diffusers import AutoencoderKL

    return _checked(AutoencoderKL, form, kl_config(form))


def unet_config(form: Form) -> dict[str, Any]:
    """The arguments of `UNet2DConditionModel`, from its folder's config.

    Raises:
        CheckpointError: they are missing or out of range.
    """
    config = _config(form)
    check_unet_config(config, form.path / "config.json")
    return config


def kl_config(form: Form) -> dict[str, Any]:
    """Like `unet_config`, for `AutoencoderKL`."""
    config = _config(form)
    check_kl_config(config, form.path / "config.json")
    return config


def editing_unet(form: Form) -> tuple[UNet2DConditionModel, dict[str, Any], dict[str, StoredTensor]]:
    """A UNet that takes a source's channels after the noisy ones: the empty model, its config, its tensors to write.

    A text-to-image UNet is widened as in InstructPix2Pix: the first convolution's weights for the source are zeros.

    Raises:
        CheckpointError: as `load_unet`.
    """
    from diffusers import UNet2DConditionModel

    config = unet_config(form)
    checked_unet(form)
    tensors = form_tensors(form)
    own, wanted = config["in_channels"], 2 * config["out_channels"]
    if own * 2 == wanted:
        entry = tensors["conv_in.weight"]
        shape = (entry.shape[0], wanted, *entry.shape[2:])

        def make() -> torch.Tensor:
            held = value(entry)
            return torch.cat([held, torch.zeros_like(held)], dim=1)

        tensors = tensors | {"conv_in.weight": computed(entry.dtype, shape, make, form.path, "conv_in.weight")}
        config = config | {"in_channels": wanted}
    return empty_model(UNet2DConditionModel, config), config, tensors


def to_original(form: Form) -> dict[str, StoredTensor]:
    """A UNet's tensors under the names of its original code.

    Raises:
        CheckpointError: as `load_unet`.
    """
    config = checked_unet(form).config
    attends = tuple("CrossAttn" in kind for kind in config.up_block_types)
    return {unet_name(name, config.layers_per_block, attends): stored for name, stored in form_tensors(form).items()}


def _config(form: Form) -> dict[str, Any]:
    if not form.is_library_folder:
        raise CheckpointError(
            f"{quoted_path(form.path)} is a {form.title}, which is read only from a folder that diffusers wrote; give "
            "that folder, config.json and safetensors together."
        )
    return read_json(form.path / "config.json")


def _checked(model_class: Any, form: Form, config: dict[str, Any]) -> Any:
    check_readable(form.stored, form.path)
    model = load_or_explain(form.path, lambda: empty_model(model_class, config))
    check_shapes(model, {_current(name): held for name, held in form.tensors.items()}, form.path, form.title)
    return model


def _current(name: str) -> str:
    """A tensor's name in current versions of diffusers."""
    old = _OLD_ATTENTION.fullmatch(name)
    return f"{old[1]}.{_ATTENTION[old[2]]}.{old[3]}" if old else name
