"""InsightEdit's three stages (section 5.1): a two-stream connector in front of a diffusion UNet, on pictures.

- `alignment`, stage 1: aligns the Q-Former's output for a caption with CLIP's last hidden states, and trains L_LLM. The
  UNet is not used.
- `two_stream`, stages 2 and 3: L = L_LLM + L_diff + L_IAA. Stage 2 trains without BIM and IAA: both exist, but the
  BIM's output is zero and the image stream has a weight of 0.

For the two guidance scales, instruction and source are dropped by one draw p per example, as in SmartEdit: no
instruction if p < drop_instruction, no source if drop_instruction / 2 <= p < drop_instruction / 2 + drop_source. Some
examples have neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .. import families
from ..config import ConnectorKind
from ..context import Context
from ..diffusion import TRAINED_LEVELS, trained_sigmas
from ..errors import InputError
from ..families.components import Components
from ..families.instructx.folder import save_checkpoint
from ..families.loading import load_model
from ..fit import resize
from ..guidance.guidance import GuidanceInputs
from ..guidance.llava import DEVIATION, MEAN, LlavaGuidance
from ..weights.library_load import check_part, load_or_explain
from ..weights.mllm import load_tokenizer
from .config import TwoStreamTrainConfig
from .data.encoding import Encoded
from .data.mixture import MixedSource
from .data.sources import ExampleSource
from .editing import choose_trained, name_too_long, open_source
from .gradients import check_trained
from .sharding import is_sharded_run


@dataclass(frozen=True)
class TwoStreamBatch:
    """A batch on the CPU, all of one shape."""

    inputs: GuidanceInputs  # instructions and sources, or only captions
    source: torch.Tensor  # [B, C, 1, h, w] normalised
    target: torch.Tensor
    captions: torch.Tensor  # int64 [B, tokens]: CLIP's tokens of the captions; empty except for alignment
    instructionless: torch.Tensor  # bool [B]
    sourceless: torch.Tensor  # bool [B]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.target)


class Alignment(nn.Module):
    """A batch of captions -> L_LLM, and the error of q' against CLIP's text encoder."""

    def __init__(self, components: Components, config: TwoStreamTrainConfig, clip: nn.Module) -> None:
        super().__init__()
        self.guidance, self.connector = components.guidance, components.connector
        self.config = config
        self.clip = [clip]  # in a list, so that it is no submodule, which would be trained and saved

    def forward(self, batch: TwoStreamBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        (clip,), device = self.clip, self.guidance.device
        context, hidden = self.guidance.read(batch.inputs.to(device))
        with torch.no_grad():
            wanted = clip.to(device).text_model(input_ids=batch.captions.to(device)).last_hidden_state
        aligned = self.connector.aligned(context.tokens)  # [B, tokens, width]
        report = {"llm": self.guidance.token_loss(hidden), "alignment": F.mse_loss(aligned.float(), wanted.float())}
        return {"loss": self.config.token_weight * report["llm"] + report["alignment"], **report}


class TwoStream(nn.Module):
    """A batch of edits -> L_LLM + L_diff + L_IAA."""

    def __init__(self, components: Components, config: TwoStreamTrainConfig, clip: nn.Module | None) -> None:
        super().__init__()
        self.guidance, self.connector, self.denoiser = components.guidance, components.connector, components.denoiser
        self.config = config
        self.frozen = [components.codec, clip]  # as `Alignment.clip`

    def forward(self, batch: TwoStreamBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        device = self.guidance.device
        target, source = batch.target.to(device), batch.source.to(device)
        guidance, hidden = self.guidance.read(batch.inputs.to(device))
        report = {"llm": self.guidance.token_loss(hidden)}

        context = replace(self.connector(guidance), image_weight=self.config.image_stream)
        context = where(batch.instructionless.to(device), self.connector.unasking(context), context)
        sigma = self.levels(len(target), generator).to(device, torch.float32)  # [B]
        noise = torch.randn(target.shape, generator=generator).to(device)
        level = sigma.view(-1, 1, 1, 1, 1)
        noisy = (1 - level) * target + level * noise
        shown = source * ~batch.sourceless.to(device).view(-1, 1, 1, 1, 1)
        velocity = self.denoiser(noisy, sigma, context, self.denoiser.conditions(shown)).float()
        predicted = noisy + (1 - level) * velocity  # eps, which eq. 7 is about, whatever the UNet predicts
        report["diffusion"] = self.diffusion_error((predicted - noise).square(), sigma, source, target)

        loss = self.config.token_weight * report["llm"] + report["diffusion"]
        if "iaa" in self.config.train:
            mapped = self.connector.iaa.mapped(guidance.tokens)
            report["iaa"] = F.mse_loss(mapped.float(), self._seen(target))
            loss = loss + self.config.iaa_weight * report["iaa"]
        return {"loss": loss, **report}

    def levels(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Noise levels [count] of a batch, all equally likely (eq. 7); a recipe may draw some more often."""
        return trained_sigmas()[torch.randint(TRAINED_LEVELS, (count,), generator=generator)]

    def diffusion_error(
        self, square: torch.Tensor, sigma: torch.Tensor, source: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """L_diff (eq. 7) from eps's squared errors [B, C, 1, h, w] at levels sigma [B]; a recipe may weight them."""
        return square.mean()

    @torch.no_grad()
    def _seen(self, target: torch.Tensor) -> torch.Tensor:
        """CLIP's embeddings [B, image_dim] of the targets, decoded from their latents."""
        codec, clip = self.frozen
        pixels = codec.decode(target)[:, 0].to(target.device)
        side = clip.config.vision_config.image_size
        squares = (resize(pixels, (side, side)) - torch.tensor(MEAN).to(pixels)) / torch.tensor(DEVIATION).to(pixels)
        seen = clip.to(target.device).vision_model(pixel_values=squares.permute(0, 3, 1, 2)).pooler_output
        return clip.visual_projection(seen).float()


class TwoStreamTask:
    """Stages 2 and 3: trains the parts in `config.train`, on examples of a pool or of tables."""

    is_alignment = False
    module_class: type[nn.Module] = TwoStream

    def __init__(self, config: TwoStreamTrainConfig) -> None:
        self.config = config
        if is_sharded_run():
            raise InputError(f"A {config.task} stage cannot be sharded; start it without FSDP.")
        torch.manual_seed(config.seed)
        self.components = load_model(families.open(Path(config.start["model"])))
        check_two_stream(self.components, config)
        choose_two_stream(self.components, config)
        self.clip, self.words = load_clip(Path(config.start["clip"])) if "clip" in config.start else (None, None)
        self._check_clip()
        if self.is_alignment:
            self._learn_unasked()
        self.source = self._open_source()
        self.module = self.module_class(self.components, config, self.clip)

    def _open_source(self) -> ExampleSource:
        """The examples of `data`, or of a mixture with the tables in `beside`."""
        config, components = self.config, self.components
        if not config.beside:
            return open_source(config, components)
        sources = [
            open_source(replace(config, data=data, output=str(Path(config.output) / f"table-{number}")), components)
            for number, data in enumerate(config.tables(), start=1)
        ]
        return MixedSource(sources, [config.table_weight, *(share.weight for share in config.beside)])

    def batch(self, generator: torch.Generator, is_video: bool) -> TwoStreamBatch:
        examples = self.source.draw(generator, is_video)
        draw, without = torch.rand(len(examples), generator=generator), self.config.drop_instruction
        sourceless = (draw >= without / 2) & (draw < without / 2 + self.config.drop_source)
        return self.make_batch(examples, draw < without, sourceless)

    def validation(self) -> Iterator[tuple[str, TwoStreamBatch]]:
        nothing = torch.zeros(0, dtype=torch.bool)
        for examples in self.source.held_out():
            if not examples.is_video:
                yield "images", self.make_batch(examples, nothing.new_zeros(len(examples)), None)

    def position(self) -> dict[str, Any]:
        return self.source.position()

    def go_to(self, position: dict[str, Any]) -> None:
        self.source.go_to(position)

    def make_batch(
        self, examples: Encoded, instructionless: torch.Tensor, sourceless: torch.Tensor | None
    ) -> TwoStreamBatch:
        """
        Raises:
            InputError: a text is too long; its example is named.
        """
        guidance = self.components.guidance
        texts = examples.captions if self.is_alignment else examples.instructions
        pictures = None if self.is_alignment else [shown.float() / 255 for shown in examples.shown]
        try:
            inputs = guidance.prepare(texts, pictures)
        except InputError:
            name_too_long(guidance, examples.names, texts)
            raise
        captions = torch.empty(0, dtype=torch.int64)
        if self.is_alignment:
            captions = self.words(
                examples.captions, padding="max_length", truncation=True, return_tensors="pt",
                max_length=self.components.config.connector.tokens,
            )["input_ids"]  # fmt: skip
        return TwoStreamBatch(
            inputs,
            examples.source.float(),
            examples.target.float(),
            captions,
            instructionless,
            torch.zeros_like(instructionless) if sourceless is None else sourceless,
            tuple(examples.names),
        )

    def export(self, folder: Path) -> None:
        save_checkpoint(self.components, folder)

    def grids(self) -> dict[str, torch.Tensor]:
        return {}

    @torch.no_grad()
    def _learn_unasked(self) -> None:
        """Store CLIP's hidden states of "" in the connector, where a new model has zeros."""
        places = self.components.config.connector.tokens
        ids = self.words([""], padding="max_length", max_length=places, return_tensors="pt")["input_ids"]
        self.components.connector.unasked.copy_(self.clip.text_model(input_ids=ids).last_hidden_state)

    def _check_clip(self) -> None:
        """Raise InputError unless the CLIP's sizes match the connector's."""
        if self.clip is None:
            return
        connector = self.components.config.connector
        made = {
            "output_dim": ("a text width", self.clip.config.text_config.hidden_size, connector.output_dim),
            "tokens": ("a text length", self.clip.config.text_config.max_position_embeddings, connector.tokens),
            "two_stream.image_dim": (
                "an embedding width", self.clip.config.projection_dim, connector.two_stream.image_dim,
            ),
        }  # fmt: skip
        for field, (what, found, wanted) in made.items():
            if found != wanted:
                raise InputError(
                    f"The CLIP in {self.config.start['clip']!r} has {what} of {found}, but the model's "
                    f"connector.{field} is {wanted}; give a CLIP that matches."
                )


class AlignmentTask(TwoStreamTask):
    """Stage 1, on the examples' captions."""

    is_alignment = True
    module_class = Alignment


def check_two_stream(components: Components, config: TwoStreamTrainConfig) -> None:
    """Raise InputError if a model is not two-stream, or lacks a part that the stage trains."""
    own = components.config
    if own.connector.kind is not ConnectorKind.TWO_STREAM or not own.denoiser.prediction.is_diffusion:
        raise InputError(
            f"task: {config.task} is for a two-stream model with a diffusion UNet, which {config.start['model']!r} is "
            "not; use task: editing."
        )
    assert isinstance(components.guidance, LlavaGuidance)
    for name in ("bim", "iaa"):
        if name in config.train and getattr(components.connector, name) is None:
            raise InputError(f"train: {config.start['model']!r} has no {name}; leave it out.")


def choose_two_stream(components: Components, config: TwoStreamTrainConfig) -> None:
    """Enable gradients for the parts in `config.train`, and disable them for all others.

    Raises:
        InputError: the model has none of these parts.
    """
    choose_trained(components, config)
    connector = components.connector
    if "qformer" in config.train:
        connector.tokens.requires_grad_(True)
        connector.qformer.requires_grad_(True)
    for name in ("bim", "iaa"):
        if name in config.train:
            getattr(connector, name).requires_grad_(True)
    check_trained(components, config)


def load_clip(folder: Path) -> tuple[nn.Module, Any]:
    """Load a frozen CLIP and its tokenizer.

    Raises:
        CheckpointError: the folder is missing, damaged, or not a CLIP.
    """
    from transformers import CLIPModel

    check_part(folder)
    clip = load_or_explain(folder, lambda: CLIPModel.from_pretrained(folder, use_safetensors=True))
    return clip.eval().requires_grad_(False), load_tokenizer(folder)


def where(rows: torch.Tensor, first: Context, second: Context) -> Context:
    """The rows of `first` where `rows`, bool [B], is set, and those of `second` elsewhere."""
    marked = rows.view(-1, 1, 1)
    image = None if second.image is None else torch.where(marked, first.image, second.image)
    return replace(second, tokens=torch.where(marked, first.tokens, second.tokens), image=image)
