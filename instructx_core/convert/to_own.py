"""Convert any supported model to this repo's folder: `mllm/`, `transformer/`, `vae/`, `instructx.safetensors`.

The folder holds what `Editor.from_pretrained` would load from the same model with the same overrides.
Nothing is written here; see `weights.component_files`.
"""

from __future__ import annotations

import torch

from ..families.meta_model import outline
from ..families.opened import Opened
from ..weights.component_files import Plan, dit_part, mllm_part, under, vae_part
from ..weights.marks import ADAPTER
from ..weights.parts import Part
from .loras import dit_with_lora, loras
from .native_files import adapter_content


def to_own(opened: Opened) -> Plan:
    """Plan this repo's folder for a model.

    Raises:
        CheckpointError: a part that is missing, damaged or pickled, or parts that do not fit.
    """
    outline(opened, torch.float32)
    mllm, vae, allowed = opened.form(Part.MLLM), opened.form(Part.VAE), opened.allow_pickle
    parts = {"mllm": mllm_part(mllm, opened.match.folder, allowed, loras(opened, Part.MLLM))}
    for part in opened.parts:
        if part.kind is Part.DIT:
            changed = dit_with_lora(opened, part) if part in opened.merged else None
            parts[part.value] = dit_part(opened.form(part), allowed, changed, opened.sizes)
    parts["vae"] = vae_part(vae, allowed)
    plan = {name: content for part, files in parts.items() for name, content in under(part, files).items()}
    return plan | {ADAPTER: adapter_content(opened)}
