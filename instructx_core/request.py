"""An edit request as one value, passed unchanged from the caller through every step and window."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from .config import GuidanceMode, SamplingConfig
from .errors import InputError
from .fit import check_canvas
from .instruction import check_instruction
from .sampling import check_guidance_scale, check_seed
from .schedules import check_renoise, check_shift, check_steps
from .source import load_references
from .words import shown

# written as JSON for resuming an edit, which cannot hold numpy's types
_NUMBERS = {"steps": int, "shift": float, "guidance_scale": float, "source_scale": float, "image_stream": float}
MOST_INSTRUCTIONS = 16  # each costs a pass of the MLLM, and a cross-attention in every block and step


@dataclass(frozen=True)
class Sampling:
    """Sampling settings; None for the checkpoint's default.

    Attributes:
        steps: 1 to 1000.
        shift: above 0, at most 100; see `schedules.schedule`.
        guidance_scale: 0 to 100; 1 is off and takes half the time.
        guidance_mode: a `GuidanceMode` by its name.
        source_scale: 0 to 100; guidance by the source, in modes that have it separately from the instruction's.
        image_stream: 0 to 10; weight of the image stream, for a model that has one.
        renoise: noise levels falling from 1 to above 0, replacing steps, shift and solver. At each level the data is
            predicted and noised again to the next, as in models distilled by distribution matching (DMD; FastWan: 1,
            .757, .522).

    Raises:
        InputError: any of them is out of range, or renoise is combined with steps or shift.
    """

    steps: int | None = None
    shift: float | None = None
    guidance_scale: float | None = None
    guidance_mode: str | None = None
    source_scale: float | None = None
    image_stream: float | None = None
    renoise: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for value, check in (
            (self.steps, check_steps),
            (self.shift, check_shift),
            (self.guidance_scale, check_guidance_scale),
            (self.guidance_mode, check_guidance_mode),
            (self.source_scale, partial(check_guidance_scale, name="source_scale")),
            (self.image_stream, partial(check_guidance_scale, name="image_stream", most=10)),
            (self.renoise, check_renoise),
        ):
            if value is not None:
                check(value)
        for name, kind in _NUMBERS.items():
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, kind(value))
        if self.renoise is not None:
            if self.steps is not None or self.shift is not None:
                raise InputError("renoise sets the noise levels; leave out steps and shift.")
            object.__setattr__(self, "renoise", tuple(map(float, self.renoise)))

    def over(self, own: SamplingConfig) -> SamplingConfig:
        """The checkpoint's `own` settings, overridden by those given here."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        if given.pop("renoise", None):
            given["steps"] = len(self.renoise)
        if self.guidance_mode is not None:
            given["guidance_mode"] = GuidanceMode(self.guidance_mode)
        return replace(own, **given)


def check_guidance_mode(mode: object) -> None:
    """Raise InputError unless this is the name of a guidance mode."""
    names = [member.value for member in GuidanceMode]
    if not isinstance(mode, str) or mode not in names:
        raise InputError(f"guidance_mode is {shown(mode)}; give one of {', '.join(names)}.")


@dataclass(frozen=True, eq=False)
class EditRequest:
    """An instruction and everything else about an edit except its source; checked and its references loaded once.

    Attributes:
        instruction: what to change, in words. For a model with a mask head also a list of instructions, each acting in
            its own place; kept as one sentence.
        references: images whose subject the instruction refers to. Passed as one or a list, each a path, a PIL image,
            or an array or tensor [H, W, 3]; kept as float32 [H, W, 3] in [0, 1].
        sampling: sampling settings.
        size: the canvas, (height, width) in pixels, multiples of `Editor.stride`; None for the model's training area in
            the source's aspect. The result always has the source's size.
        seed: 0 to 2**64 - 1; the same seed gives the same pixels on the same machine.
        each: the instructions of a list; () if a single one was passed.
        files: references that were passed as paths, which no output may replace.

    Raises:
        InputError: any of these is invalid, whatever the model.
    """

    instruction: str | Sequence[str]
    references: tuple[Tensor, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    size: tuple[int, int] | None = None
    seed: int = 0
    each: tuple[str, ...] = field(init=False)
    files: tuple[Path, ...] = field(init=False)

    def __post_init__(self) -> None:
        is_list = isinstance(self.instruction, (list, tuple))
        each = tuple(self.instruction) if is_list else ()
        if is_list and not 1 <= len(each) <= MOST_INSTRUCTIONS:
            raise InputError(f"There are {len(each)} instructions; give 1 to {MOST_INSTRUCTIONS}.")
        for one in each or (self.instruction,):
            check_instruction(one)
        if each:
            object.__setattr__(self, "instruction", ", ".join(each))
        object.__setattr__(self, "each", each)
        if not isinstance(self.sampling, Sampling):
            raise InputError(f"sampling is {shown(self.sampling)}; give Sampling(steps=..., shift=...).")
        check_seed(self.seed)
        object.__setattr__(self, "seed", int(self.seed))
        if self.size is not None:
            if not isinstance(self.size, (tuple, list)) or len(self.size) != 2:
                raise InputError(f"size is {shown(self.size)}; give (height, width).")
            check_canvas(self.size)
            object.__setattr__(self, "size", tuple(map(int, self.size)))
        given = self.references if isinstance(self.references, (list, tuple)) else [self.references]
        files = tuple(Path(one) for one in given if isinstance(one, (str, os.PathLike)))
        object.__setattr__(self, "references", tuple(load_references(self.references)))
        object.__setattr__(self, "files", files)

    @classmethod
    def of(
        cls,
        instruction: str | Sequence[str] = "",
        reference: Any = None,
        steps: int | None = None,
        shift: float | None = None,
        guidance_scale: float | None = None,
        seed: int = 0,
        height: int | None = None,
        width: int | None = None,
        guidance_mode: str | None = None,
        source_scale: float | None = None,
        image_stream: float | None = None,
        renoise: Sequence[float] | None = None,
    ) -> EditRequest:
        """A request from a flat list of its parts; None for the checkpoint's default."""
        if (height is None) != (width is None):
            raise InputError("height and width go together; give both or neither.")
        size = None if height is None else (height, width)
        sampling = Sampling(steps, shift, guidance_scale, guidance_mode, source_scale, image_stream, renoise)
        return cls(instruction, reference, sampling, size, seed)


def as_request(request: EditRequest | str | None = None, *parts: Any, **named: Any) -> EditRequest:
    """The request of a call: an `EditRequest`, or the arguments of `EditRequest.of`, by position or by name.

    Raises:
        InputError: as `EditRequest`, or an `EditRequest` together with such arguments.
    """
    if not isinstance(request, EditRequest):
        return EditRequest.of(*parts, **named) if request is None else EditRequest.of(request, *parts, **named)
    if parts or named:
        raise InputError("An EditRequest was passed together with other settings; put them in the request.")
    return request
