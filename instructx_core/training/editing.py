"""Stages 1 to 3 (section 3.3), and stage 0c before them: flow matching on edits, or on captions alone.

- Stage 0c (`task: generator`) makes the DiT draw the world from captions: what Wan's pre-training brings with it.
- Stage 1 aligns queries, LoRA and connector with the frozen DiT, without the VAE's source.
- Stages 2 and 3 train those and the whole DiT, with the source, on images and videos.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from torch import nn

from ..checkpoints.bundle import Components, load_checkpoint, load_guidance, save_checkpoint
from ..checkpoints.vae import load_vae
from ..config import ModelConfig, from_plain
from ..connectors import Connector
from ..denoiser import Conditions, Denoiser
from ..latents import LatentCodec
from ..sampling import sample
from .batch import EditBatch
from .config import TrainConfig
from .initialisation import channel_effect, start_unchanging
from .locating import ChangeLocator
from .pool import Bucket, open_pool
from .processes import process_state
from .reading import InstructionReader, Reading, instruction_tokens

CHANGED = 0.25  # a normalised latent that differs by more belongs to the edited region
SMALLEST_CHANGE = 0.2  # in the loss of copying the source; an edit of less than this counts less than others
SHOWN = 8


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

    def forward(self, batch: EditBatch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        device = self.guidance.device
        target, source = batch.target.to(device), batch.source.to(device)
        guidance = self.guidance(batch.inputs.to(device))
        context = self.connector(guidance, batch.inputs.reference_places)
        # more of the steps at high noise, where the edit is decided
        level = torch.sigmoid(1.5 * torch.randn(len(target), generator=generator) + 2.5).to(device)
        sigma = level.view(-1, 1, 1, 1, 1)
        noise = torch.randn(target.shape, generator=generator).to(device)
        conditions = Conditions(
            context,
            source if self.config.use_source else None,
            tuple(reference.to(device) for reference in batch.references),
        )
        noisy = (1 - sigma) * target + sigma * noise
        with self.locator.reading(self.denoiser.transformer) if self.locator else nullcontext([]) as tokens:
            velocity = self.denoiser(noisy, level, conditions)
        square = (velocity.float() - (noise - target)).square()
        if self.config.loss == "data":  # the error of the data that this velocity leads to
            square = square * sigma.square()
        changed = ((target - source).abs() > CHANGED).any(1, keepdim=True)
        weight = (1 + (self.config.edited_weight - 1) * changed) * self.channel_weights
        loss = (self._balance(weight, target - source) * weight * square).mean() / weight.mean()
        report = {"loss": loss, "error": square.detach().mean()}
        if self.reader is not None:
            report["reading"] = self.reader(guidance, batch.words.to(device))
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
    """Trains the parts that `config.train` names on a pool of encoded examples."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        torch.manual_seed(config.seed)
        self.components = load_checkpoint(config.start["model"]) if "model" in config.start else assemble(config)
        if config.deadband:
            self.components = with_deadband(self.components, config.deadband)
        choose_trained(self.components, config)
        own = self.components
        stride = own.codec.stride * own.denoiser.transformer.config.patch_size[1]
        shown_frames = own.config.guidance.video_frames
        folder = Path(config.data.pool or Path(config.output) / "pool")
        with process_state().main_process_first():
            self.buckets = open_pool(folder, config.data, own.codec.eval(), shown_frames, stride)
        reading = config.task == "reading"
        self.module = Reading(own.guidance) if reading else FlowMatching(own, config, self._channel_weights())

    def batch(self, generator: torch.Generator) -> EditBatch:
        data = self.config.data
        is_video = bool(torch.rand((), generator=generator) < data.video_probability)
        bucket = draw_bucket(self.buckets, is_video, generator)
        size = data.image_batch
        if bucket.is_video:
            size = max(1, round(data.video_batch * min(data.lengths) / bucket.frames))
        chosen = torch.randint(len(bucket), (size,), generator=generator)
        dropped = torch.rand(size, generator=generator) < self.config.drop_instruction
        return self.make_batch(bucket, chosen.tolist(), dropped.tolist())

    def make_batch(self, bucket: Bucket, chosen: list[int], dropped: list[bool]) -> EditBatch:
        """The examples `chosen` of a bucket; a dropped instruction is empty."""
        generating = self.config.task == "generator"
        texts = bucket.captions if generating else bucket.instructions
        instructions = ["" if drop else texts[index] for index, drop in zip(chosen, dropped, strict=True)]
        pictures = None if generating else [bucket.shown[index].float() / 255 for index in chosen]
        images = None if generating else [list(bucket.reference_images[index].float() / 255) for index in chosen]
        inputs = self.components.guidance.prepare(instructions, pictures, images, bucket.is_video)
        references = bucket.references[chosen].float()
        count = 0 if generating or references.dim() < 3 else references.shape[1]
        return EditBatch(
            inputs,
            bucket.source[chosen].float(),
            bucket.target[chosen].float(),
            tuple(references[:, place] for place in range(count)),
            instruction_tokens(self.components.guidance.tokenizer, instructions),
        )

    def _channel_weights(self) -> torch.Tensor:
        """What an error in each normalised channel weighs, float32 [C] with mean 1."""
        codec = self.components.codec
        examples = codec.denormalise(self.buckets[0].target[:SHOWN].float().to(codec.mean.device))
        effect = channel_effect(codec.vae, examples) * codec.std.flatten().square()
        weights = effect.cpu() ** self.config.channel_emphasis
        return weights / weights.mean()

    def export(self, folder: Path) -> None:
        save_checkpoint(self.components, folder)

    @torch.no_grad()
    def grid(self) -> torch.Tensor:
        """Source, edit and target of the first examples of the largest image bucket, one below the other."""
        bucket = max((bucket for bucket in self.buckets if not bucket.is_video), key=len)
        shown = min(SHOWN, len(bucket))
        batch = self.make_batch(bucket, list(range(shown)), [False] * shown)
        device = self.components.guidance.device
        context = self.components.connector(self.components.guidance(batch.inputs.to(device)))
        source = batch.source.to(device) if self.config.use_source else None
        references = tuple(reference.to(device) for reference in batch.references)
        noise = torch.randn(batch.source.shape, generator=torch.Generator().manual_seed(0)).to(device)
        edited = sample(self.components.denoiser, noise, Conditions(context, source, references), 8, 3.0)
        rows = [self.components.codec.decode(latents.to(device)) for latents in (batch.source, edited, batch.target)]
        return rearrange([row.cpu() for row in rows], "rows b 1 h w c -> (rows h) (b w) c")


