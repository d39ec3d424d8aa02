"""What is wrong with a menu's value, said on the node before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from comfy_api.latest import io
from comfy_execution.validation import validate_node_input

from ..instructx_core.errors import InputError, InstructXError
from ..instructx_core.instruction import speaks_of_a_reference


def check_reference(instruction: str, connected: Collection[str]) -> None:
    """Raise InputError where an instruction speaks of a reference and no reference is among the linked inputs."""
    if speaks_of_a_reference(instruction) and not any(name.startswith("reference") for name in connected):
        raise InputError("The instruction speaks of a reference, and none is connected; connect one to reference.")


def mismatch(node: type[io.ComfyNode], received: dict[str, str]) -> str | None:
    """The link of a wrong type, which ComfyUI leaves to a `validate_inputs` that asks for `input_types`."""
    for socket in node.define_schema().inputs:  # GET_SCHEMA would write to the class, which is locked here
        if socket.id in received and not validate_node_input(received[socket.id], socket.get_io_type()):
            return f"{socket.id}, received_type({received[socket.id]}) mismatch input_type({socket.get_io_type()})"
    return None


def problem(check: Callable[..., Any], *values: Any) -> bool | str:
    """What `check` says against `values`, True if nothing: what ComfyUI's `validate_inputs` returns."""
    try:
        check(*values)
    except InstructXError as error:
        return str(error)
    return True
