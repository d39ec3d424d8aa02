"""Cache per-run constants of the DiT at the first step: text embedding, cross-attention keys and values, RoPE.

A `RunCache` belongs to the sampling loop (`sampling.sample`). It is lent to the DiT for one forward at a time, so the
DiT keeps no state and runs may be interleaved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel
    from torch import nn

Results = dict[str, Any]  # by name; empty before the first step


class RunCache:
    """The values that all steps of one run share for one context; create one for every run and context."""

    def __init__(self, transformer: WanTransformer3DModel) -> None:
        from ..cross_attention import cross_attentions

        self._modules = (transformer.condition_embedder.text_embedder, transformer.rope)
        self._processors = list(cross_attentions(transformer))
        self._of_modules: list[Results] = [{} for _ in self._modules]
        self._of_processors: list[Results] = [{} for _ in self._processors]

    @contextmanager
    def lent(self) -> Iterator[None]:
        """For one forward: the first fills the cache, later ones use it. Does nothing with gradients enabled."""
        if torch.is_grad_enabled():  # gradients need every value recomputed in every forward
            yield
            return
        with ExitStack() as stack:
            for module, own in zip(self._modules, self._of_modules, strict=True):
                stack.enter_context(_cached_output(module, own))
            for processor, own in zip(self._processors, self._of_processors, strict=True):
                processor.cache = own
                stack.callback(setattr, processor, "cache", None)
            yield


@contextmanager
def _cached_output(module: nn.Module, results: Results) -> Iterator[None]:
    """Make a module's forward return its cached output if the input has the same shape as before."""
    own = module.forward

    def forward(given: torch.Tensor) -> Any:
        if results.get("shape") != given.shape:
            results.update(shape=given.shape, output=own(given))
        return results["output"]

    of_instance = "forward" in vars(module)  # set by offloading, for example
    module.forward = forward
    try:
        yield
    finally:
        if of_instance:
            module.forward = own
        else:
            del module.forward
