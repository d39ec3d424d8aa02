"""Let a node run a part of the graph repeatedly; the only module that depends on ComfyUI's executor.

Nodes run under their own ids in the prompt's event loop, so that progress, previews and messages appear on them.
`execution.execute` is not a public API: its arguments are passed by name, and a ComfyUI with a different signature is
refused with an error (works in 0.15.1 to 0.33.0; tests/comfyui/checks/check_window_nodes.py).
"""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import comfy.model_management as management

from ..instructx_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from comfy_execution.graph import DynamicPrompt

ARGUMENTS = {
    "server",
    "dynprompt",
    "caches",
    "current_item",
    "extra_data",
    "executed",
    "prompt_id",
    "execution_list",
    "pending_subgraph_results",
    "pending_async_nodes",
    "ui_outputs",
}


class InnerError(Exception):
    """An inner node failed.

    Attributes:
        node_id: id of the node, or of one that it expanded to.
        reason: its error message.
    """

    def __init__(self, node_id: str, reason: str) -> None:
        super().__init__(reason)
        self.node_id = node_id
        self.reason = reason


def check_executor() -> None:
    """Raise InputError if this ComfyUI's executor does not have the expected interface."""
    try:
        from comfy_execution.graph import ExecutionList
        from execution import CacheEntry, ExecutionResult, IsChangedCache, execute

        ExecutionResult.SUCCESS, ExecutionResult.FAILURE, ExecutionResult.PENDING  # noqa: B018
        known = (
            set(inspect.signature(execute).parameters) == ARGUMENTS
            and inspect.iscoroutinefunction(execute)
            and set(CacheEntry._fields) == {"ui", "outputs"}
            and list(inspect.signature(ExecutionList).parameters)[:2] == ["dynprompt", "output_cache"]
            and list(inspect.signature(IsChangedCache).parameters) == ["prompt_id", "dynprompt", "outputs_cache"]
        )
    except (ImportError, AttributeError, TypeError, ValueError):
        known = False
    if not known:
        from comfyui_version import __version__ as version

        raise InputError(
            f"ComfyUI {version} runs nodes in a way that InstructX Window Close does not support yet; update InstructX,"
            " or use InstructX Sliding Window, which needs no loop."
        )


class NestedGraph:
    """Runs nodes of the current prompt repeatedly; their instances live as long as this object."""

    def __init__(self, dynprompt: DynamicPrompt, prompt_id: str, extra_data: dict[str, Any]) -> None:
        """
        Args:
            extra_data: the prompt's, needed e.g. by API nodes and savers.

        Raises:
            InputError: as for `check_executor`.
        """
        check_executor()
        self.dynprompt = dynprompt
        self.prompt_id = prompt_id
        self.extra_data = extra_data
        self._objects = _values()

    async def run(self, given: Mapping[str, Sequence[list[Any]]], targets: Sequence[str]) -> list[Sequence[list[Any]]]:
        """Run targets and what they need, once.

        Args:
            given: outputs by node, a list of values each; these nodes are not run.
            targets: node ids.

        Returns:
            The outputs of each target.

        Raises:
            InnerError: a node failed.
            InterruptProcessingException: Cancel was pressed.
        """
        import execution
        from comfy_execution.graph import ExecutionList
        from server import PromptServer

        management.cleanup_models_gc()  # free patched copies from the previous run, as ComfyUI does before a prompt
        outputs = _values()
        for node_id, values in given.items():
            outputs.set_local(node_id, execution.CacheEntry(ui=None, outputs=list(values)))
        waiting = ExecutionList(self.dynprompt, outputs)
        for target in targets:
            if outputs.get_local(target) is None:
                waiting.add_node(target)
        common = {
            "server": PromptServer.instance,
            "dynprompt": self.dynprompt,
            "caches": SimpleNamespace(outputs=outputs, objects=self._objects, all=[outputs, self._objects]),
            "extra_data": self.extra_data,
            "executed": set(),
            "prompt_id": self.prompt_id,
            "execution_list": waiting,
            "pending_subgraph_results": {},
            "pending_async_nodes": {},
            "ui_outputs": {},
        }
        while not waiting.is_empty():
            node_id, failure, error = await waiting.stage_node_execution()
            if failure is None:
                result, failure, error = await execution.execute(current_item=node_id, **common)
            if failure is not None:
                if isinstance(error, management.InterruptProcessingException):
                    raise error
                raise InnerError(node_id or failure["node_id"], str(error)) from error
            if result == execution.ExecutionResult.PENDING:
                waiting.unstage_node_execution()
            else:
                waiting.complete_node_execution()
        return [outputs.get_local(target).outputs for target in targets]


async def ask(dynprompt: DynamicPrompt, node_ids: Sequence[str], prompt_id: str = "") -> None:
    """Run nodes' own checks for changes (e.g. a file's hash); ComfyUI stores the results as `is_changed`."""
    import execution

    asked = execution.IsChangedCache(prompt_id, dynprompt, None)
    for node_id in node_ids:
        await asked.get(node_id)


def ask_at_once(dynprompt: DynamicPrompt, node_ids: Sequence[str]) -> None:
    """`ask` for a synchronous node; does nothing if `check_executor` fails."""
    try:
        check_executor()
    except InputError:
        return
    with ThreadPoolExecutor(1) as pool:  # this thread already runs ComfyUI's event loop
        pool.submit(asyncio.run, ask(dynprompt, node_ids)).result()


class _Values:
    """A minimal cache with the interface that ComfyUI's executor expects, keyed by node id."""

    def __init__(self) -> None:
        self._by_node: dict[str, Any] = {}

    def get_local(self, node_id: str) -> Any:
        return self._by_node.get(node_id)

    def set_local(self, node_id: str, value: Any) -> None:
        self._by_node[node_id] = value

    async def get(self, node_id: str) -> Any:
        return self._by_node.get(node_id)

    async def set(self, node_id: str, value: Any) -> None:
        self._by_node[node_id] = value

    async def ensure_subcache_for(self, _node_id: str, _children: Any) -> _Values:
        return self

    def clean_unused(self) -> None:
        """Do nothing: no values are kept for a later prompt."""


class _EarlierValues(_Values):
    """`_Values` for versions of ComfyUI whose caches are synchronous."""

    get = _Values.get_local
    set = _Values.set_local


def _values() -> _Values:
    from comfy_execution.caching import HierarchicalCache

    return _Values() if inspect.iscoroutinefunction(HierarchicalCache.get) else _EarlierValues()
