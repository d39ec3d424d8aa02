"""Count the bytes of live tensors while code runs: real tensors, fake ones, or ones on the meta device."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ..compat import storage_identity

META = torch.device("meta")


class LiveMemory(TorchDispatchMode):
    """`peak`: the most bytes of tensors created since the start that were alive at the same time.

    Memory that a kernel allocates and frees internally is not seen. Code that mixes meta tensors with small real ones,
    such as indices, continues on the meta device.

    Args:
        known: modules whose weights existed before and are not counted.
    """

    def __init__(self, *known: torch.nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()
        for module in known:
            self._seen |= {_key(tensor) for tensor in (*module.parameters(), *module.buffers())}

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        devices = {value.device for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)}
        if len(devices) > 1 and META in devices:
            args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.to(META), (args, kwargs))
        result = function(*args, **kwargs)
        for tensor in (result,) if isinstance(result, torch.Tensor) else tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and _key(tensor) not in self._seen:
                self._begins(tensor.untyped_storage())
        return result

    def _begins(self, storage: torch.UntypedStorage) -> None:
        key, size = storage_identity(storage), storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._ends, key, size)

    def _ends(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


class FlashAttention(TorchFunctionMode):
    """Attention that allocates only its output, as flash attention does; PyTorch has no such kernel for meta."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function is not torch.nn.functional.scaled_dot_product_attention:
            return function(*args, **kwargs)
        given = dict(zip(("query", "key", "value"), args, strict=False)) | dict(kwargs)
        query, value = given["query"], given["value"]
        return query.new_empty(*query.shape[:-1], value.shape[-1])


def _key(tensor: torch.Tensor) -> int:
    return storage_identity(tensor.untyped_storage())
