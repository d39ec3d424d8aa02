"""Merge the LoRA that a single-file model holds for its base models into them, tensor by tensor."""

from __future__ import annotations

from ..families.opened import Opened
from ..weights.component_files import Tensors, dit_tensors
from ..weights.parts import Part
from ..weights.streaming import stored_tensors
from ..weights.values import Lora, merged


def dit_with_lora(opened: Opened, part: Part = Part.DIT) -> Tensors:
    """A model's DiT, or the second of a pair, with its LoRA merged, under diffusers' names; it must be checked."""
    return merged(dit_tensors(opened.form(part), opened.allow_pickle), loras(opened, part), opened.path)


def loras(opened: Opened, part: Part) -> dict[str, Lora]:
    """The LoRA that a single-file model adds to a part, by weight name (the MLLM's without prefixes); usually none."""
    pairs = opened.loras(part)
    if not pairs:
        return {}
    held = stored_tensors(opened.path)
    return {weight: (held[down], held[up]) for weight, (down, up) in pairs.items()}
