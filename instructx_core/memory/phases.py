"""The job to plan for, and the phases of an edit, in each of which one part of the model works."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..weights.parts import Part

if TYPE_CHECKING:
    from ..config import ModelConfig


PLACES = 3  # instructions per clip, for models that take several


@dataclass(frozen=True)
class Job:
    """The edit to plan for, in the model's own frame count, without references."""

    width: int  # pixels
    height: int
    frames: int
    guided: bool = False  # classifier-free guidance: two forwards side by side
    places: int = 0  # number of local instructions, each with its own mask

    @property
    def values(self) -> int:
        """Number of values in the clip."""
        return 3 * self.frames * self.height * self.width


@dataclass(frozen=True)
class Phase:
    """A phase of an edit, in which one part of the model works."""

    name: str
    part: Part
    working: int  # peak bytes, without weights


def trained_job(config: ModelConfig) -> Job:
    """A job of the size, length and kind that a model was trained for."""
    height, width = config.default_size
    places = PLACES if config.masks is not None else 0
    return Job(width, height, config.default_frames, config.sampling.guidance_scale != 1, places)
