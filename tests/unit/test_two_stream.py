"""The two-stream connector: SmartEdit's numbers, its published sizes, and what is left of it where nothing is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from instructx_core.config import ConnectorConfig, ConnectorKind, ModelConfig, TwoStreamConfig
from instructx_core.connectors import make_connector
from instructx_core.connectors.two_stream import TwoStreamConnector
from instructx_core.context import Context
from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.insightedit.keys import bim_to_own, qformer_to_own
from support.golden_runs import GOLDEN

RECORDED = load_file(GOLDEN / "smartedit.safetensors")
# parameters of the Q-Former, of SAM's transformer, of the BIM and of the IAA
COUNTS = [64_955_904, 27_308_544, 29_211_200, 22_291_712]
SMALL = ConnectorConfig(
    kind=ConnectorKind.TWO_STREAM,
    input_dim=20,
    hidden_dim=24,
    output_dim=24,
    layers=2,
    head_dim=12,
    tokens=5,
    two_stream=TwoStreamConfig(vision_dim=16, bim_heads=2, bim_hidden=12, addend_dim=8, image_dim=6, iaa=False),
)
PUBLISHED = ConnectorConfig(ConnectorKind.TWO_STREAM, 4096, 768, 768, layers=6, tokens=77)


def small(**changes: object) -> TwoStreamConnector:
    torch.manual_seed(0)
    connector = make_connector(replace(SMALL, two_stream=replace(SMALL.two_stream, **changes)))
    for parameter in connector.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return connector.eval()


def recorded() -> TwoStreamConnector:
    """With the weights that were recorded."""
    parts = {name: value for name, value in RECORDED.items() if not name.startswith(("in.", "out.", "unet."))}
    bim = {name: value for name, value in parts.items() if not name.startswith("sd_")}
    state = {
        name.removeprefix("connector."): value for name, value in (qformer_to_own(parts) | bim_to_own(bim)).items()
    }
    connector = small()
    connector.load_state_dict(state | {"unasked": connector.unasked})
    return connector


def guidance() -> Context:
    return Context(RECORDED["in.hidden"], image=RECORDED["in.features"])


@torch.no_grad()
def test_it_is_smartedits_q_former_and_bim() -> None:
    connector = recorded()
    torch.testing.assert_close(connector.aligned(RECORDED["in.hidden"]), RECORDED["out.aligned"], atol=1e-4, rtol=0)
    context = connector(guidance())
    torch.testing.assert_close(context.tokens, RECORDED["out.text"], atol=1e-4, rtol=0)
    # a convolution of one pixel and a bilinear resizing may change places
    visual = torch.nn.functional.interpolate(context.addend, (6, 6), mode="bilinear", align_corners=False)
    torch.testing.assert_close(visual, RECORDED["out.visual"], atol=1e-4, rtol=0)
    assert (
        RECORDED["out.visual"].abs().max() > 0.1 and (RECORDED["out.text"] - RECORDED["out.aligned"]).abs().max() > 0.1
    )


def test_the_bim_s_frequencies_are_not_rounded_with_its_weights() -> None:
    exact, rounded = small(), small().to(torch.bfloat16)
    assert rounded.bim.text_in.weight.dtype == torch.bfloat16
    assert torch.equal(rounded.bim.positions(4), exact.bim.positions(4))


def test_it_starts_as_its_q_former_alone() -> None:
    connector = make_connector(SMALL)
    context = connector(guidance())
    assert torch.equal(context.tokens, connector.aligned(RECORDED["in.hidden"])) and not context.addend.any()
    assert context.image is None and context.mask is None


@torch.no_grad()
def test_the_iaa_gives_n_tokens_of_one_embedding() -> None:
    connector = small(iaa=True, image_tokens=3)
    hidden = RECORDED["in.hidden"]
    assert connector.iaa.mapped(hidden).shape == (2, 6)
    image = connector(guidance()).image
    assert image.shape == (2, 3, 24)
    # one embedding of all r places: their order does not matter to it
    assert torch.allclose(image, connector(Context(hidden.flip(1), image=RECORDED["in.features"])).image, atol=1e-5)
    assert [type(layer).__name__ for layer in small(iaa=True, mapper_layers=1).iaa.mapper] == ["Linear"]
    assert [type(layer).__name__ for layer in small(iaa=True).iaa.mapper] == ["Linear", "GELU", "Linear"]


@torch.no_grad()
def test_where_nothing_is_asked_the_picture_alone_counts() -> None:
    connector = small(iaa=True)
    torch.nn.init.normal_(connector.unasked)
    asked = connector(guidance())
    unasked = connector.unasking(asked)
    assert torch.equal(unasked.tokens, connector.unasked.expand(2, -1, -1))
    assert not unasked.image.any() and torch.equal(unasked.addend, asked.addend)
    assert make_connector(ConnectorConfig(input_dim=4, hidden_dim=4, output_dim=4)).unasking(asked) is None


def test_a_bim_needs_a_picture() -> None:
    with pytest.raises(InputError, match="give a source"):
        small()(Context(RECORDED["in.hidden"]))
    assert small(bim=False)(Context(RECORDED["in.hidden"])).addend is None


def test_at_its_published_size() -> None:
    """Forward and backward, on the meta device."""
    with torch.device("meta"):
        connector = make_connector(PUBLISHED)
        context = connector(Context(torch.empty(1, 32, 4096), image=torch.empty(1, 256, 1024)))
    assert context.tokens.shape == (1, 77, 768) and context.image.shape == (1, 4, 768)
    assert context.addend.shape == (1, 320, 16, 16)
    (context.tokens.sum() + context.image.sum() + context.addend.sum()).backward()
    assert all(parameter.grad is not None for parameter in connector.parameters())

    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert connector.tokens.numel() == 59_136
    counts = [count(part) for part in (connector.qformer, connector.bim.transformer, connector.bim, connector.iaa)]
    assert counts == COUNTS


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_dim": 48}, "connector.hidden_dim is 48; give connector.output_dim, 24"),
        ({"head_dim": 5}, "give an even divisor of connector.hidden_dim, 24"),
        ({"two_stream": TwoStreamConfig(vision_dim=20)}, "connector.two_stream.bim_heads is 8"),
    ],
)
def test_sizes_that_do_not_go_together_are_named(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        ModelConfig(connector=replace(SMALL, **changes)).checked()
