"""Kiwi-Edit's published folder, read as it is: its components become the same ones that InstructX has.

It is known by its tensors (queries and a connector beside a Qwen2.5-VL), not by any name that a person may change.
- Its LoRA is merged into the MLLM already, so there is none here.
- Its VAE carries the original Wan names; widths are read from the weights, mean and deviation from its config.
- Its code files are never looked at: what they do is `guidance/kiwi.py` and fields of the config.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...bounded import is_dir
from ...config import (
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
from ...errors import CheckpointError
from ...weights.compare import shape_of
from ...weights.detect import Family
from ...weights.dit import load_dit
from ...weights.files import check_finite, naming, read_json, read_safetensors, read_shapes
from ...weights.library_load import check_part
from ...weights.vae import load_vae
from ...words import quoted_path, shown
from ..components import Components, combine, load_guidance
from ..overrides import OWN, Base, check_fit, choose
from .keys import MLLM, REFERENCE, SOURCE, adapter_to_own, is_adapter

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    for path in sorted((folder / MLLM).glob("*.safetensors")) if is_dir(folder / MLLM) else ():
        if is_adapter(read_shapes(path)):
            return path
    return None


def added_files(folder: Path) -> list[Path]:
    """What a Kiwi-Edit folder holds beside an MLLM, a DiT and a VAE: queries, connectors, embedders."""
    file = adapter_file(folder)
    embedders = [path for part in (SOURCE, REFERENCE) for path in sorted((folder / part).glob("*.safetensors"))]
    return embedders if file is None else [file, *embedders]


def load_kiwi(
    folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, base: Base = OWN
) -> Components:
    """Read a whole Kiwi-Edit model.

    Raises:
        CheckpointError: a missing, truncated or damaged file, or weights that do not fit their configs.
    """
    folder = Path(folder)
    mllm = choose(base.mllm, folder / MLLM, Family.MLLM)
    dit = choose(base.transformer, folder / TRANSFORMER, Family.DIT)
    vae = choose(base.vae, folder / VAE, Family.VAE)
    check_part(folder / SOURCE)
    adapter = read_adapter(folder)
    check_finite(adapter, folder)
    config = read_kiwi_config(folder)
    check_fit(config, folder, dit, vae, mllm)
    guidance = load_guidance(mllm.path, folder, config, dtype)
    transformer, codec = load_dit(dit.path, dtype), load_vae(vae.path, dtype)
    return combine(config, folder, adapter, guidance, transformer, codec, device)


def read_kiwi_config(folder: str | Path) -> ModelConfig:
    """What this library needs to know of a Kiwi-Edit folder, from its configs and its tensors' shapes.

    Raises:
        CheckpointError: no such folder, or a config that is missing or no JSON.
    """
    folder = Path(folder)
    file = adapter_file(folder)
    if file is None:
        raise CheckpointError(f"{str(folder)!r} is not a Kiwi-Edit model: no queries and connector in {MLLM}/.")
    shapes: dict[str, tuple[int, ...]] = {}
    for path, names in kiwi_adapter_names(folder).items():
        held = read_shapes(path)
        shapes |= {own: held[there] for there, own in names.items()}
    order = folder / REFERENCE / "config.json"
    references_first = order.is_file() and bool(read_json(order).get("ref_pad_first", False))
    with naming(folder):
        return config_of_shapes(shapes, _limits(folder / MLLM / "config.json"), references_first, folder).checked()


def config_of_shapes(
    shapes: Mapping[str, tuple[int, ...]],
    limits: Mapping[str, int] = LIMITS,
    references_first: bool = False,
    source: object = "Kiwi-Edit",
) -> ModelConfig:
    """The config of a Kiwi-Edit from the shapes of what it adds.

    Args:
        shapes: of its tensors, under the names of `instructx.safetensors`.
        limits: what the MLLM is shown at most, see `LIMITS`.
        references_first: the authors' `ref_pad_first`.
        source: the path to name.
    """
    has_embedder = "denoiser.reference_embedding.weight" in shapes
    queries, hidden, output = (
        shape_of(shapes, name, 2, source)
        for name in ("queries.image", "connector.linear_in.weight", "connector.linear_out.weight")
    )
    return ModelConfig(
        name="Kiwi-Edit",
        default_size=(480, 832),
        default_frames=81,
        guidance=GuidanceConfig(
            image_queries=queries[0],
            video_queries=shape_of(shapes, "queries.video", 2, source)[0],
            reference_queries=shapes.get("queries.reference", (0,))[0],
            video_frames=min(limits["max_frames"], 16),  # its reader of frames stops at 16 whatever is asked
            max_pixels=IMAGE_MAX_PIXELS,
            video_max_pixels=limits["max_pixels_per_frame"],
            reference_max_pixels=28 * 28 * limits["max_object_token"],
            dialect=Dialect.KIWI,
            lora_rank=0,
            lora_alpha=0,
        ),
        connector=ConnectorConfig(
            input_dim=hidden[1],
            hidden_dim=hidden[0],
            output_dim=output[0],
            entry=ContextEntry.WIDTH,
            tanh_gelu=True,
            reads_references="connector.reference.linear_in.weight" in shapes,
        ),
        denoiser=DenoiserConfig(
            source=SourceInjection.EMBEDDING,
            source_fades=True,
            reference=ReferenceInjection.EMBEDDING if has_embedder else ReferenceInjection.LATENT,
            references_first=references_first,
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
    state = {}
    for path, names in kiwi_adapter_names(folder).items():
        held, _ = read_safetensors(path)
        state |= {own: held[there] for there, own in names.items()}
    return state


def kiwi_adapter_names(folder: Path) -> dict[Path, dict[str, str]]:
    """Where a Kiwi-Edit folder keeps the tensors of `instructx.safetensors`: file -> name there -> name here.

    Raises:
        CheckpointError: a missing or damaged file, or tensors of another model.
    """
    parts = {file: part for part in (SOURCE, REFERENCE) for file in sorted((folder / part).glob("*.safetensors"))}
    names: dict[Path, dict[str, str]] = {}
    for file, part in ({adapter_file(folder): MLLM} | parts).items():
        with naming(file):
            renamed = adapter_to_own(part, {name: name for name in read_shapes(file)})
        names[file] = {there: own for own, there in renamed.items()}
    return names


def _limits(path: Path) -> dict[str, int]:
    """What the MLLM is shown at most, by its config's own names; 0 pixels a frame means no bound of their own."""
    said = read_json(path)
    limits = {name: said.get(name, default) for name, default in LIMITS.items()}
    limits["max_pixels_per_frame"] = limits["max_pixels_per_frame"] or 0
    for name, value in limits.items():
        if not isinstance(value, int) or value < (0 if name == "max_pixels_per_frame" else 1):
            raise CheckpointError(
                f"{quoted_path(path)} says {name} is {shown(value)}, which is no count; get the file again."
            )
    return limits
