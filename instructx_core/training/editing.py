"""Stages 1 to 3 (section 3.3): flow matching on edits.

- Stage 1 aligns queries, LoRA and connector with the frozen DiT, without the VAE's source.
- Stages 2 and 3 train those and the whole DiT, with the source, on images and videos.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import nn

from ..conditions.condition import Condition
from ..config import ModelConfig, Network
from ..context import Context
from ..errors import InputError
from ..families.components import Components
from ..families.instructx.folder import save_checkpoint
from ..families.loading import load_model
from ..guidance.guidance import Guidance
from ..sampling import GuidanceTerm, sample
from ..words import one_line, quoted
from .batch import EditBatch
from .config import NoiseConfig, TrainConfig, pool_folder
from .data.cache import open_pool
from .data.encoding import Encoded
from .data.sources import ExampleSource, PoolSource, StreamSource
from .dit_lora import add_dit_lora, lora_pairs, merge_lora, write_lora
from .gradients import check_gradient
from .processes import process_state
from .sharding import check_shardable, is_sharded_run, load_shared
from .start import open_start

SHOWN = 8
GRID = "rows b 1 h w c -> (rows h) (b w) c"
LEAST_NOISE = 1e-3  # not 0: some families divide their prediction by sigma


class FlowMatching(nn.Module):
    """A batch of edits -> the mean squared error of the velocity, whose target is noise - data."""

    def __init__(self, components: Components, config: TrainConfig) -> None:
        super().__init__()
        self.guidance = components.guidance
        self.connector = components.connector
        self.denoiser = components.denoiser
        self.config = config
        self.shift = config.noise.shift or components.config.sampling.shift

    def forward(self, batch: EditBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        _, context = self.read(batch)
        target = batch.target.to(self.guidance.device)
        loss = self.squared_error(target, context, self.conditions(batch), generator).mean()
        return {"loss": loss, "error": loss.detach()}

    def squared_error(
        self, target: torch.Tensor, context: Context, conditions: Sequence[Condition], generator: torch.Generator
    ) -> torch.Tensor:
        """Flow matching (4.1): the velocity's squared error at random noise levels, [B, C, t, h, w].

        Args:
            target: the data, [B, C, t, h, w] normalised latents.
        """
        level = noise_levels(self.config.noise, self.shift, len(target), generator).to(target.device)  # [B]
        noise = torch.randn(target.shape, generator=generator).to(target.device)  # on the CPU: the same for any device
        # the straight path from the data (sigma 0) to noise (sigma 1), whose velocity is noise - data
        sigma = level.view(-1, 1, 1, 1, 1)
        noisy = (1 - sigma) * target + sigma * noise  # [B, C, t, h, w]
        velocity = self.denoiser(noisy, level, context, conditions)
        square = (velocity.float() - (noise - target)).square()
        # the predicted data is noisy - sigma * velocity, so its error is sigma times the velocity's
        return square * sigma.square() if self.config.loss == "data" else square

    def read(self, batch: EditBatch) -> tuple[Context, Context]:
        """The guidance, and the context that the DiT cross-attends to."""
        guidance = self.guidance(batch.inputs.to(self.guidance.device))
        return guidance, self.connector(guidance, batch.inputs.reference_places)

    def shown_source(self, batch: EditBatch) -> torch.Tensor:
        """The source [B, C, t, h, w], or zeros if dropped: they add nothing (`latent`) or a constant (`embedding`)."""
        device = self.guidance.device
        return batch.source.to(device) * ~batch.sourceless.to(device).view(-1, 1, 1, 1, 1)

    def conditions(self, batch: EditBatch) -> tuple[Condition, ...]:
        """The source, if the stage uses it, and the references."""
        source = self.shown_source(batch) if self.config.use_source else None
        return self.denoiser.conditions(source, [one.to(self.guidance.device) for one in batch.references])


class EditingTask:
    """Trains the parts in `config.train` on a pool of encoded examples or on a streamed table."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        self.components = self.start()
        choose_trained(self.components, config)
        self.check()
        if is_sharded_run():
            check_shardable(self.components, config.optimizer)
        self.source = open_source(config, self.components)
        self.module = self.make_module()

    def start(self) -> Components:
        """The model that the stage starts from."""
        return start_components(self.config)

    def check(self) -> None:
        """Raise InputError if the stage could train nothing."""
        check_gradient(self.components, self.config)

    def make_module(self) -> nn.Module:
        """The module whose forward gives the loss."""
        return FlowMatching(self.components, self.config)

    def batch(self, generator: torch.Generator, is_video: bool) -> EditBatch:
        examples = self.source.draw(generator, is_video)
        dropped = torch.rand(len(examples), generator=generator) < self.config.drop_instruction
        sourceless = torch.rand(len(examples), generator=generator) < self.config.drop_source
        return self.make_batch(examples, dropped.tolist(), sourceless)

    def validation(self) -> Iterator[tuple[str, EditBatch]]:
        for examples in self.source.held_out():
            yield "videos" if examples.is_video else "images", self.make_batch(examples)

    def position(self) -> dict[str, Any]:
        return self.source.position()

    def go_to(self, position: dict[str, Any]) -> None:
        self.source.go_to(position)

    def make_batch(
        self, examples: Encoded, dropped: list[bool] | None = None, sourceless: torch.Tensor | None = None
    ) -> EditBatch:
        """The model's inputs and target; a dropped instruction is empty, a `sourceless` example hides its source.

        Raises:
            InputError: an instruction is too long; its example is named.
        """
        dropped = dropped or [False] * len(examples)
        instructions = ["" if drop else text for text, drop in zip(examples.instructions, dropped, strict=True)]
        pictures = [shown.float() / 255 for shown in examples.shown]
        images = [list(held.float() / 255) for held in examples.reference_images]
        references = examples.references.float()
        count = 0 if references.dim() < 3 else references.shape[1]
        guidance = self.components.guidance
        try:
            inputs = guidance.prepare(instructions, pictures, images, examples.is_video)
        except InputError:
            name_too_long(guidance, examples.names, instructions)
            raise
        return EditBatch(
            inputs=inputs,
            source=examples.source.float(),
            target=examples.target.float(),
            references=tuple(references[:, place] for place in range(count)),
            sourceless=torch.zeros(len(examples), dtype=torch.bool) if sourceless is None else sourceless,
            instructions=tuple(instructions),
            names=tuple(examples.names),
        )

    def export(self, folder: Path) -> None:
        transformer = self.components.denoiser.transformer
        pairs = lora_pairs(transformer)
        merge_lora(transformer)
        save_checkpoint(self.components, folder)
        if pairs:
            write_lora(folder, pairs)

    @torch.no_grad()
    def grids(self) -> dict[str, torch.Tensor]:
        """Source, edit and target, one below the other: for some pictures, and for the frames of a clip."""
        found: dict[str, torch.Tensor] = {}
        for name, is_video, count in (("images", False, SHOWN), ("clip", True, 1)):
            if (examples := self.source.some(is_video, count)) is not None:
                rows = self._edited(examples)
                found[name] = rearrange(rows, "rows b t h w c -> (b rows h) (t w) c" if is_video else GRID)
        return found

    def _edited(self, examples: Encoded) -> list[torch.Tensor]:
        """Source, edit and target, each [B, T, H, W, 3] on the CPU."""
        batch = self.make_batch(examples)
        device = self.components.guidance.device
        guidance = self.components.guidance(batch.inputs.to(device))
        context = self.components.connector(guidance, batch.inputs.reference_places)
        source = batch.source.to(device) if self.config.use_source else None
        references = [reference.to(device) for reference in batch.references]
        noise = torch.randn(batch.source.shape, generator=torch.Generator().manual_seed(0)).to(device)
        denoiser = self.components.denoiser
        edited = sample(denoiser, noise, [GuidanceTerm(1.0, context, denoiser.conditions(source, references))], 8, 3.0)
        codec = self.components.codec
        return [codec.decode(rows.to(codec.mean.device)).cpu() for rows in (batch.source, edited, batch.target)]


