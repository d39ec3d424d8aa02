"""CoinVE-Edit's prompt and image processing for its MLLM, and the hidden states it keeps.

Facts, from its authors' code (coinve200k/CoinVE-200K ce091d4, models/mllm_encoder.py, models/qwen_vl_utils.py):
- Its prompt is Kiwi-Edit's. The hidden states at the queries' own positions are kept, from the last layer, before the
  model's final norm.
- Pictures are resized as Kiwi-Edit's are, then again by Qwen3-VL's processor to sides in multiples of 32: still images
  in 8 bits, with torch's own kernel; clips in floats, neither rounded nor clamped.
- A clip of any length becomes four frames: 16 are sampled, and of these the processor takes what it would of a clip of
  unknown rate (it assumes 24 frames a second and takes 2, but at least 4). The prompt states the time of each pair.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange

from ...fit import resize_8bit
from ...guidance.frames import sample_indices
from ...guidance.guidance import GuidanceInputs
from ...guidance.prompt import VIDEO, VISION_END, VISION_START
from ...guidance.qwen3_vl import MEAN, PATCH, STD, qwen3_positions, states_before_norm
from ...guidance.vision import MERGE, TEMPORAL, Patches, cut, smart_resize
from ...images import to_uint8
from ..kiwi.prompt import KiwiGuidance, clip_pixels

FACTOR = PATCH * MERGE
IMAGE_PIXELS = 65536, 16777216  # bounds of Qwen3-VL's processor for an image
CLIP_PIXELS = 4096, 25165824  # for a clip, all its frames together
CLIP_FRAMES, CLIP_RATE = 4, 24


class CoinveGuidance(KiwiGuidance):
    """`KiwiGuidance` with a Qwen3-VL, keeping its states before the final norm."""

    reads = "Qwen3-VL"
    exact_places = True

    def hidden(self, inputs: GuidanceInputs, behind: torch.Tensor) -> torch.Tensor:
        return states_before_norm(self.mllm, inputs, behind)

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        limit = (frames > 1 and self.config.video_max_pixels) or self.config.max_pixels
        height, width = smart_resize(height, width, self.config.min_pixels, limit, FACTOR)
        shown = -(-min(frames, CLIP_FRAMES) // TEMPORAL)
        return shown, height // PATCH, width // PATCH

    def _placeholders(self, patches: Patches, is_clip: bool) -> str:
        if not is_clip:
            return super()._placeholders(patches, is_clip)
        places = VIDEO * (patches.tokens // patches.grid[0])
        return "".join(f"<{seconds:.1f} seconds>{VISION_START}{places}{VISION_END}" for seconds in patches.seconds)

    def _positions(self, ids: list[int], grids: list[tuple[int, int, int]], query_count: int) -> torch.Tensor:
        config = self.mllm.config
        return qwen3_positions([*ids, *[-1] * query_count], grids, config.image_token_id, config.video_token_id)

    def _image(self, image: torch.Tensor, max_pixels: int = 0) -> Patches:
        size = smart_resize(*image.shape[:2], self.config.min_pixels, max_pixels or self.config.max_pixels)
        pixels = rearrange(resize_8bit(to_uint8(image), size), "h w c -> 1 c h w")
        size = smart_resize(*size, *IMAGE_PIXELS, FACTOR)
        if pixels.shape[2:] != size:  # on bytes, which rounds between the passes
            pixels = F.interpolate(pixels, size, mode="bicubic", antialias=True)
        return cut(pixels.float() / 255, PATCH, MEAN, STD)

    def _clip(self, frames: torch.Tensor) -> Patches:
        taken = sample_indices(len(frames), CLIP_FRAMES)
        floats = clip_pixels(frames[taken], self.config)
        size = _clip_size(len(taken), *floats.shape[2:])
        if floats.shape[2:] != size:
            floats = F.interpolate(floats, size, mode="bicubic", antialias=True)
        times = [index / CLIP_RATE for index in taken.tolist()]
        times += times[-1:] * (-len(times) % TEMPORAL)
        seconds = tuple((first + last) / 2 for first, last in zip(times[::2], times[1::2], strict=True))
        return cut(floats / 255, PATCH, MEAN, STD, seconds)


def _clip_size(frames: int, height: int, width: int) -> tuple[int, int]:
    """A clip's sides in multiples of 32, with the pixels of all frames together within `CLIP_PIXELS`."""
    frames += -frames % TEMPORAL
    low, high = (bound // frames for bound in CLIP_PIXELS)
    return smart_resize(height, width, low, high, FACTOR)
