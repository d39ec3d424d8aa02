"""Counts the bytes of tensors that are alive while code runs, on real tensors or on fake ones of any size."""

from __future__ import annotations

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """`peak`: bytes of all tensors made since the beginning that were alive at the same time, at most.

    Memory that a kernel takes for itself and gives back is not seen.
    """

    def __init__(self, *known: torch.nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()
        for module in known:  # its weights were there before
            self._seen |= {_key(tensor) for tensor in (*module.parameters(), *module.buffers())}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and _key(tensor) not in self._seen:
                self._begins(tensor.untyped_storage())
        return result

    def _begins(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._ends, key, size)

    def _ends(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