def open_source(config: TrainConfig, components: Components) -> ExampleSource:
    """Open a stage's examples: its pool, made now if there is none, or its table as a stream.

    Raises:
        CheckpointError, InputError: as `open_pool` and `StreamSource`.
    """
    state = process_state()
    codec = components.codec.eval().to(state.device)  # the trainer does not move it
    stride = codec.stride * components.denoiser.patch
    shown_frames = components.config.guidance.video_frames
    pool = pool_folder(config)
    if pool is None:
        share = (state.process_index, state.num_processes)
        return StreamSource(config, codec, shown_frames, stride, share, components.guidance.check_length)
    with state.main_process_first():
        return PoolSource(open_pool(pool, config.data, codec, shown_frames, stride), config)


def name_too_long(guidance: Guidance, names: Sequence[str], texts: Sequence[str]) -> None:
    """Raise InputError for the first text that is too long for the model; its example is named."""
    for name, text in zip(names, texts, strict=True):
        try:
            guidance.check_length(text)
        except InputError as error:
            raise InputError(f"Example {quoted(name)} cannot be used: {one_line(error)}") from error


def noise_levels(config: NoiseConfig, shift: float, count: int, generator: torch.Generator) -> torch.Tensor:
    """Random noise levels [count] of a batch, from LEAST_NOISE to 1; 1 is noise."""
    if config.kind == "uniform":
        u = torch.rand(count, generator=generator)
        level = shift * u / (1 + (shift - 1) * u)
    else:
        level = torch.sigmoid(config.std * torch.randn(count, generator=generator) + config.mean)
    return level.clamp(LEAST_NOISE, 1)


