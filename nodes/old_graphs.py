"""Update graphs from older versions when they are queued (web/old_graphs.js does it for those on the canvas).

ComfyUI's node replacement covers node types that were removed; here the types stayed, but inputs were renamed or
removed.
"""

from __future__ import annotations

from typing import Any

from ..instructx_core.weights.known_models import folder_name
from .references import FURTHER

LOADER, GUIDANCE = "InstructXLoadModel", "InstructXMLLMGuidance"
GONE = ("hub_id", "download")
GROWN = ("reference_2", "reference_3")  # inputs that are now part of a growing input


def register() -> None:
    """Update every prompt before ComfyUI validates it; does nothing without a server."""
    try:
        from server import PromptServer
    except ImportError:  # a ComfyUI without its server
        return
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.add_on_prompt_handler(up_to_date)


def up_to_date(request: dict[str, Any]) -> dict[str, Any]:
    """Update the inputs of a request's nodes in place, and return it."""
    prompt = request.get("prompt")
    for node in prompt.values() if isinstance(prompt, dict) else ():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if isinstance(inputs, dict) and node.get("class_type") == LOADER:
            _name_the_folder(inputs)
        elif isinstance(inputs, dict) and node.get("class_type") == GUIDANCE:
            for name in GROWN:
                if name in inputs:
                    inputs[f"{FURTHER}.{name}"] = inputs.pop(name)
    return request


def _name_the_folder(inputs: dict[str, Any]) -> None:
    """Replace a hub id by a model of the menu."""
    hub_id, _ = (inputs.pop(name, None) for name in GONE)
    if isinstance(hub_id, str) and hub_id.strip():
        inputs["model_name"] = folder_name(hub_id.strip())
