"""peft's adapter settings, which diffusers writes into a LoRA file's metadata: the alpha of each module.

peft treats the names in `alpha_pattern` as regular expressions. Those in a foreign file are never run, as some take
forever. A name is compared literally, whole or after a dot; anything but a name is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bounded import UnreadableError, parse_json
from ..errors import CheckpointError
from ..words import quoted, quoted_path, shown

METADATA = "lora_adapter_metadata"  # diffusers' metadata key
_NAME = re.compile(r"\^?[\w.]+\$?")


@dataclass(frozen=True)
class LoraFileSettings:
    """The alpha of each module; None if the file does not state it."""

    alpha: float | None = None
    patterns: Mapping[str, float] = field(default_factory=dict)  # module, or the end of its name -> alpha
    rank_stabilised: bool = False

    def factor(self, module: str, rank: int) -> float:
        """alpha / rank, or alpha / sqrt(rank) for a rank-stabilised adapter; 1 if the file states no alpha.

        Args:
            module: its name in diffusers.
        """
        if self.alpha is None:
            return 1.0
        alpha = next((own for name, own in self.patterns.items() if _names(name, module)), self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def read_settings(path: str | Path, metadata: Mapping[str, str]) -> LoraFileSettings:
    """Read the settings in a LoRA file's metadata.

    Raises CheckpointError if they are not a mapping, or a value has the wrong type or is not finite.
    """
    if METADATA not in metadata:
        return LoraFileSettings()
    try:
        said = parse_json(metadata[METADATA], "the text")
    except UnreadableError as error:
        raise CheckpointError(
            f"{quoted_path(path)} has damaged settings in its metadata ({error.reason}); get the file again."
        ) from error
    if not isinstance(said, dict):
        raise CheckpointError(f"{quoted_path(path)} has damaged settings in its metadata; get the file again.")
    said = {name.removeprefix("transformer."): value for name, value in said.items()}
    alpha = _number(path, "lora_alpha", said["lora_alpha"]) if "lora_alpha" in said else None
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
