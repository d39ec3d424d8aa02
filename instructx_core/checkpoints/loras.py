"""LoRA files for the DiT: few-step distillations, styles, anything that was trained on the same Wan.

A file is merged into the weights, as ComfyUI's patches are: a step costs what it did without, and saving the model or
asking a long edit's fingerprint sees the changed weights. To be without it, load the model again.

Everything in a file is looked at before the first weight changes: what does not fit leaves the DiT as it was.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError
from .files import check_finite, check_types, read_safetensors
from .headers import read_stored
from .lora_keys import Role, is_altering, module_names, split_key

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

_logger = logging.getLogger(__name__)

_SETTINGS = "lora_adapter_metadata"  # under which diffusers keeps peft's settings in a file's metadata
_BLOCK = re.compile(r"blocks[._](\d+)[._]")

Parts = dict[Role, Tensor]  # what a file holds for one module


@dataclass(frozen=True)
class _Change:
    """What is added to one parameter at strength 1: factor * left, or factor * left @ right."""

    parameter: str
    factor: float
    left: Tensor
    right: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the sum, both factors flattened behind their first dimension where there are two."""
        if self.right is None:
            return tuple(self.left.shape)
        return (self.left.shape[0], self.right[0].numel())

    def fits(self, parameter: Tensor) -> bool:
        """Whether a parameter has the shape of what is added to it."""
        if self.right is None:
            return self.shape == tuple(parameter.shape)
        ranks_agree = self.left[0].numel() == self.right.shape[0]
        return ranks_agree and self.shape == (parameter.shape[0], parameter[0].numel())

    def add_to(self, parameter: Tensor, strength: float) -> None:
        """Add it in place, computed in float32 where the parameter is, whatever dtypes the file and the model have."""
        left = self.left.to(parameter.device, torch.float32)
        if self.right is not None:
            right = self.right.to(parameter.device, torch.float32)
            left = (left.flatten(1) @ right.flatten(1)).reshape(parameter.shape)
        parameter.copy_(parameter.float() + strength * self.factor * left)


def check_lora(path: str | Path, strength: float = 1.0) -> None:
    """Look at a LoRA's strength and its file's header, before a model is loaded to put it on.

    Raises:
        CheckpointError: a file that is missing, damaged, of another kind, or of no LoRA that is read here.
        InputError: a strength that is no finite number.
    """
    if not isinstance(strength, (int, float)) or isinstance(strength, bool) or not math.isfinite(strength):
        raise InputError(f"The strength of {str(path)!r} is {strength!r}; give a number, such as 1 or -0.5.")
    stored = read_stored(Path(path))
    keys = list(stored)
    if altering := [key for key in keys if is_altering(key)]:
        raise CheckpointError(
            f"{str(path)!r} is a DoRA or a LoCon of three matrices ({_listed(altering)}), which are not read here; "
            "merge it into the DiT with the program that made it."
        )
    if not any(split_key(key) for key in keys):
        raise CheckpointError(
            f"{str(path)!r} is no LoRA: none of its {len(keys)} tensors ({_listed(keys)}) ends like a LoRA's "
            "(.lora_A.weight, .lora_down.weight, .diff); give a LoRA for a Wan DiT."
        )

    check_types({key: held.dtype for key, held in stored.items() if split_key(key) and not held.is_float}, path)


def load_lora(transformer: WanTransformer3DModel, path: str | Path, strength: float = 1.0) -> None:
    """Merge a LoRA file into a DiT, in place.

    Key styles, told apart by the keys alone: diffusers and peft (settings in the metadata included), kohya's, original
    Wan names with `lora_A` / `lora_B` or `lora_down` / `lora_up`, and differences (`.diff`, `.diff_b`) of weights,
    norms and biases, as few-step distillations hold them. Tensors without a place in this DiT, such as those of a text
    encoder, are named in a warning.

    Args:
        transformer: with weights in a floating-point dtype; not quantised.
        path: a safetensors file.
        strength: 1 as it was trained, 0 not at all, negative for its opposite.

    Raises:
        CheckpointError: a file that is damaged, holds NaN, is no LoRA, or was made for another model.
        InputError: a strength that is no finite number, or a DiT that is quantised.
    """
    check_lora(path, strength)
    state, metadata = read_safetensors(path)
    parameters = dict(transformer.named_parameters())
    modules, left_out = _by_module(state, module_names(parameters))
    _check_blocks(path, left_out, len(transformer.blocks))
    if not modules:
        raise CheckpointError(
            f"No tensor of {str(path)!r} has a place in this DiT ({_listed(left_out)}); give a LoRA for a Wan DiT."
        )
    settings = _settings(path, metadata)
    changes = []
    for module, parts in modules.items():
        weight = f"{module}.weight" if f"{module}.weight" in parameters else module
        changes += _changes(path, weight, f"{module}.bias", parts, settings)
    for change in changes:
        _check(path, change, parameters)
    check_finite({key: state[key] for key in state.keys() - set(left_out)}, path)
    if left_out:
        _logger.warning(
            "%s: %d of %d tensors have no place in this DiT and are left out: %s.",
            *(path, len(left_out), len(state), _listed(left_out)),
        )
    with torch.no_grad():
        for change in changes:
            change.add_to(parameters[change.parameter], strength)


