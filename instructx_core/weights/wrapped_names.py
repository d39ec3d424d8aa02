"""Strip what programs add to tensor names: `torch.compile`, parallel training, peft, whole checkpoints.

No list of wrappers is kept. A layout knows the first words of its model's names and all words in them: anything before
a first word is dropped, and so are unknown words within a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from ..errors import CheckpointError
from ..words import quoted

T = TypeVar("T")


_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


class NameLayout:
    """The tensor names of one kind of model, ignoring numbers.

    Args:
        names: of a model of this kind, with at least one of each of its layers.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {_NUMBER.sub("#", name) for name in names}
        split = [name.split(".") for name in self._names]
        self._beginnings = {words[0] for words in split}
        self._words = {word for words in split for word in words}

    def has(self, name: str) -> bool:
        """Whether a name, with or without wrappers, belongs to this layout."""
        return _NUMBER.sub("#", self.bare(name)) in self._names

    def bare(self, name: str) -> str:
        """A name without its wrappers; unchanged if it does not belong to this layout."""
        words = name.split(".")
        start = next((index for index, word in enumerate(words) if word in self._beginnings), len(words))
        bare = ".".join(word for word in words[start:] if word in self._words or word.isdecimal())
        return bare if _NUMBER.sub("#", bare) in self._names else name

    def unwrapped(self, state: Mapping[str, T]) -> dict[str, T]:
        """A state dict under the bare names.

        Raises CheckpointError if two of its names are the same without wrappers.
        """
        found: dict[str, T] = {}
        spelled: dict[str, str] = {}
        for name, value in state.items():
            bare = self.bare(name)
            if bare in found:
                raise CheckpointError(
                    f"the weights hold {quoted(bare)} twice, with and without a prefix ({quoted(spelled[bare])}, "
                    f"{quoted(name)}); keep one of the two."
                )
            found[bare], spelled[bare] = value, name
        return found
