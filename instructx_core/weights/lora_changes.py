"""The arithmetic of LoRA files: what LoRA, LoKr, LoHa and plain differences add to a weight.

For W [out, in, ...] and b:
- LoRA: W + alpha / rank * up @ down, and b + alpha / rank * up_bias.
- LoKr (LyCORIS): W + alpha / rank * kron(w1, w2). Each factor is one tensor or a product a @ b; w2 of a convolution
  may be a product of three, t2 with a and b. rank is that of a product; if both factors are single tensors, alpha is
  ignored.
- LoHa (LyCORIS): W + alpha / rank * (a1 @ b1) * (a2 @ b2), elementwise; each may be a product of three with t.
- Differences: W + diff, b + diff_b.

As in ComfyUI (0.33.0, `comfy/weight_adapter/`), plus 3D convolutions, for which its LoKr and LoHa support only 2D.
Shapes are checked before anything is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import CheckpointError
from .lora_keys import Role

Parts = Mapping[Role, Tensor]  # one module's tensors in a file
Shape = tuple[int, ...]

_LORA = {Role.UP, Role.DOWN}
_LOKR = {role for role in Role if role.value.startswith("lokr_")}
_LOHA = {role for role in Role if role.value.startswith("hada_")}
_DIFFERENCES = {Role.WEIGHT, Role.BIAS}


@dataclass(frozen=True)
class Change:
    """What is added to one parameter at strength 1: factor * make()."""

    parameter: str
    factor: float
    shape: Shape  # of what is added; of a product, flattened after its first dimension
    factors: tuple[Tensor, ...]  # the product is zero if one of these is
    make: Callable[[], Tensor]  # in float32, on the device of `factors`

    def fits(self, parameter: Tensor) -> bool:
        """Whether `parameter` has the shape of what is added."""
        shape = tuple(parameter.shape)
        flat = (shape[0], math.prod(shape[1:])) if shape else shape
        return self.shape == (shape if len(self.factors) == 1 else flat)

    @property
    def is_nothing(self) -> bool:
        """Whether it adds only zeros."""
        return self.factor == 0 or not all(bool(tensor.any()) for tensor in self.factors)

    def most(self, strength: float) -> float:
        """An upper bound of the absolute values that `add_to` adds or computes on the way, from Frobenius norms."""
        norms = (tensor.float().norm().item() for tensor in self.factors)
        return max(1.0, abs(strength * self.factor)) * math.prod(max(1.0, norm) for norm in norms)

    def add_to(self, parameter: Tensor, strength: float) -> None:
        """Add it in place, computed in float32 whatever the dtypes of file and model."""
        added = self.make().to(parameter.device).reshape(parameter.shape)
        parameter.copy_(parameter.float() + strength * self.factor * added)


def missing_part(roles: set[Role]) -> str:
    """What is missing from one module's tensors; "" if they are complete.

    Args:
        roles: of the tensors that the file holds for it.
    """
    kinds = [kind for kind in (_LORA, _LOKR, _LOHA, _DIFFERENCES) if roles & kind]
    if not kinds or (roles & (_LORA | {Role.UP_BIAS}) and not roles >= _LORA):
        return "complete pair of matrices"
    if roles & _LOHA and roles & _LOHA not in (_LOHA, _LOHA - {Role.LOHA_T1, Role.LOHA_T2}):
        return "complete LoHa (two products of two matrices)"
    if roles & _LOKR:
        first = Role.LOKR_1 in roles or roles >= {Role.LOKR_1A, Role.LOKR_1B}
        second = Role.LOKR_2 in roles or roles >= {Role.LOKR_2A, Role.LOKR_2B}
        if not (first and second):
            return "complete LoKr (two factors)"
    return ""


def module_changes(weight: str, bias: str, parts: Parts, alpha: Callable[[int], float]) -> list[Change]:
    """What one module's tensors, none missing, add to its weight and bias.

    Args:
        weight, bias: names of the parameters.
        alpha: returns alpha / rank for a rank.

    Raises:
        CheckpointError: matrices whose shapes do not match.
    """
    found = []
    if Role.UP in parts:
        up, down = parts[Role.UP], parts[Role.DOWN]
        factor = alpha(_rank(weight, down))
        found.append(_product(weight, factor, up, down))
        if Role.UP_BIAS in parts:
            found.append(_plain(bias, factor, parts[Role.UP_BIAS]))
    if parts.keys() & _LOKR:
        found.append(_kronecker(weight, parts, alpha))
    if parts.keys() & _LOHA:
        found.append(_hadamard(weight, parts, alpha))
    for role, parameter in ((Role.WEIGHT, weight), (Role.BIAS, bias)):
        if role in parts:
            found.append(_plain(parameter, 1.0, parts[role]))
    return found


def add_pair(weight: Tensor, down: Tensor, up: Tensor) -> None:
    """Add up [out, rank] @ down [rank, in] to a weight [out, in], in place: a LoRA trained with alpha = rank."""
    _product("weight", 1.0, up, down).add_to(weight, 1.0)


def _plain(parameter: str, factor: float, value: Tensor) -> Change:
    return Change(parameter, factor, tuple(value.shape), (value,), lambda: value.float())


def _product(parameter: str, factor: float, up: Tensor, down: Tensor) -> Change:
    left, right = (len(up), math.prod(up.shape[1:])), (len(down), math.prod(down.shape[1:]))
    _agree(parameter, left[1] == right[0], up, down)
    return Change(parameter, factor, (left[0], right[1]), (up, down), lambda: _flat(up) @ _flat(down))


def _kronecker(parameter: str, parts: Parts, alpha: Callable[[int], float]) -> Change:
    rank = None
    if Role.LOKR_1 in parts:
        first, tensors = (lambda: parts[Role.LOKR_1].float()), [parts[Role.LOKR_1]]
        one = _shape(parameter, parts[Role.LOKR_1], 2)
    else:
        a, b = parts[Role.LOKR_1A], parts[Role.LOKR_1B]
        rank, one, first, tensors = _factor(parameter, a, b, None)
    if Role.LOKR_2 in parts:
        second = lambda: parts[Role.LOKR_2].float()  # noqa: E731
        two, tensors = _shape(parameter, parts[Role.LOKR_2], 2), [*tensors, parts[Role.LOKR_2]]
    else:
        a, b = parts[Role.LOKR_2A], parts[Role.LOKR_2B]
        rank, two, second, more = _factor(parameter, a, b, parts.get(Role.LOKR_T2))
        tensors = [*tensors, *more]
    width = one[1] * math.prod(one[2:]) * math.prod(two[1:])

    def make() -> Tensor:
        left, right = first(), second()
        dimensions = max(left.ndim, right.ndim)
        left, right = (side.reshape(*side.shape, *[1] * (dimensions - side.ndim)) for side in (left, right))
        return torch.kron(left.contiguous(), right.contiguous())

    factor = 1.0 if rank is None else alpha(rank)
    return Change(parameter, factor, (one[0] * two[0], width), tuple(tensors), make)


def _hadamard(parameter: str, parts: Parts, alpha: Callable[[int], float]) -> Change:
    rank, one, first, left = _factor(parameter, parts[Role.LOHA_1A], parts[Role.LOHA_1B], parts.get(Role.LOHA_T1))
    _, two, second, right = _factor(parameter, parts[Role.LOHA_2A], parts[Role.LOHA_2B], parts.get(Role.LOHA_T2))
    _agree(parameter, one == two, parts[Role.LOHA_1A], parts[Role.LOHA_2A])
    shape = (one[0], math.prod(one[1:]))
    return Change(parameter, alpha(rank), shape, (*left, *right), lambda: first() * second())


def _factor(
    parameter: str, a: Tensor, b: Tensor, core: Tensor | None
) -> tuple[int, Shape, Callable[[], Tensor], list[Tensor]]:
    """A factor given as a product: its rank, its shape, a function that computes it, and its tensors.

    Args:
        a, b: [out, rank] and [rank, in]; with a core [rank, out] and [rank, in].
        core: [rank, rank, ...].
    """
    rank = _rank(parameter, b)
    _shape(parameter, a, 2)
    if core is None:
        made = _product(parameter, 1.0, a, b)
        return rank, made.shape, made.make, [a, b]
    fits = a.ndim == b.ndim == 2 and core.ndim >= 2 and (len(a), len(b)) == tuple(core.shape[:2])
    _agree(parameter, fits, a, b, core)
    shape = (a.shape[1], b.shape[1], *core.shape[2:])
    make = lambda: torch.einsum("ij...,ip,jr->pr...", core.float(), a.float(), b.float())  # noqa: E731
    return rank, shape, make, [a, b, core]


def _rank(parameter: str, down: Tensor) -> int:
    rank = _shape(parameter, down, 2)[0]
    if not rank:
        raise CheckpointError(f"it holds matrices of rank 0 for {parameter}; get the file again.")
    return rank


def _shape(parameter: str, tensor: Tensor, dimensions: int) -> Shape:
    if tensor.ndim < dimensions:
        raise CheckpointError(
            f"it holds a tensor of the shape {tuple(tensor.shape)} for {parameter}, expected a matrix; get the file "
            "again."
        )
    return tuple(tensor.shape)


def _agree(parameter: str, agree: bool, *tensors: Tensor) -> None:
    if not agree:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise CheckpointError(
            f"its matrices for {parameter} do not fit together ({shapes}); was it made for another model?"
        )


def _flat(matrix: Tensor) -> Tensor:
    return matrix.float().flatten(1)
