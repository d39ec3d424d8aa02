"""What a family learns about one of its models on disk, from headers and configs alone."""

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
    """A model on disk, recognised by its family."""

    kind: str  # display name
    path: Path  # its folder or single file
    config: ModelConfig
    adapter: Mapping[Path, Mapping[str, str]]  # file -> tensor name in it -> name in `instructx.safetensors`
    stored: Mapping[Path, Mapping[str, Stored]]  # the headers of these files
    folders: Mapping[Part, Path]  # folders of the parts it includes, if any
    held: Mapping[Part, Form] = field(default_factory=dict)  # complete parts in its single file
    loras: Mapping[Part, Mapping[str, tuple[str, str]]] = field(default_factory=dict)  # weight -> A, B in that file

    @property
    def folder(self) -> Path:
        """Its folder, or the one that contains its single file."""
        return self.path if self.path not in self.stored else self.path.parent

    @property
    def own(self) -> set[Part]:
        """The parts that it includes."""
        return {part for part in Part if part in self.held or (part in self.folders and self.folders[part].is_dir())}

    @property
    def named(self) -> Path:
        """The path to name in errors about its tensors: its only adapter file, or `path` if there are several."""
        return next(iter(self.adapter)) if len(self.adapter) == 1 else self.path

    @property
    def added(self) -> dict[str, Stored]:
        """The tensors it adds to its base models, under the names of `instructx.safetensors`."""
        return {own: self.stored[file][there] for file, names in self.adapter.items() for there, own in names.items()}
