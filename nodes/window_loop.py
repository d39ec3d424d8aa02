"""Find the nodes between a Window Open and the node that ends its loop, and check how they are wired.

Two kinds of node end a loop: Window Close and Sliding Window (Loop).
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfy_execution.graph_utils import is_link

import nodes as host_nodes

from ..instructx_core.errors import InputError
from .graph_identity import Hashes, before

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from comfy_execution.graph import DynamicPrompt

OPEN = "InstructXWindowOpen"
ENDS = ("InstructXWindowClose", "InstructXSlidingWindowLoop")
FLOW = 6  # index of Window Open's FLOW output

Link = tuple[str, int]


@dataclass(frozen=True)
class Loop:
    """The nodes of one loop.

    Attributes:
        open: the id of its Window Open.
        ends: the per-window inputs of the node that ends it, each with the link that it comes from.
        inner: ids of the nodes that run for each window.
        targets: the inner nodes to execute: the sources of `ends`, and output nodes such as previews.
        outer: links from nodes outside, which run once.
    """

    open: str
    ends: Mapping[str, Link]
    inner: frozenset[str]
    targets: tuple[str, ...]
    outer: tuple[Link, ...]


def depending(prompt: DynamicPrompt, open_id: str, close_id: str, names: Sequence[str]) -> list[str]:
    """Those of a node's inputs `names` that differ in each window of a Window Open. Raises like `find_loop`."""
    graph = _Graph(prompt, close_id)
    within = graph.behind(open_id, own_close=close_id) | {open_id}
    linked = [name for name in names if is_link(graph.nodes[close_id]["inputs"].get(name))]
    return [name for name in linked if graph.link(close_id, name)[0] in within]


def find_loop(prompt: DynamicPrompt, open_id: str, close_id: str, names: Sequence[str] = ("image",)) -> Loop:
    """The loop that a node ends.

    Args:
        names: the inputs that differ in each window.

    Raises:
        InputError: one of them does not depend on the Window Open, loops are nested or overlap, or a node uses both the
            inside and the result of the loop.
    """
    graph = _Graph(prompt, close_id)
    ends = {name: graph.link(close_id, name) for name in names}
    within = graph.behind(open_id, own_close=close_id)
    for name, (source, _) in ends.items():
        if source not in within and source != open_id:
            raise InputError(
                f"{graph.name(close_id)}: its {name} does not come from {graph.name(open_id)}, whose FLOW it uses; "
                "connect one that is made from that node's frames."
            )
    outputs = sorted(node for node in within if graph.is_output(node))
    for node in within:
        for source in graph.sources(node):
            if source == close_id or (source not in within and source != open_id and graph.needs(source, close_id)):
                raise InputError(
                    f"{graph.name(node)} uses both the inside and the result of the loop between {graph.name(open_id)} "
                    f"and {graph.name(close_id)}; inside, only one window exists at a time. Connect only the result."
                )
    inner = graph.before([*(source for source, _ in ends.values()), *outputs], within)
    outer = sorted(
        {
            (source, number)
            for node in inner
            for source, number in graph.links(node)
            if source not in within and source != open_id
        }
    )
    for source, number in outer:
        graph.check_outside(source, number)
    targets = dict.fromkeys([*(source for source, _ in ends.values()), *outputs])
    return Loop(open_id, ends, frozenset(inner), tuple(targets), tuple(outer))


