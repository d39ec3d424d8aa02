"""A stage's memory in bytes per process, computed before any weights are read.

Weights, gradients and optimizer state follow from the parameters. Activations are measured by a forward and backward
pass of the stage's language model, connector and DiT on fake tensors, with the config's precision and checkpointing.
Not counted: references, the vision tower (frozen, so it stores no activations), and temporary buffers inside kernels.
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
from ..fit import nearest
from ..guidance.guidance import USUAL_WORDS
from ..guidance.text import PLACES
from ..guidance.vision import MERGE, PATCH, TEMPORAL, smart_resize
from ..memory.live import LiveMemory
from .config import TrainConfig, TwoStreamTrainConfig
from .optimizers import is_layer_matrix

FULL = 4  # bytes of a float32, the format of weights in training


@dataclass(frozen=True)
class Footprint:
    """Bytes of one process without sharding."""

    weights: int
    gradients: int
    optimizer: int
    average: int
    activations: Mapping[str, int]  # peak for a micro-batch of "images" or "videos"; {}: not measured

    def total(self, processes: int = 1) -> int:
        """Peak bytes of a process in a step, with everything but activations sharded over `processes`."""
        held = self.weights + self.gradients + self.optimizer + self.average
        return math.ceil(held / processes) + max(self.activations.values(), default=0)


@dataclass(frozen=True)
class MicroBatch:
    """The shape of a micro-batch, sides in pixels."""

    batch: int
    frames: int
    height: int
    width: int


def shapes(config: TrainConfig) -> dict[str, MicroBatch]:
    """The largest micro-batch of each kind in a stage."""
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
    """A model's parameters by their names in `train`, and the MLLM's, which are always frozen."""
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
    """A connector's parameters: as one part, or as the parts of a two-stream connector."""
    if not hasattr(connector, "qformer") or not hasattr(connector, "bim"):
        return {"connector": list(connector.parameters())}
    parts = {name: getattr(connector, name) for name in ("bim", "iaa")}
    named = {name: [] if part is None else list(part.parameters()) for name, part in parts.items()}
    return {"qformer": [connector.tokens, *connector.qformer.parameters()], **named}


def measure_footprint(components: Components, config: TrainConfig) -> Footprint:
    """Compute the memory of a stage.

    Args:
        components: on the meta device (see `families.meta_model`), with `requires_grad` set.
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
        # not measured for two-stream stages, whose losses need more than the velocity
        activations={}
        if isinstance(config, TwoStreamTrainConfig)
        else {kind: activations(components, config, shape) for kind, shape in shapes(config).items()},
    )


def activations(components: Components, config: TrainConfig, shape: MicroBatch) -> int:
    """Peak bytes of a micro-batch's live tensors, not counting weights and their gradients."""
    guidance, codec = components.guidance, components.codec
    # rounded: a table's sizes are only areas, which pictures fill at their own aspect ratios
    stride = codec.stride * components.denoiser.patch
    sides = (nearest(side, stride) // codec.stride for side in (shape.height, shape.width))
    latent = (shape.batch, codec.channels, 1 + (shape.frames - 1) // codec.frame_multiple, *sides)
    modules = (guidance, components.connector, components.denoiser)
    with FakeTensorMode(allow_non_fake_inputs=True), fake_weights(modules):
        gradients = nn.ParameterList()  # they exist since the previous micro-batch
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
    """The guidance of a micro-batch [B, N, width]; a text encoder is frozen, so it stores no activations."""
    guidance = components.guidance
    if guidance.config.kind is GuidanceKind.TEXT:
        return torch.empty(shape.batch, PLACES, components.config.connector.input_dim)
    prompt = _picture_tokens(components, shape) + USUAL_WORDS
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
    """Within the block, replace weights on the meta device with fake CPU tensors."""
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
    """How many tokens the source has in the MLLM's sequence."""
    config = components.guidance.config
    is_video = shape.frames > 1
    most = config.video_max_pixels if is_video and config.video_max_pixels else config.max_pixels
    height, width = smart_resize(shape.height, shape.width, config.min_pixels, most)
    shown = math.ceil(min(shape.frames, config.video_frames) / TEMPORAL) if is_video else 1
    return shown * (height // PATCH) * (width // PATCH) // MERGE**2


def _kept(name: str, value: torch.Tensor, optimizer: str) -> int:
    """How many state values an optimizer keeps for a parameter."""
    if optimizer == "muon" and is_layer_matrix(name, value):
        return value.numel()
    if optimizer == "adafactor":
        rows, columns = value.shape[:-1], (*value.shape[:-2], value.shape[-1])
        return math.prod(rows) + math.prod(columns) if value.ndim > 1 else value.numel()
    return 2 * value.numel()
