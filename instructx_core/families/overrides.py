"""Weights from elsewhere that replace a model's own DiT, VAE or MLLM, or that it lacks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..weights.detect import Part


@dataclass(frozen=True)
class Overrides:
    """A file or a folder each, in any form that `find_form` knows; None: the model's own."""

    transformer: Path | None = None
    vae: Path | None = None
    mllm: Path | None = None

    def given(self, part: Part) -> Path | None:
        """What takes the place of one part."""
        return getattr(self, part.value)


OWN = Overrides()
