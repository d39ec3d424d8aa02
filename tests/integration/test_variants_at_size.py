"""The paper's variants on Qwen2.5-VL-3B and Wan2.1-14B: parameters counted, forward and backward on the meta device."""

from __future__ import annotations

import pytest
import torch
import yaml

from instructx_core.config import GuidanceKind, ModelConfig
from instructx_core.connectors import make_connector
from instructx_core.context import Context
from instructx_core.families.components import Components
from instructx_core.training.config import TrainConfig
from instructx_core.training.editing import choose_trained
from instructx_core.training.footprint import parts_of
from instructx_core.training.new_model import new_config
from support import paper_size
from support.training_runs import FILES

SIZES = {"480p": (480, 832, 0), "1080p with a reference": (1088, 1920, 1)}
PROMPT = 13 * 400  # places of 13 frames and an instruction, about
# parameters in millions: queries, LoRA, connector
COUNTS: dict[str, tuple[float, float, float]] = {
    "a-text": (0, 0, 0),
    "b-qformer": (0, 599, 114),
    "c-metaquery": (1.57, 0, 1636),
    "d-paper": (1.57, 599, 25.2),
    "shared-queries": (0.52, 599, 25.2),
    "first-frame": (1.57, 599, 25.2),
}


def config(name: str) -> ModelConfig:
    hidden = 4096 if name == "a-text" else 2048
    return new_config((), hidden, 4096, 5120, yaml.safe_load(FILES[name].read_text()))


@pytest.mark.parametrize("name", COUNTS)
def test_the_connector_s_size(name: str) -> None:
    with torch.device("meta"):
        connector = make_connector(config(name).connector)
    count = sum(parameter.numel() for parameter in connector.parameters()) / 1e6
    assert count == pytest.approx(COUNTS[name][2], rel=0.01)
    tokens = torch.empty(1, 512, connector.config.input_dim, device="meta")
    context = connector(Context(tokens)).tokens
    assert context.shape == (1, 256 if name == "b-qformer" else 512, 4096)


def read(components: Components) -> Context:
    """The guidance of an instruction and 13 frames."""
    guidance = components.guidance
    if guidance.config.kind is GuidanceKind.TEXT:
        return Context(guidance.mllm(input_ids=torch.zeros(1, 512, dtype=torch.int64)).last_hidden_state)
    embeds = torch.empty(1, PROMPT, 2048)
    query_set = guidance.config.query_set(is_video=True)
    if query_set:
        embeds = torch.cat([embeds, guidance.queries[query_set][None]], dim=1)
    positions = torch.zeros(3, 1, embeds.shape[1], dtype=torch.int64)
    found = guidance.mllm.model.language_model(inputs_embeds=embeds, position_ids=positions, use_cache=False)
    return Context(found.last_hidden_state[:, PROMPT if query_set else 0 :])


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", COUNTS)
def test_forward_and_backward(name: str, size: str) -> None:
    """81 frames: 32,760 tokens, and 179,520 with a reference; every trained tensor gets a gradient."""
    components = paper_size.components(config(name))
    choose_trained(components, TrainConfig(task="editing", output="-", steps=1, start={"model": "-"}))
    parts = {part: sum(p.numel() for p in held) / 1e6 for part, held in parts_of(components).items()}
    assert [parts[part] for part in ("queries", "lora", "connector")] == pytest.approx(COUNTS[name], rel=0.01)
    assert parts["transformer"] == pytest.approx(14_290, rel=0.001)
    guidance, denoiser = components.guidance, components.denoiser
    height, width, references = SIZES[size]
    with torch.device("meta"):
        context = components.connector(read(components))
        assert context.tokens.shape == (1, {"b-qformer": 256, "shared-queries": 256}.get(name, 512), 4096)
        latents = torch.empty(1, 16, 21, height // 8, width // 8)
        reference = [torch.empty(1, 16, 1, height // 8, width // 8)] * references
        seen = []
        denoiser.transformer.blocks[0].register_forward_pre_hook(lambda _block, inputs: seen.append(inputs[0].shape[1]))
        velocity = denoiser(latents, torch.full((1,), 0.5), context, denoiser.conditions(latents, reference))
    assert velocity.shape == latents.shape and seen == [179_520 if references else 32_760]
    velocity.square().mean().backward()
    named = {f"{part}.{n}": p for part in ("guidance", "connector", "denoiser")
             for n, p in getattr(components, part).named_parameters()}  # fmt: skip
    without = {n for n, p in named.items() if p.requires_grad and p.grad is None}
    assert without == ({"guidance.queries.image"} if len(guidance.queries) == 2 else set())
