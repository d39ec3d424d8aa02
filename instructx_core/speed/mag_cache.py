"""diffusers' MagCache for runs of any number of steps.

It reuses what all blocks together added in the last computed step for as long as the ratios that were measured for the
checkpoint (`mag_ratios`) promise that it would hardly have changed (https://github.com/Zehong-Ma/MagCache).
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusers.hooks import MagCacheConfig


class MagCache(MagCacheConfig):
    """Its settings, diffusers' own defaults; the hooks of all blocks share this one object, so it changes in place.

    Args:
        measured: ratios as `read_ratios` gives them.
    """

    def __init__(self, measured: Sequence[float]) -> None:
        self.measured = list(measured)
        self.set_steps(len(self.measured))

    def set_steps(self, steps: int) -> None:
        """Make ready for a run of `steps`: for each of them diffusers takes the nearest of the measured ones."""
        super().__init__(mag_ratios=self.measured, num_inference_steps=steps)
