"""Whether the libraries that the nodes need are installed, looked up without importing them.

The nodes' menus need none of them, so that ComfyUI starts and shows them either way; running a loader says what to do.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from ..instructx_core.errors import InstructXError

NEEDED = ("diffusers", "transformers", "peft", "accelerate", "einops", "safetensors", "av", "yaml")
REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"


def missing() -> list[str]:
    """Names of libraries that cannot be imported here."""
    return [name for name in NEEDED if find_spec(name) is None]


def advice(lacking: list[str]) -> str:
    """What a person has to do about it."""
    return (
        f"InstructX cannot load models: {', '.join(lacking)} not installed; run "
        f"`python -m pip install -r {REQUIREMENTS}` with ComfyUI's Python, then restart ComfyUI."
    )


def check() -> None:
    """Raise InstructXError when a library is missing."""
    if lacking := missing():
        raise InstructXError(advice(lacking))
