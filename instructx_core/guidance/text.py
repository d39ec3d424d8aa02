"""Text-only guidance from a umT5 (Fig. 3a), with which Wan was trained before there was an MLLM.

As in Wan's own pipeline: the last hidden states of the words and the end token, padded with zeros to 512 positions, all
of which the DiT attends to. So there is no mask, and no picture is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn.functional import pad

from ..context import Context
from ..errors import InputError
from .guidance import Guidance, GuidanceInputs

PLACES = 512  # length of Wan's context


class TextGuidance(Guidance):
    """Instruction -> hidden states of a `UMT5EncoderModel` [B, 512, d_model]."""

    reads = "umT5"

    def prepare(
        self,
        instructions: Sequence[str],
        sources: Sequence[torch.Tensor] | None = None,
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        is_video: bool = False,
    ) -> GuidanceInputs:
        """As `Guidance.prepare`; sources and references are ignored.

        Raises:
            InputError: an instruction of more than 512 tokens.
        """
        token_ids = torch.zeros(len(instructions), PLACES, dtype=torch.int64)
        mask = torch.zeros(len(instructions), PLACES, dtype=torch.bool)
        for row, instruction in enumerate(instructions):
            ids = self._ids(instruction)
            token_ids[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = True
        positions = torch.zeros(3, len(instructions), 0, dtype=torch.int64)
        return GuidanceInputs(token_ids, mask, positions, torch.empty(0), torch.empty(0, 3, dtype=torch.int64), "")

    def check_length(self, instruction: str) -> None:
        self._ids(instruction)

    def _ids(self, instruction: str) -> list[int]:
        """Token ids with the end token. Raises InputError if they are more than 512."""
        ids = self.tokenizer(instruction)["input_ids"]
        end = self.tokenizer.eos_token_id  # not every saved tokenizer appends it
        if end is not None and ids[-1:] != [end]:
            ids = [*ids, end]
        if len(ids) > PLACES:
            raise InputError(f"The instruction has {len(ids)} tokens; give at most {PLACES}, some 350 words.")
        return ids

    def forward(self, inputs: GuidanceInputs) -> Context:
        longest = max(1, int(inputs.attention_mask.sum(1).max()))  # words do not see the padding after them
        mask = inputs.attention_mask[:, :longest]
        hidden = self.mllm(input_ids=inputs.token_ids[:, :longest], attention_mask=mask.long()).last_hidden_state
        # no mask for the DiT: Wan was trained to attend to these zeros as part of its context
        return Context(pad(hidden * mask[..., None], (0, 0, 0, PLACES - longest)))  # [B, 512, d_model]

    def layers(self) -> Iterator[nn.Module]:
        yield from self.mllm.encoder.block

    def rehearse(self, frames: int, height: int, width: int, count: int = 1) -> Context:
        token_ids = torch.zeros(count, PLACES, dtype=torch.int64, device="meta")
        return Context(self.mllm(input_ids=token_ids).last_hidden_state)

    def numbers(self, inputs: GuidanceInputs) -> int:
        return inputs.token_ids.numel() * self.mllm.config.d_model
