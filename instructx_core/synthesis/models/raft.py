"""Optical flow by RAFT, which needs torchvision; weights are read only from safetensors."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import CheckpointError, InputError
from ...words import one_line, quoted_path
from .pipelines import at_size

LEAST = 128  # pixels of a side
GRID = 8  # pixels, as in RAFT
UPDATES = 12


class RaftFlow:
    """torchvision's raft_large or raft_small."""

    def __init__(self, model: Any, device: str) -> None:
        self.model, self.device = model.eval().to(device), device

    @classmethod
    def from_folder(cls, folder: Path, device: str) -> RaftFlow:
        """Raises InputError without torchvision, CheckpointError if the folder holds no RAFT weights."""
        from safetensors.torch import load_file

        try:
            from torchvision.models.optical_flow import raft_large, raft_small
        except ImportError as error:
            raise InputError(
                f"experts.flow: raft needs torchvision ({one_line(error, 100)}); install it, or use block-matching."
            ) from error
        files = sorted(folder.glob("*.safetensors"))
        if len(files) != 1:
            raise CheckpointError(
                f"{quoted_path(folder)} has {len(files)} .safetensors files; give a folder with one, of RAFT weights."
            )
        try:
            state = load_file(files[0])
        except Exception as error:  # safetensors raises several kinds
            raise CheckpointError(f"{quoted_path(files[0])} cannot be read ({one_line(error, 100)}).") from error
        for build in (raft_large, raft_small):
            model = build(weights=None)
            if {name: value.shape for name, value in model.state_dict().items()} == {
                name: value.shape for name, value in state.items()
            }:
                model.load_state_dict(state)
                return cls(model, device)
        raise CheckpointError(f"{quoted_path(files[0])} does not hold torchvision's RAFT weights; give another file.")

    @torch.inference_mode()
    def flow(self, frames: Tensor) -> Tensor:
        height, width = frames.shape[1:3]
        tall, wide = (max(LEAST, round(side / GRID) * GRID) for side in (height, width))
        pixels = at_size(frames, tall, wide).permute(0, 3, 1, 2).float().to(self.device) / 127.5 - 1
        found = []
        for one, other in pairwise(pixels):
            moved = self.model(one[None], other[None], num_flow_updates=UPDATES)[-1]
            found.append(F.avg_pool2d(moved, GRID)[0].flip(0).permute(1, 2, 0).cpu())  # (x, y) -> (y, x)
        return torch.stack(found) * torch.tensor([height / tall, width / wide])
