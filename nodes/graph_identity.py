"""Where a node's inputs come from, as hashes: equal where the same nodes with the same settings made them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from comfy_execution.graph_utils import is_link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from comfy_execution.graph import DynamicPrompt


def origins(prompt: DynamicPrompt | None, node_id: str | None, inputs: Sequence[str]) -> dict[str, str] | None:
    """A hash for each of a node's linked inputs; None where the graph is not known.

    A MODEL's weights cannot be compared cheaply (patched in place, quantised, offloaded); what is known exactly is the
    graph that made it, which is also what ComfyUI's own cache goes by.
    """
    if prompt is None or node_id is None:
        return None
    known: dict[str, str] = {}
    own = prompt.get_node(node_id)["inputs"]
    return {name: _value(prompt, own.get(name), known) for name in inputs}


def _value(prompt: DynamicPrompt, value: Any, known: dict[str, str]) -> str:
    if is_link(value):
        return f"{_node(prompt, value[0], known)}.{value[1]}"
    return json.dumps(value, sort_keys=True, default=str)


def _node(prompt: DynamicPrompt, node_id: str, known: dict[str, str]) -> str:
    """The hash of a node and all that is before it; numbers of nodes do not count."""
    if node_id not in known:
        node = prompt.get_node(node_id)
        inputs = {name: _value(prompt, value, known) for name, value in sorted(node["inputs"].items())}
        # what its own check for changes gave, such as a file's hash, where ComfyUI has asked it
        text = json.dumps([node["class_type"], inputs, node.get("is_changed", False)], default=str)
        known[node_id] = hashlib.sha256(text.encode()).hexdigest()
    return known[node_id]
