"""One folder per model: `mllm/`, `transformer/`, `vae/` and `instructx.safetensors`.

The first three are what their libraries write and read. `instructx.safetensors` holds what InstructX adds: queries,
LoRA, connector and whatever the DiT gained, with the `ModelConfig` as JSON in its metadata. Only safetensors are read.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ...bounded import is_dir, is_file
from ...config import ModelConfig
from ...errors import CheckpointError, InputError
from ...weights.detect import Family
from ...weights.dit import load_dit
from ...weights.files import (
    atomic_folder,
    check_finite,
    naming,
    read_metadata,
    read_safetensors,
    recover_folder,
    write_safetensors,
)
from ...weights.marks import ADAPTER
from ...weights.portable import make_portable
from ...weights.vae import load_vae
from ...words import quoted_path
from ..components import Components, adapter_state, combine, load_guidance
from ..overrides import OWN, Base, check_fit, choose

FORMAT = "instructx-1"
BUNDLED = Path(__file__).parent.parent.parent / "bundled" / "instructx-tiny"


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
