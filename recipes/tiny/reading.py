"""An auxiliary loss: predict the instruction from the queries.

A DiT that does not use the queries yet passes them hardly any gradient, so its error alone teaches them slowly. That
they should carry the words is known in advance. The reader exists in training only.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

IGNORED = -100
LONGEST = 64  # tokens of an instruction that are predicted


class InstructionReader(nn.Module):
    """A one-layer decoder that predicts an instruction's tokens, each from those before it and the queries' output.

    Args:
        width: of the queries' output.
        vocabulary: number of the MLLM's tokens.
    """

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(width))
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(LONGEST, width)
        self.layer = nn.TransformerDecoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, guidance: torch.Tensor, wanted: torch.Tensor, hidden: torch.Tensor | None = None) -> torch.Tensor:
        """Mean cross-entropy, in nats per token.

        Args:
            guidance: [B, N, width].
            hidden: bool [B, N], positions that are not read; None: all are.
            wanted: int64 [B, L], padded at the end with `IGNORED`; a row without tokens does not count.
        """
        wanted = wanted[:, :LONGEST]
        # each token is predicted from those before it: the inputs are the targets, one position later
        before = self.tokens(wanted[:, :-1].clamp_min(0))  # [B, L - 1, width]; padding becomes token 0, never counted
        given = torch.cat([self.start.expand(len(wanted), 1, -1), before], dim=1)
        given = given + self.places.weight[: given.shape[1]]
        causal = nn.Transformer.generate_square_subsequent_mask(given.shape[1], device=given.device)
        read = self.layer(given, guidance, causal, memory_key_padding_mask=hidden, tgt_is_causal=True)
        logits = self.head(read)  # [B, L, vocabulary]
        # a mean over tokens, not rows: a batch of empty instructions gives 0 instead of NaN
        counted = max(1, int((wanted != IGNORED).sum()))
        return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, reduction="sum") / counted


def instruction_tokens(tokenizer: object, instructions: list[str]) -> torch.Tensor:
    """Token ids int64 [B, L] of `instructions`, padded at the end with `IGNORED`."""
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in instructions]
    wanted = torch.full((len(ids), max(1, *map(len, ids))), IGNORED)
    for row, own in zip(wanted, ids, strict=True):
        row[: len(own)] = torch.tensor(own, dtype=torch.int64)
    return wanted
