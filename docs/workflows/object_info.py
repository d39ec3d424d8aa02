"""Sockets and widgets of ComfyUI's node types, from the /object_info of a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GROWS = "COMFY_AUTOGROW_V3"  # an input whose sockets appear as they are connected
WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3", "IMAGECOMPARE"}
AFTER_A_RUN = "fixed"  # value after a seed in a file: what the front end does with the seed after a run

Info = dict[str, Any]
Spec = list[Any]


def read(root: Path) -> dict[str, Info]:
    """Node types by name, recorded in tests/."""
    path = root / "tests" / "support" / "golden" / "object_info.json"
    return json.loads(path.read_text(encoding="utf-8"))


def is_widget(spec: Spec) -> bool:
    """Whether an input is a widget of the node."""
    options = spec[1] if len(spec) > 1 else {}
    return not options.get("forceInput") and (isinstance(spec[0], list) or spec[0] in WIDGET_TYPES)


def type_of(spec: Spec) -> str:
    return "COMBO" if isinstance(spec[0], list) else spec[0]


def inputs_of(info: Info) -> dict[str, Spec]:
    """Every input by name, required ones first, as the front end shows them."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def sockets_of(info: Info) -> list[tuple[str, str]]:
    """Every socket by name and type, except those of widgets; for a growing input, the first."""
    found = []
    for name, spec in inputs_of(info).items():
        if spec[0] == GROWS:
            template = spec[1]["template"]
            (inner,) = inputs_of({"input": template["input"]}).values()
            first = template["names"][0] if "names" in template else f"{template['prefix']}0"
            found.append((f"{name}.{first}", type_of(inner)))
        elif not is_widget(spec):
            found.append((name, type_of(spec)))
    return found


def default_of(spec: Spec) -> Any:
    options = spec[1] if len(spec) > 1 else {}
    if spec[0] == "IMAGECOMPARE":
        return ["", ""]  # the slider's two pictures, empty before a run
    if "default" in options:
        return options["default"]
    choices = spec[0] if isinstance(spec[0], list) else options.get("options", [None])
    first = choices[0] if choices else None
    return first["key"] if isinstance(first, dict) else first


def widgets_of(name: str, spec: Spec, settings: dict[str, Any]) -> list[tuple[str, Any]]:
    """A widget by name and value, followed by a seed's control widget (without a name) or a dynamic menu's widgets."""
    value = settings.get(name, default_of(spec))
    found = [(name, value)]
    options = spec[1] if len(spec) > 1 else {}
    if options.get("control_after_generate"):
        found.append(("", AFTER_A_RUN))
    if spec[0] == "COMFY_DYNAMICCOMBO_V3":
        chosen = next(option for option in options["options"] if option["key"] == value)
        for inner, inner_spec in inputs_of({"input": chosen["inputs"]}).items():
            found += widgets_of(f"{name}.{inner}", inner_spec, settings)
    return found
