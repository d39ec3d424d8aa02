"""The nodes between Window Open and Window Close as what edits the windows of the library's loop over a long video.

The library decodes, joins, keeps and encodes in a thread of its own; nodes run where ComfyUI runs all others, in the
prompt's event loop, so nothing of them knows of the thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import comfy.model_management as management
import comfy.utils
import comfyui_version
import latent_preview
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from comfy_execution.utils import CurrentNodeContext

from ..instructx_core.errors import EditInterrupted, InputError
from .footage import footage_of
from .nested_execution import InnerError, NestedGraph
from .notes import clock, say, show
from .window_loop import Loop, depended_on, digest, find_loop, node_name
from .window_open import output_folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from comfy_execution.graph import DynamicPrompt

    from ..instructx_core.long_video import LongProgress, Turn
    from .sockets import FlowValue

_one_at_a_time: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


async def run_windows(
    flow: FlowValue,
    prompt: DynamicPrompt,
    prompt_id: str,
    close_id: str,
    run_id: str,
    outer: Mapping[tuple[str, int], list[Any]],
    extra_data: dict[str, Any],
) -> Path:
    """Edit a video by the nodes of a loop.

    Args:
        flow: what Window Open said.
        close_id, run_id: Window Close, and the node that this runs in.
        outer: what links from outside of the loop bring.
        extra_data: of the prompt.

    Returns:
        The finished video.

    Raises:
        InputError: anything that cannot be used; a window whose nodes failed.
        InterruptProcessingException: Cancel was pressed.
    """
    lock = _one_at_a_time.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    await asyncio.sleep(0)  # an unfinished node is looked up again when it is done: see _blame
    async with lock:  # loops beside each other would hold two windows, and their models take turns on the GPU
        loop = find_loop(prompt, flow.node_id, close_id)
        nested = NestedGraph(prompt, prompt_id, extra_data)
        changes = {node_id: await nested.changes(node_id) for node_id in depended_on(prompt, loop)}
        inner, restless = digest(prompt, loop, changes)
        body = _Body(flow, loop, nested, outer, run_id)
        stopped = threading.Event()
        try:
            with CurrentNodeContext(prompt_id, close_id):
                return await asyncio.to_thread(_edit, flow, inner, not restless, body, stopped)
        finally:
            stopped.set()  # where the prompt ends for another reason, the thread must too


class _Body:
    """The nodes of a loop as a function over a window's frames."""

    def __init__(
        self,
        flow: FlowValue,
        loop: Loop,
        nested: NestedGraph,
        outer: Mapping[tuple[str, int], list[Any]],
        run_id: str,
    ) -> None:
        self.flow = flow
        self.loop = loop
        self.nested = nested
        self.run_id = run_id
        self._events = asyncio.get_running_loop()
        self._outer: dict[str, list[list[Any]]] = {}
        for (node_id, number), values in outer.items():
            outputs = self._outer.setdefault(node_id, [])
            outputs += [[] for _ in range(number + 1 - len(outputs))]
            outputs[number] = values

    def __call__(self, frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        """Called in the library's thread."""
        return asyncio.run_coroutine_threadsafe(self._window(frames, turn), self._events).result()

    async def _window(self, frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        held = torch.zeros(frames.shape[:3])
        held[: turn.held] = 1
        tail = frames[:1] if turn.tail is None else turn.tail
        outputs = [frames, held, tail, turn.index, turn.count, turn.seed, self.flow]
        where = f"Window {turn.index + 1} of {turn.count}"
        given = {**self._outer, self.loop.open: [[value] for value in outputs]}
        try:
            results = await self.nested.run(given, self.loop.targets)
        except InnerError as error:
            self._blame(error.node_id)
            name = node_name(self.nested.dynprompt.get_node(error.node_id))
            raise InputError(
                f"{where}, node {error.node_id} ({name}): {error.reason}\n"
                "The windows before it are kept; run again to go on."
            ) from error
        number = self.loop.image[1]
        images = results[0][number] if number < len(results[0]) else []
        if not images or any(isinstance(image, ExecutionBlocker) for image in images):
            raise InputError(f"{where}: the nodes inside gave no image (one of them blocks it); each window needs one.")
        return images[0] if len(images) == 1 else torch.cat(list(images))

    def _blame(self, node_id: str) -> None:
        """Have ComfyUI show the error that is about to be raised on the node inside.

        It names the node that the failing one was expanded from, and asks for it when a node that it waited for ends.
        """
        prompt = self.nested.dynprompt
        prompt.add_ephemeral_node(self.run_id, prompt.get_node(self.run_id), node_id, node_id)


@torch.inference_mode()
def _edit(flow: FlowValue, inner: str, settled: bool, body: _Body, stopped: threading.Event) -> Path:
    """The library's part, from the source to the finished file.

    Args:
        inner: a hash of the nodes inside and of what they hang on.
        settled: whether the same nodes give the same again.
    """
    from ..instructx_core.long_video import FrameEdit, edit_footage, identity
    from ..instructx_core.long_video.cuts import check_cuts, with_cuts
    from ..instructx_core.long_video.store import kept_by_seed

    check_cuts(flow.options)
    folder = output_folder(flow.folder)
    folder.mkdir(parents=True, exist_ok=True)

    def function(frames: torch.Tensor, turn: Turn) -> torch.Tensor:
        if stopped.is_set():
            raise EditInterrupted("The prompt has ended.")
        management.throw_exception_if_processing_interrupted()
        return body(frames, turn)

    edit = FrameEdit(
        function,
        {
            "nodes": inner,
            "comfyui": comfyui_version.__version__,
            "device": management.get_torch_device().type,
        },
        frame_multiple=flow.frame_multiple,
        seed=flow.seed,
        hold_all=flow.hold_all,
    )
    with footage_of(flow.source) as footage:
        options = with_cuts(flow.options, footage)
        known = identity(edit, footage, options)
        name = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:24]
        output = folder / f"{name}.mp4"
        if settled and output.is_file():
            return output
        for seed, count in kept_by_seed(folder, known).items():
            say(f"Windows of this edit that are finished with seed {seed}: {count}; set that seed to go on from them.")
        watcher = _Watcher()
        edit_footage(edit, footage, output, options, resume=True, callback=watcher.step, finished=watcher.window)
    return output


class _Watcher:
    """Window Close's progress over all windows: a bar, each one's last frame, and the time that is left."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.bar = comfy.utils.ProgressBar(1)
        self.windows = 1

    def step(self, at: LongProgress) -> None:
        self.windows, self.reused = at.windows, at.reused

    def window(self, number: int, frames: torch.Tensor) -> None:
        from PIL import Image

        picture = Image.fromarray(frames[-1].numpy())
        self.bar.update_absolute(number, self.windows, ("JPEG", picture, latent_preview.MAX_PREVIEW_RESOLUTION))
        left = (time.monotonic() - self.began) / (number - self.reused) * (self.windows - number)
        show(f"window {number} of {self.windows}, {clock(left)} left")
