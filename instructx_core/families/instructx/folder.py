"""One folder per model: `mllm/`, `transformer/`, `vae/` and `instructx.safetensors`; a pair adds `transformer_2/`.

The sub-folders are in their libraries' own formats. `instructx.safetensors` holds what InstructX adds: queries, LoRA,
connector and what the DiT gained, with the `ModelConfig` as JSON in its metadata. Only safetensors are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ...atomic import atomic_folder, bring_back
from ...bounded import is_dir, is_file
from ...errors import CheckpointError, InputError
from ...weights.files import naming, read_header, write_safetensors
from ...weights.gguf_header import is_gguf
from ...weights.marks import ADAPTER
from ...weights.packed_linear import unpacked_layers
from ...weights.parts import Part
from ...weights.pickles import is_pickle
from ...weights.portable import CONFIGS, make_portable
from ...weights.stored import stored_of
from ...words import quoted_path
from ..components import Components, adapter_state, guidance_class
from ..configs import read_config
from ..match import Match

FORMAT = "instructx-1"
KINDS = {"insightedit": "InsightEdit"}  # dialect -> title, for other families with this layout
BUNDLED = Path(__file__).parent.parent.parent / "bundled" / "instructx-tiny"


def match(path: str | Path) -> Match:
    """Read a checkpoint folder, or an `instructx.safetensors` on its own.

    Raises:
        CheckpointError: no such path, no `instructx.safetensors` in it, or one in another format.
    """
    adapter = adapter_path(path)
    return _match(Path(path), adapter, read_header(adapter))


def recognise(path: Path) -> Match | None:
    """As `match`; None if `path` is something else.

    Raises:
        CheckpointError: as `match`, if the path claims to be such a model.
    """
    if is_dir(path):
        return match(path) if is_file(path / ADAPTER) else None
    if not is_file(path) or is_gguf(path) or is_pickle(path):
        return None
    header = read_header(path)
    return _match(path, path, header) if FORMAT in header.get("__metadata__", {}) else None


def _match(path: Path, adapter: Path, header: Mapping[str, Any]) -> Match:
    metadata, stored = header.get("__metadata__", {}), stored_of(header)
    if FORMAT not in metadata:
        raise CheckpointError(
            f"{str(adapter)!r} has no {FORMAT!r} in its metadata; it comes from another program or another version."
        )
    with naming(adapter):
        config = read_config(metadata[FORMAT])
        guidance_class(config)
    dialect = config.guidance.dialect
    folders = {Part.MLLM: "mllm", Part.DIT: "transformer", Part.VAE: "vae"}
    folders |= {Part.DIT_2: "transformer_2"} if config.denoiser.boundary else {}
    return Match(
        kind=KINDS.get(dialect, "InstructX"),
        path=path,
        config=config,
        adapter={adapter: {name: name for name in stored}},
        stored={adapter: stored},
        folders={part: adapter.parent / name for part, name in folders.items()},
    )


def adapter_path(path: str | Path) -> Path:
    """The path of a checkpoint's `instructx.safetensors`: in the folder, or `path` itself if it is a file.

    Raises:
        CheckpointError: no such folder, or no such file in it.
    """
    path = Path(path)
    if is_file(path):
        return path
    bring_back(path)
    if not is_dir(path):
        raise CheckpointError(f"there is no model folder {quoted_path(path)}; check the path.")
    if not is_file(path / ADAPTER):
        raise CheckpointError(f"{quoted_path(path)} is not an InstructX model: it has no {ADAPTER}.")
    return path / ADAPTER


def save_checkpoint(components: Components, folder: str | Path) -> None:
    """Write a complete model to `folder` atomically: an existing one stays until the new one is complete.

    Weights keep their dtype; loading and saving again gives the same bytes.

    Raises:
        InputError: the folder cannot be written, or the DiT's weights are packed as GGUF, which cannot be saved.
    """
    guidance, denoiser = components.guidance, components.denoiser
    networks = [half.transformer for half in denoiser.halves]
    if any(getattr(network, "hf_quantizer", None) is not None for network in networks):
        raise InputError("GGUF weights cannot be saved again; load the model with its DiT in another format first.")
    unpacked = (unpacked_layers(part, denoiser.dtype) for part in (guidance.mllm, *networks))
    with atomic_folder(folder) as partial, ExitStack() as stack:
        for context in unpacked:
            stack.enter_context(context)
        base = {
            name.replace(".base_layer", ""): value
            for name, value in guidance.mllm.state_dict().items()
            if "lora_" not in name
        }
        guidance.mllm.save_pretrained(partial / "mllm", state_dict=base)
        guidance.tokenizer.save_pretrained(partial / "mllm")
        denoiser.save(partial / "transformer")
        components.codec.vae.save_pretrained(partial / "vae")
        for config in partial.glob("*/*.json"):
            if config.name in CONFIGS:  # not the vocabularies, which hold no settings
                make_portable(config)
        # a single key: safetensors writes several in no fixed order, so the file would differ from save to save
        metadata = {FORMAT: components.config.to_json()}
        state = adapter_state(guidance, components.connector, denoiser, components.masks)
        write_safetensors(partial / ADAPTER, state, metadata)
