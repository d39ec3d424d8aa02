"""Stages 1 to 3 (section 3.3), and stage 0c before them: flow matching on edits, or on captions alone.

- Stage 0c (`task: generator`) makes the DiT draw the world from captions: what Wan's pre-training brings with it.
- Stage 1 aligns queries, LoRA and connector with the frozen DiT, without the VAE's source.
- Stages 2 and 3 train those and the whole DiT, with the source, on images and videos.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import nn

from .. import families
from ..config import ModelConfig
from ..connectors import make_connector
from ..denoiser import Denoiser
from ..errors import InputError
from ..families.components import Components, with_queries
from ..families.instructx.folder import save_checkpoint
from ..families.loading import load_model
from ..families.opened import check_reader
from ..latents import LatentCodec
from ..sampling import GuidanceTerm, sample
from ..validation import FieldError, converted
from ..weights.detect import Part, find_form
from ..weights.readers import load_reader
from ..weights.vae import load_vae
from .batch import EditBatch
from .config import NoiseConfig, TrainConfig, pool_folder
from .data.cache import open_pool
from .data.encoding import Encoded
from .data.sources import PoolSource, Source, StreamSource
from .dit_lora import add_dit_lora, lora_pairs, merge_dit_lora, write_lora
from .gradients import check_gradient, check_reading
from .initialisation import channel_effect, start_unchanging
from .locating import ChangeLocator
from .processes import process_state
from .reading import InstructionReader, Reading, instruction_tokens
from .sharding import check_shardable, is_sharded_run, load_shared
from .sizes import check_numbers, check_sized

CHANGED = 0.25  # a normalised latent that differs by more belongs to the edited region
SMALLEST_CHANGE = 0.2  # in the loss of copying the source; an edit of less than this counts less than others
SHOWN = 8
GRID = "rows b 1 h w c -> (rows h) (b w) c"
LEAST_NOISE = 1e-3  # at 0 what is predicted would be divided by nothing


class FlowMatching(nn.Module):
    """A batch of edits -> how far the velocity is from noise - target, whatever the DiT's output means."""

    def __init__(self, components: Components, config: TrainConfig, channel_weights: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("channel_weights", channel_weights.view(1, -1, 1, 1, 1), persistent=False)
        self.guidance = components.guidance
        self.connector = components.connector
        self.denoiser = components.denoiser
        self.reader: InstructionReader | None = None
        if config.reading_weight:
            text = components.guidance.mllm.config.text_config
            self.reader = InstructionReader(text.hidden_size, text.vocab_size)
        self.locator = ChangeLocator(self.denoiser.transformer) if config.locating_weight else None
        self.config = config
        self.shift = config.noise.shift or components.config.sampling.shift

    def forward(self, batch: EditBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        device = self.guidance.device
        target = batch.target.to(device)
        # what the DiT is not shown is zeros: nothing added (`latent`), or a constant (`embedding`)
        source = batch.source.to(device) * ~batch.sourceless.to(device).view(-1, 1, 1, 1, 1)
        guidance = self.guidance(batch.inputs.to(device))
        context = self.connector(guidance, batch.inputs.reference_places)
        level = noise_levels(self.config.noise, self.shift, len(target), generator).to(device)
        noise = torch.randn(target.shape, generator=generator).to(device)
        conditions = self.denoiser.conditions(
            source if self.config.use_source else None, [reference.to(device) for reference in batch.references]
        )
        # flow matching: the straight path from the data (sigma 0) to noise (sigma 1), whose velocity is noise - data
        sigma = level.view(-1, 1, 1, 1, 1)
        noisy = (1 - sigma) * target + sigma * noise  # [B, C, t, h, w]
        with self.locator.reading(self.denoiser.transformer) if self.locator else nullcontext([]) as tokens:
            velocity = self.denoiser(noisy, level, context, conditions)
        square = (velocity.float() - (noise - target)).square()
        if self.config.loss == "data":  # of the data noisy - sigma * velocity, whose error is sigma times as large
            square = square * sigma.square()
        changed = ((target - source).abs() > CHANGED).any(1, keepdim=True)  # [B, 1, t, h, w]
        weight = (1 + (self.config.edited_weight - 1) * changed) * self.channel_weights
        # divided by the mean weight: `edited_weight` moves the error between places and is no learning rate
        loss = (self._balance(weight, target - source) * weight * square).mean() / weight.mean()
        report = {"loss": loss, "error": square.detach().mean()}
        if self.reader is not None:
            report["reading"] = self.reader(guidance.tokens, batch.words.to(device))
            report["loss"] = report["loss"] + self.config.reading_weight * report["reading"]
        if self.locator is not None:
            report["locating"] = self.locator(tokens[0], changed)
            report["loss"] = report["loss"] + self.config.locating_weight * report["locating"]
        return report

    def _balance(self, weight: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
        """What each example counts, [B, 1, 1, 1, 1]: else edits of whole pictures drown those of small objects."""
        size = (weight * change.square()).mean((1, 2, 3, 4), keepdim=True) / weight.mean()
        return (size + SMALLEST_CHANGE) ** -self.config.balance


class EditingTask:
    """Trains the parts that `config.train` names, on a pool of encoded examples or on a table, read as it goes."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        self.components = start_components(config)
        if config.deadband:
            self.components = with_deadband(self.components, config.deadband)
        choose_trained(self.components, config)
        check_gradient(self.components, config)
        check_reading(self.components, config)
        if is_sharded_run():
            check_shardable(self.components, config.optimizer)
        own = self.components
        self.source = open_source(config, own)
        reading = config.task == "reading"
        self.module = Reading(own.guidance) if reading else FlowMatching(own, config, self._channel_weights())

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
        """What the model is given; a dropped instruction is empty, a dropped source is not shown."""
        generating = self.config.task == "generator"
        dropped = dropped or [False] * len(examples)
        texts = examples.captions if generating else examples.instructions
        instructions = ["" if drop else text for text, drop in zip(texts, dropped, strict=True)]
        pictures = None if generating else [shown.float() / 255 for shown in examples.shown]
        images = None if generating else [list(held.float() / 255) for held in examples.reference_images]
        inputs = self.components.guidance.prepare(instructions, pictures, images, examples.is_video)
        references = examples.references.float()
        count = 0 if generating or references.dim() < 3 else references.shape[1]
        return EditBatch(
            inputs,
            examples.source.float(),
            examples.target.float(),
            tuple(references[:, place] for place in range(count)),
            instruction_tokens(self.components.guidance.tokenizer, instructions),
            torch.zeros(len(examples), dtype=torch.bool) if sourceless is None else sourceless,
            tuple(examples.names),
        )

    def _channel_weights(self) -> torch.Tensor:
        """What an error in each normalised channel weighs, float32 [C] with mean 1."""
        codec = self.components.codec
        some = self.source.some(None, SHOWN)
        assert some is not None
        examples = codec.denormalise(some.target.to(codec.mean.device))
        effect = channel_effect(codec.vae, examples) * codec.std.flatten().square()
        weights = effect.cpu() ** self.config.channel_emphasis
        return weights / weights.mean()

    def export(self, folder: Path) -> None:
        transformer = self.components.denoiser.transformer
        pairs = lora_pairs(transformer)
        merge_dit_lora(transformer)
        save_checkpoint(self.components, folder)
        if pairs:
            write_lora(folder, pairs)

    @torch.no_grad()
    def grids(self) -> dict[str, torch.Tensor]:
        """Source, edit and target, one below the other: of the first pictures, and the frames of a clip.

        A reading stage has none: its DiT takes no part.
        """
        found: dict[str, torch.Tensor] = {}
        if self.config.task == "reading":
            return found
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


def open_source(config: TrainConfig, components: Components) -> Source:
    """What a stage draws from: its pool, made first where there is none, or the rows of its table.

    Raises:
        CheckpointError, InputError: as `open_pool` and `StreamSource`.
    """
    state = process_state()
    codec = components.codec.eval().to(state.device)  # not among what the trainer moves there
    stride = codec.stride * components.denoiser.transformer.config.patch_size[1]
    shown_frames = components.config.guidance.video_frames
    pool = pool_folder(config)
    if pool is None:
        share = (state.process_index, state.num_processes)
        return StreamSource(config, codec, shown_frames, stride, share)
    with state.main_process_first():
        return PoolSource(open_pool(pool, config.data, codec, shown_frames, stride), config)


def noise_levels(config: NoiseConfig, shift: float, count: int, generator: torch.Generator) -> torch.Tensor:
    """The noise levels [count] that a batch trains, in (0, 1); 1 is noise."""
    if config.kind == "uniform":
        u = torch.rand(count, generator=generator)
        level = shift * u / (1 + (shift - 1) * u)
    else:
        level = torch.sigmoid(config.std * torch.randn(count, generator=generator) + config.mean)
    return level.clamp(LEAST_NOISE, 1)


def start_components(config: TrainConfig) -> Components:
    """The model that a stage goes on from.

    Raises:
        CheckpointError, InputError: as `load_model` and `assemble`.
    """
    if "model" not in config.start:
        return assemble(config)
    path = Path(config.start["model"])
    return load_shared(path) if is_sharded_run() else load_model(families.open(path))


def assemble(config: TrainConfig) -> Components:
    """A whole model from a VAE, an MLLM and `config.model`, with a DiT that changes nothing yet."""
    from diffusers import WanTransformer3DModel

    sizes = dict(config.model)
    transformer_sizes = sizes.pop("transformer")
    try:
        model = converted(ModelConfig, sizes, "model.")
    except FieldError as error:
        raise InputError(f"In the model section of the training config, {error}.") from error
    check_numbers(transformer_sizes, "model.transformer")
    check_sized(lambda: WanTransformer3DModel(**transformer_sizes), "model.transformer")
    mllm = Path(config.start["mllm"])
    form = find_form(mllm, Part.MLLM)
    check_reader(model, Path(config.output), form)
    guidance = with_queries(*load_reader(form, mllm, torch.float32), model, torch.float32)
    codec = LatentCodec(load_vae(find_form(config.start["vae"], Part.VAE), torch.float32))
    connector = make_connector(model.connector)
    denoiser = Denoiser(WanTransformer3DModel(**transformer_sizes), model.denoiser, model.connector.entry)
    start_unchanging(connector, denoiser)
    return Components(model, guidance, connector, denoiser, codec)


def with_deadband(components: Components, deadband: float) -> Components:
    """The same model, in place, with another deadband, which its checkpoint then says too."""
    denoiser = components.denoiser
    denoiser.config = replace(denoiser.config, deadband=deadband)
    return replace(components, config=replace(components.config, denoiser=denoiser.config))


def choose_trained(components: Components, config: TrainConfig) -> None:
    """Switch gradients on for the parts that `config.train` names, and off for all others."""
    guidance, denoiser = components.guidance, components.denoiser
    for module in (guidance, components.connector, denoiser, components.codec):
        module.requires_grad_(False)
    if "queries" in config.train:
        guidance.queries.requires_grad_(True)
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
