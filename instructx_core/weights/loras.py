"""LoRA files for the DiT: few-step distillations, styles, anything trained on the same Wan.

A file is merged into the weights, as ComfyUI's patches are: a step costs no more than without it, and a saved model or
a long edit's fingerprint reflects the changed weights. To remove it, load the model again.

The whole file is checked before the first weight changes: one that does not fit leaves the DiT unchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError
from ..words import escaped, quoted, quoted_path, shown
from .files import check_finite, check_types, naming, read_metadata, read_safetensors
from .lora_changes import Change, missing_part, module_changes
from .lora_keys import ModuleNames, Role, block_number, split_key, unread_kind
from .lora_settings import PEFT_LEAD, PEFT_SETTINGS, PEFT_WEIGHTS, LoraFileSettings, read_settings
from .stored import read_stored

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

_logger = logging.getLogger(__name__)

STRONGEST = 1000.0  # anything above is a typing mistake

Parts = dict[Role, Tensor]  # one module's tensors in a file


def check_lora(path: str | Path, strength: float = 1.0) -> None:
    """Check a LoRA's strength, file header and settings before loading a model for it.

    Raises:
        CheckpointError: a file that is missing, damaged, of another kind, or an unsupported kind of LoRA; a module of
            a DiT block that lacks one of its matrices.
        InputError: a strength that is not a number between -1000 and 1000.
    """
    roles = _roles(path, strength)
    for module, held in roles.items():
        if block_number(module) is not None and (missing := missing_part(held)):
            raise CheckpointError(f"{quoted_path(path)} holds no {missing} for {escaped(module)}; get the file again.")
    read_settings(path, read_metadata(path))


def load_lora(transformer: WanTransformer3DModel, path: str | Path, strength: float = 1.0) -> None:
    """Merge a LoRA file into a DiT, in place.

    Kinds: LoRA, LoKr, LoHa, and differences (`.diff`, `.diff_b`, `.diff_m`) of weights, norms, biases and modulations,
    as in few-step distillations; one file may mix them. Key styles, recognised by the keys alone: diffusers and peft
    (including settings in the metadata or beside the file), kohya, LyCORIS, original Wan names, and any of these with
    what wrappers such as `torch.compile` add. Tensors that match nothing in this DiT, such as those of a text encoder,
    are named in a warning; an unsupported tensor for a module of the DiT is an error.

    Args:
        transformer: with weights in a floating-point dtype; not quantised.
        path: a safetensors file.
        strength: 1 as trained, 0 for no effect, negative for the opposite.

    Raises:
        CheckpointError: a file that is damaged, holds NaN, is not a LoRA, changes nothing, gives infinite weights, or
            is for another model.
        InputError: a strength that is not a number between -1000 and 1000, or a quantised DiT.
    """
    _roles(path, strength)
    state, metadata = read_safetensors(path)
    parameters = dict(transformer.named_parameters())
    modules, spelled, left_out = _by_module(path, state, ModuleNames(parameters))
    _check_blocks(path, left_out, len(transformer.blocks))
    if not modules:
        raise CheckpointError(
            f"No tensor of {quoted_path(path)} belongs to this DiT ({_listed(left_out)}); give a LoRA for a Wan DiT."
        )
    settings = read_settings(path, metadata)
    found: list[Change] = []
    with naming(path):
        for module, parts in modules.items():
            weight = f"{module}.weight" if f"{module}.weight" in parameters else module
            if missing := missing_part(set(parts)):
                raise CheckpointError(f"it holds no {missing} for {weight}; get the file again.")
            found += module_changes(weight, f"{module}.bias", parts, _alpha(module, spelled[module], parts, settings))
    for change in found:
        _check(path, change, parameters)
    check_finite({key: state[key] for key in state.keys() - set(left_out)}, path)
    if all(change.is_nothing for change in found):
        raise CheckpointError(
            f"{quoted_path(path)} changes nothing: all that it adds is zero; get the file again, or leave it out."
        )
    if left_out:
        _logger.warning(
            "%s: %d of %d tensors do not belong to this DiT and are ignored: %s.",
            *(path, len(left_out), len(state), _listed(left_out)),
        )
    if settings.alpha is None and _is_peft_s(state, modules):
        _logger.warning(
            "%s: its alpha is not known and taken to be its rank; rename it to %s and put peft's %s beside it.",
            *(path, PEFT_WEIGHTS, PEFT_SETTINGS),
        )
    with torch.no_grad():
        _check_sums(path, found, parameters, strength)
        for change in found:
            change.add_to(parameters[change.parameter], strength)


def _roles(path: str | Path, strength: float) -> dict[str, set[Role]]:
    """The roles that a file holds for each module, by the file's names. Raises as `check_lora`."""
    if not isinstance(strength, (int, float)) or isinstance(strength, bool) or not abs(strength) <= STRONGEST:
        raise InputError(f"The strength of {quoted_path(path)} is {shown(strength)}; give a number, such as 1 or -0.5.")
    stored = read_stored(Path(path))
    for key in stored:
        if kind := unread_kind(key):
            raise CheckpointError(
                f"{quoted_path(path)} is {kind} ({escaped(key)}), which is not supported; merge it into the DiT with "
                "the program that made it."
            )
    roles: dict[str, set[Role]] = {}
    whole = {}
    for key, held in stored.items():
        if split := split_key(key):
            module, role = split
            roles.setdefault(module, set()).add(role)
            if not held.is_float and role is not Role.ALPHA:  # which some programs write as an integer
                whole[key] = held.dtype
    if not roles:
        raise CheckpointError(
            f"{quoted_path(path)} is not a LoRA: none of its {len(stored)} tensors ({_listed(list(stored))}) ends like "
            "a LoRA's (.lora_A.weight, .lora_down.weight, .lokr_w1, .hada_w1_a, .diff); give a LoRA for a Wan DiT."
        )
    check_types(whole, path)
    return roles


