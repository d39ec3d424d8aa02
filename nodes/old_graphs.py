"""Graphs of older versions, brought up to date as they are queued (web/old_graphs.js does it for those on the canvas).

ComfyUI's own node replacement changes nodes whose type is gone; here a type stayed and lost two inputs.
"""

from __future__ import annotations

from typing import Any

from ..instructx_core.weights.known_models import folder_name

LOADER = "InstructXLoadModel"
GONE = ("hub_id", "download")


def register() -> None:
    """Look at every prompt before it is checked, where a server runs."""
    try:
        from server import PromptServer
    except ImportError:  # a ComfyUI without its server
        return
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.add_on_prompt_handler(up_to_date)


def up_to_date(request: dict[str, Any]) -> dict[str, Any]:
    """A request whose loaders name a model of the menu instead of a hub id, in place."""
    prompt = request.get("prompt")
    for node in prompt.values() if isinstance(prompt, dict) else ():
        inputs = node.get("inputs") if isinstance(node, dict) and node.get("class_type") == LOADER else None
        if isinstance(inputs, dict):
            hub_id, _ = (inputs.pop(name, None) for name in GONE)
            if isinstance(hub_id, str) and hub_id.strip():
                inputs["model_name"] = folder_name(hub_id.strip())
    return request
