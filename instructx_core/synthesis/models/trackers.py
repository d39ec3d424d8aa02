"""Track masks from a box in the first frame: SAM 2 and SAM 3 video models from transformers, without torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .loading import loaded


@dataclass(frozen=True)
class SamForm:
    """The transformers classes of a SAM, and the mean and standard deviation with which it normalises pixels."""

    model: str
    session: str
    module: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


FORMS = {
    "sam2": SamForm(
        "Sam2VideoModel",
        "Sam2VideoInferenceSession",
        "transformers.models.sam2_video.modeling_sam2_video",
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
    "sam3": SamForm(  # its tracker, which follows boxes; its detector finds objects by name
        "Sam3TrackerVideoModel",
        "Sam3TrackerVideoInferenceSession",
        "transformers.models.sam3_tracker_video.modeling_sam3_tracker_video",
        (0.5, 0.5, 0.5),
        (0.5, 0.5, 0.5),
    ),
}


class SamTracker:
    """A SAM video model; pixels and boxes are preprocessed here instead of by its processor."""

    def __init__(self, model: Any, form: SamForm) -> None:
        self.model, self.form = model.eval(), form

    @classmethod
    def from_folder(cls, folder: Path, device: str, kind: str) -> SamTracker:
        form = FORMS[kind]
        return cls(loaded("transformers", form.model, folder).to(device), form)

    @torch.inference_mode()
    def track(self, frames: Tensor, box: tuple[float, float, float, float]) -> Tensor:
        height, width = frames.shape[1:3]
        size = self.model.config.vision_config.backbone_config.image_size
        side = size if isinstance(size, int) else size[0]
        session = getattr(import_module(self.form.module), self.form.session)(
            video=_normalised(frames, side, self.form),
            video_height=height,
            video_width=width,
            inference_device=self.model.device,
            dtype=self.model.dtype,
        )
        corners = torch.tensor(box).view(1, 1, 2, 2) * torch.tensor([side / width, side / height])
        corner_labels = torch.tensor([[[2, 3]]], dtype=torch.int32)  # SAM's labels for the two corners of a box
        number = session.obj_id_to_idx(1)
        points = {"point_coords": corners.to(self.model.device), "point_labels": corner_labels.to(self.model.device)}
        session.add_point_inputs(number, 0, points)
        session.obj_with_new_inputs = [1]
        masks = torch.zeros(frames.shape[:3], dtype=torch.bool)
        for seen in self.model.propagate_in_video_iterator(session, start_frame_idx=0):
            logits = F.interpolate(seen.pred_masks.float(), (height, width), mode="bilinear")
            masks[seen.frame_idx] = (logits[0, 0] > 0).cpu()
        return masks


def _normalised(frames: Tensor, side: int, form: SamForm) -> Tensor:
    """float32 [T, 3, side, side]."""
    pixels = F.interpolate(frames.permute(0, 3, 1, 2) / 255, (side, side), mode="bilinear", antialias=True)
    return (pixels - torch.tensor(form.mean).view(3, 1, 1)) / torch.tensor(form.std).view(3, 1, 1)
