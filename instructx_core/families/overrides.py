"""Weights from elsewhere that replace a model's own DiT, VAE or MLLM, or supply missing ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..weights.detect import pair_in
from ..weights.parts import Part


@dataclass(frozen=True)
class Overrides:
    """One file or folder per part, in any form that `find_form` knows; None: the model's own."""

    transformer: Path | None = None
    vae: Path | None = None
    mllm: Path | None = None
    transformer_2: Path | None = None  # turns a model with one DiT into a pair

    def given(self, part: Part) -> Path | None:
        """The override for one part, if any."""
        return getattr(self, part.value)

    def halved(self) -> Overrides:
        """Split `transformer` into both DiTs if it is a pipeline folder with a pair."""
        pair = None if self.transformer is None or self.transformer_2 else pair_in(self.transformer)
        return self if pair is None else replace(self, transformer=pair[0], transformer_2=pair[1])


OWN = Overrides()
