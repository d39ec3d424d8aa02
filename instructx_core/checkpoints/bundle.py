"""One folder per model: `mllm/`, `transformer/`, `vae/` and `instructx.safetensors`.

The first three are what their libraries write and read. `instructx.safetensors` holds what InstructX adds: queries,
LoRA, connector and whatever the DiT gained, with the `ModelConfig` as JSON in its metadata. Only safetensors are read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import Dialect, ModelConfig
from ..connectors import Connector
from ..denoiser import Denoiser
from ..errors import CheckpointError
from ..guidance.encoder import MLLMGuidance
from ..guidance.kiwi import KiwiGuidance
from ..latents import LatentCodec
from .files import (
    atomic_folder,
    read_metadata,
    read_one_by_one,
    read_safetensors,
    recover_folder,
    write_safetensors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

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


def read_config(place: str | Path) -> ModelConfig:
    """The `ModelConfig` of a checkpoint folder, or of its `instructx.safetensors` alone, without the weights.

    Raises:
        CheckpointError: nothing there, no `instructx.safetensors` in it, or one of another format.
    """
    place = Path(place)
    if not place.exists():
        recover_folder(place)  # a save that was killed between two renames
    if not place.exists():
        raise CheckpointError(f"there is no model folder {str(place)!r}; check the path.")
    path = adapter_path(place)
    if not path.is_file():
        raise CheckpointError(f"{str(place)!r} is not an InstructX model: it has no {ADAPTER}.")
    metadata = read_metadata(path)
    if FORMAT not in metadata:
        raise CheckpointError(
            f"{str(path)!r} does not say {FORMAT!r} in its metadata; it belongs to another program or another version."
        )
    return ModelConfig.from_json(metadata[FORMAT])


def adapter_path(place: Path) -> Path:
    """The file of what a checkpoint adds: in a model folder, or the file itself."""
    return place if place.is_file() else place / ADAPTER


def save_checkpoint(components: Components, folder: str | Path) -> None:
    """Write a whole model to `folder`, atomically: an older one there stays until the new one is complete.

    Weights are written in the dtype that they have; load and save again gives the same bytes.

    Raises:
        InputError: the folder cannot be written.
    """
    guidance, denoiser = components.guidance, components.denoiser
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
    path.write_text(portable(path.read_text(encoding="utf-8")), encoding="utf-8")


def portable(config: str) -> str:
    """A config's JSON without where the model was loaded from, the tokenizer's class named as transformers 4 does."""
    plain = json.loads(config)
    for part in (plain, *(value for value in plain.values() if isinstance(value, dict))):
        for name in OF_THE_LOADER & part.keys():
            del part[name]
    if plain.get("tokenizer_class") == "TokenizersBackend":
        plain["tokenizer_class"] = "PreTrainedTokenizerFast"
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def load_checkpoint(
    folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Components:
    """Read a whole model from `folder`.

    Raises:
        CheckpointError: a missing, truncated or damaged file, or weights that do not fit the config.
    """
    folder = Path(folder)
    config = read_config(folder)
    for part in ("mllm", "transformer", "vae"):
        check_part(folder / part)
    guidance = load_guidance(folder / "mllm", config, dtype)
    transformer, vae = load_dit(folder / "transformer", dtype), load_vae(folder / "vae", dtype)
    connector = Connector(config.connector).to(dtype)
    denoiser = Denoiser(transformer, config.denoiser, config.connector.entry)
    load_adapter(folder / ADAPTER, guidance, connector, denoiser)
    return settle(Components(config, guidance, connector, denoiser, LatentCodec(vae)), device)


def settle(components: Components, device: torch.device | str) -> Components:
    """The same components, on `device` and ready to edit."""
    for module in (components.guidance, components.connector, components.denoiser, components.codec):
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


def load_adapter(path: Path, guidance: MLLMGuidance, connector: Connector, denoiser: Denoiser) -> None:
    """Put the tensors of `instructx.safetensors` where `adapter_state` took them from.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another shape than the config says.
    """
    state, _ = read_safetensors(path)
    put_adapter(state, path, guidance, connector, denoiser)


def put_adapter(
    state: Mapping[str, torch.Tensor], path: Path, guidance: MLLMGuidance, connector: Connector, denoiser: Denoiser
) -> None:
    """Copy tensors under the names of `adapter_state`, read from `path`, into the modules.

    Raises:
        CheckpointError: as `load_adapter`.
    """
    wanted = {name: tuple(value.shape) for name, value in adapter_state(guidance, connector, denoiser).items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if wanted != found:
        odd = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise CheckpointError(
            f"{str(path)!r} does not fit its config: {odd[0]} is {found.get(odd[0], 'missing')}, "
            f"expected {wanted.get(odd[0], 'nothing')} ({len(odd)} tensors differ)."
        )
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


def check_part(folder: Path) -> None:
    """Look at a component's files before any of them is loaded.

    Raises:
        CheckpointError: no config, no safetensors, or one that is cut off or damaged.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{str(folder)!r} has no config.json; the model is incomplete, get it again.")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise CheckpointError(f"{str(folder)!r} has no .safetensors weights; the model is incomplete, get it again.")
    for path in weights:
        read_metadata(path)


