"""The settings and prompts that each kind of expert accepts, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ...errors import InputError
from ...validation import FieldError, Length, Range, converted
from ...words import listed, quoted
from ..config import ExpertChoice, Role

Steps = Annotated[int, Range(1, 1000)]
Seed = Annotated[int, Range(0, 2**63 - 1)]


@dataclass(frozen=True)
class Detecting:
    threshold: Annotated[float, Range(0, 1)] | None = None


@dataclass(frozen=True)
class Inpainting:
    steps: Steps | None = None
    grow: Annotated[int, Range(0, 1000)] | None = None
    seed: Seed | None = None


@dataclass(frozen=True)
class Redrawing:
    steps: Steps | None = None
    seed: Seed | None = None


@dataclass(frozen=True)
class Animating:
    steps: Steps | None = None
    seed: Seed | None = None
    words: Annotated[str, Length(1, 20_000)] | None = None


SETTINGS: dict[str, type] = {
    "detector": Detecting,
    "inpainting": Inpainting,
    "picture-edit": Redrawing,
    "instructx": Redrawing,
    "vace": Animating,
    "wan-animate": Animating,
}
PROMPTS_OF: dict[Role, tuple[str, ...]] = {
    "describe": ("caption", "subjects", "alternative", "restyle", "instruct", "recaption"),
    "judge": ("rate",),
    "redraw": ("portray",),
}
NEEDED_SLOTS = {  # without them a model does not know the subject of the question
    "alternative": "simple",
    "restyle": "look",
    "instruct": "what",
    "recaption": "sentence",
    "rate": "sentence",
}


def check_settings(role: Role, choice: ExpertChoice) -> None:
    """Raise InputError if a setting is unknown or out of range."""
    about: Any = SETTINGS.get(choice.kind)
    known = set(about.__annotations__) if about else set[str]()
    if unknown := sorted(set(choice.settings) - known):
        there = ", ".join(sorted(known)) or "none"
        raise InputError(f"experts.{role}: {choice.kind} has no setting {listed(unknown)}; it has {there}.")
    try:
        if about:
            converted(about, choice.settings, f"experts.{role}.settings.")
    except FieldError as error:
        raise InputError(f"{error}.") from error


def check_prompts(role: Role, prompts: Mapping[str, str]) -> None:
    """Raise InputError if the role does not use a prompt, or a prompt lacks its required slot."""
    known = PROMPTS_OF.get(role, ())
    if unknown := sorted(set(prompts) - set(known)):
        raise InputError(f"experts.{role} has no prompt {listed(unknown)}; it has {', '.join(known) or 'none'}.")
    for name, words in prompts.items():
        slot = NEEDED_SLOTS.get(name)
        if slot and f"{{{slot}}}" not in words:
            raise InputError(f"experts.{role}: the prompt {quoted(name)} lacks the slot {{{slot}}}; add it.")
