"""What a stage holds in memory, in bytes per process, computed before a weight is read.

Weights, gradients and optimizer are counted from the parameters. Activations are measured: one forward and backward of
the stage's own language model, connector and DiT on fake tensors, in the precision and with the recomputation that the
config asks for. Not counted: references, the vision tower (frozen, so it keeps nothing), and what a kernel takes for
itself for an instant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..config import GuidanceKind
from ..context import Context
from ..families.components import Components
from ..guidance.text import PLACES
from ..guidance.vision import MERGE, PATCH, TEMPORAL, smart_resize
from ..memory.live import LiveMemory
from .config import TrainConfig, TwoStreamTrainConfig
from .optimizers import is_layer_matrix

FULL = 4  # bytes of a float32, in which weights are trained
WORDS = 64  # tokens of the chat form and an instruction


@dataclass(frozen=True)
class Footprint:
    """Bytes of one process that shares nothing."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: Mapping[str, int]  # at their peak, of a micro-batch of "images" or "videos"; {}: not measured

    def total(self, processes: int = 1) -> int:
        """Bytes at the peak of a step, all but activations sharded over the processes."""
        held = self.weights + self.gradients + self.optimizer + self.average
        return math.ceil(held / processes) + max(self.activations.values(), default=0)


@dataclass(frozen=True)
class MicroBatch:
    """A micro-batch."""

    batch: int
    frames: int
    height: int
    width: int


def shapes(config: TrainConfig) -> dict[str, MicroBatch]:
    """The largest micro-batches of a stage, by kind."""
    data = config.data
    sizes = data.sizes[:1] if data.table else data.sizes
    height, width = max(sizes, key=math.prod)
    longest = max(data.lengths)
    batch = max(1, round(data.video_batch * min(data.lengths) / longest))
    found = {}
    if data.video_probability < 1:
        found["images"] = MicroBatch(data.image_batch, 1, height, width)
    if data.video_probability > 0:
        found["videos"] = MicroBatch(batch, longest, height, width)
    return found


def parts_of(components: Components) -> dict[str, list[nn.Parameter]]:
    """A model's parameters by what `train` calls them; the rest is frozen always."""
    guidance, denoiser = components.guidance, components.denoiser
    lora = [value for name, value in guidance.mllm.named_parameters() if "lora_" in name]
    embeddings = {name: getattr(denoiser, name, None) for name in ("source_embedding", "reference_embedding")}
    connector = components.connector
    return {
        "queries": [*guidance.queries.values(), *guidance.rows.values()],
        "lora": lora,
        **_streams(connector),
        "transformer": [value for name, value in denoiser.transformer.named_parameters() if "lora_" not in name],
        "transformer_lora": [value for name, value in denoiser.transformer.named_parameters() if "lora_" in name],
        **{name: list(own.parameters()) if own is not None else [] for name, own in embeddings.items()},
        "MLLM": [value for name, value in guidance.mllm.named_parameters() if "lora_" not in name],
    }


def _streams(connector: nn.Module) -> dict[str, list[nn.Parameter]]:
    """A connector's parameters: in one part, or those of two streams in theirs."""
    if not hasattr(connector, "qformer") or not hasattr(connector, "bim"):
        return {"connector": list(connector.parameters())}
    parts = {name: getattr(connector, name) for name in ("bim", "iaa")}
    named = {name: [] if part is None else list(part.parameters()) for name, part in parts.items()}
    return {"qformer": [connector.tokens, *connector.qformer.parameters()], **named}


def measure_footprint(components: Components, config: TrainConfig) -> Footprint:
    """The memory of a stage.

    Args:
        components: on the meta device (see `families.meta_model`), with `requires_grad` set; turned into fake tensors.
    """
    modules = {"guidance": components.guidance, "connector": components.connector, "denoiser": components.denoiser}
    named = {f"{part}.{name}": value for part, module in modules.items() for name, value in module.named_parameters()}
    trained = {name: value for name, value in named.items() if value.requires_grad}
    count = sum(value.numel() for value in trained.values())
    return Footprint(
        weights=FULL * sum(value.numel() for value in named.values()),
        gradients=FULL * count,
        optimizer=FULL * sum(_kept(name, value, config.optimizer) for name, value in trained.items()),
        average=FULL * count if config.average else 0,
        # of a two-stream stage they are not measured: its losses read more than the velocity
        activations={}
        if isinstance(config, TwoStreamTrainConfig)
        else {kind: activations(components, config, shape) for kind, shape in shapes(config).items()},
    )


