"""peft's adapter settings: the alpha of each module. diffusers writes them into a LoRA file's metadata, peft beside it.

peft treats the names in `alpha_pattern` as regular expressions. Those in a foreign file are never run, as some take
forever. A name is compared literally, whole or after a dot; anything but a name is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bounded import UnreadableError, is_file, parse_json
from ..errors import CheckpointError
from ..words import quoted, quoted_path, shown
from .files import read_json

METADATA = "lora_adapter_metadata"  # diffusers' metadata key
PEFT_WEIGHTS, PEFT_SETTINGS = "adapter_model.safetensors", "adapter_config.json"  # peft's own files
PEFT_LEAD = "base_model.model."  # before every name in them
_NAME = re.compile(r"\^?[\w.]+\$?")


@dataclass(frozen=True)
class LoraFileSettings:
    """The alpha of each module; None if the file does not state it."""

    alpha: float | None = None
    patterns: Mapping[str, float] = field(default_factory=dict)  # module, or the end of its name -> alpha
    rank_stabilised: bool = False

    def factor(self, names: Collection[str], rank: int) -> float:
        """alpha / rank, or alpha / sqrt(rank) for a rank-stabilised adapter; 1 if the file states no alpha.

        Args:
            names: of the module: in diffusers, and in the file without peft's prefix.
        """
        if self.alpha is None:
            return 1.0
        found = (own for pattern, own in self.patterns.items() if any(_names(pattern, name) for name in names))
        alpha = next(found, self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def read_settings(path: str | Path, metadata: Mapping[str, str]) -> LoraFileSettings:
    """Read the settings in a LoRA file's metadata, or those that peft wrote beside a file of its own.

    Raises CheckpointError if they are not a mapping, or a value has the wrong type or is not finite.
    """
    beside = Path(path).with_name(PEFT_SETTINGS)
    if METADATA in metadata:
        return _settings(path, _in_metadata(path, metadata[METADATA]))
    if Path(path).name == PEFT_WEIGHTS and is_file(beside):
        return _settings(beside, read_json(beside))
    return LoraFileSettings()


def _in_metadata(path: str | Path, text: str) -> dict[str, Any]:
    try:
        said = parse_json(text, "the text")
    except UnreadableError as error:
        raise CheckpointError(
            f"{quoted_path(path)} has damaged settings in its metadata ({error.reason}); get the file again."
        ) from error
    if not isinstance(said, dict):
        raise CheckpointError(f"{quoted_path(path)} has damaged settings in its metadata; get the file again.")
    return said


def _settings(path: str | Path, said: Mapping[str, Any]) -> LoraFileSettings:
    """The settings that a file, `path`, states."""
    said = {name.removeprefix("transformer."): value for name, value in said.items()}
    key = "lora_alpha" if "lora_alpha" in said else "alpha"  # the latter of a LoKr or LoHa
    alpha = _number(path, key, said[key]) if key in said else None
    patterns = said.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise _wrong(path, "alpha_pattern", patterns, "a mapping of modules to numbers")
    stabilised = said.get("use_rslora") or False
    if not isinstance(stabilised, bool):
        raise _wrong(path, "use_rslora", stabilised, "true or false")
    return LoraFileSettings(
        alpha, {_module(path, name): _number(path, name, own) for name, own in patterns.items()}, stabilised
    )


def _names(name: str, module: str) -> bool:
    """Whether a pattern names a module: the whole name if it begins with ^, else its end."""
    if name.startswith("^"):
        return module == name[1:]
    return module == name or module.endswith(f".{name}")


def _module(path: str | Path, pattern: str) -> str:
    plain = pattern.replace(r"\.", ".")
    if not _NAME.fullmatch(plain):
        raise CheckpointError(
            f"{quoted_path(path)} has the pattern {quoted(pattern)} in its settings, but only module names are "
            "supported there; merge the LoRA with the program that made it."
        )
    return plain.removesuffix("$")


def _number(path: str | Path, name: str, value: Any) -> float:
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise _wrong(path, name, value, "a finite number")
    return number


def _wrong(path: str | Path, name: str, value: Any, wanted: str) -> CheckpointError:
    return CheckpointError(
        f"{quoted_path(path)} says in its settings that {quoted(name)} is {shown(value)}, expected {wanted}; get the "
        "file again."
    )
