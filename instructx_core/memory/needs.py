"""Main memory that a model needs: its weights, copies made while loading, and on a CPU the activations of edits.

Weights stored in the requested dtype are mapped from their files: their pages are loaded when a part works and can be
dropped when another one does. All others are converted while they are read, and stay in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..families.opened import Opened
from ..weights.detect import Form
from ..weights.parts import Part
from ..weights.stored import DTYPES
from .choice import Memory
from .phases import Phase
from .sizes import ModelSizes

GIB = 2**30
RUNTIME = GIB  # bytes of Python with its libraries, and a reserve
OWN_MEMORY = ("cpu", "mps")  # devices that use the machine's main memory


@dataclass(frozen=True)
class Held:
    """Bytes of a loaded model's weights in a given dtype, by where they are held."""

    own: int  # converted or changed: in memory for the life of the model
    mapped: dict[Part, int]  # mapped from files: in memory while the part works

    @property
    def total(self) -> int:
        return self.own + sum(self.mapped.values())


@dataclass(frozen=True)
class Need:
    """A sum in bytes, item by item."""

    items: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        return sum(size for _, size in self.items)

    def __str__(self) -> str:
        """As "11.2 GiB (weights 9.3, DiT step 0.9, Python and its libraries 1.0)"."""
        items = ", ".join(f"{name} {size / GIB:.1f}" for name, size in self.items if size)
        return f"{self.total / GIB:.1f} GiB ({items})"


def held_weights(
    opened: Opened, dtype: torch.dtype, sizes: ModelSizes, merged: bool = False, copied: bool = False
) -> Held:
    """How a model's weights would be held, computed from file headers.

    Args:
        dtype: of the loaded weights, whose sizes are `sizes`.
        merged: LoRAs are merged into the DiT, or its weights are converted to fewer bits after loading.
        copied: all weights are copied from their files, as for a device that shares the main memory.
    """
    changed = {Part.DIT, Part.DIT_2} if merged else set()
    mapped, own = {}, sizes.added
    for part in opened.parts:
        weights = sizes.parts[part]
        plain = 0 if part in changed else _as_stored(opened.form(part), dtype)
        mapped[part] = 0 if copied else min(plain + weights.packed, weights.total)
        own += weights.total - mapped[part]
    return Held(own, mapped)


def main_memory_need(held: Held, phases: tuple[Phase, ...], memory: Memory, device: torch.device) -> Need:
    """Peak main memory of loading a model and of an edit with the given phases."""
    runtime = ("Python and its libraries", RUNTIME)
    if device.type not in OWN_MEMORY:
        # weights that are offloaded from the device come back as copies
        stay = held.own if memory is Memory.FULL else held.total
        return Need((("weights", stay), runtime))
    needs = []
    for phase in phases:
        weights = weights_in_use(held, memory, phase.part)
        needs.append(Need((("weights", weights), (phase.name, phase.working), runtime)))
    return max(needs, key=lambda need: need.total)


def weights_in_use(held: Held, memory: Memory, part: Part) -> int:
    """Bytes of weights that must be in main memory while a part works; mapped weights of other parts may go."""
    return held.total if memory is Memory.FULL else held.own + held.mapped[part]


def address_need(held: Held, need: Need) -> Need:
    """`need` with all mapped files counted in full, as `ulimit -v` counts them."""
    return Need((("weights", held.total), *((name, size) for name, size in need.items if name != "weights")))


def _as_stored(form: Form, dtype: torch.dtype) -> int:
    """Bytes of the tensors that the files hold in the requested dtype; they are mapped, the others converted."""
    if form.is_gguf or form.is_pickled:
        return 0
    return sum(stored.numel * dtype.itemsize for stored in form.tensors.values() if DTYPES.get(stored.dtype) is dtype)
