"""Where a node's inputs come from, as hashes: equal where the same nodes with the same settings made them."""

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
    """Hashes of nodes, each with all that is before it; numbers of nodes do not count.

    Attributes:
        restless: ids of nodes met so far that say they give something else in every run.
    """

    def __init__(self, prompt: DynamicPrompt, known: Mapping[str, str] | None = None) -> None:
        """
        Args:
            prompt: one whose nodes' own checks for changes have been asked.
            known: hashes by node; what is before such nodes does not count.
        """
        self.restless: list[str] = []
        self._prompt = prompt
        self._known = dict(known or {})

    def of_value(self, value: Any) -> str:
        """Of a node's input."""
        if is_link(value):
            return f"{self.of_node(value[0])}.{int(value[1])}"
        return json.dumps(value, sort_keys=True, default=str)

    def of_node(self, node_id: str) -> str:
        if node_id not in self._known:
            node = self._prompt.get_node(node_id)
            changed = node.get("is_changed", False)  # what its own check gave, such as a file's hash
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
    """A hash for each of a node's inputs, and whether what made them gives the same again.

    A MODEL's weights cannot be compared cheaply (patched in place, quantised, offloaded). What is known is the graph
    that made it, what its nodes' own checks for changes say, and the sizes and times of the model files that it names.

    Returns:
        No hashes where the graph is not known. Not the same again where a node before it counts as always changed.
    """
    if prompt is None or node_id is None:
        return None, True
    own = prompt.get_node(node_id)["inputs"]
    if args.cache_none:  # without a cache ComfyUI asks no node
        ask_at_once(prompt, before(prompt, [own[name][0] for name in inputs if is_link(own.get(name))]))
    hashes = Hashes(prompt)
    found = {name: hashes.of_value(own.get(name)) for name in inputs}
    return found, not hashes.restless


def before(prompt: DynamicPrompt, node_ids: Sequence[str], without: str | None = None) -> list[str]:
    """Nodes and all that they depend on; neither `without` nor what only that depends on."""
    found: dict[str, None] = {}
    waiting = list(node_ids)
    while waiting:
        node_id = waiting.pop()
        if node_id != without and node_id not in found:
            found[node_id] = None
            waiting += [value[0] for value in prompt.get_node(node_id)["inputs"].values() if is_link(value)]
    return list(found)


def _files(value: Any) -> Iterator[tuple[str, int, int]]:
    """Folder, size and time of every model file that an input may name: stock loaders do not check theirs for changes.

    A file that was trained again often keeps its name.
    """
    if not isinstance(value, str):
        return
    for kind in sorted(folder_paths.folder_names_and_paths):
        try:
            path = folder_paths.get_full_path(kind, value)
        except ValueError:  # on Windows, of a path on another drive
            return
        if path is not None:
            facts = Path(path).stat()
            yield kind, facts.st_size, facts.st_mtime_ns


def _is_restless(changed: Any) -> bool:
    """Whether a node's check for changes gave NaN, which is never the same again."""
    values = changed if isinstance(changed, (list, tuple)) else [changed]
    return any(isinstance(value, float) and math.isnan(value) for value in values)
