"""The job that is planned for, and an edit's phases: in each one part of a model works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..weights.parts import Part

if TYPE_CHECKING:
    from ..config import ModelConfig


PLACES = 3  # instructions for one clip, where a model takes several


@dataclass(frozen=True)
class Job:
    """What is to be edited, in the model's own frames, without references."""

    width: int  # pixels
    height: int
    frames: int
    guided: bool = False  # classifier-free guidance: two forwards side by side
    places: int = 0  # instructions of which each acts in a place of its own

    @property
    def values(self) -> int:
        """Numbers of the clip."""
        return 3 * self.frames * self.height * self.width


@dataclass(frozen=True)
class Phase:
    """A stretch of an edit in which one part of the model works."""

    name: str
    part: Part
    working: int  # bytes beside all weights, at most


def trained_job(config: ModelConfig) -> Job:
    """An edit of the size, length and kind that a model was trained for."""
    height, width = config.default_size
    places = PLACES if config.masks is not None else 0
    return Job(width, height, config.default_frames, config.sampling.guidance_scale != 1, places)
