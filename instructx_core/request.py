"""What is asked of an edit, as one value: it travels whole from the caller through every step and every window."""

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

# what a resumed edit writes as JSON, which takes none of numpy's numbers
_NUMBERS = {"steps": int, "shift": float, "guidance_scale": float, "source_scale": float, "image_stream": float}
MOST_INSTRUCTIONS = 16  # at once: each costs a pass of the MLLM, and a cross-attention in every block and step


@dataclass(frozen=True)
class Sampling:
    """How to sample; None stands for what the checkpoint says.

    Attributes:
        steps: 1 to 1000.
        shift: above 0, at most 100; see `sampling.schedule`.
        guidance_scale: 0 to 100; 1 is off and takes half the time.
        guidance_mode: a `GuidanceMode` by its name.
        source_scale: 0 to 100; guidance by the source, of modes that have it apart from the instruction's.
        image_stream: 0 to 10; how much the image stream counts of a model that has one.
        renoise: noise levels that fall from 1 to above 0, in place of steps, shift and solver. At each, the data
            is predicted and noised anew to the next, as by models distilled by distribution matching (DMD; FastWan: 1,
            .757, .522).

    Raises:
        InputError: any of them is out of range, or renoise beside steps or shift.
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
                raise InputError("renoise says the noise levels itself; leave steps and shift out.")
            object.__setattr__(self, "renoise", tuple(map(float, self.renoise)))

    def over(self, own: SamplingConfig) -> SamplingConfig:
        """The checkpoint's `own` settings with those that are given in their place."""
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
    """An instruction with all that belongs to it but the source: checked once, its references loaded once.

    Attributes:
        instruction: what to change, in words. Of a model that finds places by itself, also a list of instructions, each
            of which acts in its own place; kept as one sentence.
        references: images whose subject the instruction refers to. Given as one or a list, each a path, a PIL image, or
            an array or tensor [H, W, 3]; kept as float32 [H, W, 3] in [0, 1].
        sampling: how to sample.
        size: (height, width) in pixels that the model works at, multiples of `Editor.stride`; None for its trained area
            in the source's aspect. The result always has the source's size.
        seed: 0 to 2**64 - 1; the same seed gives the same pixels on the same machine.
        each: the instructions of such a list; () where one was given.
        files: those of the references that were given as paths, which no output may replace.

    Raises:
        InputError: any of these cannot be used, whatever the model.
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
        """A request from a flat list of its parts; None for what the checkpoint says."""
        if (height is None) != (width is None):
            raise InputError("height and width go together; give both or neither.")
        size = None if height is None else (height, width)
        sampling = Sampling(steps, shift, guidance_scale, guidance_mode, source_scale, image_stream, renoise)
        return cls(instruction, reference, sampling, size, seed)


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
