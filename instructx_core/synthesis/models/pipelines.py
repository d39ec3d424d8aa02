"""Erase and redraw with diffusers pipelines.

Frames are resized to sides that a pipeline accepts, and the result back. When inpainting, pixels outside the widened
mask stay exactly the source's.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import grown_mask
from .asked import filled
from .loading import cut_out, loaded, picture_of
from .prompts import PROMPTS

BEHIND = "the same background, undisturbed, nothing there"
GREY = 128  # how VACE marks pixels to be painted
MULTIPLE = 16
LEAST = 64  # pixels of a side; smaller pictures are enlarged, as pipelines support no such sizes
TOKENS = 512  # length of Wan's prompts


class PipelineEraser:
    """An inpainting pipeline: Wan VACE on whole clips, or any of Stable Diffusion or FLUX frame by frame."""

    def __init__(self, pipeline: Any, steps: int = 30, grow: int = 8, seed: int = 0) -> None:
        """
        Args:
            grow: pixels by which a mask is widened for the model.
        """
        self.pipeline, self.steps, self.grow, self.seed = pipeline, int(steps), int(grow), int(seed)
        self.takes_clips = "video" in inspect.signature(pipeline.__call__).parameters

    def fill(self, frames: Tensor, mask: Tensor, words: str) -> Tensor:
        wide = grown_mask(mask, self.grow)
        paint = self._clip if self.takes_clips else self._pictures
        painted = paint(frames, wide, words or BEHIND)
        return torch.where(wide[..., None], painted, frames)

    def _clip(self, frames: Tensor, mask: Tensor, words: str) -> Tensor:
        hidden = torch.where(mask[..., None], GREY, frames)
        return vace(self.pipeline, hidden, mask, words, self.steps, self.seed)

    def _pictures(self, frames: Tensor, mask: Tensor, words: str) -> Tensor:
        height, width = frames.shape[1:3]
        size = {"height": multiple_of(height), "width": multiple_of(width)}
        made = []
        for frame, where in zip(at_size(frames, **size), at_size(white(mask), **size), strict=True):
            picture = self.pipeline(
                prompt=words,
                image=picture_of(frame),
                mask_image=picture_of(where),
                num_inference_steps=self.steps,
                generator=torch.Generator().manual_seed(self.seed),
                **size,
            ).images[0]
            made.append(pixels_of(picture))
        return at_size(torch.stack(made), height, width)


class PipelineRedrawer:
    """A pipeline for instruction-based editing: FLUX Kontext, Qwen-Image-Edit, InstructPix2Pix."""

    def __init__(self, pipeline: Any, portray: str = PROMPTS["portray"], steps: int = 28, seed: int = 0) -> None:
        self.pipeline, self.words, self.steps, self.seed = pipeline, portray, int(steps), int(seed)
        guided = inspect.signature(pipeline.__call__).parameters.get("true_cfg_scale")
        # Qwen-Image-Edit uses no guidance without a negative prompt; FLUX Kontext's default scale is 1
        self.further = {"negative_prompt": " "} if guided is not None and guided.default > 1 else {}

    def edit(self, picture: Tensor, sentence: str) -> Tensor:
        wider = max(1.0, LEAST / min(picture.shape[:2]))
        large = at_size(picture[None], *(round(side * wider) for side in picture.shape[:2]))[0]
        made = self.pipeline(
            image=picture_of(large),
            prompt=sentence,
            **self.further,
            num_inference_steps=self.steps,
            generator=torch.Generator().manual_seed(self.seed),
        ).images[0]
        return at_size(pixels_of(made)[None], *picture.shape[:2])[0]

    def portray(self, picture: Tensor, mask: Tensor, name: str) -> Tensor:
        return self.edit(cut_out(picture, mask), filled(self.words, {"name": name}))


def vace(pipeline: Any, frames: Tensor, mask: Tensor, words: str, steps: int, seed: int) -> Tensor:
    """Run Wan VACE on a clip of any size and length: uint8 [T, H, W, 3], like `frames`."""
    count, height, width = frames.shape[:3]
    size = {"height": multiple_of(height), "width": multiple_of(width)}
    more = -(count - 1) % 4  # Wan takes 4 k + 1 frames
    frames, mask = (torch.cat([each, each[-1:].expand(more, *each.shape[1:])]) for each in (frames, mask))
    made = pipeline(
        prompt_embeds=embedded(pipeline, words),
        negative_prompt_embeds=embedded(pipeline, ""),
        video=[picture_of(one) for one in at_size(frames, **size)],
        mask=[picture_of(one) for one in at_size(white(mask), **size)],
        num_frames=len(frames),
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
        **size,
    ).frames[0]
    return at_size((torch.from_numpy(np.asarray(made)) * 255).round().to(torch.uint8)[:count], height, width)


@torch.inference_mode()
def embedded(pipeline: Any, words: str) -> Tensor:
    """umT5's hidden states, zero after the prompt: [1, 512, width]. The pipeline's own encoding needs ftfy."""
    options = {"padding": "max_length", "max_length": TOKENS, "truncation": True, "return_tensors": "pt"}
    told = pipeline.tokenizer([words], return_attention_mask=True, **options)
    ids, seen = (told[name].to(pipeline.text_encoder.device) for name in ("input_ids", "attention_mask"))
    return pipeline.text_encoder(ids, seen).last_hidden_state * seen[..., None]


def at_size(frames: Tensor, height: int, width: int) -> Tensor:
    """Resize frames, uint8 [T, h, w, 3]."""
    if frames.shape[1:3] == (height, width):
        return frames
    pixels = F.interpolate(frames.permute(0, 3, 1, 2).float(), (height, width), mode="bicubic", antialias=True)
    return pixels.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def pixels_of(picture: Any) -> Tensor:
    """A PIL image -> uint8 [H, W, 3]."""
    return torch.from_numpy(np.array(picture.convert("RGB")))


def load_pipeline(folder: Path, device: str) -> Any:
    """Load any diffusers pipeline, in bfloat16 on a GPU. Raises InputError without a folder, or CheckpointError."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    return loaded("diffusers", "DiffusionPipeline", folder, torch_dtype=dtype).to(device)


def white(mask: Tensor) -> Tensor:
    return (mask[..., None].byte() * 255).expand(*mask.shape, 3).contiguous()


def multiple_of(side: int) -> int:
    return max(MULTIPLE, round(side / MULTIPLE) * MULTIPLE)
