"""Names of tensors without what programs put around them: `torch.compile`, parallel training, peft, whole checkpoints.

No list of wrappers is kept. A layout knows how the names of its model begin and of which words they consist: what
stands before a beginning is left out, and so are words within a name that the layout does not have.
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
    """How the tensors of one kind of model are called, numbers aside.

    Args:
        names: of a model of this kind, with one of each of its layers at least.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {_NUMBER.sub("#", name) for name in names}
        split = [name.split(".") for name in self._names]
        self._beginnings = {words[0] for words in split}
        self._words = {word for words in split for word in words}

    def has(self, name: str) -> bool:
        """Whether a name, with or without wrappers, is of this layout."""
        return _NUMBER.sub("#", self.bare(name)) in self._names

    def bare(self, name: str) -> str:
        """A name without its wrappers; one that is not of this layout unchanged."""
        words = name.split(".")
        start = next((index for index, word in enumerate(words) if word in self._beginnings), len(words))
        bare = ".".join(word for word in words[start:] if word in self._words or word.isdecimal())
        return bare if _NUMBER.sub("#", bare) in self._names else name

    def unwrapped(self, state: Mapping[str, T]) -> dict[str, T]:
        """A state dict under the bare names.

        Raises CheckpointError where two of its names are one without their wrappers.
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
