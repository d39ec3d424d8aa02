"""Mix several data sets in one stage by weight; each micro-batch comes from one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ...errors import InputError
from .encoding import Encoded
from .sources import ExampleSource


class MixedSource:
    """An `ExampleSource` that draws from others; only the generator decides from which."""

    def __init__(self, sources: Sequence[ExampleSource], weights: Sequence[float]) -> None:
        self.sources = tuple(sources)
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def draw(self, generator: torch.Generator, is_video: bool) -> Encoded:
        return self.sources[int(torch.multinomial(self.weights, 1, generator=generator))].draw(generator, is_video)

    def held_out(self) -> Iterator[Encoded]:
        for source in self.sources:
            yield from source.held_out()

    def some(self, is_video: bool | None, count: int) -> Encoded | None:
        found = (source.some(is_video, count) for source in self.sources)
        return next((examples for examples in found if examples is not None), None)

    def position(self) -> dict[str, Any]:
        return {str(number): source.position() for number, source in enumerate(self.sources)}

    def go_to(self, position: dict[str, Any]) -> None:
        """Continue from `position`. Raises InputError if it is of another mixture, or a table has changed."""
        if set(position) != {str(number) for number in range(len(self.sources))}:
            raise InputError(
                f"The training state is for {len(position)} data sets, but this config has {len(self.sources)}; start "
                "over in another output folder."
            )
        for number, source in enumerate(self.sources):
            source.go_to(position[str(number)])
