"""Kiwi-Edit's prompt and image processing for its MLLM, and the hidden states it keeps.

Facts, from its authors' code (showlab/Kiwi-Edit, utils/convert_diffusers/mllm_encoder.py), all kept because
the weights were trained this way:
- The queries are inside the user's turn, which `<|im_end|>` and a newline close after them. Yet the last N hidden
  states of the whole sequence are kept: the slice starts two tokens late.
- Pictures are resized in 8 bits with Pillow's bicubic. Frames of a clip are resized twice: to sides in multiples of 56
  (the factor 2 is applied twice), which squeezes small ones, then to multiples of 28 and at least 128 * 28 * 28 pixels.
- With a reference, an image is also read as a clip. Only the first reference is shown, after the instruction, and the
  hidden states at its own positions are guidance too, before the queries'.
- Text positions continue after a clip's time axis where that is longer than its sides (as in transformers up to 5.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange

from ...config import GuidanceConfig
from ...context import Context
from ...errors import InputError
from ...fit import resize_8bit
from ...guidance.encoder import MLLMGuidance, join_pictures, pad_left
from ...guidance.guidance import GuidanceInputs
from ...guidance.positions import positions
from ...guidance.prompt import IMAGE, VIDEO, VISION_END, VISION_START, plain_words
from ...guidance.vision import FACTOR, Patches, cut, smart_resize
from ...images import to_uint8

SYSTEM = (
    "You will be given an image and instruction. "
    "Please describe the content of the image in detail based on instruction in your own words."
)
BEFORE = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
MENTION = " Use the reference input from last frame."
CLOSING = "<|im_end|>\n"
FRAME_FACTOR = 2 * FACTOR
CLIP_MIN_PIXELS, CLIP_MAX_PIXELS = 128 * FACTOR**2, 768 * FACTOR**2


class KiwiGuidance(MLLMGuidance):
    """`MLLMGuidance` in Kiwi-Edit's dialect: guidance [B, R + N, hidden], R tokens of the reference before N queries.

    Its query sets, pixel bounds and frame count come from the config, as for every model.
    """

    exact_places: ClassVar[bool] = False  # keep the states at the queries' own positions, not the last N

    def prepare(
        self,
        instructions: Sequence[str],
        sources: Sequence[torch.Tensor] | None,
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        is_video: bool = False,
    ) -> GuidanceInputs:
        """As `MLLMGuidance.prepare`; a clip of one frame is an image, and only the first reference is read.

        Raises:
            InputError: no source, an image source with more than one frame, or references in a batch that take
                different numbers of tokens.
        """
        if sources is None:
            raise InputError("Kiwi-Edit's MLLM reads an instruction together with a source; give the source.")
        firsts = [extra[0] if extra else None for extra in references or [()] * len(instructions)]
        has_references = any(reference is not None for reference in firsts)
        is_clip = has_references or (is_video and len(sources[0]) > 1)
        query_set = self.config.query_set(is_clip, has_references)
        count = len(self.queries[query_set]) + len(self._closing())
        sequences: list[list[int]] = []
        places: list[torch.Tensor] = []
        pictures: list[Patches] = []
        reference_places = set()
        for instruction, source, reference in zip(instructions, sources, firsts, strict=True):
            shown = self._shown(source, is_video)
            own = [self._clip(shown) if is_clip else self._image(shown[0])]
            if reference is not None:
                own.append(self._image(reference, self.config.reference_max_pixels))
            ids = self._prompt(instruction, own, is_clip)
            sequences.append(ids)
            places.append(self._positions(ids, [patches.grid for patches in own], count))
            pictures.extend(own)
            reference_places.add(0 if reference is None else own[1].tokens)
        if len(reference_places) > 1:
            raise InputError(
                f"The references of this batch take different numbers of MLLM tokens, {sorted(reference_places)}; "
                "give references of the same size, or edit one at a time."
            )
        padded = pad_left(sequences, places)
        return GuidanceInputs(*padded, *join_pictures(pictures), query_set, reference_places.pop())

    def forward(self, inputs: GuidanceInputs) -> Context:
        """Tokens [B, R + N, hidden]: the reference's own hidden states, then the last N of the sequence."""
        queries = self.queries[inputs.query_set]
        closing = torch.tensor(self._closing(), device=inputs.token_ids.device)
        behind = torch.cat([queries, self.mllm.get_input_embeddings()(closing).to(queries)])
        hidden = self.hidden(inputs, behind)
        end = hidden.shape[1] - (len(closing) if self.exact_places else 0)
        last = hidden[:, end - len(queries) : end]
        is_clip = inputs.token_ids == self.mllm.config.video_token_id
        seen = hidden[:, : is_clip.shape[1]][is_clip].unflatten(0, (len(hidden), -1)) if inputs.keeps_seen else None
        if not inputs.reference_places:
            return Context(last, seen=seen)
        end = inputs.token_ids.shape[1] - 1  # the prompt ends with the vision end token
        return Context(torch.cat([hidden[:, end - inputs.reference_places : end], last], dim=1), seen=seen)

    def _prompt(self, instruction: str, pictures: Sequence[Patches], is_clip: bool) -> list[int]:
        """Token ids of everything before the queries: source, instruction, reference."""
        source, *references = pictures
        text = BEFORE + self._placeholders(source, is_clip) + plain_words(self.tokenizer, instruction)
        for reference in references:
            text += MENTION + self._placeholders(reference, False)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _placeholders(self, patches: Patches, is_clip: bool) -> str:
        """A picture's placeholder tokens in the prompt."""
        return f"{VISION_START}{(VIDEO if is_clip else IMAGE) * patches.tokens}{VISION_END}"

    def _image(self, image: torch.Tensor, max_pixels: int = 0) -> Patches:
        return image_patches(image, self.config, max_pixels)

    def _clip(self, frames: torch.Tensor) -> Patches:
        return cut(clip_pixels(frames, self.config) / 255)

    def _closing(self) -> list[int]:
        """Token ids of everything after the queries."""
        return self.tokenizer(CLOSING, add_special_tokens=False)["input_ids"]

    def _positions(self, ids: list[int], grids: list[tuple[int, int, int]], query_count: int) -> torch.Tensor:
        config = self.mllm.config
        pace = config.vision_config.tokens_per_second
        behind = [-1] * query_count  # an id that is not a placeholder counts as text
        return positions([*ids, *behind], grids, config.image_token_id, config.video_token_id, pace, past_time=True)


