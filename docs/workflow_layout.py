"""Descriptions of workflows as the files that ComfyUI's front end would save.

A workflow is nodes in columns, with only those settings that differ from a node's defaults. What a node has (sockets,
widgets, defaults) comes from tests/support/golden/object_info.json, recorded from a real ComfyUI server.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

COLUMN, GAP, TOP = 400, 40, 120
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3", "IMAGECOMPARE"}
REGISTERED: dict[str, str] = {}  # "cnr_id" and "ver" of this pack; empty until its owner has them (docs/publishing.md)
SEEDS = ("fixed",)  # what stands behind a seed in a file: the front end's choice of what to do after a run


@dataclass
class Node:
    """One node of a description."""

    type: str
    title: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    height: int = 0
    width: int = COLUMN - GAP
    models: list[dict[str, str]] = field(default_factory=list)  # files that it needs, with links


@dataclass
class Column:
    """Nodes below each other under one group title."""

    title: str
    nodes: dict[str, Node]
    colour: str = "#3f789e"
    width: int = COLUMN


@dataclass
class Workflow:
    """Columns from left to right; links as "node.output": ["node.input", ...]; a note on top of the first column."""

    name: str
    note: str
    columns: list[Column]
    links: dict[str, list[str]]


def is_widget(spec: list[Any]) -> bool:
    """Whether an input of /object_info is a widget of the node."""
    return isinstance(spec[0], list) or spec[0] in WIDGET_TYPES


def inputs_of(info: dict[str, Any]) -> dict[str, list[Any]]:
    """Every input of a node type by name, required ones first, as the front end shows them."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def default_of(spec: list[Any]) -> Any:
    options = spec[1] if len(spec) > 1 else {}
    if spec[0] == "IMAGECOMPARE":
        return ["", ""]  # the two pictures of its slider, none before a run
    if "default" in options:
        return options["default"]
    choices = spec[0] if isinstance(spec[0], list) else options.get("options", [None])
    first = choices[0] if choices else None
    return first["key"] if isinstance(first, dict) else first


def widget_values(name: str, spec: list[Any], settings: dict[str, Any]) -> list[Any]:
    """The entries that a widget takes in a file: itself, what follows a seed, and a dynamic menu's further widgets."""
    value = settings.get(name, default_of(spec))
    values = [value]
    options = spec[1] if len(spec) > 1 else {}
    if options.get("control_after_generate"):
        values += SEEDS
    if spec[0] == "COMFY_DYNAMICCOMBO_V3":
        chosen = next(option for option in options["options"] if option["key"] == value)
        for inner, inner_spec in inputs_of({"input": chosen["inputs"]}).items():
            values += widget_values(f"{name}.{inner}", inner_spec, settings)
    return values


def build(workflow: Workflow, object_info: dict[str, Any]) -> dict[str, Any]:
    """A workflow as the front end saves it."""
    made: dict[str, dict[str, Any]] = {}
    groups, x = [], 0
    note = {
        "id": 1,
        "type": "MarkdownNote",
        "pos": [x, -240],
        "size": [COLUMN * 2 - GAP, 220],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "What this does",
        "properties": {},
        "widgets_values": [workflow.note],
        "color": "#432",
        "bgcolor": "#653",
    }
    for column in workflow.columns:
        y = TOP
        for key, described in column.nodes.items():
            info = object_info[described.type]
            made[key] = _node(len(made) + 2, described, info, (x, y))
            y += made[key]["size"][1] + 60
        groups.append(
            {
                "id": len(groups) + 1,
                "title": column.title,
                "bounding": [x - 15, TOP - 80, column.width - 10, y - TOP + 60],
                "color": column.colour,
                "font_size": 24,
                "flags": {},
            }
        )
        x += column.width
    links = _link(workflow, made)
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"instructx/{workflow.name}")),
        "revision": 0,
        "last_node_id": len(made) + 1,
        "last_link_id": len(links),
        "nodes": [note, *made.values()],
        "links": links,
        "groups": groups,
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _node(number: int, described: Node, info: dict[str, Any], position: tuple[int, int]) -> dict[str, Any]:
    specs = inputs_of(info)
    unknown = set(described.settings) - set(specs)
    if unknown:
        raise SystemExit(f"{described.type} has no input {', '.join(sorted(unknown))}")
    sockets = [{"name": name, "type": spec[0], "link": None} for name, spec in specs.items() if not is_widget(spec)]
    for name, spec in specs.items():
        if is_widget(spec):
            kind = "COMBO" if isinstance(spec[0], list) else spec[0]
            sockets.append({"name": name, "type": kind, "widget": {"name": name}, "link": None})
    values = [
        value
        for name, spec in specs.items()
        if is_widget(spec)
        for value in widget_values(name, spec, described.settings)
    ]
    rows = max(len([s for s in sockets if "widget" not in s]), len(info["output"])) + len(values)
    result = {
        "id": number,
        "type": described.type,
        "pos": list(position),
        "size": [described.width, max(described.height, 40 + 24 * rows)],
        "flags": {},
        "order": number - 1,
        "mode": 0,
        "inputs": sockets,
        "outputs": [
            {"name": name, "type": kind, "links": []}
            for name, kind in zip(info["output_name"], info["output"], strict=True)
        ],
        "properties": {"Node name for S&R": described.type}
        | (REGISTERED if described.type.startswith("InstructX") else {}),
        "widgets_values": values,
    }
    if described.models:
        result["properties"]["models"] = described.models
    if described.title:
        result["title"] = described.title
    return result


def _link(workflow: Workflow, made: dict[str, dict[str, Any]]) -> list[list[Any]]:
    links: list[list[Any]] = []
    for start, ends in workflow.links.items():
        source, output = start.split(".")
        slot = next((i for i, o in enumerate(made[source]["outputs"]) if o["name"] == output), None)
        if slot is None:
            raise SystemExit(f"{workflow.name}: no output {start}")
        for end in ends:
            target, socket = end.split(".")
            index = next((i for i, s in enumerate(made[target]["inputs"]) if s["name"] == socket), None)
            if index is None or made[target]["inputs"][index]["link"] is not None:
                raise SystemExit(f"{workflow.name}: no free input {end}")
            number = len(links) + 1
            kind = made[source]["outputs"][slot]["type"]
            links.append([number, made[source]["id"], slot, made[target]["id"], index, kind])
            made[source]["outputs"][slot]["links"].append(number)
            made[target]["inputs"][index]["link"] = number
    return links
