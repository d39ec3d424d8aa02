"""Detect objects by name with transformers: Grounding DINO, MM Grounding DINO, OWLv2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..experts import Detection
from .loading import check_scipy, loaded, picture_of


class NamedDetector:
    """A zero-shot detector from transformers with its processor."""

    def __init__(self, model: Any, processor: Any, threshold: float = 0.25) -> None:
        """
        Args:
            threshold: boxes with a lower score are ignored; the filter has its own threshold.
        """
        self.model, self.processor, self.threshold = model.eval(), processor, threshold

    @classmethod
    def from_folder(cls, folder: Path, device: str, **settings: float) -> NamedDetector:
        model = loaded("transformers", "AutoModelForZeroShotObjectDetection", folder)
        if model.config.model_type == "owlv2":
            check_scipy("detect", "OWLv2")
        return cls(model.to(device), loaded("transformers", "AutoProcessor", folder), **settings)

    @torch.inference_mode()
    def find(self, picture: Tensor, name: str) -> Sequence[Detection]:
        words = f"{name.lower().rstrip('.')}."  # Grounding DINO was trained on phrases that end in "."
        text = [[words]] if self.model.config.model_type.startswith("owl") else [words]
        inputs = self.processor(images=picture_of(picture), text=text, return_tensors="pt")
        inputs = inputs.to(self.model.device)
        found = self.processor.post_process_grounded_object_detection(
            self.model(**inputs), threshold=self.threshold, target_sizes=[tuple(picture.shape[:2])]
        )[0]
        boxes = [
            Detection(_inside(box, *picture.shape[:2]), float(score))
            for score, box in zip(found["scores"].tolist(), found["boxes"].tolist(), strict=True)
        ]
        return sorted(boxes, key=lambda one: -one.score)


def _inside(box: Sequence[float], height: int, width: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
