"""The shipped workflows, and what a server is asked to run for one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.places import ROOT, SUPPORT

FOLDER = ROOT / "workflows"
PATHS = sorted(FOLDER.glob("*.json"))
KIWI = [path for path in PATHS if path.stem.endswith("-kiwi")]  # they want 20 GB of weights
RUNNABLE = [path for path in PATHS if path not in KIWI]
GOLDEN = SUPPORT / "golden" / "object_info.json"
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3", "IMAGECOMPARE"}
TAKE_A_FILE = {"LoadImage", "LoadVideo"}  # the front end marks them until one is chosen that the server has
FRONT_END_ONLY = {"MarkdownNote", "Note"}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def inputs_of(definition: dict[str, Any]) -> dict[str, list[Any]]:
    return {**definition.get("required", {}), **definition.get("optional", {})}


def to_api(workflow: dict[str, Any], object_info: dict[str, Any], exact: bool = True) -> dict[str, Any]:
    """The prompt that the front end posts for a workflow, written here a second time and independently of it.

    Args:
        workflow: as in a file.
        object_info: of the server.
        exact: every value in the file must belong to a widget. Not so on an older ComfyUI, whose own nodes have fewer
            widgets: its front end leaves the last values over.
    """
    origin = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in FRONT_END_ONLY:
            continue
        values = list(node["widgets_values"])
        inputs: dict[str, Any] = {}
        for name, spec in inputs_of(object_info[node["type"]]["input"]).items():
            if isinstance(spec[0], list) or spec[0] in WIDGETS:
                take_widget(name, spec, values, inputs)
        assert not (exact and values), (node["type"], values)
        for socket in node["inputs"]:
            if socket["link"] is not None:
                inputs[socket["name"]] = origin[socket["link"]]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


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