def assemble(config: TrainConfig) -> Components:
    """A whole model from a VAE, an MLLM and `config.model`, with a DiT that changes nothing yet."""
    from diffusers import WanTransformer3DModel

    sizes = dict(config.model)
    transformer_sizes = sizes.pop("transformer")
    model = from_plain(ModelConfig, sizes)
    mllm = Path(config.start["mllm"])
    guidance = load_guidance(mllm, mllm, model, torch.float32)
    codec = LatentCodec(load_vae(Path(config.start["vae"]), torch.float32))
    connector = Connector(model.connector)
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
    if "source_embedding" in config.train and denoiser.source_embedding is not None:
        denoiser.source_embedding.requires_grad_(True)
    if config.checkpointing:
        denoiser.transformer.enable_gradient_checkpointing()
        guidance.mllm.gradient_checkpointing_enable({"use_reentrant": False})


def draw_bucket(buckets: list[Bucket], is_video: bool, generator: torch.Generator) -> Bucket:
    """A bucket of images or of videos, by its share of the examples; the other kind where there are none."""
    fitting = [bucket for bucket in buckets if bucket.is_video == is_video] or buckets
    shares = torch.tensor([float(len(bucket)) for bucket in fitting])
    return fitting[int(torch.multinomial(shares, 1, generator=generator))]
