"""The shape of a model, as frozen values: one dataclass per component, the paper's numbers as defaults.

A checkpoint carries its `ModelConfig` as JSON in the metadata of `instructx.safetensors`; nothing else in the library
decides how many queries there are, how the source enters the DiT or how many steps a sampler takes.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, get_type_hints

from .bounded import parse_json
from .errors import CheckpointError

SCALARS = {bool: bool, int: int, float: (int, float), str: str}  # what JSON and YAML may give for a field's type


class SourceInjection(str, Enum):
    """How the source's latent reaches the DiT."""

    LATENT = "latent"  # added to the noisy latent itself (InstructX, section 3.1)
    EMBEDDING = "embedding"  # through a patch embedding of its own, added after the noisy latent's


class ContextEntry(str, Enum):
    """Where the connector's output enters the DiT."""

    TEXT = "text"  # in place of the text encoder's output, through the DiT's own text embedding (3.1)
    WIDTH = "width"  # at the DiT's width, past its text embedding


class Prediction(str, Enum):
    """What the DiT's output means."""

    VELOCITY = "velocity"  # noise - data: flow matching as Wan was trained
    CHANGE = "change"  # data - source: the edit itself, zero where nothing is to change


class ReferenceInjection(str, Enum):
    """How a reference's latent becomes tokens of the DiT."""

    LATENT = "latent"  # through the DiT's own patch embedding (InstructX, section 3.1)
    EMBEDDING = "embedding"  # through a patch embedding of its own


class Margin(str, Enum):
    """What lies around a reference that has another aspect than the edit."""

    EDGE = "edge"  # its own edge, repeated
    WHITE = "white"  # white, the reference in 8 bits, as Kiwi-Edit was trained


class Detail(str, Enum):
    """Whose detail an edit has that was made on a smaller canvas than its source."""

    SOURCE = "source"  # the source's, through the edit's own colours
    MODEL = "model"  # the model's, resized


class Dialect(str, Enum):
    """How pictures and words are put to the MLLM, and which of its hidden states are the guidance."""

    INSTRUCTX = "instructx"  # the queries end the sequence (3.1)
    KIWI = "kiwi"  # Kiwi-Edit's prompt and 8-bit pictures; see guidance/kiwi.py


@dataclass(frozen=True)
class GuidanceConfig:
    """Instruction and frames -> guidance (sections 3.1 and 3.2)."""

    image_queries: int = 256
    video_queries: int = 512
    reference_queries: int = 0  # 0: edits with a reference use the image or video set
    video_frames: int = 13  # frames of a video that the MLLM sees
    min_pixels: int = 56 * 56  # a frame's area after resizing stays within these bounds
    max_pixels: int = 480 * 832
    video_max_pixels: int = 0  # of a frame of a video; 0: as max_pixels
    reference_max_pixels: int = 0  # of a reference; 0: as max_pixels
    dialect: Dialect = Dialect.INSTRUCTX
    lora_rank: int = 64
    lora_alpha: int = 64

    @property
    def queries(self) -> dict[str, int]:
        """How many queries each set has, of the sets that there are."""
        counts = {"image": self.image_queries, "video": self.video_queries, "reference": self.reference_queries}
        return {name: count for name, count in counts.items() if count}


@dataclass(frozen=True)
class ConnectorConfig:
    """Guidance -> context: a two-layer MLP (section 3.1)."""

    input_dim: int = 2048
    hidden_dim: int = 4096
    output_dim: int = 4096
    entry: ContextEntry = ContextEntry.TEXT
    tanh_gelu: bool = False  # GELU by its tanh approximation
    reads_references: bool = False  # a second MLP for hidden states at a reference's own places (Kiwi-Edit)


@dataclass(frozen=True)
class DenoiserConfig:
    """How conditions reach the DiT, and what it predicts."""

    source: SourceInjection = SourceInjection.LATENT
    prediction: Prediction = Prediction.VELOCITY
    source_fades: bool = False  # an embedded source counts sigma times: less and less as the noise goes (Kiwi-Edit)
    reference: ReferenceInjection = ReferenceInjection.LATENT
    references_first: bool = False  # their frames stand before the edit's, not behind them
    reference_margin: Margin = Margin.EDGE
    deadband: float = 0.0  # of a predicted change: places below this share of its RMS keep their source


@dataclass(frozen=True)
class SamplingConfig:
    """The settings that `Editor.edit` uses where the caller gives none."""

    steps: int = 50
    shift: float = 5.0
    guidance_scale: float = 1.0  # 1: no classifier-free guidance, one forward a step
    sigma_min: float = 0.0  # where the even steps before the shift would end; the last step goes to 0 all the same


@dataclass(frozen=True)
class ModelConfig:
    """Everything about a checkpoint that its weights do not say."""

    name: str = "instructx"
    default_size: tuple[int, int] = (480, 832)  # height, width in pixels
    default_frames: int = 81
    guidance: GuidanceConfig = field(default_factory=GuidanceConfig)
    connector: ConnectorConfig = field(default_factory=ConnectorConfig)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    keep_source: float = 0.0  # pixels changed by less than about this share of the edit's strength are the source's own
    held_out_from_video: tuple[str, ...] = ()  # edit types that the model saw on images only

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Read what `to_json` wrote.

        Raises:
            CheckpointError: not JSON, an unknown field (a checkpoint of a newer version), or an unknown variant.
        """
        try:
            return from_plain(cls, parse_json(text, "the text"))
        except (ValueError, TypeError) as error:
            raise CheckpointError(
                f"The model's config cannot be read ({error}); was it made by a newer version?"
            ) from error


def from_plain(cls: type, plain: dict[str, Any]) -> Any:
    """Build a (nested) config dataclass from plain dicts, lists and strings.

    Raises:
        ValueError: a key that `cls` does not have, a value outside an enum, or a scalar of another type.
        TypeError: `plain` is not a mapping.
    """
    if not isinstance(plain, dict):
        raise TypeError(f"{cls.__name__} needs a mapping, not {plain!r}")
    hints = get_type_hints(cls)
    unknown = sorted(set(plain) - set(hints))
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(sorted(hints))}")
    values = {}
    for key, value in plain.items():
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            value = from_plain(hint, value)
        elif isinstance(hint, type) and issubclass(hint, Enum):
            value = hint(value)
        elif isinstance(value, list):
            value = tuple(value)
        elif hint in SCALARS and (not isinstance(value, SCALARS[hint]) or isinstance(value, bool) != (hint is bool)):
            raise ValueError(f"{cls.__name__}.{key} is {value!r}, which is no {hint.__name__}")
        values[key] = value
    return cls(**values)
