"""A local Qwen2.5-VL or Qwen3-VL as a judge, run with transformers; no torchvision, nothing is downloaded."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ...guidance import qwen3_vl, vision
from ...guidance.encoder import join_pictures
from ...guidance.prompt import AFTER, BEFORE, IMAGE, VISION_END, VISION_START
from ...weights.detect import find_form
from ...weights.mllm import QWEN3, load_mllm
from ...weights.parts import Part
from .question import Answer, Exhibit

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_TOKENS = 512  # of an answer
MIN_PIXELS, MAX_PIXELS = 4 * 28 * 28, 768 * 28 * 28  # per picture


class LocalJudge:
    """A judge from the folder of a Qwen2.5-VL or Qwen3-VL with its tokenizer, in any form listed in `docs/weights.md`.

    Decoding is greedy, so the same question always gets the same answer.

    Raises:
        CheckpointError: the folder holds no such model, or a damaged one.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        model, self.tokenizer = load_mllm(find_form(folder, Part.MLLM), folder, dtype)
        self.model: PreTrainedModel = model.to(device).eval()
        self.device = device
        self.name = folder.resolve().name

    @torch.inference_mode()
    def ask(self, key: str, number: int, words: str, shown: list[Exhibit]) -> Answer:
        pieces, pictures = [BEFORE], []
        for one in shown:
            pieces.append(f"{_plain(one.title)}:\n")
            for frame in one.frames:
                patches = self._patches(frame[None])
                pictures.append(patches)
                pieces.append(f"{VISION_START}{IMAGE * patches.tokens}{VISION_END}")
            pieces.append("\n")
        pieces += [_plain(words), AFTER]
        ids = torch.tensor([self.tokenizer("".join(pieces), add_special_tokens=False)["input_ids"]])
        values, grids = join_pictures(pictures)
        inputs = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": values.to(self.model.dtype),
            "image_grid_thw": grids,
        }
        if "mm_token_type_ids" in inspect.signature(self.model.forward).parameters:  # transformers 5.3 and later
            inputs["mm_token_type_ids"] = (ids == self.model.config.image_token_id).int()
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        length = ids.shape[1]
        said = self.model.generate(**inputs, max_new_tokens=MOST_TOKENS, do_sample=False)[0, length:]
        return Answer(self.tokenizer.decode(said, skip_special_tokens=True), length, len(said))

    def _patches(self, frames: torch.Tensor) -> vision.Patches:
        if self.model.config.model_type != QWEN3:
            return vision.to_patches(frames, MIN_PIXELS, MAX_PIXELS)
        size = vision.smart_resize(*frames.shape[1:3], MIN_PIXELS, MAX_PIXELS, factor=2 * qwen3_vl.PATCH)
        pixels = F.interpolate(frames.permute(0, 3, 1, 2), size, mode="bicubic", antialias=True).clamp(0, 1)
        return vision.cut(pixels, qwen3_vl.PATCH, qwen3_vl.MEAN, qwen3_vl.STD)


def _plain(words: str) -> str:
    """Break up special tokens in a text, so that it holds no image placeholder and does not end the turn."""
    return words.replace("<|", "< |")
