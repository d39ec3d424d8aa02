"""Rename SmartEdit's connector tensors to those of `instructx.safetensors`; they are InsightEdit's without the IAA.

Read from its training and test scripts: `sd_query_tokens` and `sd_qformer.*` are in embeddings_qformer, the BIM's in
modulate-*/adapter_model.bin. BERT's and SAM's original code name some layers differently from transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from ...errors import CheckpointError
from ...words import quoted

T = TypeVar("T")

QUERIES = "sd_query_tokens"
UNREAD = "sd_qformer.embeddings.position_ids"  # a constant range, for text that it never reads
_QFORMER = (
    (r"^sd_qformer\.embeddings\.LayerNorm\.", "connector.qformer.layernorm."),
    (r"^sd_qformer\.", "connector.qformer."),
    (r"attention\.self\.", "attention.attention."),
)
_BIM = (
    (r"^modulate_head\.", "connector.bim.text_in."),
    (r"^pe_layer\.positional_encoding_gaussian_matrix$", "connector.bim.frequencies"),
    (r"^dimension_reduction_head_zeroconv\.", "connector.bim.image_out."),
    (r"^dimension_reduction_head_qformer_out\.", "connector.bim.text_out."),
    (r"^modulate_transformer\.", "connector.bim.transformer."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
)


def qformer_to_own(state: Mapping[str, T]) -> dict[str, T]:
    """The Q-Former and its queries; the file's other tensors are ignored."""
    own = {"connector.tokens": state[QUERIES]} if QUERIES in state else {}
    read = {name: value for name, value in state.items() if name.startswith("sd_qformer.") and name != UNREAD}
    return own | {_renamed(name, _QFORMER): value for name, value in read.items()}


def bim_to_own(state: Mapping[str, T]) -> dict[str, T]:
    """The BIM.

    Raises:
        CheckpointError: a tensor that is not part of it.
    """
    own = {_renamed(name, _BIM): value for name, value in state.items()}
    if odd := sorted(name for name in own if not name.startswith("connector.bim.")):
        raise CheckpointError(f"{quoted(odd[0])} does not belong to SmartEdit's BIM; get the file again.")
    return own


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
