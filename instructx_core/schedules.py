"""Noise levels of flow matching.

sigma_i = s u / (1 + (s - 1) u) with u = 1 - i / N for i = 0..N. Some models were trained with a u that would fall to
sigma_min > 0 in N steps, of which the last goes to 0 instead.
"""

from __future__ import annotations

from itertools import pairwise
from numbers import Integral, Real

import torch

from .errors import InputError
from .words import shown

MOST_STEPS = 1000
TIMESTEPS = 1000  # Wan's timesteps run from 0 to 1000, sigma from 0 to 1


def schedule(steps: int, shift: float, sigma_min: float = 0.0) -> torch.Tensor:
    """The noise levels of a run.

    Args:
        steps: N >= 1.
        shift: s > 0; above 1 it spends more of the steps at high noise.
        sigma_min: u = 1 - (1 - sigma_min) i / N, except for i = N, where u = 0.

    Returns:
        float64 [N + 1], falling from 1 to 0.

    Raises:
        InputError: steps or shift out of range.
    """
    check_steps(steps)
    check_shift(shift)
    u = 1 - (1 - sigma_min) * torch.arange(steps + 1, dtype=torch.float64) / steps
    u[-1] = 0  # with sigma_min > 0 the last step is longer than the others
    return shift * u / (shift * u + (1 - u))  # the formula above in a form that begins at exactly 1


def unipc_schedule(steps: int, shift: float) -> torch.Tensor:
    """As `schedule`, for UniPC: u falls evenly from 1 - 1 / 1000 to 0 in `steps` steps.

    Raises:
        InputError: steps or shift out of range.
    """
    check_steps(steps)
    check_shift(shift)
    u = 1 - torch.linspace(1 / TIMESTEPS, 1, steps + 1, dtype=torch.float64)
    return shift * u / (1 + (shift - 1) * u)


def check_renoise(levels: object) -> None:
    """Raise InputError unless these are 1 to 1000 noise levels that fall from 1 (up to 0.001 less) to above 0.

    A run begins with pure noise, which is level 1.
    """
    given = levels if isinstance(levels, (list, tuple)) else ()
    falls = all(map(is_number, given)) and all(one > next for one, next in pairwise([*given, 0]))
    if not 1 <= len(given) <= TIMESTEPS or not falls or not 1 - 1e-3 <= given[0] <= 1:
        raise InputError(
            f"renoise is {shown(levels)}; give noise levels that fall from 1 to above 0, such as (1, 0.757, 0.522)."
        )


def check_steps(steps: object) -> None:
    """Raise InputError unless this is an integer from 1 to 1000."""
    if isinstance(steps, bool) or not isinstance(steps, Integral) or not 1 <= steps <= MOST_STEPS:
        raise InputError(f"steps is {shown(steps)}; give a whole number from 1 to {MOST_STEPS}.")


def check_shift(shift: object) -> None:
    """Raise InputError unless this is a number above 0, at most 100."""
    if not is_number(shift) or not 0 < shift <= 100:
        raise InputError(f"shift is {shown(shift)}; give a number above 0, at most 100.")


def is_number(value: object) -> bool:
    """Whether this is a real number of any type, except True and False."""
    return isinstance(value, Real) and not isinstance(value, bool)
