"""`--set KEY=VALUE`: change one value of a config before it is checked."""

from __future__ import annotations

from typing import Any

from ..bounded import parse_yaml
from ..errors import InputError
from ..words import quoted


def apply_change(plain: dict[str, Any], change: str, example: str) -> None:
    """Set one value of a config, in place.

    Args:
        plain: the config as parsed from YAML; missing sections are created.
        change: "key=value" or "section.key=value", the value in YAML.
        example: a change to quote in error messages.

    Raises:
        InputError: a change without a key or "=", a value that is not YAML, or a section that is a plain value.
    """
    key, equals, text = change.partition("=")
    *sections, name = key.split(".")
    if not equals or not all((*sections, name)):
        raise InputError(f"--set {quoted(change)}: give KEY=VALUE, as in --set {example}.")
    place = plain
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise InputError(f"--set {quoted(change)}: {quoted(section)} is not a section of the config.")
    place[name] = parse_yaml(text, f"the value in --set {quoted(change)}")
