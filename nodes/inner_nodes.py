"""Run the nodes of a loop for one window after another; shared by the nodes that can end a loop."""

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
    """The execution context of a loop.

    Attributes:
        prompt_id: id of the running prompt.
        end_id, run_id: ids of the node that ends the loop and of the hidden node that it expanded to.
        outer: values of the links from outside the loop.
        extra_data: the prompt's.
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
        sha256: hash of everything that their outputs depend on, except the source and the windows.
        settled: whether the nodes are reproducible from run to run.
    """

    def __init__(self, flow: FlowValue, ran: Ran, names: Sequence[str]) -> None:
        """names: inputs of the node that ends the loop. Raises like `find_loop` and `NestedGraph`."""
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
        """Set `sha256` and `settled`."""
        prompt = self.nested.dynprompt
        await ask(prompt, depended_on(prompt, self.loop), self.ran.prompt_id)
        self.sha256, restless = digest(prompt, self.loop)
        self.settled = not restless

    async def around(self, work: Callable[[InnerNodes], Path]) -> Path:
        """Run `work`, which calls this object, in a separate thread.

        Its progress is shown on the node that ends the loop. The inner nodes run in the prompt's event loop, like all
        other nodes.
        """
        try:
            with CurrentNodeContext(self.ran.prompt_id, self.ran.end_id):
                return await asyncio.to_thread(torch.inference_mode()(work), self)
        finally:
            self._stopped.set()  # if the prompt ends for any other reason, the thread must end too

    def __call__(self, frames: torch.Tensor, turn: Turn) -> dict[str, list[Any]]:
        """Run the nodes for a window; called in the thread of `around`.

        Returns:
            The window's values, a list for each end of the loop.

        Raises:
            InputError: a node failed; the message names the window and the node, and ComfyUI marks the node.
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
                "The windows before it are kept; run again to continue."
            ) from error
        return {
            name: list(results[node][number]) if number < len(results[node]) else []
            for name, (node, number) in self.loop.ends.items()
        }

    def _blame(self, node_id: str) -> None:
        """Make ComfyUI show the error that is about to be raised on the inner node that failed.

        ComfyUI attributes an error in an expanded node, here the hidden one, to the node that it was expanded from, and
        looks that one up when a pending node finishes.
        """
        prompt = self.nested.dynprompt
        run_id = self.ran.run_id
        prompt.add_ephemeral_node(run_id, prompt.get_node(run_id), node_id, node_id)


async def run_loop(flow: FlowValue, ran: Ran, names: Sequence[str], work: Callable[[InnerNodes], Path]) -> Path:
    """Run `work` with the nodes of a loop.

    Args:
        flow: from Window Open.
        names: inputs of the node that ends the loop which differ in each window.
        work: called in a separate thread.

    Raises:
        InputError: as for `find_loop`, `NestedGraph` and `InnerNodes.__call__`.
        InterruptProcessingException: Cancel was pressed.
    """
    # parallel loops would hold two windows in memory and swap their models on the GPU
    lock = _one_at_a_time.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    await asyncio.sleep(0)  # makes ComfyUI look this node up again when it is done: see InnerNodes._blame
    async with lock:
        inner = InnerNodes(flow, ran, names)
        await inner.look()
        return await inner.around(work)


def where(turn: Turn) -> str:
    """The name of a window in messages."""
    return f"Window {turn.index + 1} of {turn.count}"
