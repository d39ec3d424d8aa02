"""The batches that editing stages train on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ..guidance.guidance import GuidanceInputs


@dataclass(frozen=True)
class EditBatch:
    """A batch on the CPU, all of one shape."""

    inputs: GuidanceInputs
    source: torch.Tensor  # [B, C, t, h, w] normalised
    target: torch.Tensor
    references: tuple[torch.Tensor, ...]  # each [B, C, 1, h, w]
    sourceless: torch.Tensor  # bool [B]: True where the source is hidden from the DiT
    instructions: tuple[str, ...]  # as the MLLM reads them in `inputs`
    names: tuple[str, ...]  # where each example comes from, for messages

    def __len__(self) -> int:
        return len(self.target)
