"""Redraw with any model that this library can edit with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ...editor import Editor
from ...errors import CheckpointError
from ..experts import ExpertFailed
from .asked import filled
from .loading import cut_out
from .prompts import PROMPTS


class OwnRedrawer:
    """An `Editor` as redrawer; if its model fails on a picture, the clip is dropped."""

    def __init__(
        self, editor: Editor, portray: str = PROMPTS["portray"], steps: int | None = None, seed: int = 0
    ) -> None:
        self.editor, self.words, self.seed = editor, portray, int(seed)
        self.steps = steps if steps is None else int(steps)

    @classmethod
    def from_folder(cls, folder: Path, device: str, **options: str | float) -> OwnRedrawer:
        """Raises CheckpointError."""
        return cls(Editor.from_pretrained(folder, device=device), **options)

    def edit(self, picture: Tensor, sentence: str) -> Tensor:
        try:
            made = self.editor.edit(picture, sentence, steps=self.steps, seed=self.seed, dtype=torch.uint8)
        except CheckpointError as error:
            raise ExpertFailed(f"redraw: {error}") from error
        return made.frames[0]

    def portray(self, picture: Tensor, mask: Tensor, name: str) -> Tensor:
        return self.edit(cut_out(picture, mask), filled(self.words, {"name": name}))
