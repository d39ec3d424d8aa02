"""Any model that this library reads as this repo's folder: `mllm/`, `transformer/`, `vae/`, `instructx.safetensors`.

What is written is what `Editor.from_pretrained` would load from the same model and the same base models.
Nothing is written here; see `component_files`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ..families.loading import find_part
from ..families.meta_model import outline
from ..families.overrides import Base
from ..weights.component_files import Plan, dit_part, mllm_part, under, vae_part
from ..weights.detect import Family
from ..weights.marks import ADAPTER
from .native_files import adapter_content
from .trained import changed_dit, mllm_loras


def to_own(source: Path, base: Base, allow_pickle: bool) -> Plan:
    """A model as this repo's folder.

    Args:
        source: as `load_model`.
        base: base models that take the place of its own, or that it does not have.
        allow_pickle: open pickles among the weights of DiT, VAE and MLLM.

    Raises:
        CheckpointError: a part that is missing, damaged, pickled or GGUF, or base models that do not fit.
    """
    outline(source, torch.float32, base, allow_pickle)
    dit, vae, mllm = (find_part(source, base, family, allow_pickle) for family in (Family.DIT, Family.VAE, Family.MLLM))
    folder = source if source.is_dir() else source.parent
    parts = {
        "mllm": mllm_part(mllm, folder, allow_pickle, mllm_loras(source)),
        "transformer": dit_part(dit, allow_pickle, changed_dit(source, dit, allow_pickle)),
        "vae": vae_part(vae, allow_pickle),
    }
    plan = {name: content for part, files in parts.items() for name, content in under(part, files).items()}
    return plan | {ADAPTER: adapter_content(source)}