def load_guidance(
    folder: Path, config: ModelConfig, dtype: torch.dtype, progress: Callable[[int], None] | None = None
) -> MLLMGuidance:
    """The MLLM of a checkpoint with fresh queries and LoRA.

    Args:
        folder: of a Qwen2.5-VL, as transformers saves it.
        config: of the checkpoint.
        dtype: of everything but the rotary frequencies.
        progress: as `load_qwen`.
    """
    from transformers import AutoTokenizer, Qwen2_5_VLConfig

    mllm_config = load_or_explain(folder, lambda: portable_rope(Qwen2_5_VLConfig.from_pretrained(folder)))
    tokenizer = load_or_explain(folder, lambda: AutoTokenizer.from_pretrained(folder))
    return with_queries(load_qwen(folder, mllm_config, dtype, progress), tokenizer, config, dtype)


def load_qwen(
    folder: Path, config: Qwen2_5_VLConfig, dtype: torch.dtype, progress: Callable[[int], None] | None = None
) -> Qwen2_5_VLForConditionalGeneration:
    """The MLLM itself, whose weights are in `folder`.

    Args:
        progress: called after each tensor that was read with its bytes; what it raises ends the loading.
    """
    from transformers import Qwen2_5_VLForConditionalGeneration

    state = None if progress is None else read_one_by_one(mllm_weights(folder), progress)
    return load_weights(folder, Qwen2_5_VLForConditionalGeneration, state, config=config, dtype=dtype)


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


def mllm_weights(folder: Path) -> list[Path]:
    """The files that transformers reads the MLLM in `folder` from: the whole in one, or its shards."""
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else sorted(folder.glob("model-*-of-*.safetensors"))


def portable_rope(config: Qwen2_5_VLConfig) -> Qwen2_5_VLConfig:
    """Tell transformers 4.57 in its own words, in place, about the rotary embedding that 5.x wrote down."""
    text = config.text_config
    written = getattr(text, "rope_parameters", None)
    if written and getattr(text, "rope_scaling", None) is None:
        text.rope_theta = written["rope_theta"]
        text.rope_scaling = {name: value for name, value in written.items() if name != "rope_theta"}
    return config


def load_dit(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """A `WanTransformer3DModel` from a diffusers folder."""
    from diffusers import WanTransformer3DModel

    return load_weights(folder, WanTransformer3DModel, torch_dtype=dtype)


def load_vae(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """An `AutoencoderKLWan` from a diffusers folder."""
    from diffusers import AutoencoderKLWan

    return load_weights(folder, AutoencoderKLWan, torch_dtype=dtype)


def load_weights(folder: Path, model_class: Any, state: dict[str, torch.Tensor] | None = None, **options: Any) -> Any:
    """A model whose weights are all there: the libraries themselves would fill gaps with random numbers.

    `state` holds what has been read of `folder` already; only transformers takes it so.
    """
    options |= {"use_safetensors": True, "output_loading_info": True}
    if state is None:
        model, report = load_or_explain(folder, lambda: model_class.from_pretrained(folder, **options))
    else:
        model, report = load_or_explain(folder, lambda: model_class.from_pretrained(None, state_dict=state, **options))
    for problem in ("missing", "unexpected"):
        if names := sorted(report[f"{problem}_keys"]):
            raise CheckpointError(
                f"{str(folder)!r} does not fit its config: {problem} {names[0]} ({len(names)} tensors); get it again."
            )
    return model


def load_or_explain(folder: Path, read: Callable[[], Any]) -> Any:
    """What `read` gives; whatever it raises becomes a CheckpointError that names `folder`."""
    try:
        return read()
    except Exception as error:  # a damaged tokenizer raises nothing more special than this in transformers 4.57
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{str(folder)!r} cannot be loaded: {first_line}") from error
