"""Find the words of a sentence that this world does not know."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

from . import look_phrases, vocabulary

_WORD = re.compile(r"[a-z]+(?:'[a-rt-z]+)?")  # "don't" is one word, "circle's" gives "circle"
_SLOT = re.compile(r"\{\w+\}")


def unknown_words(sentence: str, looks: bool = True) -> tuple[str, ...]:
    """The English words of a sentence that occur in no instruction of this world, in order, each once.

    Words in other scripts are ignored.

    Args:
        looks: whether words for tone, style and weather are known, too.
    """
    words = [word for word in _WORD.findall(sentence.lower()) if word != "s"]
    return tuple(dict.fromkeys(word for word in words if word not in _known(looks)))


@cache
def _known(looks: bool) -> frozenset[str]:
    names = look_phrases.LOOK_PHRASES.keys()
    plain = [text for text in _texts_of(vocabulary) if looks or text not in names]
    texts = [_SLOT.sub(" ", text.lower()) for text in (*plain, *(_texts_of(look_phrases) if looks else ()))]
    return frozenset(word for text in texts for word in _WORD.findall(text)) | {"a", "an"}


def _texts_of(module: ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        if name.isupper():
            yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, (tuple, list)):
        for inner in value:
            yield from _texts(inner)
