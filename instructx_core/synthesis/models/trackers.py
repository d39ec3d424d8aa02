"""Masks over time from a box in the first frame: SAM 2 video, through transformers; no torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .loading import loaded

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Sam2Tracker:
    """A Sam2VideoModel; what its processor does to pixels and boxes is done here."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval()

    @classmethod
    def from_folder(cls, folder: Path, device: str) -> Sam2Tracker:
        return cls(loaded("transformers", "Sam2VideoModel", folder).to(device))

    @torch.inference_mode()
    def track(self, frames: Tensor, box: tuple[float, float, float, float]) -> Tensor:
        from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

        height, width = frames.shape[1:3]
        side = self.model.config.vision_config.backbone_config.image_size[0]
        session = Sam2VideoInferenceSession(
            video=_normalised(frames, side),
            video_height=height,
            video_width=width,
            inference_device=self.model.device,
            dtype=self.model.dtype,
        )
        corners = torch.tensor(box).view(1, 1, 2, 2) * torch.tensor([side / width, side / height])
        corner_labels = torch.tensor([[[2, 3]]], dtype=torch.int32)  # SAM's marks of a box's two corners
        number = session.obj_id_to_idx(1)
        points = {"point_coords": corners.to(self.model.device), "point_labels": corner_labels.to(self.model.device)}
        session.add_point_inputs(number, 0, points)
        session.obj_with_new_inputs = [1]
        masks = torch.zeros(frames.shape[:3], dtype=torch.bool)
        for seen in self.model.propagate_in_video_iterator(session, start_frame_idx=0):
            logits = F.interpolate(seen.pred_masks.float(), (height, width), mode="bilinear")
            masks[seen.frame_idx] = (logits[0, 0] > 0).cpu()
        return masks


def _normalised(frames: Tensor, side: int) -> Tensor:
    """float32 [T, 3, side, side]."""
    pixels = F.interpolate(frames.permute(0, 3, 1, 2) / 255, (side, side), mode="bilinear", antialias=True)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
