"""The config of a tiny model: the paper's, plus a `tiny` section.

    {"name": ..., "denoiser": {...}, "tiny": {"predicts": "change", "deadband": 0.3, "keep_source": 0.2}}

Models older than that section have its fields among the paper's; `regrouped` accepts both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ...config import ModelConfig
from ...validation import Range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...prediction import SourcePrediction

# fields that used to be among the paper's -> their value in a model that does not use them
BEFORE: dict[str, Any] = {"keep_source": 0.0, "held_out_from_video": []}
BEFORE_IN_DENOISER: dict[str, Any] = {"deadband": 0.0}


@dataclass(frozen=True)
class TinySettings:
    """Settings that only a tiny model has."""

    # change: data - source, zero where nothing changes; affine: that change, as a gain and an offset of the source
    predicts: Literal["change", "affine", "velocity"] = "change"
    # positions whose predicted change is below this share of the change's RMS keep their source
    deadband: Annotated[float, Range(0, 100)] = 0.0
    # pixels changed by less than about this share of the edit's strength are the source's own; above 0, the VAE's own
    # reconstruction loss on the source is also removed from the edit
    keep_source: Annotated[float, Range(0, 1)] = 0.0
    held_out_from_video: tuple[str, ...] = ()  # kinds of edit trained on pictures only


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
    """Move this family's fields, wherever they are in a model's parsed JSON config, to the section `tiny`.

    A model that uses none of them gets no section: it is the paper's, in any version.
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
    """Pop fields from `held`; return those that differ from their unused value."""
    values = {name: held.pop(name) for name in fields if name in held}
    # False equals 0.0, but is left for validation to reject
    return {name: value for name, value in values.items() if value != fields[name] or isinstance(value, bool)}
