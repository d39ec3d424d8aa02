"""The languages of instructions, each a value with the functions that word an edit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import chinese, language
from .vocabulary import JOINERS


@dataclass(frozen=True)
class Language:
    """See `language` for the functions' arguments and results."""

    name_object: Callable[..., str]
    phrase: Callable[..., str]
    style: Callable[..., str]
    joiners: tuple[str, ...]


ENGLISH = Language(language.name_object, language.phrase, language.style, JOINERS)
CHINESE = Language(chinese.name_object, chinese.phrase, chinese.style, chinese.JOINERS)
