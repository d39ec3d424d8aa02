"""The velocities that each guidance mode combines.

Notation: N without and T with the instruction; 0 without source, V with it, I with references, VI with both; w a scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .conditions.condition import Condition
from .config import GuidanceMode, SamplingConfig
from .context import Context
from .errors import InputError
from .projection import Projection
from .sampling import GuidanceTerm, check_guidance_scale

Conditions = Callable[[bool, bool], tuple[Condition, ...]]  # (with the source, with references)


@dataclass(frozen=True)
class OneForward:
    """One velocity: its inputs and its weight, which in a chain scales the difference from the velocity before."""

    weight: float
    words: bool
    source: bool
    references: bool


@dataclass(frozen=True)
class Formula:
    """A mode's formula: a weighted sum of velocities, or a chain whose differences are projected."""

    parts: tuple[OneForward, ...]
    projection: Projection | None = None

    @property
    def is_plain(self) -> bool:
        """Whether this is classifier-free guidance: only the words differ, and nothing is projected."""
        return self.projection is None and all(part.source and part.references for part in self.parts)


def mode_of(asked: GuidanceMode, is_video: bool, has_references: bool) -> GuidanceMode:
    """The mode of an edit; `TASK` is resolved by what is edited."""
    if asked is not GuidanceMode.TASK:
        return asked
    if has_references:
        return GuidanceMode.RV2V
    return GuidanceMode.V2V_APG if is_video else GuidanceMode.V2V


def second_scales(mode: GuidanceMode, scales: SamplingConfig) -> SamplingConfig:
    """The scales for the second of a pair of DiTs; unchanged if there is no guidance."""
    if not needs_both(mode, scales.guidance_scale):
        return scales
    names = ("guidance_scale", "source_scale", "reference_scale")
    return replace(scales, **{name: scales.second_share * getattr(scales, name) for name in names})


def formula_of(mode: GuidanceMode, scales: SamplingConfig) -> Formula:
    """The formula of a mode.

    Raises:
        InputError: a guidance scale out of range.
    """
    text, source, references = scales.guidance_scale, scales.source_scale, scales.reference_scale
    check_guidance_scale(text)
    if mode is GuidanceMode.V2V or not needs_both(mode, text):  # N + w_t (T - N), all with VI
        with_words = OneForward(text, True, True, True)
        return Formula((with_words,) if text == 1 else (with_words, OneForward(1 - text, False, True, True)))
    if mode is GuidanceMode.V2V_APG:  # the same, its difference projected
        return Formula((OneForward(1, False, True, True), OneForward(text, True, True, True)), Projection())
    if mode is GuidanceMode.R2V_APG:  # 0,N -> I,N -> I,T
        chain = (
            OneForward(1, False, False, False),
            OneForward(references, False, False, True),
            OneForward(text, True, False, True),
        )
        return Formula(chain, Projection())
    if mode is GuidanceMode.V2V_CHAIN:  # 0,N + w_v (V,N - 0,N) + w_t (VI,T - V,N)
        steps = [(source, False, False, False), (text, False, True, False), (0.0, True, True, True)]
    else:  # 0,N + w_v (V,N - 0,N) + w_i (VI,N - V,N) + w_t (VI,T - VI,N)
        steps = [(source, False, False, False), (references, False, True, False), (text, False, True, True)]
        steps.append((0.0, True, True, True))
    # a scale multiplies the difference from its step to the next, so a step's weight is the scale before minus its own
    led = [1.0, *(scale for scale, *_ in steps)]
    parts = (OneForward(before - scale, *made) for before, (scale, *made) in zip(led, steps, strict=False))
    return Formula(tuple(part for part in parts if part.weight))  # skip velocities of weight 0


def needs_both(mode: GuidanceMode, scale: float) -> bool:
    """Whether the context without the instruction is needed."""
    return mode not in (GuidanceMode.V2V, GuidanceMode.V2V_APG) or scale != 1


def scales_source(mode: GuidanceMode) -> bool:
    """Whether a mode uses `source_scale`."""
    return mode in (GuidanceMode.V2V_CHAIN, GuidanceMode.RV2V)


def terms(made: Formula, context: Context, without: Context | None, conditions: Conditions) -> list[GuidanceTerm]:
    """A formula's parts as `sampling.sample` takes them.

    Raises:
        InputError: the context without the instruction is needed and missing.
    """
    if without is None and not all(part.words for part in made.parts):
        raise InputError("This guidance needs the context without the instruction.")
    return [
        GuidanceTerm(part.weight, context if part.words else without, conditions(part.source, part.references))
        for part in made.parts
    ]
