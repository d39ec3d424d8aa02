"""What a family finds out about one of its models on disk, from headers and configs alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..config import ModelConfig
from ..weights.detect import Form
from ..weights.parts import Part
from ..weights.stored import Stored


@dataclass(frozen=True)
class Match:
    """A model on disk that a family knows as its own."""

    kind: str  # what it is, for people
    path: Path  # its folder, or its one file
    config: ModelConfig
    adapter: Mapping[Path, Mapping[str, str]]  # file -> name there -> name in `instructx.safetensors`
    stored: Mapping[Path, Mapping[str, Stored]]  # the headers of these files
    folders: Mapping[Part, Path]  # where its own parts are stored, if it has any
    held: Mapping[Part, Form] = field(default_factory=dict)  # whole parts in its one file
    loras: Mapping[Part, Mapping[str, tuple[str, str]]] = field(default_factory=dict)  # weight -> A, B in its one file

    @property
    def folder(self) -> Path:
        """The folder itself, or the one that its file is in."""
        return self.path if self.path not in self.stored else self.path.parent

    @property
    def own(self) -> set[Part]:
        """The parts that it has itself."""
        return {part for part in Part if part in self.held or (part in self.folders and self.folders[part].is_dir())}

    @property
    def named(self) -> Path:
        """What to name where its tensors are at fault: its one file, or the folder of several."""
        return next(iter(self.adapter)) if len(self.adapter) == 1 else self.path

    @property
    def added(self) -> dict[str, Stored]:
        """What it adds to its base models, under the names of `instructx.safetensors`."""
        return {own: self.stored[file][there] for file, names in self.adapter.items() for there, own in names.items()}
