"""Kiwi-Edit's published folder, read as it is: its components become the same ones that InstructX has.

It is known by its tensors (queries and a connector beside a Qwen2.5-VL), not by any name that a person may change.
- Its LoRA is merged into the MLLM already, so there is none here.
- Its VAE carries the original Wan names; widths are read from the weights, mean and deviation from its config.
- Its code files are never looked at: what they do is `guidance/kiwi.py` and fields of the config.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import (
    ConnectorConfig,
    ContextEntry,
    DenoiserConfig,
    Dialect,
    GuidanceConfig,
    Margin,
    ModelConfig,
    ReferenceInjection,
    SamplingConfig,
    SourceInjection,
)
from ..connectors import Connector
from ..denoiser import Denoiser
from ..errors import CheckpointError
from ..latents import LatentCodec
from .bundle import (
    Components,
    check_part,
    load_dit,
    load_or_explain,
    load_qwen,
    load_vae,
    portable_rope,
    put_adapter,
    settle,
    with_queries,
)
from .files import check_finite, read_safetensors, read_shapes
from .kiwi_keys import MLLM, REFERENCE, SOURCE, adapter_to_own, is_adapter
from .wan_keys import vae_config_from_original, vae_to_diffusers

if TYPE_CHECKING:
    from collections.abc import Callable

    from diffusers import AutoencoderKLWan
    from transformers import Qwen2_5_VLConfig

    from ..guidance.encoder import MLLMGuidance

TRANSFORMER, VAE, PROCESSOR = "transformer", "vae", "processor"
QWEN_CONFIG = "qwen_config.json"
IMAGE_MAX_PIXELS = 16384 * 28 * 28  # of an image that the MLLM sees
SIGMA_MIN = 0.003 / 1.002
LIMITS = {"max_frames": 16, "max_pixels_per_frame": 262144, "max_object_token": 768}  # where the config is silent


def is_kiwi(folder: str | Path) -> bool:
    """Whether `folder` holds Kiwi-Edit's components: by their tensors, whatever it is called."""
    return adapter_file(Path(folder)) is not None


def adapter_file(folder: Path) -> Path | None:
    """The file of queries and connectors in a Kiwi-Edit folder, None where there is none.

    Raises:
        CheckpointError: a file beside the MLLM's that is truncated, damaged or no safetensors.
    """
    for path in sorted((folder / MLLM).glob("*.safetensors")):
        if is_adapter(read_shapes(path)):
            return path
    return None


def added_files(folder: Path) -> list[Path]:
    """What a Kiwi-Edit folder holds beside an MLLM, a DiT and a VAE: queries, connectors, embedders."""
    file = adapter_file(folder)
    embedders = [path for part in (SOURCE, REFERENCE) for path in sorted((folder / part).glob("*.safetensors"))]
    return embedders if file is None else [file, *embedders]


