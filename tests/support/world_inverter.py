"""An editor whose results are known: it inverts whatever it is given."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import torch


@dataclass
class Result:
    frames: torch.Tensor


class Inverter:
    """Answers every instruction by inverting; without its own context (the ablations) it returns the source."""

    default_size = (32, 32)
    config = SimpleNamespace(name="inverter")
    guidance = SimpleNamespace(edits_pictures_alone=False)

    def __init__(self) -> None:
        self.calls: list[dict] = []

    def edit_batch(self, sources, instructions, references=None, seeds=None, steps=None, context_transform=None):
        assert len({source.shape for source in sources}) == 1
        assert len(sources) == len(instructions) == len(seeds)
        self.calls.append(
            {"instructions": instructions, "references": references, "transform": context_transform, "steps": steps}
        )
        return [Result(source if context_transform else 1 - source) for source in sources]

    def encode(self, frames):
        return frames

    def decode(self, latents):
        return latents + 0.01
