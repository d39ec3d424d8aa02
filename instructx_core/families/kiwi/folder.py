"""Kiwi-Edit's published folder, read without conversion: its components map onto InstructX's.

It is recognised by its tensors (queries and a connector beside a Qwen2.5-VL), not by names that users may change.
- Its LoRA is already merged into the MLLM, so there is none here.
- Its VAE uses the original Wan names; widths are read from the weights, mean and deviation from its config.
- Its code files are never read: `prompt.py` and config fields reproduce what they do.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...bounded import is_dir
from ...config import (
    ConnectorConfig,
    ContextEntry,
    DenoiserConfig,
    GuidanceConfig,
    Margin,
    ModelConfig,
    ReferenceInjection,
    SamplingConfig,
    SourceInjection,
)
from ...errors import CheckpointError
from ...weights.compare import shape_of
from ...weights.files import naming, read_json
from ...weights.library_load import check_part
from ...weights.marks import SAFETENSORS
from ...weights.parts import Part
from ...weights.stored import Stored, read_stored
from ...words import quoted_path, shown
from ..match import Match
from .keys import MLLM, REFERENCE, SOURCE, adapter_to_own, is_adapter

if TYPE_CHECKING:
    from collections.abc import Mapping

TRANSFORMER, VAE = "transformer", "vae"
IMAGE_MAX_PIXELS = 16384 * 28 * 28  # of an image shown to the MLLM
SIGMA_MIN = 0.003 / 1.002
LIMITS = {"max_frames": 16, "max_pixels_per_frame": 262144, "max_object_token": 768}  # config defaults


def recognise(path: Path) -> Match | None:
    """Recognise a folder of Kiwi-Edit's components by their tensors, whatever it is called; None for others.

    Raises:
        CheckpointError: a truncated or damaged file, tensors of another model, or a config that is missing or not
            JSON.
    """
    headers = _headers(path / MLLM) if is_dir(path / MLLM) else {}
    own = next((file for file, stored in headers.items() if is_adapter(stored)), None)
    if own is None:
        return None
    check_part(path / SOURCE)
    stored = {own: headers[own]} | _headers(path / SOURCE) | _headers(path / REFERENCE)
    adapter: dict[Path, dict[str, str]] = {}
    for file, held in stored.items():
        part = MLLM if file == own else file.parent.name
        with naming(file):
            renamed = adapter_to_own(part, {name: name for name in held})
        adapter[file] = {there: ours for ours, there in renamed.items()}
    shapes = {ours: stored[file][there].shape for file, names in adapter.items() for there, ours in names.items()}
    order = path / REFERENCE / "config.json"
    references_first = order.is_file() and bool(read_json(order).get("ref_pad_first", False))
    with naming(path):
        config = config_of_shapes(shapes, _limits(path / MLLM / "config.json"), references_first, path).checked()
    folders = {Part.MLLM: path / MLLM, Part.DIT: path / TRANSFORMER, Part.VAE: path / VAE}
    return Match("Kiwi-Edit", path, config, adapter, stored, folders)


def _headers(folder: Path) -> dict[Path, dict[str, Stored]]:
    return {file: read_stored(file) for file in sorted(folder.glob(SAFETENSORS))}


def config_of_shapes(
    shapes: Mapping[str, tuple[int, ...]],
    limits: Mapping[str, int] = LIMITS,
    references_first: bool = False,
    source: object = "Kiwi-Edit",
) -> ModelConfig:
    """A Kiwi-Edit's config from the shapes of the tensors it adds.

    Args:
        shapes: of its tensors, under the names of `instructx.safetensors`.
        limits: on what the MLLM is shown, see `LIMITS`.
        references_first: the authors' `ref_pad_first`.
        source: the path to name in messages.
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
            video_frames=min(limits["max_frames"], 16),  # its frame reader never takes more than 16
            max_pixels=IMAGE_MAX_PIXELS,
            video_max_pixels=limits["max_pixels_per_frame"],
            reference_max_pixels=28 * 28 * limits["max_object_token"],
            dialect="kiwi",
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


def _limits(path: Path) -> dict[str, int]:
    """Limits on what the MLLM is shown, under its config's names; 0 pixels per frame: no separate bound for clips."""
    said = read_json(path)
    limits = {name: said.get(name, default) for name, default in LIMITS.items()}
    if limits["max_pixels_per_frame"] is None:
        limits["max_pixels_per_frame"] = 0
    for name, value in limits.items():
        least = 0 if name == "max_pixels_per_frame" else 1
        if type(value) is not int or value < least:  # a JSON true is an int, too
            raise CheckpointError(
                f"{quoted_path(path)} says {name} is {shown(value)}, expected a whole number from {least}; get the "
                "file again."
            )
    return limits