def activations(components: Components, config: TrainConfig, shape: MicroBatch) -> int:
    """Bytes of all tensors of a micro-batch that are alive at the same time, beside weights and their gradients."""
    guidance, codec = components.guidance, components.codec
    # a table's sizes are areas, which each picture fills at its own aspect
    sides = (components.denoiser.patch * round(side / (codec.stride * components.denoiser.patch))
             for side in (shape.height, shape.width))  # fmt: skip
    latent = (shape.batch, codec.channels, 1 + (shape.frames - 1) // codec.frame_multiple, *sides)
    modules = (guidance, components.connector, components.denoiser)
    with FakeTensorMode(allow_non_fake_inputs=True), fake_weights(modules):
        gradients = nn.ParameterList()  # there from the micro-batch before
        for parameter in {id(p): p for module in modules for p in module.parameters() if p.requires_grad}.values():
            parameter.grad = torch.empty_like(parameter)
            gradients.append(nn.Parameter(parameter.grad, False))
        with LiveMemory(*modules, gradients) as live:
            noisy, level = torch.empty(latent), torch.full((shape.batch,), 0.5)
            source = torch.empty(latent) if config.use_source else None
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
                context = components.connector(Context(_read(components, shape)))
                conditions = components.denoiser.conditions(source)
                velocity = components.denoiser(noisy, level, context, conditions)
            (velocity.float() - noisy).square().mean().backward()
    return live.peak


def _read(components: Components, shape: MicroBatch) -> torch.Tensor:
    """The guidance of a micro-batch [B, N, width]; a text encoder is frozen, so it keeps nothing."""
    guidance = components.guidance
    if guidance.config.kind is GuidanceKind.TEXT:
        return torch.empty(shape.batch, PLACES, components.config.connector.input_dim)
    prompt = _picture_tokens(components, shape) + WORDS
    embeds = torch.empty(shape.batch, prompt, guidance.mllm.config.text_config.hidden_size)
    query_set = guidance.config.query_set(shape.frames > 1)
    if query_set:
        embeds = torch.cat([embeds, guidance.queries[query_set].expand(shape.batch, -1, -1)], dim=1)
    positions = torch.zeros(3, shape.batch, embeds.shape[1], dtype=torch.int64)
    language = guidance.mllm.model.language_model
    read = language(inputs_embeds=embeds, position_ids=positions, use_cache=False).last_hidden_state
    return read[:, prompt:] if query_set else read


@contextmanager
def fake_weights(modules: tuple[nn.Module, ...]) -> Iterator[None]:
    """Give modules of the meta device weights of a CPU that hold nothing, within the block."""
    swapped: list[tuple[dict[str, Any], str, Any]] = []
    made: dict[int, torch.Tensor] = {}
    for owner in {id(m): m for module in modules for m in module.modules()}.values():
        for held in (owner._parameters, owner._buffers):
            for name, value in held.items():
                if value is None:
                    continue
                if id(value) not in made:
                    plain = torch.empty(value.shape, dtype=value.dtype, device="cpu")
                    made[id(value)] = (
                        nn.Parameter(plain, value.requires_grad) if isinstance(value, nn.Parameter) else plain
                    )
                swapped.append((held, name, value))
                held[name] = made[id(value)]
    try:
        yield
    finally:
        for held, name, value in swapped:
            held[name] = value


def _picture_tokens(components: Components, shape: MicroBatch) -> int:
    """Places that the source fills in the MLLM's sequence."""
    config = components.guidance.config
    is_video = shape.frames > 1
    most = config.video_max_pixels if is_video and config.video_max_pixels else config.max_pixels
    height, width = smart_resize(shape.height, shape.width, config.min_pixels, most)
    shown = math.ceil(min(shape.frames, config.video_frames) / TEMPORAL) if is_video else 1
    return shown * (height // PATCH) * (width // PATCH) // MERGE**2


def _kept(name: str, value: torch.Tensor, optimizer: str) -> int:
    """How many numbers an optimizer keeps of a parameter."""
    if optimizer == "muon" and is_layer_matrix(name, value):
        return value.numel()
    if optimizer == "adafactor":
        rows, columns = value.shape[:-1], (*value.shape[:-2], value.shape[-1])
        return math.prod(rows) + math.prod(columns) if value.ndim > 1 else value.numel()
    return 2 * value.numel()
