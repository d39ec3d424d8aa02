"""Key points of a person in the bounding box of a mask: ViTPose through transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .loading import check_scipy, loaded, picture_of


class VitPoser:
    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval(), processor

    @classmethod
    def from_folder(cls, folder: Path, device: str) -> VitPoser:
        check_scipy("pose", "vitpose")
        model = loaded("transformers", "VitPoseForPoseEstimation", folder).to(device)
        return cls(model, loaded("transformers", "AutoImageProcessor", folder))

    @torch.inference_mode()
    def poses(self, frames: Tensor, mask: Tensor) -> Tensor:
        """See `Poser`. In frames with an empty mask, all key points have confidence 0."""
        found: list[Tensor | None] = []
        for frame, where in zip(frames, mask, strict=True):
            found.append(self._pose(frame, where) if where.any() else None)
        count = next((len(one) for one in found if one is not None), 1)
        return torch.stack([torch.zeros(count, 3) if one is None else one for one in found])

    def _pose(self, frame: Tensor, mask: Tensor) -> Tensor:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        left, top = float(columns[0]), float(rows[0])
        box = [[left, top, float(columns[-1]) + 1 - left, float(rows[-1]) + 1 - top]]  # COCO's format
        inputs = self.processor(picture_of(frame), boxes=[box], return_tensors="pt").to(self.model.device)
        person = self.processor.post_process_pose_estimation(self.model(**inputs), boxes=[box])[0][0]
        points = person["keypoints"].float().cpu()
        return torch.cat([points.flip(-1), person["scores"].float().cpu()[:, None]], -1)
