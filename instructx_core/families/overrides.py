"""Weights from elsewhere that replace a model's own DiT, VAE or MLLM, or that it lacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..weights.detect import pair_in
from ..weights.parts import Part


@dataclass(frozen=True)
class Overrides:
    """A file or a folder each, in any form that `find_form` knows; None: the model's own."""

    transformer: Path | None = None
    vae: Path | None = None
    mllm: Path | None = None
    transformer_2: Path | None = None  # makes a pair of a model with one DiT

    def given(self, part: Part) -> Path | None:
        """What takes the place of one part."""
        return getattr(self, part.value)

    def halved(self) -> Overrides:
        """With the DiTs of a pair each by itself, where `transformer` is a pipeline's folder that holds both."""
        pair = None if self.transformer is None or self.transformer_2 else pair_in(self.transformer)
        return self if pair is None else replace(self, transformer=pair[0], transformer_2=pair[1])


OWN = Overrides()
