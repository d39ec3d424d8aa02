"""Per-window inputs of a sliding window, made by the nodes of a loop: conditioning, a reference, a mask."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfy_execution.graph_utils import ExecutionBlocker

from ..instructx_core.errors import InputError
from .inner_nodes import where

if TYPE_CHECKING:
    import torch

    from ..instructx_core.long_video import Turn
    from .inner_nodes import InnerNodes


class EachWindow:
    """Runs the nodes of a loop for the inputs of one window.

    Attributes:
        names: the sockets whose values it provides.
        sha256: hash of the nodes that make the values, and of Window Open's seed, which they may use.
    """

    def __init__(self, inner: InnerNodes) -> None:
        self.names = frozenset(inner.loop.ends)
        self.sha256 = hashlib.sha256(f"{inner.sha256} {inner.flow.seed}".encode()).hexdigest()
        self._inner = inner

    def __call__(self, frames: torch.Tensor, turn: Turn) -> dict[str, Any]:
        """Return the values by socket name; the arguments are those of a `FrameEdit`'s function.

        Raises:
            InputError: a node failed, or returned no value or several.
        """
        given = self._inner(frames, replace(turn, seed=self._inner.flow.seed))
        for name, values in given.items():
            if len(values) != 1 or isinstance(values[0], ExecutionBlocker):
                what = "a node inside blocked it" if len(values) < 2 else f"the nodes inside gave {len(values)}"
                raise InputError(f"{where(turn)}: {name}: {what}; every window needs one.")
        return {name: values[0] for name, values in given.items()}
