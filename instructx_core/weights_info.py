"""Describe weights in any form from their headers, without loading them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .errors import CheckpointError
from .weights.detect import Form, find_form
from .weights.dit import dit_sizes, to_diffusers
from .weights.llava import llava_config
from .weights.mllm import mllm_width
from .weights.networks import checked_autoencoder, checked_network, network_sizes
from .weights.parts import FOLDERS, Names, Part, bare_mllm
from .weights.text_encoder import text_encoder_config
from .weights.unet import kl_config, unet_config
from .weights.vae import vae_channels, vae_config
from .words import one_line

# sizes -> published model
DITS = {  # width, layers, channels in
    (1536, 30, 16): "Wan2.1 1.3B",
    (5120, 40, 16): "Wan2.1 14B, or one of Wan2.2 A14B's two (their sizes are the same)",
    (5120, 40, 36): "Wan2.1 14B or Wan2.2 A14B, image to video",
    (3072, 30, 48): "Wan2.2 5B",
}
VAES = {(16, 96): "Wan2.1", (48, 160): "Wan2.2"}  # channels, width of the encoder
MLLMS = {  # width, layers
    (2048, 36): "3B", (3584, 28): "7B", (8192, 80): "72B",  # Qwen2.5-VL
    (2048, 28): "2B", (2560, 36): "4B", (4096, 36): "8B",  # Qwen3-VL
    (5120, 64): "32B",  # both
}  # fmt: skip
SPELLED = {"F8_E4M3": "fp8 (E4M3)", "F8_E5M2": "fp8 (E5M2)", "BF16": "bf16", "F16": "fp16", "F32": "fp32"}


def describe_weights(path: Path) -> str:
    """Describe weights, or each part of a pipeline folder, as lines of text: kind, sizes, types, and their use.

    Raises:
        CheckpointError: nothing there, an unknown kind, or a file that is damaged or missing.
    """
    names = sorted(name for names in FOLDERS.values() for name in names)
    parts = [path / name for name in names if (path / name).is_dir()]
    if parts and not any(path.glob("*.safetensors")):
        return "\n\n".join(describe_form(find_form(part)) for part in parts)
    return describe_form(find_form(path))


def describe_form(form: Form) -> str:
    """Describe one part's weights as lines of text."""
    tell = _OTHERS.get(form.names) or {Part.DIT: _dit, Part.VAE: _vae, Part.MLLM: _mllm}[form.part]
    which, sizes = tell(form)
    shards = f" in {len(form.files)} shards" if len(form.files) > 1 else ""
    rows = {
        "weights": f"{form.title}, {which}",
        "path": f"{form.path} ({sum(file.stat().st_size for file in form.files) / 1e6:.1f} MB{shards})",
        "form": _form(form),
        "stored as": _types(form),
        "parameters": parameters(form),
        "sizes": sizes,
        "for": _use(form),
    }
    return as_table(rows)


def as_table(rows: Mapping[str, str]) -> str:
    """Titles and values in two columns, with control characters escaped."""
    width = max(map(len, rows))
    return "\n".join(f"{title:<{width}}  {one_line(value)}" for title, value in rows.items())


def parameters(form: Form) -> str:
    """The number of parameters, such as "1.70 M"."""
    return f"{sum(form.dtypes.values()) / 1e6:.2f} M"


def _dit(form: Form) -> tuple[str, str]:
    """The published model of this size, and the sizes."""
    sizes = dit_sizes(form)
    names = to_diffusers(form, form.tensors)
    layers = next(number for number in range(len(names)) if not any(n.startswith(f"blocks.{number}.") for n in names))
    which = DITS.get((sizes.width, layers, sizes.channels), "custom size")
    return which, f"width {sizes.width}, {layers} layers, {sizes.channels} channels, text {sizes.text_dim}"


def _vae(form: Form) -> tuple[str, str]:
    config = vae_config(form)
    channels = vae_channels(form)
    which = VAES.get((channels, config.get("base_dim", 96)), "custom size")  # diffusers' defaults
    strides = config.get("scale_factor_spatial", 8), config.get("scale_factor_temporal", 4)
    return which, f"{channels} channels, strides {strides[0]} in space and {strides[1]} in time"


def _mllm(form: Form) -> tuple[str, str]:
    if form.is_text:
        config = text_encoder_config(form)
        return "a text encoder", f"width {config.d_model}, {config.num_layers} layers"
    width = mllm_width(form)
    names = {bare_mllm(name) for name in form.tensors}
    layers = sum(name.endswith("input_layernorm.weight") for name in names)
    return MLLMS.get((width, layers), "custom size"), f"width {width}, {layers} layers"


def _unet(form: Form) -> tuple[str, str]:
    config, sizes = unet_config(form), network_sizes(form)
    which = "size of 1.5" if (sizes.width, sizes.text_dim) == (320, 768) else "custom size"
    task = "editing" if config["in_channels"] == 2 * sizes.channels else "text to image"
    return which, f"width {sizes.width}, text {sizes.text_dim}, {config['in_channels']} channels for {task}"


def _kl(form: Form) -> tuple[str, str]:
    config = kl_config(form)
    stride = 2 ** (len(config["block_out_channels"]) - 1)
    return "for pictures", f"{config['latent_channels']} channels, stride {stride}"


def _llava(form: Form) -> tuple[str, str]:
    config = llava_config(form, form.path)
    text, sight = config.text_config, config.vision_config
    side = f"pictures of {sight.image_size} in patches of {sight.patch_size}"
    return "an MLLM", f"width {text.hidden_size}, {text.num_hidden_layers} layers, {side}"


_OTHERS = {Names.UNET: _unet, Names.KL: _kl, Names.LLAVA: _llava}  # neither Wan's nor Qwen's


def _form(form: Form) -> str:
    """The layout: container, naming, and whether it is scaled."""
    library = "transformers" if form.part is Part.MLLM else "diffusers"
    names = "original names" if form.names is Names.ORIGINAL else f"{library}' names"
    kind = "GGUF" if form.is_gguf else "folder" if form.path.is_dir() else "single file"
    return f"{kind}, {names}{', scaled' if form.is_scaled else ''}"


def _types(form: Form) -> str:
    """Each dtype with its share of the parameters, the largest first."""
    total = sum(form.dtypes.values()) or 1
    return ", ".join(f"{SPELLED.get(kind, kind)} {count / total:.0%}" for kind, count in form.dtypes.items())


def _use(form: Form) -> str:
    """How to use the weights, or why they cannot be used."""
    try:
        if form.part is Part.DIT and not form.is_library_folder:
            checked_network(form)
        if form.part is Part.VAE and not form.is_library_folder:
            checked_autoencoder(form)
    except CheckpointError as error:
        return f"not usable: {error}"
    return f"instructx edit --{form.part.value} {form.path}, with a --model that was trained on it"
