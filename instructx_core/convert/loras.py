"""The LoRA that a model's one file holds for its base models, merged into them tensor by tensor."""

from __future__ import annotations

from ..families.opened import Opened
from ..weights.component_files import Tensors, dit_tensors
from ..weights.parts import Part
from ..weights.streaming import stored_tensors
from ..weights.values import Lora, merged


def dit_with_lora(opened: Opened, part: Part = Part.DIT) -> Tensors:
    """A model's DiT, or the second of a pair, under diffusers' names, checked before."""
    return merged(dit_tensors(opened.form(part), opened.allow_pickle), loras(opened, part), opened.path)


def loras(opened: Opened, part: Part) -> dict[str, Lora]:
    """What a model's one file adds to a part, by the weight's name (the MLLM's without prefixes); mostly nothing."""
    pairs = opened.loras(part)
    if not pairs:
        return {}
    held = stored_tensors(opened.path)
    return {weight: (held[down], held[up]) for weight, (down, up) in pairs.items()}
