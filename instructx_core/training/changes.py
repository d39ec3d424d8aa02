"""`--set KEY=VALUE`: one value of a config changed before it is checked."""

from __future__ import annotations

from typing import Any

from ..bounded import parse_yaml
from ..errors import InputError
from ..words import quoted


def apply_change(plain: dict[str, Any], change: str, example: str) -> None:
    """Set one value of a config, in place.

    Args:
        plain: the config as YAML gives it; sections that it lacks are made.
        change: "key=value" or "section.key=value", the value in YAML.
        example: of such a change, to name.

    Raises:
        InputError: a change without a key or "=", a value that is not YAML, or a key below a value.
    """
    key, equals, text = change.partition("=")
    *sections, name = key.split(".")
    if not equals or not all((*sections, name)):
        raise InputError(f"--set {quoted(change)}: give KEY=VALUE, as in --set {example}.")
    place = plain
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise InputError(f"--set {quoted(change)}: {quoted(section)} is no section of the config.")
    place[name] = parse_yaml(text, f"the value in --set {quoted(change)}")
