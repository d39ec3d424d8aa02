"""Check that the libraries that the nodes need are installed, without importing them.

The nodes' menus need none of them, so ComfyUI starts and shows the nodes either way; running a loader says what to do.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..instructx_core.errors import InstructXError

REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"
REQUIREMENT = re.compile(r"([\w-]+)(?:>=([\d.]+))?")


def lacking() -> list[str]:
    """What is missing from requirements.txt: "NAME is not installed" or "NAME is 4.50, but 4.57 or newer is needed"."""
    found = []
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        name, floor = REQUIREMENT.match(line).groups()
        try:
            installed = version(name)
        except (PackageNotFoundError, KeyError):  # KeyError: announced by Python for the case below
            installed = None
        if installed is None:  # also if an interrupted installation left a folder without metadata
            found.append(f"{name} is not installed")
        elif floor and _numbers(installed) < _numbers(floor):
            found.append(f"{name} is {installed}, but {floor} or newer is needed")
    return found


def advice(problems: list[str]) -> str:
    """What the user has to do about these problems."""
    return (
        f"InstructX cannot load models ({'; '.join(problems)}); run `python -m pip install -r {REQUIREMENTS}` with"
        " ComfyUI's Python, then restart ComfyUI."
    )


def check() -> None:
    """Raise InstructXError if a library is missing or too old."""
    if problems := lacking():
        raise InstructXError(advice(problems))


def _numbers(words: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.11.0+cpu" -> (2, 11, 0)."""
    return tuple(int(number) for number in re.match(r"[\d.]*", words)[0].strip(".").split("."))
