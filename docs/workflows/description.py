"""Data classes that describe a graph: nodes in columns, with only the settings that differ from a node's defaults."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

Links = dict[str, list[str]]  # "node.output" to every "node.input" that takes it

WIDTH, GAP = 340, 30  # pixels
TITLE_BAR = 30  # pixels of a node above its position


@dataclass(frozen=True)
class Node:
    """One node."""

    type: str
    title: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    height: int = 0  # minimum; 0 for the height of its sockets and widgets
    shown: int = 0  # height when it shows its result; no note is placed there
    width: int = 0  # 0 for its column's
    models: tuple[dict[str, str], ...] = ()  # files that it needs: name, url, directory


@dataclass(frozen=True)
class Column:
    """Nodes from top to bottom."""

    nodes: dict[str, Node | Box]
    width: int = WIDTH
    beside: str = ""  # a node of an earlier column: start at that node's height, leaving free space above
    top: int = 0  # start this many pixels lower, so that a link to a later column is visible above it


@dataclass(frozen=True)
class Blueprint:
    """A graph in one box, which ComfyUI calls a subgraph blueprint.

    `inputs` are the box's sockets and widgets by name, each with the inner "node.input"s that it sets; sockets come
    first. `outputs` are its outputs by name, each an inner "node.output".
    """

    name: str  # also the file name, by which the search box finds it
    description: str
    aliases: tuple[str, ...]
    category: str
    columns: tuple[Column, ...]
    links: Links
    inputs: dict[str, tuple[str, ...]]
    outputs: dict[str, str]


@dataclass(frozen=True)
class Box:
    """A blueprint in a graph; `settings` by the names of its inputs."""

    blueprint: Blueprint
    title: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    height: int = 0
    width: int = 0
    models: dict[str, tuple[dict[str, str], ...]] = field(default_factory=dict)  # of inner nodes

    def __post_init__(self) -> None:
        unknown = set(self.settings) - set(self.blueprint.inputs)
        if unknown:
            raise SystemExit(f"{self.blueprint.name} has no input {', '.join(sorted(unknown))}")

    def columns(self) -> tuple[Column, ...]:
        """The blueprint's columns with this box's settings in them."""
        settings: dict[str, dict[str, Any]] = {}
        for name, value in self.settings.items():
            for target in self.blueprint.inputs[name]:
                node, socket = target.split(".", 1)
                settings.setdefault(node, {})[socket] = value
        return tuple(
            replace(
                column,
                nodes={
                    key: replace(
                        node, settings=node.settings | settings.get(key, {}), models=self.models.get(key, node.models)
                    )
                    for key, node in column.nodes.items()
                },
            )
            for column in self.blueprint.columns
        )


@dataclass(frozen=True)
class Text:
    """A text in both languages of the pack."""

    en: str
    zh: str


@dataclass(frozen=True)
class App:
    """The form that ComfyUI's app mode shows: widgets as "node.input", and the nodes whose results it shows."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Template:
    """A graph that ComfyUI's template browser offers."""

    title: Text
    note: Text
    columns: tuple[Column, ...]
    links: Links
    app: App | None = None
    needs_weights: bool = False  # needs weights that are not bundled
