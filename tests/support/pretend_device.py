"""A second device where there is none: tensors on the CPU that say they are elsewhere, and may not meet others.

For whether code brings to a device what it works on there. What CUDA allows is allowed: numbers, indices on the CPU,
copies. Autograd and the insides of compiled operators are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

ELSEWHERE = torch.device("cuda", 0)
CPU = torch.device("cpu")
MOVES = {torch.Tensor.copy_, torch.Tensor.__getitem__, torch.Tensor.__setitem__, torch.Tensor.set_}
ALIKE = {torch.Tensor.to, torch.Tensor.type_as}  # which bring the first tensor to where the second one is


class MixedDevices(RuntimeError):
    """An operator was given tensors of two devices."""


def put(module: nn.Module, there: bool = True) -> nn.Module:
    """Move a module there or back, in place."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.is_elsewhere = there
    return module


def is_there(value: Any) -> bool:
    return getattr(value, "is_elsewhere", False) is True


class PretendDevice(TorchFunctionMode):
    """While it lasts, `ELSEWHERE` is a device."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if function == torch.Tensor.device.__get__:
            return ELSEWHERE if is_there(args[0]) else function(*args, **kwargs)
        if function is torch.Tensor.numpy and is_there(args[0]):
            raise MixedDevices("a tensor that is elsewhere as an array")
        wanted = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device | str)]
        wanted = [torch.device(leaf) for leaf in wanted if isinstance(leaf, torch.device) or leaf in ("cpu", "cuda")]
        if function in ALIKE and len(tensors) > 1:
            wanted = [ELSEWHERE if is_there(tensors[1]) else CPU]
        if wanted and wanted[0].type == "cuda" and kwargs.get("generator") is not None:
            raise MixedDevices("random numbers made elsewhere by a generator of the CPU")
        args, kwargs = tree_map(lambda leaf: CPU if leaf in (ELSEWHERE, "cuda") and not isinstance(
            leaf, torch.Tensor) else leaf, (args, kwargs))  # fmt: skip
        places = {is_there(tensor) for tensor in tensors if tensor.dim()}
        if len(places) > 1 and function not in MOVES and not wanted:
            shapes = [(tuple(tensor.shape), "elsewhere" if is_there(tensor) else "CPU") for tensor in tensors]
            raise MixedDevices(f"{getattr(function, '__name__', function)} of {shapes}")
        result = function(*args, **kwargs)
        there = any(map(is_there, tensors[:1] if function in MOVES else tensors))
        there = wanted[0].type == "cuda" if wanted else there and function is not torch.Tensor.cpu

        def told(leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor):
                return leaf
            if is_there(leaf) != there and any(leaf is tensor for tensor in tensors):
                leaf = leaf.clone()  # a move that had nothing to do
            leaf.is_elsewhere = there
            return leaf

        return tree_map(told, result)


@contextmanager
def pretending() -> Iterator[None]:
    """`ELSEWHERE` exists, and modules move there and back."""
    move, back = nn.Module.to, nn.Module.cpu

    def to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        if ELSEWHERE in args or ELSEWHERE in kwargs.values():
            return put(module)
        return move(module, *args, **kwargs)

    nn.Module.to, nn.Module.cpu = to, lambda module: put(module, False)
    try:
        with PretendDevice():
            yield
    finally:
        nn.Module.to, nn.Module.cpu = move, back
