"""Convert descriptions to the files that ComfyUI's front end would save: templates, and blueprints for any graph."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from . import object_info
from .description import GAP, TITLE_BAR, WIDTH, Box, Template
from .notes import place_notes

if TYPE_CHECKING:
    from .description import Blueprint, Column, Links, Node
    from .object_info import Info

REGISTERED: dict[str, str] = {}  # "cnr_id" and "ver" of this pack; empty until its owner has them (docs/publishing.md)
ROW, TEXT_ROWS = 24, 4
INPUTS, OUTPUTS = -10, -20  # ids of a subgraph's input and output nodes
Json = dict[str, Any]


def template_file(template: Template, infos: dict[str, Info], as_app: bool = False) -> Json:
    """A template with its notes in the free space below its nodes, so that everything is legible in a window.

    as_app: open it as the form that `template.app` describes.
    """
    canvas = Canvas(infos)
    canvas.place(template.columns)
    canvas.connect(template.links)
    canvas.note(template)
    return canvas.workflow(f"instructx/{template.title.en}", _form(template, canvas) if as_app else {})


def blueprint_file(blueprint: Blueprint, infos: dict[str, Info]) -> Json:
    """A blueprint as `/global_subgraphs` serves it: a graph with only its box."""
    canvas = Canvas(infos)
    canvas.place((_alone(blueprint),))
    told = {"BlueprintDescription": blueprint.description, "BlueprintSearchAliases": list(blueprint.aliases)}
    return canvas.workflow(f"instructx/blueprint/{blueprint.name}", told)


def _alone(blueprint: Blueprint) -> Column:
    from .description import Column

    return Column({"box": Box(blueprint)}, width=400)


def _form(template: Template, canvas: Canvas) -> Json:
    inputs = []
    for target in template.app.inputs:
        node, widget = target.split(".", 1)
        inputs.append([canvas.made[node]["id"], widget])
    outputs = [canvas.made[node]["id"] for node in template.app.outputs]
    return {"linearMode": True, "linearData": {"inputs": inputs, "outputs": outputs}}


class Canvas:
    """Nodes and links of one level: the graph's, or the inside of a box."""

    def __init__(self, infos: dict[str, Info], first_id: int = 1) -> None:
        """first_id: of nodes and links; the front end needs ids in a box that differ from the graph's."""
        self.infos = infos
        self.first_id = self.next_id = first_id
        self.made: dict[str, Json] = {}
        self.links: list[Json] = []
        self.subgraphs: list[Json] = []
        self.columns: list[tuple[int, int]] = []  # width and bottom of each

    def place(self, columns: tuple[Column, ...]) -> None:
        x = 0
        for column in columns:
            y = end = self.made[column.beside]["pos"][1] if column.beside else column.top
            for key, described in column.nodes.items():
                node = self._box(described, key) if isinstance(described, Box) else self._node(described)
                width, height = described.width or column.width, max(node["size"][1], described.height)
                node["pos"], node["size"] = [x, y], [width, height]
                self.made[key] = node
                end = y + max(height, 0 if isinstance(described, Box) else described.shown)
                y += height + GAP + TITLE_BAR
            x += column.width + GAP
            self.columns.append((column.width, end))

    def connect(self, links: Links) -> None:
        for start, ends in links.items():
            source, slot = self._output(start)
            for end in ends:
                target, index = self._input(end)
                self._link(source["id"], slot, target["id"], index, source["outputs"][slot]["type"])
                source["outputs"][slot]["links"].append(self.links[-1]["id"])
                target["inputs"][index]["link"] = self.links[-1]["id"]

    def note(self, template: Template) -> None:
        texts = {"What this does": template.note.en, "说明": template.note.zh}
        places = place_notes(list(texts.values()), *zip(*self.columns, strict=True))
        for (title, text), place in zip(texts.items(), places, strict=True):
            self.made[title] = {
                "id": self._number(),
                "type": "MarkdownNote",
                "pos": [place.left, place.top],
                "size": [place.width, place.height],
                "flags": {},
                "order": 0,
                "mode": 0,
                "inputs": [],
                "outputs": [],
                "title": title,
                "properties": {},
                "widgets_values": [text],
                "color": "#222",
                "bgcolor": "#000",
            }

    def workflow(self, seed: str, extra: Json) -> Json:
        result = {
            "id": _uuid(seed),
            "revision": 0,
            "last_node_id": self.next_id - 1,
            "last_link_id": len(self.links),
            "nodes": list(self.made.values()),
            "links": [list(link.values()) for link in self.links],
            "groups": [],
            "config": {},
            "extra": extra,
            "version": 0.4,
        }
        return result | ({"definitions": {"subgraphs": self.subgraphs}} if self.subgraphs else {})

    def _number(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    def _link(self, start: int, out: int, end: int, into: int, kind: str) -> None:
        self.links.append(
            {
                "id": self.first_id + len(self.links),
                "origin_id": start,
                "origin_slot": out,
                "target_id": end,
                "target_slot": into,
                "type": kind,
            }
        )

    def _output(self, name: str) -> tuple[Json, int]:
        node, output = name.split(".", 1)
        slot = next((i for i, one in enumerate(self.made[node]["outputs"]) if one["name"] == output), None)
        if slot is None:
            raise SystemExit(f"there is no output {name}")
        return self.made[node], slot

    def _input(self, name: str) -> tuple[Json, int]:
        node, socket = name.split(".", 1)
        index = next((i for i, one in enumerate(self.made[node]["inputs"]) if one["name"] == socket), None)
        if index is None or self.made[node]["inputs"][index]["link"] is not None:
            raise SystemExit(f"there is no free input {name}")
        return self.made[node], index

    def _node(self, described: Node) -> Json:
        info = self.infos[described.type]
        specs = object_info.inputs_of(info)
        widgets = [
            found
            for name, spec in specs.items()
            if object_info.is_widget(spec)
            for found in object_info.widgets_of(name, spec, described.settings)
        ]
        unknown = set(described.settings) - {name for name, _ in widgets}
        if unknown:
            raise SystemExit(f"{described.type} has no widget {', '.join(sorted(unknown))}")
        sockets = [_socket(name, kind) for name, kind in object_info.sockets_of(info)]
        for name, spec in specs.items():
            if object_info.is_widget(spec):
                sockets.append(_socket(name, object_info.type_of(spec), widget=True))
        outputs = list(zip(info["output_name"], info["output"], strict=True))
        texts = sum(1 for spec in specs.values() if len(spec) > 1 and spec[1].get("multiline"))
        rows = max(len(specs) - len(widgets), len(outputs)) + len(widgets) + texts * TEXT_ROWS
        own = REGISTERED if described.type.startswith("InstructX") else {}
        properties = {"Node name for S&R": described.type} | own
        if described.models:
            properties["models"] = list(described.models)
        return self._any(described.type, described.title, rows, sockets, outputs) | {
            "properties": properties,
            "widgets_values": [value for _, value in widgets],
        }

    def _box(self, described: Box, key: str) -> Json:
        blueprint = described.blueprint
        kind = _uuid(f"instructx/subgraph/{blueprint.name}/{key}")
        inside = Canvas(self.infos, 100 * (len(self.subgraphs) + 1))
        inside.place(described.columns())
        inside.connect(blueprint.links)
        ends = inside.inputs(blueprint)
        outputs = {name: inside.output(index, end) for index, (name, end) in enumerate(blueprint.outputs.items())}
        sockets = [_socket(name, kind, widget=widget) for name, (kind, widget, _) in ends.items()]
        node = self._any(
            kind,
            described.title or blueprint.name,
            max(sum(not widget for _, widget, _ in ends.values()), len(outputs)) + len(ends) + TEXT_ROWS,
            sockets,
            list(outputs.items()),
        )
        self.subgraphs.append(inside.definition(blueprint, kind, ends, outputs))
        values = [value for _, widget, value in ends.values() if widget]
        return node | {"properties": dict(REGISTERED), "widgets_values": values}

    def inputs(self, blueprint: Blueprint) -> dict[str, tuple[str, bool, Any]]:
        """Link a blueprint's inputs to the inner nodes; return each one's type, whether it is a widget, its value."""
        found = {}
        for number, (name, targets) in enumerate(blueprint.inputs.items()):
            for target in targets:
                node, index = self._input(target)
                socket = node["inputs"][index]
                self._link(INPUTS, number, node["id"], index, socket["type"])
                socket["link"] = self.links[-1]["id"]
                found.setdefault(name, (socket["type"], "widget" in socket, self._value(node, socket["name"])))
        return found

    def output(self, number: int, end: str) -> str:
        """Link an inner output to the box's output; return its type."""
        node, slot = self._output(end)
        kind = node["outputs"][slot]["type"]
        self._link(node["id"], slot, OUTPUTS, number, kind)
        node["outputs"][slot]["links"].append(self.links[-1]["id"])
        return kind

    def definition(
        self,
        blueprint: Blueprint,
        kind: str,
        inputs: dict[str, tuple[str, bool, Any]],
        outputs: dict[str, str],
    ) -> Json:
        width = sum(one + GAP for one, _ in self.columns) - GAP
        height = max(end for _, end in self.columns)
        ends = {name: kind for name, (kind, _, _) in inputs.items()}
        return {
            "id": kind,
            "version": 1,
            "state": {"lastGroupId": 0, "lastNodeId": self.next_id - 1, "lastLinkId": len(self.links)}
            | {"lastRerouteId": 0},
            "revision": 0,
            "config": {},
            "name": blueprint.name,
            "description": blueprint.description,
            "category": blueprint.category,
            "inputNode": {"id": INPUTS, "bounding": [-220, height / 3, 160, 40 + 20 * len(inputs)]},
            "outputNode": {"id": OUTPUTS, "bounding": [width + 60, height / 3, 128, 40 + 20 * len(outputs)]},
            "inputs": self._ends(kind, ends, INPUTS, (-80, height / 3)),
            "outputs": self._ends(kind, outputs, OUTPUTS, (width + 80, height / 3)),
            "widgets": [],
            "nodes": list(self.made.values()),
            "groups": [],
            "links": self.links,
            "extra": {},
        }

    def _ends(self, kind: str, ends: dict[str, str], node: int, at: tuple[float, float]) -> list[Json]:
        side, slot = ("origin_id", "origin_slot") if node == INPUTS else ("target_id", "target_slot")
        return [
            {
                "id": _uuid(f"{kind}/{node}/{name}"),
                "name": name,
                "type": end,
                "linkIds": [link["id"] for link in self.links if link[side] == node and link[slot] == index],
                "pos": [at[0], at[1] + 20 * (index + 1)],
            }
            for index, (name, end) in enumerate(ends.items())
        ]

    def _value(self, node: Json, name: str) -> Any:
        """The value of a node's widget; None for a socket."""
        specs = object_info.inputs_of(self.infos[node["type"]])
        if not object_info.is_widget(specs[name]):
            return None
        names = [found for one, spec in specs.items() if object_info.is_widget(spec) for found in _names(one, spec)]
        return node["widgets_values"][names.index(name)]

    def _any(self, kind: str, title: str, rows: int, sockets: list[Json], outputs: list[tuple[str, str]]) -> Json:
        node = {
            "id": self._number(),
            "type": kind,
            "pos": [0, 0],
            "size": [WIDTH, 40 + ROW * rows],
            "flags": {},
            "order": len(self.made),
            "mode": 0,
            "inputs": sockets,
            "outputs": [{"name": name, "type": kind, "links": []} for name, kind in outputs],
        }
        return node | ({"title": title} if title else {})


def _names(name: str, spec: list[Any]) -> list[str]:
    return [found for found, _ in object_info.widgets_of(name, spec, {})]


def _socket(name: str, kind: str, widget: bool = False) -> Json:
    return {"name": name, "type": kind, "link": None} | ({"widget": {"name": name}} if widget else {})


def _uuid(seed: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, seed))
