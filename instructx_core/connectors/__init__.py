"""Guidance -> context, one file per kind: the paper's MLP, its alternatives (3.2, Fig. 3), InsightEdit's."""

from __future__ import annotations

from ..config import ConnectorConfig, ConnectorKind
from .connector import Connector
from .identity import IdentityConnector
from .mlp import MLPConnector
from .qformer import QFormerConnector
from .transformer import TransformerConnector
from .two_stream import TwoStreamConnector

KINDS: dict[ConnectorKind, type[Connector]] = {
    ConnectorKind.MLP: MLPConnector,
    ConnectorKind.QFORMER: QFormerConnector,
    ConnectorKind.TRANSFORMER: TransformerConnector,
    ConnectorKind.TWO_STREAM: TwoStreamConnector,
    ConnectorKind.NONE: IdentityConnector,
}


def make_connector(config: ConnectorConfig) -> Connector:
    """A connector of the config's kind, with fresh weights."""
    return KINDS[config.kind](config)


__all__ = ["Connector", "make_connector"]
