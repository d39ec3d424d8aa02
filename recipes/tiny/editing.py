"""Editing, reading and drawing stages of the tiny model: the trainer's own, with substitutes for pre-training.

- `tiny-editing` weights errors by position, channel and example, and adds four auxiliary losses.
- `reading` trains only queries and LoRA, until the instruction can be predicted from them.
- `generator` trains the DiT to draw the world from captions, which Wan learns in pre-training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from instructx_core.conditions.source_places import CHANNELS_OF_WAVE
from instructx_core.config import GuidanceKind
from instructx_core.denoiser import zero_patch_embedding
from instructx_core.errors import InputError
from instructx_core.families.components import Components
from instructx_core.families.tiny.config import TinyConfig
from instructx_core.training.batch import EditBatch
from instructx_core.training.data.encoding import Encoded
from instructx_core.training.editing import SHOWN, EditingTask, FlowMatching, start_components

from . import auxiliary
from .config import TinyTrainConfig
from .fresh import assemble
from .hearing import InstructionHearer
from .initialisation import channel_effect
from .inner_tokens import EARLY, inner_tokens
from .locating import ChangeLocator
from .naming import ShapeNamer, new_shapes
from .reading import InstructionReader, instruction_tokens
from .soup import stir_in

CHANGED = 0.25  # a normalised latent that differs by more belongs to the edited region
SMALLEST_CHANGE = 0.2  # added to the loss of copying the source, which limits the weight of smaller edits


@dataclass(frozen=True)
class TinyBatch(EditBatch):
    """A batch with the labels of the auxiliary losses."""

    words: torch.Tensor  # int64 [B, L], the instructions' tokens
    shapes: torch.Tensor | None  # int64 [B], of the new objects; None: not needed


class WeighedFlowMatching(FlowMatching):
    """Flow matching with weighted errors and the four auxiliary losses of `config`."""

    config: TinyTrainConfig

    def __init__(self, components: Components, config: TinyTrainConfig, channel_weights: torch.Tensor) -> None:
        super().__init__(components, config)
        self.register_buffer("channel_weights", channel_weights.view(1, -1, 1, 1, 1), persistent=False)
        transformer = self.denoiser.transformer
        self.reader = reader_of(components) if config.reading_weight else None
        self.hearer = InstructionHearer(transformer, vocabulary_of(components)) if config.hearing_weight else None
        self.locator = ChangeLocator(transformer) if config.locating_weight else None
        self.namer = ShapeNamer(transformer) if config.naming_weight else None

    def forward(self, batch: TinyBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        target, source = (latents.to(self.guidance.device) for latents in (batch.target, self.shown_source(batch)))
        guidance, context = self.read(batch)
        transformer = self.denoiser.transformer
        with inner_tokens(transformer, EARLY) as early, inner_tokens(transformer) as tokens:
            square = self.squared_error(target, context, self.conditions(batch), generator)  # [B, C, t, h, w]
        changed = ((target - source).abs() > CHANGED).any(1, keepdim=True)  # [B, 1, t, h, w]
        weight = (1 + (self.config.edited_weight - 1) * changed) * self.channel_weights
        # divided by the mean weight: `edited_weight` shifts the error between positions without scaling the loss
        loss = (self.balance(weight, target - source) * weight * square).mean() / weight.mean()
        report = {"loss": loss, "error": square.detach().mean()}
        words = batch.words.to(target.device)
        if self.reader is not None:
            report["reading"] = self.reader(guidance.tokens, words)
            report["loss"] = report["loss"] + self.config.reading_weight * report["reading"]
        if self.hearer is not None:
            report["hearing"] = self.hearer(tokens[0], changed, words)
            report["loss"] = report["loss"] + self.config.hearing_weight * report["hearing"]
        if self.locator is not None:
            report["locating"] = self.locator(tokens[0], changed)
            report["loss"] = report["loss"] + self.config.locating_weight * report["locating"]
        if self.namer is not None and batch.shapes is not None:
            report["naming"] = self.namer(early[0], tokens[0], changed, batch.shapes.to(target.device))
            report["loss"] = report["loss"] + self.config.naming_weight * report["naming"]
        return report

    def balance(self, weight: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """Weights of the examples, [B, 1, 1, 1, 1]; without them, whole-picture edits drown those of small objects."""
        size = (weight * change.square()).mean((1, 2, 3, 4), keepdim=True) / weight.mean()
        return (size + SMALLEST_CHANGE) ** -self.config.balance


class TinyEditingTask(EditingTask):
    """The trainer's editing task, also for a newly built model."""

    config: TinyTrainConfig

    def start(self) -> Components:
        components = start_components(self.config) if "model" in self.config.start else assemble(self.config)
        if self.config.soup:
            stir_in(components, Path(self.config.start["soup"]), self.config.soup)
        if self.config.deadband:
            components = with_deadband(components, self.config.deadband)
        if self.config.source_waves:
            components = with_source_waves(components, self.config.source_waves)
        if self.config.affine:
            components = with_affine_prediction(components)
        return components

    def check(self) -> None:
        for name in ("reading_weight", "hearing_weight"):
            if getattr(self.config, name):
                check_reads(self.components, name)
        super().check()

    def make_module(self) -> nn.Module:
        return self.going_on(WeighedFlowMatching(self.components, self.config, self._channel_weights()))

    def going_on(self, module: nn.Module) -> nn.Module:
        """The module, with the auxiliary losses of the model that this stage starts from."""
        if "model" in self.config.start:
            auxiliary.take(module, Path(self.config.start["model"]))
        return module

    def export(self, folder: Path) -> None:
        super().export(folder)
        auxiliary.keep(self.module, folder)

    def make_batch(
        self, examples: Encoded, dropped: list[bool] | None = None, sourceless: torch.Tensor | None = None
    ) -> TinyBatch:
        batch = super().make_batch(examples, dropped, sourceless)
        words = instruction_tokens(self.components.guidance.tokenizer, list(batch.instructions))
        named = bool(self.config.naming_weight)
        shapes = new_shapes(examples, self.components.codec.stride, self.config.data.variety) if named else None
        return TinyBatch(**vars(batch), words=words, shapes=shapes)

    def _channel_weights(self) -> torch.Tensor:
        """The weight of an error in each normalised channel, float32 [C] with mean 1."""
        codec = self.components.codec
        some = self.source.some(None, SHOWN)
        assert some is not None
        examples = codec.denormalise(some.target.to(codec.mean.device))
        effect = channel_effect(codec.vae, examples) * codec.std.flatten().square()
        weights = effect.cpu() ** self.config.channel_emphasis
        return weights / weights.mean()


