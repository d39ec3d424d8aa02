"""One folder per model: `mllm/`, `transformer/`, `vae/` and `instructx.safetensors`.

The first three are what their libraries write and read. `instructx.safetensors` holds what InstructX adds: queries,
LoRA, connector and whatever the DiT gained, with the `ModelConfig` as JSON in its metadata. Only safetensors are read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..bounded import is_dir, is_file, parse_json, read_text
from ..config import Dialect, ModelConfig
from ..connectors import Connector
from ..denoiser import Denoiser
from ..errors import CheckpointError, InputError
from ..guidance.encoder import MLLMGuidance
from ..guidance.kiwi import KiwiGuidance
from ..latents import LatentCodec
from ..words import quoted_path
from .base import OWN, Base, check_fit, choose
from .dit import load_dit
from .files import (
    atomic_folder,
    check_finite,
    check_types,
    naming,
    read_metadata,
    read_safetensors,
    recover_folder,
    write_safetensors,
)
from .forms import Family
from .mllm import load_mllm
from .shapes import first_difference, shapes_of
from .vae import load_vae

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

ADAPTER = "instructx.safetensors"
FORMAT = "instructx-1"
OF_THE_LOADER = {"_name_or_path", "is_local", "local_files_only", "dtype", "torch_dtype"}  # the weights tell their own
DIALECTS = {Dialect.INSTRUCTX: MLLMGuidance, Dialect.KIWI: KiwiGuidance}
BUNDLED = Path(__file__).parent.parent / "bundled" / "instructx-tiny"


@dataclass(frozen=True)
class Components:
    """A whole model in memory."""

    config: ModelConfig
    guidance: MLLMGuidance
    connector: Connector
    denoiser: Denoiser
    codec: LatentCodec


def read_config(path: str | Path) -> ModelConfig:
    """The `ModelConfig` of a checkpoint folder, or of an `instructx.safetensors` alone, without its weights.

    Raises:
        CheckpointError: nothing there, no `instructx.safetensors` in it, or one of another format.
    """
    adapter = adapter_path(path)
    metadata = read_metadata(adapter)
    if FORMAT not in metadata:
        raise CheckpointError(
            f"{str(adapter)!r} does not say {FORMAT!r} in its metadata; "
            "it belongs to another program or another version."
        )
    with naming(adapter):
        return ModelConfig.from_json(metadata[FORMAT])


def adapter_path(path: str | Path) -> Path:
    """What a checkpoint adds to its base models: the file in its folder, or `path` itself where it is one.

    Raises:
        CheckpointError: no such folder, or no such file in it.
    """
    path = Path(path)
    if is_file(path):
        return path
    if not is_dir(path):
        recover_folder(path)  # a save that was killed between two renames; what is here is not the reader's to clean
    if not is_dir(path):
        raise CheckpointError(f"there is no model folder {quoted_path(path)}; check the path.")
    if not is_file(path / ADAPTER):
        raise CheckpointError(f"{quoted_path(path)} is not an InstructX model: it has no {ADAPTER}.")
    return path / ADAPTER


def save_checkpoint(components: Components, folder: str | Path) -> None:
    """Write a whole model to `folder`, atomically: an older one there stays until the new one is complete.

    Weights are written in the dtype that they have; load and save again gives the same bytes.

    Raises:
        InputError: the folder cannot be written, or the DiT's weights are packed as GGUF, which nothing writes.
    """
    guidance, denoiser = components.guidance, components.denoiser
    if getattr(denoiser.transformer, "hf_quantizer", None) is not None:
        raise InputError("GGUF weights cannot be saved again; load the model with its DiT in another form first.")
    with atomic_folder(folder) as partial:
        base = {
            name.replace(".base_layer", ""): value
            for name, value in guidance.mllm.state_dict().items()
            if "lora_" not in name
        }
        guidance.mllm.save_pretrained(partial / "mllm", state_dict=base)
        guidance.tokenizer.save_pretrained(partial / "mllm")
        denoiser.transformer.save_pretrained(partial / "transformer")
        components.codec.vae.save_pretrained(partial / "vae")
        for config in partial.glob("*/*.json"):
            make_portable(config)
        # one key alone: safetensors writes several in no fixed order, and the file would differ from save to save
        metadata = {FORMAT: components.config.to_json()}
        write_safetensors(partial / ADAPTER, adapter_state(guidance, components.connector, denoiser), metadata)


def make_portable(path: Path) -> None:
    """Rewrite a config as `portable` has it."""
    path.write_text(portable(read_text(path)), encoding="utf-8")


def portable(config: str) -> str:
    """A config's JSON without where the model was loaded from, the tokenizer's class named as transformers 4 does."""
    plain = parse_json(config, "the config")
    for part in (plain, *(value for value in plain.values() if isinstance(value, dict))):
        for name in OF_THE_LOADER & part.keys():
            del part[name]
    if plain.get("tokenizer_class") == "TokenizersBackend":
        plain["tokenizer_class"] = "PreTrainedTokenizerFast"
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def load_checkpoint(
    path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, base: Base = OWN
) -> Components:
    """Read a whole model from a folder, or from an `instructx.safetensors` and base models.

    Raises:
        CheckpointError: a missing, truncated or damaged file, or weights that do not fit the config.
    """
    adapter = adapter_path(path)
    config, folder = read_config(adapter), adapter.parent
    mllm = choose(base.mllm, folder / "mllm", Family.MLLM)
    dit = choose(base.transformer, folder / "transformer", Family.DIT)
    vae = choose(base.vae, folder / "vae", Family.VAE)
    check_fit(config, adapter, dit, vae, mllm)
    guidance = load_guidance(mllm.path, folder, config, dtype)
    state, _ = read_safetensors(adapter)
    check_finite(state, adapter)
    transformer, codec = load_dit(dit.path, dtype), load_vae(vae.path, dtype)
    return combine(config, adapter, state, guidance, transformer, codec, device)


def combine(
    config: ModelConfig,
    source: Path,
    adapter: Mapping[str, torch.Tensor],
    guidance: MLLMGuidance,
    transformer: WanTransformer3DModel,
    vae: AutoencoderKLWan,
    device: torch.device | str,
) -> Components:
    """Base models and what a checkpoint adds to them, on `device` and ready to edit.

    Args:
        config: of the checkpoint.
        source: its path, to name.
        adapter: its tensors, under the names of `adapter_state`.
        guidance: the MLLM with fresh queries and LoRA, whose dtype the connector takes.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another shape than the config says.
    """
    connector = Connector(config.connector).to(guidance.queries["image"].dtype)
    denoiser = Denoiser(transformer, config.denoiser, config.connector.entry)
    put_adapter(adapter, source, guidance, connector, denoiser)
    components = Components(config, guidance, connector, denoiser, LatentCodec(vae))
    for module in (guidance, connector, denoiser, components.codec):
        module.to(device).eval().requires_grad_(False)
    return components


def adapter_state(guidance: MLLMGuidance, connector: Connector, denoiser: Denoiser) -> dict[str, torch.Tensor]:
    """The tensors of `instructx.safetensors`, under `queries.`, `lora.`, `connector.` and `denoiser.`."""
    from peft import get_peft_model_state_dict

    state = {f"queries.{name}": value for name, value in guidance.queries.items()}
    if guidance.config.lora_rank:
        lora = get_peft_model_state_dict(guidance.mllm.model.language_model)
        state |= {f"lora.{name}": value for name, value in lora.items()}
    state |= {f"connector.{name}": value for name, value in connector.state_dict().items()}
    for part, module in gained(denoiser).items():
        state |= {f"denoiser.{part}.{name}": value for name, value in module.state_dict().items()}
    return state


def gained(denoiser: Denoiser) -> dict[str, torch.nn.Module]:
    """What this checkpoint's DiT has beside a plain Wan's, by name."""
    parts = {"source_embedding": denoiser.source_embedding, "reference_embedding": denoiser.reference_embedding}
    return {name: module for name, module in parts.items() if module is not None}


def put_adapter(
    state: Mapping[str, torch.Tensor], path: Path, guidance: MLLMGuidance, connector: Connector, denoiser: Denoiser
) -> None:
    """Copy tensors under the names of `adapter_state`, read from `path`, into the modules.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another shape than the config says.
    """
    wanted = shapes_of(adapter_state(guidance, connector, denoiser))
    if odd := first_difference(wanted, shapes_of(state)):
        raise CheckpointError(f"{str(path)!r} does not fit its config: {odd}.")
    check_types({name: value.dtype for name, value in state.items() if not value.is_floating_point()}, path)
    put_guidance(state, guidance)
    connector.load_state_dict(strip(state, "connector."))
    for part, module in gained(denoiser).items():
        module.load_state_dict(strip(state, f"denoiser.{part}."))


def put_guidance(state: Mapping[str, torch.Tensor], guidance: MLLMGuidance) -> None:
    """Copy queries and LoRA, checked before, out of the tensors of an `instructx.safetensors`."""
    from peft import set_peft_model_state_dict

    with torch.no_grad():
        for name, query in guidance.queries.items():
            query.copy_(state[f"queries.{name}"])
    if guidance.config.lora_rank:
        set_peft_model_state_dict(guidance.mllm.model.language_model, strip(state, "lora."))


def strip(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The entries under `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def load_guidance(
    mllm: Path,
    checkpoint: Path,
    config: ModelConfig,
    dtype: torch.dtype,
    progress: Callable[[int], None] | None = None,
) -> MLLMGuidance:
    """An MLLM with fresh queries and LoRA.

    Args:
        mllm, checkpoint, progress: as `load_mllm`.
        config: of the checkpoint.
        dtype: of everything but the rotary frequencies.
    """
    return with_queries(*load_mllm(mllm, checkpoint, dtype, progress), config, dtype)


def with_queries(
    mllm: Qwen2_5_VLForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    config: ModelConfig,
    dtype: torch.dtype,
) -> MLLMGuidance:
    """An MLLM with fresh queries and LoRA, in the dialect that the checkpoint was trained in."""
    guidance = DIALECTS[config.guidance.dialect](mllm, tokenizer, config.guidance)
    # not the whole: its rotary frequencies stay in float32, without which far positions run together
    guidance.queries.to(dtype)
    return guidance
