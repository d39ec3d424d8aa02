"""Bernini-R's prompt for its umT5.

Facts, from its authors' code (bytedance/Bernini 8c805a5, pipeline.py, prompt_enhancer.py, cli.py):
- A sentence that names the task precedes the instruction, with nothing between them.
- The negative prompt is Wan's own list, in Chinese, without a task sentence.
- A video with references has its own task; an image with references uses the image task.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...guidance.cleaning import cleaned
from ...guidance.guidance import GuidanceInputs
from ...guidance.text import TextGuidance

HELPER = "You are a helpful assistant specialized in "
IMAGE, VIDEO, REFERENCE = "image editing.", "video editing.", "video editing with reference."
NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"  # noqa: RUF001
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，"  # noqa: RUF001
    "背景人很多，倒着走"  # noqa: RUF001
)


class BerniniGuidance(TextGuidance):
    """`TextGuidance` with a task sentence before the instruction."""

    def prepare(
        self,
        instructions: Sequence[str],
        sources: Sequence[torch.Tensor] | None = None,
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        is_video: bool = False,
    ) -> GuidanceInputs:
        task = IMAGE if not is_video else REFERENCE if references and any(references) else VIDEO
        return super().prepare([HELPER + task + cleaned(one) for one in instructions])

    def check_length(self, instruction: str) -> None:
        super().check_length(HELPER + REFERENCE + cleaned(instruction))  # the longest task

    def prepare_without(
        self,
        count: int,
        sources: Sequence[torch.Tensor] | None = None,
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        is_video: bool = False,
    ) -> GuidanceInputs:
        return super().prepare([NEGATIVE] * count)
