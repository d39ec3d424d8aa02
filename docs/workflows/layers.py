"""Arrange nodes in columns by their links: each node is to the right of all its inputs."""

from __future__ import annotations

from .description import Column, Links, Node

STEP = 280  # the width of a column


def layered(nodes: dict[str, Node], links: Links) -> tuple[Column, ...]:
    """Nodes in as few columns as their links allow."""
    depth = dict.fromkeys(nodes, 0)
    for _ in nodes:  # the longest path has fewer links than there are nodes
        for start, ends in links.items():
            for end in ends:
                before, after = start.split(".", 1)[0], end.split(".", 1)[0]
                depth[after] = max(depth[after], depth[before] + 1)
    columns = range(max(depth.values()) + 1)
    return tuple(Column({key: nodes[key] for key in nodes if depth[key] == at}, width=STEP) for at in columns)
