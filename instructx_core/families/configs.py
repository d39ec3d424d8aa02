"""Choose the config class for a model's JSON: the paper's, or one with a family-specific section."""

from __future__ import annotations

from typing import Any

from ..bounded import parse_json
from ..config import ModelConfig
from ..errors import CheckpointError
from .tiny.config import TinyConfig, regrouped

SECTIONS: dict[str, type[ModelConfig]] = {"tiny": TinyConfig}


def read_config(text: str) -> ModelConfig:
    """Parse what `ModelConfig.to_json` wrote, for any family.

    Raises:
        CheckpointError: invalid JSON, an unknown field (a checkpoint from a newer version), an unknown variant, or a
            number out of range.
    """
    try:
        return config_of(parse_json(text, "the text"))
    except ValueError as error:
        raise CheckpointError(
            f"The model's config cannot be read ({error}); was it made by a newer version?"
        ) from error


def config_of(plain: Any, place: str = "") -> ModelConfig:
    """Build a config from plain values parsed from JSON or YAML.

    Args:
        place: prefix for field names in messages, e.g. "model.".

    Raises:
        CheckpointError: incompatible fields.
        FieldError: an unknown field, or a value out of range.
    """
    plain = regrouped(plain)
    found = next((kind for name, kind in SECTIONS.items() if isinstance(plain, dict) and name in plain), ModelConfig)
    return found.from_plain(plain, place)
