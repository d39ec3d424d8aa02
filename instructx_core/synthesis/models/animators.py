"""Animate a picture with diffusers pipelines: Wan VACE and Wan Animate."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..experts import ExpertFailed
from .loading import picture_of
from .pipelines import at_size, embedded, multiple_of, vace, white

JOINT_RADIUS = 0.01  # of the shorter side
SURE = 0.3  # confidence above which a key point is used
HEAD = 5  # COCO's first key points: nose, eyes, ears
FACE = 2.5  # side of a face crop, relative to the extent of these points
WORDS = "a natural video"


class VaceAnimator:
    """Wan VACE: keeps the first frame; the others follow the poses or, without any, the clip in greyscale."""

    def __init__(self, pipeline: Any, steps: int = 30, seed: int = 0, words: str = WORDS) -> None:
        self.pipeline, self.steps, self.seed, self.words = pipeline, int(steps), int(seed), words

    def animate(self, picture: Tensor, frames: Tensor, poses: Tensor | None) -> Tensor:
        grey = frames.float().mean(-1, keepdim=True).expand(frames.shape).round().to(torch.uint8)
        control = grey if poses is None else drawn_poses(poses, *frames.shape[1:3])
        clip = torch.cat([picture[None], control[1:]])
        mask = torch.ones(frames.shape[:3], dtype=torch.bool)
        mask[0] = False
        return vace(self.pipeline, clip, mask, self.words, self.steps, self.seed)


class WanAnimator:
    """Wan Animate: the person in the picture follows the poses and the facial expressions of the clip."""

    def __init__(self, pipeline: Any, steps: int = 20, seed: int = 0, words: str = WORDS) -> None:
        self.pipeline, self.steps, self.seed, self.words = pipeline, int(steps), int(seed), words

    def animate(self, picture: Tensor, frames: Tensor, poses: Tensor | None) -> Tensor:
        if poses is None:
            raise ExpertFailed("no poses to animate by")
        count, height, width = frames.shape[:3]
        size = {"height": multiple_of(height), "width": multiple_of(width)}
        more = -(count - 1) % 4  # Wan takes 4 k + 1 frames
        drawn, faces = drawn_poses(poses, height, width), faces_of(frames, poses, self.pipeline.transformer.config)
        drawn, faces = (torch.cat([each, each[-1:].expand(more, *each.shape[1:])]) for each in (drawn, faces))
        made = self.pipeline(
            image=picture_of(at_size(picture[None], **size)[0]),
            pose_video=[picture_of(one) for one in at_size(drawn, **size)],
            face_video=[picture_of(one) for one in faces],
            prompt_embeds=embedded(self.pipeline, self.words),
            segment_frame_length=len(drawn),
            num_inference_steps=self.steps,
            generator=torch.Generator().manual_seed(self.seed),
            output_type="np",
            **size,
        ).frames[0]
        return at_size((torch.from_numpy(np.asarray(made)) * 255).round().to(torch.uint8)[:count], height, width)


def drawn_poses(poses: Tensor, height: int, width: int) -> Tensor:
    """Draw key points [T, K, 3] as white discs on black: uint8 [T, H, W, 3]."""
    y, x = torch.arange(height).view(-1, 1, 1), torch.arange(width).view(1, -1, 1)
    radius = max(1.5, JOINT_RADIUS * min(height, width))
    drawn = [(((y - p[:, 0]) ** 2 + (x - p[:, 1]) ** 2 <= radius**2) & (p[:, 2] > SURE)).any(-1) for p in poses.float()]
    return white(torch.stack(drawn))


def faces_of(frames: Tensor, poses: Tensor, config: Any) -> Tensor:
    """Crop the face around the head's key points: uint8 [T, side, side, 3].

    It is black if fewer than two points are sure, or if it lies outside the frame.
    """
    side = config.motion_encoder_size
    faces = torch.zeros(len(frames), side, side, 3, dtype=torch.uint8)
    for number, points in enumerate(poses[:, :HEAD].float()):
        points = points[points[:, 2] > SURE, :2]
        if len(points) < 2:
            continue
        centre, half = points.mean(0), FACE / 2 * float((points.amax(0) - points.amin(0)).max()) + 1
        (top, left), (bottom, right) = (centre - half).int().tolist(), (centre + half).int().tolist()
        face = frames[number : number + 1, max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)]
        if face.numel():
            faces[number] = at_size(face, side, side)[0]
    return faces
