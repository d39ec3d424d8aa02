"""Example pictures and clips to edit, each with a suitable instruction: assets/examples.json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .demo import ASSETS


@dataclass(frozen=True)
class Drawn:
    """A picture of the procedural world; `frames` above 1 give a clip."""

    group: str
    seed: int
    frames: int = 1
    width: int = 256
    height: int = 256
    rich: bool = False  # natural grounds and lit objects too, as in `world.RICH`


@dataclass(frozen=True)
class NamedExample:
    """A named picture or clip: a bundled file, or one drawn on demand."""

    key: str  # its name in templates
    name: str  # its name in the menu
    instruction: str
    file: Path | None = None
    drawn: Drawn | None = None


@cache
def examples() -> dict[str, NamedExample]:
    """All examples by name, in menu order."""
    told = json.loads((ASSETS / "examples.json").read_text(encoding="utf-8"))
    return {entry["name"]: _example(**entry) for entry in told}


def _example(file: str | None = None, drawn: dict[str, Any] | None = None, **words: str) -> NamedExample:
    return NamedExample(**words, file=ASSETS / file if file else None, drawn=Drawn(**drawn) if drawn else None)
