"""Expand the node that ends a loop into a hidden node, whose inputs make ComfyUI run and cache the nodes outside it."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io
from comfy_execution.graph_utils import GraphBuilder
from comfy_execution.utils import get_executing_context

from . import categories
from .inner_nodes import Ran
from .sockets import Flow
from .window_loop import FLOW, Loop

if TYPE_CHECKING:
    from collections.abc import Mapping

OF_THE_PROMPT = [
    getattr(io.Hidden, name)
    for name in ("extra_pnginfo", "auth_token_comfy_org", "api_key_comfy_org", "comfy_usage_source")
    if hasattr(io.Hidden, name)
]
HIDDEN = [io.Hidden.unique_id, io.Hidden.dynprompt, *OF_THE_PROMPT]


def run_schema(node_id: str, display_name: str, end: str) -> io.Schema:
    """Schema of a hidden node, in no menu: it takes the values from outside the loop and gives `end`'s video."""
    texts = [io.String.Input(name) for name in ("end_id", "nonce", "outer")]
    return io.Schema(
        node_id=node_id,
        display_name=display_name,
        category=categories.VIDEO,
        description=f"Runs the loop of {end}; not for use on its own.",
        inputs=[Flow.Input("flow"), *texts],
        outputs=[io.Video.Output(display_name="VIDEO")],
        hidden=HIDDEN,
        is_input_list=True,
        is_dev_only=True,
        accept_all_inputs=True,
    )


def expand(kind: str, loop: Loop, end_id: str, **more: Any) -> io.NodeOutput:
    """Replace the node that ends a loop by a hidden node of a kind.

    Args:
        more: additional inputs, links as [node, output].
    """
    graph = GraphBuilder()
    run = graph.node(
        kind,
        flow=[loop.open, FLOW],
        end_id=end_id,
        nonce=secrets.token_hex(16),  # never cached itself, as inner nodes are not its inputs; the ending node is
        outer=json.dumps(loop.outer),
        **{f"outer_{number}": list(link) for number, link in enumerate(loop.outer)},
        **more,
    )
    return io.NodeOutput(run.out(0), expand=graph.finalize())


def ran(node: type[io.ComfyNode], end_id: str, outer: str, values: Mapping[str, list[Any]]) -> Ran:
    """The execution context of the loop of a running hidden node, from that node's arguments."""
    links = [tuple(link) for link in json.loads(outer)]
    extra_data = {hidden.name: getattr(node.hidden, hidden.name) for hidden in OF_THE_PROMPT}
    return Ran(
        node.hidden.dynprompt,
        get_executing_context().prompt_id,
        end_id,
        node.hidden.unique_id,
        {link: values[f"outer_{number}"] for number, link in enumerate(links)},
        {name: value for name, value in extra_data.items() if value is not None},
    )
