"""Check the values of menus and widgets, so that errors appear on the node before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from comfy_api.latest import io
from comfy_execution.validation import validate_node_input

from ..instructx_core.errors import InputError, InstructXError
from ..instructx_core.instruction import speaks_of_a_reference


def check_reference(instruction: str, connected: Collection[str]) -> None:
    """Raise InputError if an instruction mentions a reference but no reference input is linked."""
    sockets = (name.rpartition(".")[2] for name in connected)
    if speaks_of_a_reference(instruction) and not any(name.startswith("reference") for name in sockets):
        raise InputError("The instruction mentions a reference, but none is connected; connect an image to reference.")


def mismatch(node: type[io.ComfyNode], received: dict[str, str]) -> str | None:
    """An error text for a link of the wrong type: ComfyUI skips this check if `validate_inputs` takes `input_types`."""
    for socket in node.define_schema().inputs:  # not GET_SCHEMA, which writes to the class: it is locked here
        for name, wanted in _types(socket):
            if name in received and not validate_node_input(received[name], wanted):
                return f"{name}, received_type({received[name]}) mismatch input_type({wanted})"
    return None


def _types(socket: io.Input) -> list[tuple[str, str]]:
    """The socket names and types of an input; a growing input has several sockets."""
    if isinstance(socket, io.Autogrow.Input):
        return [(f"{socket.id}.{one.id}", one.get_io_type()) for one in socket.template.get_all()]
    return [(socket.id, socket.get_io_type())]


def problem(check: Callable[..., Any], *values: Any) -> bool | str:
    """The error text of `check(*values)`, True if it passes: the form that ComfyUI's `validate_inputs` returns."""
    try:
        check(*values)
    except InstructXError as error:
        return str(error)
    return True
