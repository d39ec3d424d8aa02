"""Convert descriptions to the prompts that a server runs: only nodes and their inputs, with boxes expanded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import object_info
from .description import Box

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .description import Column, Links, Node, Template
    from .object_info import Info

Origins = dict[str, list[Any]]


def api_file(template: Template, infos: dict[str, Info]) -> dict[str, Any]:
    """A prompt keyed by node names; nodes inside a box are named "box.node"."""
    prompt: dict[str, Any] = {}
    outputs: Origins = {}
    for name, node in _nodes(template.columns):
        if isinstance(node, Box):
            _level(prompt, outputs, f"{name}.", node.columns(), node.blueprint.links, infos)
            for output, end in node.blueprint.outputs.items():
                outputs[f"{name}.{output}"] = outputs[f"{name}.{end}"]
    _level(prompt, outputs, "", template.columns, {}, infos)
    boxes = {name: node for name, node in _nodes(template.columns) if isinstance(node, Box)}
    for start, ends in template.links.items():
        for end in ends:
            node, socket = end.split(".", 1)
            inner = [f"{node}.{one}" for one in boxes[node].blueprint.inputs[socket]] if node in boxes else [end]
            for target in inner:
                owner, own = target.rsplit(".", 1)
                prompt[owner]["inputs"][own] = outputs[start]
    return prompt


def _nodes(columns: tuple[Column, ...]) -> Iterator[tuple[str, Node | Box]]:
    for column in columns:
        yield from column.nodes.items()


def _level(
    prompt: dict[str, Any],
    outputs: Origins,
    prefix: str,
    columns: tuple[Column, ...],
    links: Links,
    infos: dict[str, Info],
) -> None:
    for name, node in _nodes(columns):
        if isinstance(node, Box):
            continue
        info = infos[node.type]
        inputs = {
            widget: {"__value__": value} if isinstance(value, list) else value  # a plain list would be read as a link
            for one, spec in object_info.inputs_of(info).items()
            if object_info.is_widget(spec)
            for widget, value in object_info.widgets_of(one, spec, node.settings)
            if widget
        }
        title = node.title or info["display_name"]
        prompt[f"{prefix}{name}"] = {"class_type": node.type, "inputs": inputs, "_meta": {"title": title}}
        for slot, output in enumerate(info["output_name"]):
            outputs[f"{prefix}{name}.{output}"] = [f"{prefix}{name}", slot]
    for start, ends in links.items():
        for end in ends:
            owner, socket = end.split(".", 1)
            prompt[f"{prefix}{owner}"]["inputs"][socket] = outputs[f"{prefix}{start}"]
