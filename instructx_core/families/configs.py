"""Which config a model's JSON is: the paper's, or one with a section that only a family's models have."""

from __future__ import annotations

from typing import Any

from ..bounded import parse_json
from ..config import ModelConfig
from ..errors import CheckpointError
from .tiny.config import TinyConfig, regrouped

SECTIONS: dict[str, type[ModelConfig]] = {"tiny": TinyConfig}


def read_config(text: str) -> ModelConfig:
    """Read what `ModelConfig.to_json` wrote, of whatever family.

    Raises:
        CheckpointError: not JSON, an unknown field (a checkpoint of a newer version), an unknown variant, or a number
            out of range.
    """
    try:
        return config_of(parse_json(text, "the text"))
    except ValueError as error:
        raise CheckpointError(
            f"The model's config cannot be read ({error}); was it made by a newer version?"
        ) from error


def config_of(plain: Any, place: str = "") -> ModelConfig:
    """A config from plain values, as JSON or YAML gives them.

    Args:
        place: what stands before the fields' names in messages, as "model.".

    Raises:
        CheckpointError: fields that do not go together.
        FieldError: an unknown field, or a value out of range.
    """
    plain = regrouped(plain)
    found = next((kind for name, kind in SECTIONS.items() if isinstance(plain, dict) and name in plain), ModelConfig)
    return found.from_plain(plain, place)
