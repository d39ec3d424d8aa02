"""What is asked of an edit, as one value: it travels whole from the caller through every step and every window."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from .config import SamplingConfig
from .errors import InputError
from .fit import check_canvas
from .instruction import check_instruction
from .sampling import check_guidance_scale, check_seed
from .schedules import check_shift, check_steps
from .source import load_references
from .words import shown


@dataclass(frozen=True)
class Sampling:
    """How to sample; None stands for what the checkpoint says.

    Attributes:
        steps: 1 to 1000.
        shift: above 0, at most 100; see `sampling.schedule`.
        guidance_scale: 0 to 100; 1 is off and takes half the time.

    Raises:
        InputError: any of them is out of range.
    """

    steps: int | None = None
    shift: float | None = None
    guidance_scale: float | None = None

    def __post_init__(self) -> None:
        for value, check in (
            (self.steps, check_steps),
            (self.shift, check_shift),
            (self.guidance_scale, check_guidance_scale),
        ):
            if value is not None:
                check(value)

    def over(self, own: SamplingConfig) -> SamplingConfig:
        """The checkpoint's `own` settings with those that are given in their place."""
        return replace(own, **{name: value for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True, eq=False)
class EditRequest:
    """An instruction with all that belongs to it but the source: checked once, its references loaded once.

    Attributes:
        instruction: what to change, in words.
        references: images whose subject the instruction refers to. Given as one or a list, each a path, a PIL image, or
            an array or tensor [H, W, 3]; kept as float32 [H, W, 3] in [0, 1].
        sampling: how to sample.
        size: (height, width) in pixels that the model works at, multiples of `Editor.stride`; None for its trained area
            in the source's aspect. The result always has the source's size.
        seed: 0 to 2**64 - 1; the same seed gives the same pixels on the same machine.
        files: those of the references that were given as paths, which no output may replace.

    Raises:
        InputError: any of these cannot be used, whatever the model.
    """

    instruction: str
    references: tuple[Tensor, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    size: tuple[int, int] | None = None
    seed: int = 0
    files: tuple[Path, ...] = field(init=False)

    def __post_init__(self) -> None:
        check_instruction(self.instruction)
        if not isinstance(self.sampling, Sampling):
            raise InputError(f"sampling is {shown(self.sampling)}; give Sampling(steps=..., shift=...).")
        check_seed(self.seed)
        if self.size is not None:
            if not isinstance(self.size, (tuple, list)) or len(self.size) != 2:
                raise InputError(f"size is {shown(self.size)}; give (height, width).")
            check_canvas(self.size)
            object.__setattr__(self, "size", tuple(self.size))
        given = self.references if isinstance(self.references, (list, tuple)) else [self.references]
        files = tuple(Path(one) for one in given if isinstance(one, (str, os.PathLike)))
        object.__setattr__(self, "references", tuple(load_references(self.references)))
        object.__setattr__(self, "files", files)

    @classmethod
    def of(
        cls,
        instruction: str = "",
        reference: Any = None,
        steps: int | None = None,
        shift: float | None = None,
        guidance_scale: float | None = None,
        seed: int = 0,
        height: int | None = None,
        width: int | None = None,
    ) -> EditRequest:
        """A request from a flat list of its parts; None for what the checkpoint says."""
        if (height is None) != (width is None):
            raise InputError("height and width go together; give both or neither.")
        size = None if height is None else (height, width)
        return cls(instruction, reference, Sampling(steps, shift, guidance_scale), size, seed)


def as_request(request: EditRequest | str | None = None, *parts: Any, **named: Any) -> EditRequest:
    """What a call asks for: an `EditRequest`, or the parts that `EditRequest.of` takes, by place or by name.

    Raises:
        InputError: as `EditRequest`, or one beside which there are parts.
    """
    if not isinstance(request, EditRequest):
        return EditRequest.of(*parts, **named) if request is None else EditRequest.of(request, *parts, **named)
    if parts or named:
        raise InputError("Beside an EditRequest there are further settings; put them into the request.")
    return request