def start_components(config: TrainConfig) -> Components:
    """The model that a stage starts from.

    Raises:
        CheckpointError: as `load_model`.
        InputError: as `open_start` and `check_dit`.
    """
    opened = open_start(config.start["model"])
    check_dit(opened.config, config)
    return load_shared(opened) if is_sharded_run() else load_model(opened)


def check_dit(model: ModelConfig, config: TrainConfig) -> None:
    """Raise InputError if a model has a UNet: flow matching is not what a diffusion model was trained with."""
    if model.denoiser.network is Network.UNET:
        raise InputError(
            f"task: {config.task} is for a DiT, but {config.start['model']!r} has a diffusion UNet; a two-stream model "
            "is trained with task: two_stream."
        )


def choose_trained(components: Components, config: TrainConfig) -> None:
    """Enable gradients for the parts in `config.train`, and disable them for all others."""
    guidance, denoiser = components.guidance, components.denoiser
    for module in (guidance, components.connector, denoiser, components.codec):
        module.requires_grad_(False)
    if "queries" in config.train:
        guidance.queries.requires_grad_(True)
        guidance.rows.requires_grad_(True)
    if "lora" in config.train:
        for name, parameter in guidance.mllm.named_parameters():
            parameter.requires_grad_("lora_" in name)
    if "connector" in config.train:
        components.connector.requires_grad_(True)
    if "transformer" in config.train:
        denoiser.transformer.requires_grad_(True)
    if "transformer_lora" in config.train:
        add_dit_lora(denoiser.transformer, config.transformer_lora)
    for name in ("source_embedding", "reference_embedding"):
        if name in config.train and getattr(denoiser, name) is not None:
            getattr(denoiser, name).requires_grad_(True)
    if config.checkpointing:
        denoiser.transformer.enable_gradient_checkpointing()
        guidance.mllm.gradient_checkpointing_enable({"use_reentrant": False})