def _by_module(
    path: str | Path, state: Mapping[str, Tensor], names: ModuleNames
) -> tuple[dict[str, Parts], dict[str, str], list[str]]:
    """The tensors grouped by module, the modules' names in the file, and the keys that belong to none.

    Raises CheckpointError if two tensors have the same role for a module, or one is of an unsupported kind.
    """
    split = {key: split_key(key) for key in state}
    leads = names.leads(name for name, _ in filter(None, split.values()))
    modules: dict[str, Parts] = {}
    spelled: dict[str, str] = {}
    left_out = []
    for key, value in state.items():
        name, role = split[key] or (key, None)
        module = names.find(name, leads) if role else None
        if module is not None:
            parts = modules.setdefault(module, {})
            if role in parts:
                raise CheckpointError(
                    f"{quoted_path(path)} holds two tensors {role.value!r} for {module} ({quoted(key)} is one); give "
                    "one LoRA per file."
                )
            parts[role] = value
            spelled[module] = name
        elif role is None and names.contains(key, leads):
            raise CheckpointError(
                f"{quoted_path(path)} holds {quoted(key)}, a kind of change that is not supported; merge it into the "
                "DiT with the program that made it."
            )
        else:
            left_out.append(key)
    return modules, spelled, left_out


def _is_peft_s(state: Mapping[str, Tensor], modules: Mapping[str, Parts]) -> bool:
    """Whether peft wrote a file, which holds no alpha then."""
    return all(key.startswith(PEFT_LEAD) for key in state) and not any(Role.ALPHA in own for own in modules.values())


def _alpha(module: str, spelled: str, parts: Parts, settings: LoraFileSettings) -> Callable[[int], float]:
    """A module's alpha / rank as a function of rank: alpha from its tensors, else peft's settings, else the rank.

    Args:
        module, spelled: its name in diffusers and in the file.

    Raises CheckpointError if alpha is not a single value.
    """
    alpha = parts.get(Role.ALPHA)
    if alpha is None:
        return lambda rank: settings.factor((module, spelled.removeprefix(PEFT_LEAD)), rank)
    if alpha.numel() != 1:
        raise CheckpointError(f"its alpha of {module} has {alpha.numel()} values, expected one; get the file again.")
    return lambda rank: alpha.item() / rank


def _check(path: str | Path, change: Change, parameters: Mapping[str, nn.Parameter]) -> None:
    parameter = parameters.get(change.parameter)
    if parameter is not None and not parameter.is_floating_point():
        raise InputError(
            f"{quoted_path(path)} cannot be merged: this DiT's weights are quantised ({change.parameter}); load the "
            "DiT in bfloat16, float16 or fp8."
        )
    if parameter is None or not change.fits(parameter):
        found = "does not exist" if parameter is None else f"has the shape {tuple(parameter.shape)}"
        raise CheckpointError(
            f"{quoted_path(path)} was made for another model: it changes {change.parameter} of the shape "
            f"{change.shape}, which {found} here; give a LoRA for this DiT."
        )


def _check_sums(
    path: str | Path, found: Iterable[Change], parameters: Mapping[str, nn.Parameter], strength: float
) -> None:
    """Raise CheckpointError if merging would make a weight infinite; changes nothing."""
    by_parameter: dict[str, list[Change]] = {}
    for change in found:
        by_parameter.setdefault(change.parameter, []).append(change)
    for name, changes in by_parameter.items():
        parameter = parameters[name]
        largest = max(bound.abs().item() for bound in parameter.aminmax())
        if largest + sum(change.most(strength) for change in changes) < torch.finfo(parameter.dtype).max / 2:
            continue  # true of nearly every LoRA, and much cheaper than merging twice
        merged = parameter.clone()
        for change in changes:
            change.add_to(merged, strength)
        if not merged.isfinite().all():
            raise CheckpointError(
                f"{quoted_path(path)} makes {name} infinite at strength {strength:g}; get the file again, or give a "
                "smaller strength."
            )


def _check_blocks(path: str | Path, left_out: Iterable[str], depth: int) -> None:
    """Raise CheckpointError if tensors left out belong to blocks that this DiT does not have."""
    numbers = [number for number in map(block_number, left_out) if number is not None]
    if numbers and max(numbers) >= depth:
        raise CheckpointError(
            f"{quoted_path(path)} was made for another model: it changes block {max(numbers)}, but this DiT has blocks "
            f"0 to {depth - 1}; give a LoRA for this DiT."
        )


def _listed(keys: list[str]) -> str:
    return ", ".join(map(escaped, keys[:3])) + (", ..." if len(keys) > 3 else "")
