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
    sockets = (name.rpartition(".")[2] for name in connected)
    if speaks_of_a_reference(instruction) and not any(name.startswith("reference") for name in sockets):
        raise InputError("The instruction mentions a reference, but none is connected; connect an image to reference.")


def mismatch(node: type[io.ComfyNode], received: dict[str, str]) -> str | None:
    """The link of a wrong type, which ComfyUI leaves to a `validate_inputs` that asks for `input_types`."""
    for socket in node.define_schema().inputs:  # GET_SCHEMA would write to the class, which is locked here
        for name, wanted in _types(socket):
            if name in received and not validate_node_input(received[name], wanted):
                return f"{name}, received_type({received[name]}) mismatch input_type({wanted})"
    return None


def _types(socket: io.Input) -> list[tuple[str, str]]:
    """The names that links may have, each with its type: of a growing input those of all its sockets."""
    if isinstance(socket, io.Autogrow.Input):
        return [(f"{socket.id}.{one.id}", one.get_io_type()) for one in socket.template.get_all()]
    return [(socket.id, socket.get_io_type())]


def problem(check: Callable[..., Any], *values: Any) -> bool | str:
    """What `check` says against `values`, True if nothing: what ComfyUI's `validate_inputs` returns."""
    try:
        check(*values)
    except InstructXError as error:
        return str(error)
    return True
