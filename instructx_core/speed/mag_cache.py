"""diffusers' MagCache for runs of any number of steps.

It reuses the sum that all blocks added in the last computed step for as long as the checkpoint's measured ratios
(`mag_ratios`) predict that it hardly changes (https://github.com/Zehong-Ma/MagCache).
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusers.hooks import MagCacheConfig


class MagCache(MagCacheConfig):
    """MagCache settings, with diffusers' defaults; the hooks of all blocks share this object, so it changes in place.

    Args:
        measured: ratios from `read_ratios`.
    """

    def __init__(self, measured: Sequence[float]) -> None:
        self.measured = list(measured)
        self.set_steps(len(self.measured))

    def set_steps(self, steps: int) -> None:
        """Prepare for a run of `steps`: for each step diffusers takes the nearest of the measured ratios."""
        super().__init__(mag_ratios=self.measured, num_inference_steps=steps)
