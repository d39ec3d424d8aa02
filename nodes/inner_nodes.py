"""The nodes of a loop, run for one window after the other: what all nodes that end one have in common."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import comfy.model_management as management
import torch
from comfy_execution.utils import CurrentNodeContext

from ..instructx_core.errors import EditInterrupted, InputError
from .nested_execution import InnerError, NestedGraph, ask
from .window_loop import Loop, depended_on, digest, find_loop, node_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from comfy_execution.graph import DynamicPrompt

    from ..instructx_core.long_video import Turn
    from .sockets import FlowValue

_one_at_a_time: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


@dataclass(frozen=True)
class Ran:
    """Where the nodes of a loop run.

    Attributes:
        prompt_id: of the prompt that is being run.
        end_id, run_id: the node that ends the loop, and the hidden one that it expanded to.
        outer: what links from outside of the loop bring.
        extra_data: of the prompt.
    """

    prompt: DynamicPrompt
    prompt_id: str
    end_id: str
    run_id: str
    outer: Mapping[tuple[str, int], list[Any]]
    extra_data: dict[str, Any]


class InnerNodes:
    """The nodes of a loop as a function over a window's frames.

    Attributes:
        sha256: of all that they give depends on, beside the source and the windows.
        settled: whether the same nodes give the same again.
    """

    def __init__(self, flow: FlowValue, ran: Ran, names: Sequence[str]) -> None:
        """names: inputs of the node that ends the loop. Raises as `find_loop` and `NestedGraph`."""
        self.flow = flow
        self.loop: Loop = find_loop(ran.prompt, flow.node_id, ran.end_id, names)
        self.nested = NestedGraph(ran.prompt, ran.prompt_id, ran.extra_data)
        self.ran = ran
        self._stopped = threading.Event()
        self._events = asyncio.get_running_loop()
        self._outer: dict[str, list[list[Any]]] = {}
        for (node_id, number), values in ran.outer.items():
            outputs = self._outer.setdefault(node_id, [])
            outputs += [[] for _ in range(number + 1 - len(outputs))]
            outputs[number] = values

    async def look(self) -> None:
        """Find out `sha256` and `settled`."""
        prompt = self.nested.dynprompt
        await ask(prompt, depended_on(prompt, self.loop), self.ran.prompt_id)
        self.sha256, restless = digest(prompt, self.loop)
        self.settled = not restless

    async def around(self, work: Callable[[InnerNodes], Path]) -> Path:
        """Do something in a thread of its own that calls this; what it shows is the ending node's.

        The nodes run where ComfyUI runs all others, in the prompt's event loop, and know nothing of the thread.
        """
        try:
            with CurrentNodeContext(self.ran.prompt_id, self.ran.end_id):
                return await asyncio.to_thread(torch.inference_mode()(work), self)
        finally:
            self._stopped.set()  # where the prompt ends for another reason, the thread must too

    def __call__(self, frames: torch.Tensor, turn: Turn) -> dict[str, list[Any]]:
        """Run the nodes for a window; called in the thread of `around`.

        Returns:
            For each end of the loop what the window gives there, a list of values.

        Raises:
            InputError: a node failed; its window and its name are in the message, and ComfyUI marks it.
            InterruptProcessingException: Cancel was pressed.
        """
        if self._stopped.is_set():
            raise EditInterrupted("The prompt has ended.")
        management.throw_exception_if_processing_interrupted()
        return asyncio.run_coroutine_threadsafe(self._window(frames, turn), self._events).result()

    async def _window(self, frames: torch.Tensor, turn: Turn) -> dict[str, list[Any]]:
        held = torch.zeros(frames.shape[:3])
        held[: turn.held] = 1
        tail = frames[:1] if turn.tail is None else turn.tail
        outputs = [frames, held, tail, turn.index, turn.count, turn.seed, self.flow, turn.window.start]
        given = {**self._outer, self.loop.open: [[value] for value in outputs]}
        targets = self.loop.targets
        try:
            results = dict(zip(targets, await self.nested.run(given, targets), strict=True))
        except InnerError as error:
            self._blame(error.node_id)
            name = node_name(self.nested.dynprompt.get_node(error.node_id))
            raise InputError(
                f"{where(turn)}, node {error.node_id} ({name}): {error.reason}\n"
                "The windows before it are kept; run again to go on."
            ) from error
        return {
            name: list(results[node][number]) if number < len(results[node]) else []
            for name, (node, number) in self.loop.ends.items()
        }

    def _blame(self, node_id: str) -> None:
        """Have ComfyUI show the error that is about to be raised on the node inside.

        It names the node that the failing one was expanded from, and asks for it when a node that it waited for ends.
        """
        prompt = self.nested.dynprompt
        run_id = self.ran.run_id
        prompt.add_ephemeral_node(run_id, prompt.get_node(run_id), node_id, node_id)


async def run_loop(flow: FlowValue, ran: Ran, names: Sequence[str], work: Callable[[InnerNodes], Path]) -> Path:
    """Do something with the nodes of a loop.

    Args:
        flow: what Window Open said.
        names: inputs of the node that ends the loop, of which each window gives another.
        work: called in a thread of its own.

    Raises:
        InputError: as `find_loop`, `NestedGraph` and `InnerNodes.__call__`.
        InterruptProcessingException: Cancel was pressed.
    """
    # loops beside each other would hold two windows, and their models take turns on the GPU
    lock = _one_at_a_time.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    await asyncio.sleep(0)  # an unfinished node is looked up again when it is done: see InnerNodes._blame
    async with lock:
        inner = InnerNodes(flow, ran, names)
        await inner.look()
        return await inner.around(work)


def where(turn: Turn) -> str:
    """A window as messages call it."""
    return f"Window {turn.index + 1} of {turn.count}"
