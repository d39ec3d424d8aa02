"""The MLLM that studies start from: it knows the tiny world as Qwen2.5-VL knows the real one.

It is the bundled model's, with its LoRA merged. Arms add their own queries, LoRA or connector.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from instructx_core import Editor
from instructx_core.atomic import atomic_folder
from instructx_core.families.instructx.folder import BUNDLED
from instructx_core.training.dit_lora import merge_lora


def taught_mllm(folder: Path) -> Path:
    """The folder of that MLLM, created if it is missing."""
    if folder.is_dir():
        return folder
    mllm = Editor.from_pretrained(BUNDLED, device="cpu").guidance.mllm
    merge_lora(mllm)
    with atomic_folder(folder) as partial:
        for file in (BUNDLED / "mllm").iterdir():
            if file.suffix != ".safetensors":
                shutil.copy(file, partial)
        mllm.save_pretrained(partial)
    return folder
