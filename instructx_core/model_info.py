"""Describe a model from its configs and weight headers, without loading weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from . import families
from .bounded import is_dir, is_file
from .config import ConnectorKind, GuidanceKind
from .families.bundled import located
from .families.instructx.folder import BUNDLED
from .families.opened import Opened
from .weights.parts import Part
from .weights_info import as_table, describe_weights, parameters

if TYPE_CHECKING:
    from .config import ModelConfig

TITLES = {Part.MLLM: "MLLM", Part.DIT: "DiT", Part.DIT_2: "second DiT", Part.VAE: "VAE"}


def describe(path: Path | None = None) -> str:
    """Describe a model (the bundled one by default), or weights in any form, as lines of text.

    Raises:
        CheckpointError: nothing there, neither a model nor weights, or a missing, truncated or damaged file.
    """
    path = located(path or BUNDLED)
    has_weights = (is_file(path) or is_dir(path)) and families.recognise(path) is None
    if has_weights and families.only_converted(path) is None:
        return describe_weights(path)
    return describe_model(families.open(path))


def describe_model(opened: Opened) -> str:
    """Describe a model as lines of text: kind, sizes, queries, injection, sampling defaults, parts stored elsewhere.

    Raises:
        CheckpointError: a missing, truncated or damaged part.
    """
    path, config, match = opened.path, opened.config, opened.match
    own, titles = match.own, {part: title for part, title in TITLES.items() if part in opened.parts}
    if own >= set(titles):
        from .families.meta_model import outline

        outline(opened, torch.float32)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) or path.stat().st_size
    rows = {"model": config.name, "kind": match.kind, "path": f"{path} ({size / 1e6:.1f} MB)"}
    rows |= _settings(config)
    for part, title in titles.items():
        if part in own:
            rows[title] = f"{parameters(opened.form(part))} parameters"
        else:
            rows[title] = f"not included: give it with {part.option}"
        if part is Part.DIT_2:
            rows[title] += f"; denoises below noise level {config.denoiser.boundary:g}"
        if part in opened.merged:
            rows[title] += f"; LoRA on {len(opened.loras(part))} layers"
    added = sum(stored.numel for stored in match.added.values())
    rows["InstructX adds"] = f"{added / 1e6:.2f} M parameters to these"
    if missing := [part.option for part in titles if part not in own]:
        options = " ".join(f"{option} PATH" for option in missing)
        rows["for"] = f"instructx edit --model {path} {options}, the base models that it was trained on"
    return as_table(rows)


def _settings(config: ModelConfig) -> dict[str, str]:
    guidance, connector = config.guidance, config.connector
    height, width = config.default_size
    return {
        "trained at": f"{width} x {height} pixels (width x height), {config.default_frames} frames",
        "queries": _queries(config),
        "frames seen": f"{guidance.video_frames} of a video",
        "LoRA": f"rank {guidance.lora_rank}, alpha {guidance.lora_alpha}" if guidance.lora_rank else "none",
        "connector": f"{connector.kind.value}, {_widths(config)}, enters at {connector.entry.value}",
        "source": f"added by {config.denoiser.source.value}",
        "predicts": "change of the source" if config.source_prediction else config.denoiser.prediction.value,
        "sampling": _sampling(config),
        "several edits at once": "yes, each with a mask" if config.masks else "no",
        "only for images": ", ".join(config.held_out_from_video) or "none",
    }


def _sampling(config: ModelConfig) -> str:
    own = config.sampling
    said = f"{own.steps} steps, shift {own.shift:g}, guidance scale {own.guidance_scale:g}"
    said += f", image guidance {own.source_scale:g}" if own.source_scale != 1 else ""
    return said + (f", image stream {own.image_stream:g}" if config.denoiser.image_tokens else "")


def _queries(config: ModelConfig) -> str:
    guidance = config.guidance
    if guidance.kind is GuidanceKind.TEXT:
        return "none: it reads only the text"
    if not guidance.queries:
        return "none: all hidden states are guidance"
    videos = f"{guidance.video_queries} for videos" if guidance.video_queries else "the same for videos"
    return f"{guidance.image_queries} for images, {videos}, {guidance.reference_queries or 'the same'} for references"


def _widths(config: ModelConfig) -> str:
    connector = config.connector
    if connector.kind in (ConnectorKind.QFORMER, ConnectorKind.TWO_STREAM):
        inner = f"{connector.layers} layers of {connector.hidden_dim} to {connector.tokens} tokens"
    elif connector.kind is ConnectorKind.TRANSFORMER:
        inner = f"{connector.layers} layers of {connector.input_dim} -> {connector.hidden_dim}"
    elif connector.kind is ConnectorKind.NONE:
        return str(connector.output_dim)
    else:
        inner = str(connector.hidden_dim)
    return f"{connector.input_dim} -> {inner} -> {connector.output_dim}"