def image_patches(image: torch.Tensor, config: GuidanceConfig, max_pixels: int = 0) -> Patches:
    """A picture [H, W, 3] in [0, 1], resized in 8 bits and cut into patches for the vision tower."""
    size = smart_resize(*image.shape[:2], config.min_pixels, max_pixels or config.max_pixels)
    return cut(_unit(resize_8bit(to_uint8(image), size)[None]))


def clip_pixels(frames: torch.Tensor, config: GuidanceConfig) -> torch.Tensor:
    """Frames [T, H, W, 3] in [0, 1], resized one by one and then as a clip: integral floats [T, 3, h, w], 0 to 255."""
    limit = config.video_max_pixels or config.max_pixels
    size = smart_resize(*frames.shape[1:3], 4 * FRAME_FACTOR**2, limit, FRAME_FACTOR)
    pixels = torch.stack([resize_8bit(to_uint8(frame), size) for frame in frames])
    floats = rearrange(pixels, "t h w c -> t c h w").float()
    final = smart_resize(*size, CLIP_MIN_PIXELS, max(CLIP_MIN_PIXELS, min(limit, CLIP_MAX_PIXELS)))
    if final == size:
        return floats
    # the second resize is torchvision's for 8-bit tensors: in floats, then rounded
    return F.interpolate(floats, final, mode="bicubic", antialias=True).clamp(0, 255).round()


def _unit(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 [T, H, W, 3] -> float32 [T, 3, H, W] in [0, 1]."""
    return rearrange(pixels, "t h w c -> t c h w").float() / 255