def load_kiwi(folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Components:
    """Read a whole Kiwi-Edit model.

    Raises:
        CheckpointError: a missing, truncated or damaged file, or weights that do not fit their configs.
    """
    folder = Path(folder)
    for part in (TRANSFORMER, VAE, MLLM, SOURCE):
        check_part(folder / part)
    adapter = read_adapter(folder)
    check_finite(adapter, folder)
    config = read_kiwi_config(folder)
    guidance = load_kiwi_guidance(folder, config, dtype)
    connector = Connector(config.connector).to(dtype)
    transformer, vae = load_dit(folder / TRANSFORMER, dtype), load_original_vae(folder / VAE, dtype)
    _check_widths(folder, config, transformer, vae)
    denoiser = Denoiser(transformer, config.denoiser, config.connector.entry)
    put_adapter(adapter, folder, guidance, connector, denoiser)
    return settle(Components(config, guidance, connector, denoiser, LatentCodec(vae)), device)


def read_kiwi_config(folder: str | Path) -> ModelConfig:
    """What this library needs to know of a Kiwi-Edit folder, from its configs and its tensors' shapes.

    Raises:
        CheckpointError: no such folder, or a config that is missing or no JSON.
    """
    folder = Path(folder)
    file = adapter_file(folder)
    if file is None:
        raise CheckpointError(f"{str(folder)!r} is not a Kiwi-Edit model: no queries and connector in {MLLM}/.")
    shapes = read_shapes(file)
    limits = _limits(folder / MLLM / "config.json")
    order = folder / REFERENCE / "config.json"
    return ModelConfig(
        name="Kiwi-Edit",
        default_size=(480, 832),
        default_frames=81,
        guidance=GuidanceConfig(
            image_queries=shapes["image_queries"][0],
            video_queries=shapes["video_queries"][0],
            reference_queries=shapes.get("ref_queries", (0,))[0],
            video_frames=min(limits["max_frames"], 16),  # its reader of frames stops at 16 whatever is asked
            max_pixels=IMAGE_MAX_PIXELS,
            video_max_pixels=limits["max_pixels_per_frame"],
            reference_max_pixels=28 * 28 * limits["max_object_token"],
            dialect=Dialect.KIWI,
            lora_rank=0,
            lora_alpha=0,
        ),
        connector=ConnectorConfig(
            input_dim=shapes["connector.0.weight"][1],
            hidden_dim=shapes["connector.0.weight"][0],
            output_dim=shapes["connector.2.weight"][0],
            entry=ContextEntry.WIDTH,
            tanh_gelu=True,
            reads_references="ref_connector.0.weight" in shapes,
        ),
        denoiser=DenoiserConfig(
            source=SourceInjection.EMBEDDING,
            source_fades=True,
            reference=ReferenceInjection.EMBEDDING if _has_weights(folder / REFERENCE) else ReferenceInjection.LATENT,
            references_first=order.is_file() and bool(read_json(order).get("ref_pad_first", False)),
            reference_margin=Margin.WHITE,
        ),
        sampling=SamplingConfig(steps=50, shift=5.0, sigma_min=SIGMA_MIN),
    )


def read_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """Queries, connectors and embedders under the names of `instructx.safetensors`.

    Raises:
        CheckpointError: a missing or damaged file, or tensors of another model.
    """
    file = adapter_file(folder)
    if file is None:
        raise CheckpointError(f"{str(folder)!r} is not a Kiwi-Edit model: no queries and connector in {MLLM}/.")
    state = adapter_to_own(MLLM, read_safetensors(file)[0])
    for part in (SOURCE, REFERENCE):
        for path in sorted((folder / part).glob("*.safetensors")):
            state |= adapter_to_own(part, read_safetensors(path)[0])
    return state


def load_kiwi_guidance(
    folder: Path, config: ModelConfig, dtype: torch.dtype, progress: Callable[[int], None] | None = None
) -> MLLMGuidance:
    """The MLLM of a Kiwi-Edit folder with fresh queries for the checkpoint of `config`; else as `load_guidance`."""
    mllm = load_qwen(folder / MLLM, load_mllm_config(folder), dtype, progress)
    return with_queries(mllm, load_tokenizer(folder), config, dtype)


def load_tokenizer(folder: Path) -> Any:
    """The MLLM's tokenizer, from `processor/`.

    Raises:
        CheckpointError: missing or damaged.
    """
    from transformers import AutoTokenizer

    if not any((folder / PROCESSOR / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        # transformers would make one of no words at all
        raise CheckpointError(
            f"{str(folder / PROCESSOR)!r} has no tokenizer.json; the model is incomplete, get it again."
        )
    return load_or_explain(folder / PROCESSOR, lambda: AutoTokenizer.from_pretrained(folder / PROCESSOR))


def load_mllm_config(folder: Path) -> Qwen2_5_VLConfig:
    """The MLLM's config, which the published folder keeps beside the tokenizer, older ones beside the weights.

    Raises:
        CheckpointError: in neither place, or damaged.
    """
    from transformers import Qwen2_5_VLConfig

    for path in (folder / PROCESSOR / QWEN_CONFIG, folder / MLLM / QWEN_CONFIG):
        if path.is_file():
            return load_or_explain(path, lambda: portable_rope(Qwen2_5_VLConfig.from_pretrained(path)))  # noqa: B023
    raise CheckpointError(f"{str(folder / PROCESSOR)!r} has no {QWEN_CONFIG}; the model is incomplete, get it again.")


def load_original_vae(folder: Path, dtype: torch.dtype) -> AutoencoderKLWan:
    """An `AutoencoderKLWan` from a folder whose weights carry the original Wan names, or diffusers' own.

    Raises:
        CheckpointError: a missing or damaged file, or a config without the latents' mean and deviation.
    """
    from diffusers import AutoencoderKLWan

    if not has_original_names(folder):
        return load_vae(folder, dtype)
    config = vae_config(folder)
    state: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        state |= read_safetensors(path)[0]
    with torch.device("meta"):  # its random weights would be thrown away
        vae = AutoencoderKLWan(**config)
    state = {name: value.to(dtype) for name, value in vae_to_diffusers(state).items()}
    wanted = {name: tuple(value.shape) for name, value in vae.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if wanted != found:
        odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise CheckpointError(
            f"{str(folder)!r} holds no whole Wan VAE: {odd[0]} is {found.get(odd[0], 'missing')}, "
            f"expected {wanted.get(odd[0], 'nothing')} ({len(odd)} tensors differ); get it again."
        )
    vae.load_state_dict(state, assign=True)
    return vae


def has_original_names(folder: Path) -> bool:
    """Whether the weights of a VAE carry the original Wan names, not diffusers'."""
    return "encoder.conv_in.weight" not in folder_shapes(folder)


def vae_config(folder: Path) -> dict[str, Any]:
    """The arguments of `AutoencoderKLWan` for a folder with original weights: shapes, and what its config adds.

    Raises:
        CheckpointError: as `load_original_vae`.
    """
    said = read_json(folder / "config.json")
    empty = {name: torch.empty(shape, device="meta") for name, shape in folder_shapes(folder).items()}
    config = vae_config_from_original(empty)
    for name in ("latents_mean", "latents_std"):
        if not isinstance(said.get(name), list) or len(said[name]) != config["z_dim"]:
            raise CheckpointError(
                f"{str(folder / 'config.json')!r} gives no {name} of {config['z_dim']} numbers; get the folder again."
            )
        config[name] = said[name]
    return config


def folder_shapes(folder: Path) -> dict[str, Any]:
    """The shape of every tensor of a component, in one file or in shards, from the headers alone."""
    shapes: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        shapes |= read_shapes(path)
    return shapes


def read_json(path: Path) -> dict[str, Any]:
    """A config file's mapping.

    Raises:
        CheckpointError: missing, or no JSON mapping.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(path)!r} cannot be read ({error}); the model is incomplete, get it again."
        ) from error
    if not isinstance(plain, dict):
        raise CheckpointError(f"{str(path)!r} is no mapping of settings; get it again.")
    return plain


def _limits(path: Path) -> dict[str, int]:
    """What the MLLM is shown at most, by its config's own names; 0 pixels a frame means no bound of their own."""
    said = read_json(path)
    limits = {name: said.get(name, default) for name, default in LIMITS.items()}
    limits["max_pixels_per_frame"] = limits["max_pixels_per_frame"] or 0
    for name, value in limits.items():
        if not isinstance(value, int) or value < (0 if name == "max_pixels_per_frame" else 1):
            raise CheckpointError(f"{str(path)!r} says {name} is {value!r}, which is no count; get the file again.")
    return limits


def _check_widths(folder: Path, config: ModelConfig, transformer: Any, vae: Any) -> None:
    """Raise CheckpointError unless connector, DiT and VAE are of one model; what else must fit is seen on loading."""
    sizes = transformer.config
    width = sizes.num_attention_heads * sizes.attention_head_dim
    if config.connector.output_dim != width:
        raise CheckpointError(
            f"{str(folder)!r} is mixed up: its connector makes a context of width {config.connector.output_dim}, "
            f"its DiT has {width}; get the folder again."
        )
    if vae.config.z_dim != sizes.in_channels:
        raise CheckpointError(
            f"{str(folder)!r} is mixed up: its VAE makes {vae.config.z_dim} channels, its DiT takes "
            f"{sizes.in_channels}; get the folder again."
        )


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))
