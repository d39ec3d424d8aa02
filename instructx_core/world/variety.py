"""How far the world goes beyond flat shapes on plain backgrounds and English words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variety:
    """Shares in [0, 1] of scenes and sentences that go beyond the plain world."""

    natural: float = 0.0  # of scenes on natural backgrounds
    lively: float = 0.0  # of scenes whose objects are turned, lit, tinted, or cast shadows
    chinese: float = 0.0  # of instructions in Chinese
    photographs: str | None = None  # a folder; half of the natural backgrounds are cropped from its pictures


PLAIN = Variety()
RICH = Variety(natural=0.5, lively=0.6, chinese=0.3)