def _by_module(state: Mapping[str, Tensor], names: Mapping[str, str]) -> tuple[dict[str, Parts], list[str]]:
    """The tensors by the module that they are for, and the keys that are for none."""
    modules: dict[str, Parts] = {}
    left_out = []
    for key, value in state.items():
        name, role = split_key(key) or (key, None)
        if role is None or name not in names:
            left_out.append(key)
        else:
            modules.setdefault(names[name], {})[role] = value
    return modules, left_out


def _changes(path: str | Path, weight: str, bias: str, parts: Parts, settings: Mapping[str, Any]) -> list[_Change]:
    """What one module's tensors add to its weight and to its bias."""
    changes = []
    if Role.UP in parts or Role.DOWN in parts:
        factor = _factor(path, weight, parts, settings)
        changes.append(_Change(weight, factor, parts[Role.UP], parts[Role.DOWN]))
        if Role.UP_BIAS in parts:
            changes.append(_Change(bias, factor, parts[Role.UP_BIAS]))
    if Role.WEIGHT in parts:
        changes.append(_Change(weight, 1.0, parts[Role.WEIGHT]))
    if Role.BIAS in parts:
        changes.append(_Change(bias, 1.0, parts[Role.BIAS]))
    return changes


def _factor(path: str | Path, weight: str, parts: Parts, settings: Mapping[str, Any]) -> float:
    """alpha / rank: alpha from beside the matrices, else from peft's settings, else the rank."""
    pair = [parts.get(Role.UP), parts.get(Role.DOWN)]
    alpha = parts.get(Role.ALPHA)
    if any(matrix is None or matrix.ndim < 2 for matrix in pair) or (alpha is not None and alpha.numel() != 1):
        raise CheckpointError(f"{str(path)!r} holds no whole pair of matrices for {weight}; get the file again.")
    rank = len(parts[Role.DOWN])
    if alpha is not None:
        return alpha.item() / rank
    if "lora_alpha" not in settings:
        return 1.0
    from peft.utils.other import get_pattern_key

    pattern = settings.get("alpha_pattern") or {}
    said = pattern.get(get_pattern_key(pattern.keys(), weight.removesuffix(".weight")), settings["lora_alpha"])
    return said / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _settings(path: str | Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """peft's settings of the adapter, where diffusers wrote them into the file; {} elsewhere."""
    try:
        said = json.loads(metadata.get(_SETTINGS, "{}"))
        return {name.removeprefix("transformer."): value for name, value in said.items()}
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{str(path)!r} has damaged settings in its metadata; get the file again.") from error


def _check(path: str | Path, change: _Change, parameters: Mapping[str, nn.Parameter]) -> None:
    parameter = parameters.get(change.parameter)
    if parameter is not None and not parameter.is_floating_point():
        raise InputError(
            f"{str(path)!r} cannot be merged: this DiT's weights are quantised ({change.parameter}); load the DiT in "
            "bfloat16, float16 or fp8."
        )
    if parameter is None or not change.fits(parameter):
        expected = "nothing" if parameter is None else tuple(parameter.shape)
        raise CheckpointError(
            f"{str(path)!r} was made for another model: it changes {change.parameter} of the shape {change.shape}, "
            f"which is {expected} here; give a LoRA for this DiT."
        )


def _check_blocks(path: str | Path, left_out: Iterable[str], depth: int) -> None:
    """Raise CheckpointError where tensors without a place are of blocks that this DiT does not have."""
    numbers = [int(match[1]) for match in map(_BLOCK.search, left_out) if match]
    if numbers and max(numbers) >= depth:
        raise CheckpointError(
            f"{str(path)!r} was made for another model: it changes block {max(numbers)}, this DiT has blocks 0 to "
            f"{depth - 1}; give a LoRA for this DiT."
        )


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
