"""The recorded runs of Kiwi-Edit's authors' code, and the same edits here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from instructx_core import Editor, EditResult
from instructx_core.weights.files import read_safetensors


@dataclass(frozen=True)
class Recorded:
    """The recorded run of one case."""

    source: torch.Tensor
    reference: torch.Tensor | None
    instruction: str
    steps: int
    seed: int
    context: torch.Tensor
    latents: torch.Tensor
    frames: torch.Tensor


def recorded(kiwi: Path, case: str) -> Recorded:
    tensors, metadata = read_safetensors(kiwi / "reference_outputs.safetensors")
    source = tensors["image.source" if case == "image" else "video.source"]
    reference = tensors["reference.image"][0] if case == "reference" else None
    outputs = {name: tensors[f"{case}.{name}"] for name in ("context", "latents", "frames")}
    instruction = json.loads(metadata["prompts"])[case]
    return Recorded(source, reference, instruction, int(metadata["steps"]), int(metadata["seed"]), **outputs)


def run(editor: Editor, what: Recorded) -> EditResult:
    height, width = what.source.shape[1:3]
    return editor.edit(
        what.source, what.instruction, what.reference, steps=what.steps, seed=what.seed, height=height, width=width
    )
