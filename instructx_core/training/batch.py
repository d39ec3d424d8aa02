"""What one training step of the editing stages is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ..guidance.guidance import GuidanceInputs


@dataclass(frozen=True)
class EditBatch:
    """A batch of one shape, on the CPU."""

    inputs: GuidanceInputs
    source: torch.Tensor  # [B, C, t, h, w] normalised
    target: torch.Tensor
    references: tuple[torch.Tensor, ...]  # each [B, C, 1, h, w]
    sourceless: torch.Tensor  # bool [B]: examples whose source the DiT is not shown
    instructions: tuple[str, ...]  # as the MLLM reads them in `inputs`
    names: tuple[str, ...]  # where each example is from, for messages

    def __len__(self) -> int:
        return len(self.target)
