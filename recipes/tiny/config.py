"""The config of the tiny model's stages: additions to the paper's `TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from instructx_core.training.config import DataConfig, ExampleWords, Name, TrainConfig, Weight
from instructx_core.validation import Choice, Range
from instructx_core.world import EVERY_GROUP


@dataclass(frozen=True)
class TinyDataConfig(DataConfig):
    """The procedural world, with some kinds of edit withheld from clips: what a model does with these on videos, it
    has learnt from pictures (the paper's Fig. 14)."""

    held_out_from_video: tuple[Annotated[str, Choice(EVERY_GROUP)], ...] = ()


@dataclass(frozen=True)
class TinyTrainConfig(TrainConfig):
    """Substitutes for the pre-training that a tiny model lacks; all off by default."""

    start: dict[Literal["model", "vae", "mllm", "soup"], Name] = field(default_factory=dict)  # folders to start from
    model: dict[str, Any] = field(default_factory=dict)  # sizes of the parts that this stage creates
    soup: Annotated[float, Range(0, 1)] = 0.0  # share of start.soup's weights when mixed into start.model's
    channel_emphasis: Weight = 0.0  # weight latent channels by (effect on pixels) ** this; 0: equally
    edited_weight: Weight = 1.0  # weight of latent positions that the edit changes
    balance: Weight = 0.0  # weight each example by (loss of leaving its source unchanged) ** -this
    reading_weight: Weight = 0.0  # of the auxiliary loss that predicts the instruction from the queries
    hearing_weight: Weight = 0.0  # of the one that predicts it from the DiT's tokens where the edit changes something
    locating_weight: Weight = 0.0  # of the one that predicts where the edit changes something
    naming_weight: Weight = 0.0  # of the one that predicts the new object's shape, there and in references
    deadband: Annotated[float, Range(0, below=1)] = 0.0  # of predicted changes from this stage on; 0: as in the start
    affine: bool = False  # from this stage on, predict a gain and an offset of the source
    source_waves: Annotated[int, Range(0, 8)] = 0  # position frequencies from this stage on; 0: as in the start
    data: TinyDataConfig = field(default_factory=TinyDataConfig)

    @property
    def words(self) -> ExampleWords:
        return "caption" if self.task == "generator" else "instruction"

    def problem(self) -> str | None:
        makes = self.task in ("autoencoder", "language")
        part = {"autoencoder": "vae", "language": "mllm"}.get(self.task)
        checks = [
            (
                makes or set(self.start) in ({"model"}, {"model", "soup"}, {"vae", "mllm"}),
                f"a {self.task} stage needs start: a model folder under 'model', or a vae and an mllm folder",
            ),
            (
                ("soup" in self.start) == bool(self.soup),
                "start.soup (a second model folder) and soup (its share of the weights) must be set together",
            ),
            (
                not makes or set(self.start) <= {part},
                f"{self.task} stages start from a folder under {part!r}, or from nothing",
            ),
            (
                bool(self.start) or self.task != "language" or {"vocabulary", "text", "vision"} <= set(self.model),
                "a language stage that starts from nothing needs vocabulary, text and vision under model",
            ),
            (
                bool(self.start) or self.task != "autoencoder" or bool(self.model),
                "an autoencoder stage that starts from nothing needs the sizes of an AutoencoderKLWan under model",
            ),
            (
                "model" in self.start or makes or "transformer" in self.model,
                "a stage that starts from vae and mllm needs the sizes of the DiT under model.transformer",
            ),
            (
                self.task != "autoencoder" or self.data.images >= min(2, len(self.data.sizes)),
                "an autoencoder stage needs pictures: set data.images to at least 1, or 2 with several data.sizes",
            ),
            (not makes or self.data.table is None, f"{self.task} stages draw from the world; leave data.table out"),
            (
                not self.naming_weight or self.data.table is None,
                "naming_weight needs the shapes of the procedural world; leave out either it or data.table",
            ),
        ]
        return next((message for passed, message in checks if not passed), None)
