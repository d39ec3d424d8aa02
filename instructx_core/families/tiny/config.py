"""The config of a tiny model: the paper's, and a section of its own.

    {"name": ..., "denoiser": {...}, "tiny": {"predicts": "change", "deadband": 0.3, "keep_source": 0.2}}

Models written before that section was there have its fields among the paper's; `regrouped` takes both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ...config import ModelConfig
from ...validation import Range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...prediction import SourcePrediction

# fields that stood among the paper's before -> what they said of a model that made no use of them
BEFORE: dict[str, Any] = {"keep_source": 0.0, "held_out_from_video": []}
BEFORE_IN_DENOISER: dict[str, Any] = {"deadband": 0.0}


@dataclass(frozen=True)
class TinySettings:
    """What only a tiny model's config says."""

    # change: data - source, zero where nothing is to change; affine: a gain and an offset of the source that make it
    predicts: Literal["change", "affine", "velocity"] = "change"
    # places whose predicted change is below this share of its RMS keep their source
    deadband: Annotated[float, Range(0, 100)] = 0.0
    # pixels changed by less than about this share of the edit's strength are the source's own; if above 0, what the VAE
    # alone loses of the source is taken back from the edit too
    keep_source: Annotated[float, Range(0, 1)] = 0.0
    held_out_from_video: tuple[str, ...] = ()  # kinds of edit that it saw on pictures only


@dataclass(frozen=True)
class TinyConfig(ModelConfig):
    """See `ModelConfig`."""

    tiny: TinySettings = field(default_factory=TinySettings)

    @property
    def source_prediction(self) -> SourcePrediction | None:
        from .prediction import AffinePrediction, ChangePrediction

        kinds = {"change": ChangePrediction, "affine": AffinePrediction}
        kind = kinds.get(self.tiny.predicts)
        return kind and kind(self.tiny.deadband)

    @property
    def keep_source(self) -> float:
        return self.tiny.keep_source

    @property
    def held_out_from_video(self) -> tuple[str, ...]:
        return self.tiny.held_out_from_video


def regrouped(plain: Any) -> Any:
    """A model's config as JSON gives it, with this family's fields, wherever they stand, in the section `tiny`.

    A model that makes use of none of them gets no section: it is the paper's, of whatever version.
    """
    if not isinstance(plain, dict) or "tiny" in plain:
        return plain
    own = dict(plain)
    settings = _taken(own, BEFORE)
    if isinstance(own.get("denoiser"), dict):
        denoiser = own["denoiser"] = dict(own["denoiser"])
        settings |= _taken(denoiser, BEFORE_IN_DENOISER)
        if denoiser.get("prediction") == "change":
            del denoiser["prediction"]
            settings["predicts"] = "change"
    return own | {"tiny": {"predicts": "velocity"} | settings} if settings else own


def _taken(held: dict[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Take fields out of `held`; those that say something."""
    values = {name: held.pop(name) for name in fields if name in held}
    # False equals 0.0, and is for the checks to refuse
    return {name: value for name, value in values.items() if value != fields[name] or isinstance(value, bool)}
