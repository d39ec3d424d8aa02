"""A fresh Q-Former connector gives a context that a DiT can begin to learn from."""

from __future__ import annotations

import pytest
import torch

from instructx_core.config import ConnectorConfig, ConnectorKind
from instructx_core.connectors import make_connector
from instructx_core.context import Context

HIDDEN = 128  # width of the MLLM's states


@pytest.mark.parametrize("width", [64, 128, 768])
def test_a_fresh_context_is_as_large_as_the_paper_s_and_depends_on_the_guidance(width: int) -> None:
    torch.manual_seed(0)
    said = Context(torch.randn(16, 48, HIDDEN))  # of unit variance, as after the MLLM's last norm
    mlp, qformer = (
        make_connector(ConnectorConfig(kind, HIDDEN, width, 4096, layers=3, head_dim=32, tokens=8))(said).tokens
        for kind in (ConnectorKind.MLP, ConnectorKind.QFORMER)
    )
    size = qformer.std().item()
    assert size == pytest.approx(mlp.std().item(), rel=0.25)
    assert qformer.std(0).mean().item() > 0.02 * size  # 0.007 of it with an initializer_range of 0.02 at width 64
