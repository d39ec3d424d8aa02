"""The shipped workflows, and what a server is asked to run for one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.places import ROOT, SUPPORT

FOLDER = ROOT / "workflows"
API = FOLDER / "api"
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
PATHS = sorted(FOLDER.glob("*.json"))
APPS = [path for path in PATHS if path.stem.endswith(".app")]
GRAPHS = [path for path in PATHS if path not in APPS]
GOLDEN = SUPPORT / "golden" / "object_info.json"
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3", "IMAGECOMPARE"}
TAKE_A_FILE = {"LoadImage", "LoadVideo"}
FRONT_END_ONLY = {"MarkdownNote", "Note"}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def inputs_of(definition: dict[str, Any]) -> dict[str, list[Any]]:
    return {**definition.get("required", {}), **definition.get("optional", {})}


def title(path: Path) -> str:
    """A template's English title: its name without the number and the Chinese one."""
    words = path.name.removesuffix(".json").removesuffix(".app").partition(" - ")[2]
    return "".join(letter for letter in words if letter.isascii()).strip()


def named(wanted: str) -> Path:
    """The template of an English title."""
    (path,) = [path for path in PATHS if title(path) == wanted and path not in APPS]
    return path


def api(path: Path) -> Path:
    """The API-format graph of a template."""
    (found,) = API.glob(f"{path.stem[:2]}-*.json")
    return found


def levels(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """The graph itself and the inside of every box."""
    return [workflow, *workflow.get("definitions", {}).get("subgraphs", [])]


def nodes_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    """Every node on every level, boxes and notes left out."""
    boxes = {box["id"] for box in levels(workflow)[1:]}
    found = [node for level in levels(workflow) for node in level["nodes"]]
    return [node for node in found if node["type"] not in boxes | FRONT_END_ONLY]


def take_a_file(workflow: dict[str, Any]) -> set[str]:
    """Types of nodes that the front end marks until a file is there that they name, and of the boxes around them."""
    found = {node["type"] for node in nodes_of(workflow) if _names_a_file(node)}
    boxes = {box["id"] for box in levels(workflow)[1:] if any(map(_names_a_file, box["nodes"]))}
    return TAKE_A_FILE | found | boxes


def _names_a_file(node: dict[str, Any]) -> bool:
    values = node.get("widgets_values") or []
    return bool(node["properties"].get("models")) or any(str(value).endswith(".safetensors") for value in values)


def is_runnable(path: Path) -> bool:
    """Whether a template needs nothing that the pack does not hold."""
    nodes = nodes_of(read(path))
    return not any(
        node["type"] in TAKE_A_FILE or node["properties"].get("models") or _loads_a_public_model(node) for node in nodes
    )


def _loads_a_public_model(node: dict[str, Any]) -> bool:
    """Whether a node loads a folder as `instructx download` names it, owner--name."""
    return node["type"] == "InstructXLoadModel" and "--" in str(node["widgets_values"][0])


def to_api(workflow: dict[str, Any], object_info: dict[str, Any], exact: bool = True) -> dict[str, Any]:
    """The prompt that the front end posts for a workflow, written here a second time and independently of it.

    Args:
        workflow: as in a file.
        object_info: of the server.
        exact: every value in the file must belong to a widget. Not so on an older ComfyUI, whose own nodes have fewer
            widgets: its front end leaves the last values over.
    """
    boxes = {box["id"]: box for box in workflow.get("definitions", {}).get("subgraphs", [])}
    links = {link[0]: (link[1], link[2]) for link in workflow["links"]}
    by_id = {node["id"]: node for node in workflow["nodes"]}

    def origin(start: int, slot: int) -> list[Any]:
        """The output that a link begins at, in a box the inner node's."""
        box = boxes.get(by_id[start]["type"])
        if box is None:
            return [str(start), slot]
        (end,) = [link for link in box["links"] if (link["target_id"], link["target_slot"]) == (-20, slot)]
        return [f"{start}:{end['origin_id']}", end["origin_slot"]]

    prompt = {}
    for node in workflow["nodes"]:
        given = {s["name"]: origin(*links[s["link"]]) for s in node.get("inputs", []) if s["link"] is not None}
        if node["type"] in boxes:
            box = boxes[node["type"]]
            inner = {link["id"]: link for link in box["links"]}
            names = [end["name"] for end in box["inputs"]]
            for part in box["nodes"]:
                known = {}
                for socket in part["inputs"]:
                    if socket["link"] is None:
                        continue
                    link = inner[socket["link"]]
                    if link["origin_id"] != -10:
                        known[socket["name"]] = [f"{node['id']}:{link['origin_id']}", link["origin_slot"]]
                    elif names[link["origin_slot"]] in given:
                        known[socket["name"]] = given[names[link["origin_slot"]]]
                prompt[f"{node['id']}:{part['id']}"] = _entry(part, known, object_info, exact)
        elif node["type"] not in FRONT_END_ONLY:
            prompt[str(node["id"])] = _entry(node, given, object_info, exact)
    return prompt


def _entry(
    node: dict[str, Any], linked: dict[str, list[Any]], object_info: dict[str, Any], exact: bool
) -> dict[str, Any]:
    values = list(node["widgets_values"])
    inputs: dict[str, Any] = {}
    for name, spec in inputs_of(object_info[node["type"]]["input"]).items():
        forced = len(spec) > 1 and spec[1].get("forceInput")
        if not forced and (isinstance(spec[0], list) or spec[0] in WIDGETS):
            take_widget(name, spec, values, inputs)
    assert not (exact and values), (node["type"], values)
    return {"class_type": node["type"], "inputs": inputs | linked}


def take_widget(name: str, spec: list[Any], values: list[Any], inputs: dict[str, Any]) -> None:
    """Move a widget's own entries from `values` to `inputs`."""
    value = values.pop(0)
    inputs[name] = {"__value__": value} if isinstance(value, list) else value  # a bare list would read as a link
    options = spec[1] if len(spec) > 1 else {}
    if options.get("control_after_generate"):
        values.pop(0)
    if spec[0] == "COMFY_DYNAMICCOMBO_V3":
        chosen = next(option for option in options["options"] if option["key"] == value)
        for inner, inner_spec in inputs_of(chosen["inputs"]).items():
            take_widget(f"{name}.{inner}", inner_spec, values, inputs)


def inside_loops(prompt: dict[str, Any]) -> set[str]:
    """Nodes between a Window Open and its Window Close, which that one runs: ComfyUI never asks for them itself, so it
    has no result of theirs, cached or not. They do not run where Window Close is cached."""
    found: set[str] = set()
    waiting = {name for name, node in prompt.items() if node["class_type"] == "InstructXWindowOpen"}
    while waiting:
        takes = {name for name, node in prompt.items() if any(link[0] in waiting for link in _links(node))}
        waiting = {name for name in takes if prompt[name]["class_type"] != "InstructXWindowClose"} - found
        found |= waiting
    return found


def _links(node: dict[str, Any]) -> list[list[Any]]:
    return [value for value in node["inputs"].values() if isinstance(value, list)]


RUNNABLE = [path for path in PATHS if path not in APPS and is_runnable(path)]
NEED_WEIGHTS = [path for path in PATHS if path not in [*APPS, *RUNNABLE]]