class _Graph:
    """The links of a prompt, both ways."""

    def __init__(self, prompt: DynamicPrompt, close_id: str) -> None:
        self.nodes = {node_id: prompt.get_node(node_id) for node_id in prompt.all_node_ids()}
        self._takers: dict[str, set[tuple[str, int]]] = defaultdict(set)
        level = prompt.get_parent_node_id(close_id)
        for node_id in self.nodes:
            if prompt.get_parent_node_id(node_id) != level:
                continue  # part of a node's expansion, perhaps from the previous window
            for source, number in self.links(node_id):
                self._takers[source].add((node_id, number))

    def kind(self, node_id: str) -> str:
        return self.nodes[node_id]["class_type"]

    def name(self, node_id: str) -> str:
        """The name of a node in messages."""
        return f"node {node_id} ({node_name(self.nodes[node_id])})"

    def links(self, node_id: str) -> Iterator[Link]:
        """Where a node's inputs come from."""
        return ((value[0], int(value[1])) for value in self.nodes[node_id]["inputs"].values() if is_link(value))

    def sources(self, node_id: str) -> set[str]:
        return {source for source, _ in self.links(node_id) if source in self.nodes}

    def link(self, node_id: str, name: str) -> Link:
        source, number = self.nodes[node_id]["inputs"][name]
        return source, int(number)

    def is_output(self, node_id: str) -> bool:
        return bool(getattr(host_nodes.NODE_CLASS_MAPPINGS[self.kind(node_id)], "OUTPUT_NODE", False))

    def behind(self, open_id: str, own_close: str) -> set[str]:
        """All nodes that depend on a Window Open's per-window outputs.

        Raises:
            InputError: one of them ends another loop.
        """
        found: set[str] = set()
        waiting = [node for node, number in self._takers[open_id] if number != FLOW]
        while waiting:
            node_id = waiting.pop()
            if node_id in found or node_id == own_close:
                continue
            if self.kind(node_id) in ENDS:
                if self.open_of(node_id) == open_id:
                    continue  # a second end of the same loop, with its own nodes
                raise InputError(
                    f"{self.name(node_id)} ends another loop, but uses the frames of {self.name(open_id)}; "
                    "loops can run side by side or one after the other, not inside each other."
                )
            found.add(node_id)
            waiting += [node for node, _ in self._takers[node_id]]
        return found

    def open_of(self, close_id: str) -> str | None:
        """The Window Open whose FLOW the end of a loop gets, possibly through nodes that pass it on."""
        flow = self.nodes[close_id]["inputs"].get("flow")
        while is_link(flow) and flow[0] in self.nodes:
            if self.kind(flow[0]) == OPEN:
                return flow[0]
            flow = next((value for value in self.nodes[flow[0]]["inputs"].values() if is_link(value)), None)
        return None

    def before(self, node_ids: Iterable[str], within: set[str]) -> set[str]:
        """The given nodes and everything upstream of them, restricted to `within`."""
        found: set[str] = set()
        waiting = [node_id for node_id in node_ids if node_id in within]
        while waiting:
            node_id = waiting.pop()
            if node_id not in found:
                found.add(node_id)
                waiting += self.sources(node_id) & within
        return found

    def needs(self, node_id: str, wanted: str) -> bool:
        """Whether a node depends on `wanted`."""
        seen: set[str] = set()
        waiting = [node_id]
        while waiting:
            one = waiting.pop()
            if one == wanted:
                return True
            if one not in seen:
                seen.add(one)
                waiting += self.sources(one)
        return False

    def check_outside(self, node_id: str, number: int) -> None:
        """Raise InputError if an output depends on the frames of a Window Open other than through its loop's end."""
        seen: set[Link] = set()
        waiting = [(node_id, number)]
        while waiting:
            one = waiting.pop()
            if one in seen or one[0] not in self.nodes or self.kind(one[0]) in ENDS:
                continue
            if self.kind(one[0]) == OPEN and one[1] != FLOW:
                raise InputError(
                    f"{self.name(one[0])} feeds its frames into another loop; connect the VIDEO of its own Window "
                    "Close instead."
                )
            seen.add(one)
            if self.kind(one[0]) != OPEN:
                waiting += self.links(one[0])


def node_name(node: Mapping[str, Any]) -> str:
    """The user's title of a node, else its type."""
    return str((node.get("_meta") or {}).get("title") or node["class_type"])


def digest(prompt: DynamicPrompt, loop: Loop) -> tuple[str, list[str]]:
    """A hash of all nodes that a loop's pixels depend on, except Window Open and its settings.

    Args:
        prompt: a prompt whose nodes' own checks for changes have been run.

    Returns:
        The hash, and the ids of nodes whose outputs, by their own check, change in every run.
    """
    hashes = Hashes(prompt, {loop.open: "the loop's own Window Open"})
    ends = [f"{name} {hashes.of_node(source)}.{number}" for name, (source, number) in sorted(loop.ends.items())]
    parts = [*ends, *sorted(hashes.of_node(target) for target in loop.targets)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest(), hashes.restless


def depended_on(prompt: DynamicPrompt, loop: Loop) -> list[str]:
    """All nodes that a loop's pixels depend on, without its Window Open and what only that depends on."""
    return before(prompt, loop.targets, without=loop.open)
