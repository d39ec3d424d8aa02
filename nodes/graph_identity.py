"""Hashes of the nodes that a node's inputs come from, equal for the same nodes with the same settings."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
from comfy.cli_args import args
from comfy_execution.graph_utils import is_link

from .nested_execution import ask_at_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from comfy_execution.graph import DynamicPrompt


class Hashes:
    """Hashes of nodes, each including everything upstream; node ids do not affect them.

    Attributes:
        restless: ids of nodes seen so far whose outputs, by their own check, change in every run.
    """

    def __init__(self, prompt: DynamicPrompt, known: Mapping[str, str] | None = None) -> None:
        """
        Args:
            prompt: a prompt whose nodes' own checks for changes have been run.
            known: given hashes by node; nothing upstream of these nodes is hashed.
        """
        self.restless: list[str] = []
        self._prompt = prompt
        self._known = dict(known or {})

    def of_value(self, value: Any) -> str:
        """Hash a node's input."""
        if is_link(value):
            return f"{self.of_node(value[0])}.{int(value[1])}"
        return json.dumps(value, sort_keys=True, default=str)

    def of_node(self, node_id: str) -> str:
        if node_id not in self._known:
            node = self._prompt.get_node(node_id)
            changed = node.get("is_changed", False)  # result of its own check, such as a file's hash
            if _is_restless(changed):
                self.restless.append(node_id)
                changed = "always"
            inputs = {name: self.of_value(value) for name, value in sorted(node["inputs"].items())}
            files = [facts for _, value in sorted(node["inputs"].items()) for facts in _files(value)]
            text = json.dumps([node["class_type"], inputs, changed, files], default=str)
            self._known[node_id] = hashlib.sha256(text.encode()).hexdigest()
        return self._known[node_id]


def origins(
    prompt: DynamicPrompt | None, node_id: str | None, inputs: Sequence[str]
) -> tuple[dict[str, str] | None, bool]:
    """A hash for each of a node's inputs, and whether the nodes that made them are reproducible.

    A MODEL's weights cannot be compared cheaply (patched in place, quantised, offloaded). So the hashes cover the graph
    that made it, its nodes' own checks for changes, and the sizes and times of the model files that it names.

    Returns:
        The hashes, None if the graph is unknown; and False if an upstream node reports that it always changes.
    """
    if prompt is None or node_id is None:
        return None, True
    own = prompt.get_node(node_id)["inputs"]
    if args.cache_none:  # without a cache, ComfyUI has not run the nodes' checks
        ask_at_once(prompt, before(prompt, [own[name][0] for name in inputs if is_link(own.get(name))]))
    hashes = Hashes(prompt)
    found = {name: hashes.of_value(own.get(name)) for name in inputs}
    return found, not hashes.restless


def before(prompt: DynamicPrompt, node_ids: Sequence[str], without: str | None = None) -> list[str]:
    """Nodes and everything upstream of them, excluding `without` and what only it depends on."""
    found: dict[str, None] = {}
    waiting = list(node_ids)
    while waiting:
        node_id = waiting.pop()
        if node_id != without and node_id not in found:
            found[node_id] = None
            waiting += [value[0] for value in prompt.get_node(node_id)["inputs"].values() if is_link(value)]
    return list(found)


def _files(value: Any) -> Iterator[tuple[str, int, int]]:
    """Folder kind, size and time of every model file that an input may name.

    Stock loaders do not check their files for changes, and a retrained file often keeps its name.
    """
    if not isinstance(value, str):
        return
    for kind in sorted(folder_paths.folder_names_and_paths):
        try:
            path = folder_paths.get_full_path(kind, value)
        except ValueError:  # on Windows, a path on another drive
            return
        if path is not None:
            facts = Path(path).stat()
            yield kind, facts.st_size, facts.st_mtime_ns


def _is_restless(changed: Any) -> bool:
    """Whether a node's check for changes returned NaN, which means changed in every run."""
    values = changed if isinstance(changed, (list, tuple)) else [changed]
    return any(isinstance(value, float) and math.isnan(value) for value in values)
