"""Put the source, references and local edits for a Wan MODEL into a CONDITIONING, and read them from it.

References are stored as `time_dim_concat`, as in ComfyUI's own nodes. `wan.py` consumes all of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.conds
import node_helpers
import torch

from ..instructx_core.errors import InputError
from .denoising import denoising, is_streamed
from .placed_attention import LOCAL

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.context import LocalEdits

SOURCE = "instructx_source"
REFERENCES = "time_dim_concat"
SOURCE_CHANNELS = "concat_latent_image"  # ComfyUI's own name, for a UNet that edits
STREAMS = "context_latents"  # ComfyUI's own name, for a DiT that takes a source and references as tokens
SOURCE_STREAM = "instructx_source_stream"  # the one that `with_source` put there, in a list as windows cut tensors

Conditioning = list[list[Any]]


def with_source(model: ModelPatcher, conditioning: Conditioning, raw: torch.Tensor, strength: float) -> Conditioning:
    """Add a source, raw latents [B, C, T, h, w], to every entry of a conditioning.

    An additional last channel holds how strongly the DiT sees the source. A source added before is replaced.
    """
    if is_streamed(model):
        stream = _scaled(model, raw, strength)
        return [
            [tokens, options | {STREAMS: [stream, *split_streams(options, None)[1]], SOURCE_STREAM: [stream]}]
            for tokens, options in conditioning
        ]
    normalised = model.model.process_latent_in(raw.float())
    presence = torch.full_like(normalised[:, :1], strength)
    source = comfy.conds.CONDNoiseShape(torch.cat([normalised, presence], dim=1))
    return [
        [entry[0], entry[1] | {"model_conds": entry[1].get("model_conds", {}) | {SOURCE: source}}]
        for entry in conditioning
    ]


def source_shape(conditioning: Conditioning) -> tuple[int, ...] | None:
    """Shape [B, C, T, h, w] of the source in a conditioning; None without a source."""
    for _, options in conditioning:
        if options.get(STREAMS):
            return tuple(options[STREAMS][0].shape)
        if SOURCE in options.get("model_conds", {}):
            batch, channels, *rest = options["model_conds"][SOURCE].cond.shape
            return (batch, channels - 1, *rest)
    return None


def with_reference(model: ModelPatcher, conditioning: Conditioning, raw: torch.Tensor, strength: float) -> Conditioning:
    """Append a reference, raw latents [1, C, R, h, w], to every entry of a conditioning."""
    scaled = _scaled(model, raw, strength)
    if is_streamed(model):
        return [
            [tokens, options | {STREAMS: [*(options.get(STREAMS) or ()), scaled]}] for tokens, options in conditioning
        ]
    result = []
    for entry in conditioning:
        before = entry[1].get(REFERENCES)
        joined = scaled if before is None else torch.cat([before, scaled], dim=2)
        result += node_helpers.conditioning_set_values([entry], {REFERENCES: joined})
    return result


def has_source(conditioning: Conditioning, shape: torch.Size) -> bool:
    """Whether a conditioning holds a source; for `shape` see `split_streams`."""
    return any(
        SOURCE in options.get("model_conds", {}) or SOURCE_CHANNELS in options or bool(split_streams(options, shape)[0])
        for _, options in conditioning
    )


def has_references(conditioning: Conditioning, shape: torch.Size | None) -> bool:
    """Whether a conditioning holds references; for `shape` see `split_streams`."""
    return any(
        options.get(REFERENCES) is not None or bool(split_streams(options, shape)[1]) for _, options in conditioning
    )


def only_with(conditioning: Conditioning, source: bool, references: bool, shape: torch.Size) -> Conditioning:
    """Copy a conditioning, keeping the source and the references only where asked; for `shape` see `split_streams`."""
    found = []
    for tokens, options in conditioning:
        kept = dict(options)
        if not source:
            kept["model_conds"] = {n: cond for n, cond in kept.get("model_conds", {}).items() if n != SOURCE}
            kept.pop(SOURCE_CHANNELS, None)
        if not references:
            kept.pop(REFERENCES, None)
        of_source, of_references = split_streams(options, shape)
        streams = (of_source if source else []) + (of_references if references else [])
        kept.pop(STREAMS, None)
        found.append([tokens, kept | ({STREAMS: streams} if streams else {})])
    return found


def split_streams(options: dict[str, Any], shape: torch.Size | None) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The streams in an entry's options: the source's, at most one, and the references'.

    `with_source` marks the source, whatever its size. ComfyUI's own node puts the source first, if there is one, and
    does not mark it. So without a mark, the first stream is the source if it has the LATENT's height and width, and is
    a video if the LATENT is one. A node that replaces the streams leaves a mark of none of them, which does not count.

    Args:
        shape: [B, C, t, h, w] of the LATENT; None before `with_source`: all streams without a mark are references.
    """
    streams = list(options.get(STREAMS) or ())
    if not streams:
        return [], []
    first = streams[0]
    if any(first is marked for marked in options.get(SOURCE_STREAM) or ()):
        count = 1
    elif shape is None:
        count = 0
    else:
        count = int(first.shape[-2:] == shape[-2:] and (first.shape[-3] > 1 or shape[-3] == 1))
    return streams[:count], streams[count:]


def check_local(model: ModelPatcher) -> None:
    """Raise InputError unless the MODEL supports local edits."""
    if not getattr(denoising(model), "local_strength", ()):  # a UNet's description has none
        raise InputError("The MODEL does not support local edits; load it from the same checkpoint as the connector.")


def with_local(conditioning: Conditioning, local: LocalEdits) -> Conditioning:
    """Add local edits, instructions with their masks, to every entry of a conditioning."""
    # a list: context windows would cut a tensor that happens to have as many frames as the latent
    carried = {LOCAL: comfy.conds.CONDList([local.tokens.float().cpu(), local.masks.float().cpu()])}
    found = []
    for tokens, options in conditioning:
        found.append([tokens, options | {"model_conds": options.get("model_conds", {}) | carried}])
    return found


def _scaled(model: ModelPatcher, raw: torch.Tensor, strength: float) -> torch.Tensor:
    """Raw latents whose normalised values are multiplied by `strength`; float32."""
    inner = model.model
    return raw.float() if strength == 1 else inner.process_latent_out(inner.process_latent_in(raw.float()) * strength)