class GeneratorTask(TinyEditingTask):
    """Captions in place of instructions, with neither source nor reference."""

    def make_batch(
        self, examples: Encoded, dropped: list[bool] | None = None, sourceless: torch.Tensor | None = None
    ) -> TinyBatch:
        none = torch.zeros(len(examples), 0)
        drawn = replace(examples, instructions=examples.captions, references=none, reference_images=[], shown=[])
        return super().make_batch(drawn, dropped, sourceless)


class Reading(nn.Module):
    """A batch of edits -> the loss of predicting its instructions from the queries. The DiT is not used."""

    def __init__(self, components: Components) -> None:
        super().__init__()
        self.guidance = components.guidance
        self.reader = reader_of(components)

    def forward(self, batch: TinyBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        guidance = self.guidance(batch.inputs.to(self.guidance.device))
        return {"loss": self.reader(guidance.tokens, batch.words.to(self.guidance.device))}


class ReadingTask(TinyEditingTask):
    """Trains the guidance alone, without the DiT."""

    def check(self) -> None:
        check_reads(self.components, "task: reading")

    def make_module(self) -> nn.Module:
        return self.going_on(Reading(self.components))

    def grids(self) -> dict[str, torch.Tensor]:
        """None: the DiT is not used."""
        return {}


def reader_of(components: Components) -> InstructionReader:
    """A fresh reader for a model's queries."""
    width = components.guidance.mllm.config.text_config.hidden_size
    return InstructionReader(width, vocabulary_of(components))


def vocabulary_of(components: Components) -> int:
    """Vocabulary size of a model's MLLM."""
    return components.guidance.mllm.config.text_config.vocab_size


def check_reads(components: Components, asked: str) -> None:
    """Raise InputError if the model's guidance is a text encoder, which is never trained."""
    if components.config.guidance.kind is GuidanceKind.TEXT:
        raise InputError(f"{asked} trains an MLLM, but this model is guided by a text encoder; leave it out.")


def with_deadband(components: Components, deadband: float) -> Components:
    """Set the model's deadband in place; its checkpoint will state it, too.

    Raises:
        InputError: its DiT predicts a velocity, which has no deadband.
    """
    config = components.config
    if not isinstance(config, TinyConfig) or config.source_prediction is None:
        raise InputError("deadband needs a model that predicts changes to its source; leave it out.")
    config = replace(config, tiny=replace(config.tiny, deadband=deadband))
    components.denoiser.prediction = config.source_prediction
    return replace(components, config=config)


def with_source_waves(components: Components, waves: int) -> Components:
    """Give the model's source embedding position channels, in place; their weights are still 0.

    Raises:
        InputError: its source has no embedding of its own, or already has another number of waves.
    """
    config, denoiser = components.config, components.denoiser
    if denoiser.source_embedding is None:
        raise InputError("source_waves needs a model with a separate source embedding; leave it out.")
    if config.denoiser.source_waves == waves:
        return components
    if config.denoiser.source_waves:
        raise InputError(
            f"source_waves is {waves}, but the model that this stage starts from has {config.denoiser.source_waves};"
            " leave it out."
        )
    config = replace(config, denoiser=replace(config.denoiser, source_waves=waves))
    wider = zero_patch_embedding(denoiser.transformer, CHANNELS_OF_WAVE * waves)
    own = denoiser.source_embedding
    with torch.no_grad():
        wider.weight[:, : own.in_channels] = own.weight
        wider.bias.copy_(own.bias)
    denoiser.source_embedding, denoiser.config = wider, config.denoiser
    return replace(components, config=config)


def with_affine_prediction(components: Components) -> Components:
    """Make the model predict a gain of the source, 0 at first, next to the change it already predicts, in place.

    Raises:
        InputError: its DiT predicts a velocity.
    """
    config, transformer = components.config, components.denoiser.transformer
    if not isinstance(config, TinyConfig) or config.source_prediction is None:
        raise InputError("affine needs a model that predicts changes to its source; leave it out.")
    if config.tiny.predicts == "affine":
        return components
    own, channels = transformer.proj_out, transformer.config.in_channels
    patch = own.out_features // channels
    wider = nn.Linear(own.in_features, 2 * own.out_features)
    with torch.no_grad():  # rows: positions of a patch, and the channels of each
        for name in ("weight", "bias"):
            held = getattr(own, name).unflatten(0, (patch, channels))
            getattr(wider, name).copy_(torch.cat([torch.zeros_like(held), held], dim=1).flatten(0, 1))
    transformer.proj_out = wider
    transformer.register_to_config(out_channels=2 * channels)
    config = replace(config, tiny=replace(config.tiny, predicts="affine"))
    components.denoiser.prediction = config.source_prediction
    return replace(components, config=config)
