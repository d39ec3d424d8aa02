"""Guidance by the instruction alone, as most tests want it."""

from __future__ import annotations

from instructx_core.conditions.condition import Condition
from instructx_core.config import GuidanceMode, SamplingConfig
from instructx_core.context import Context
from instructx_core.guidance_modes import formula_of, terms
from instructx_core.sampling import GuidanceTerm


def by_instruction(
    scale: float, context: Context, without: Context | None, conditions: tuple[Condition, ...]
) -> list[GuidanceTerm]:
    """The terms of mode v2v: velocity = w with + (1 - w) without, the conditions of both the same."""
    formula = formula_of(GuidanceMode.V2V, SamplingConfig(guidance_scale=scale))
    return terms(formula, context, without, lambda *_given: conditions)
