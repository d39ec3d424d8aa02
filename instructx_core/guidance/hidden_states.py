"""All of the MLLM's last hidden states as guidance (Fig. 3b): the prompt's, the pictures' and the words'."""

from __future__ import annotations

from ..context import Context
from .encoder import MLLMGuidance
from .guidance import GuidanceInputs


class HiddenStatesGuidance(MLLMGuidance):
    """`MLLMGuidance` without queries: as long as the sequence, so it needs a mask if a batch is padded."""

    def forward(self, inputs: GuidanceInputs) -> Context:
        """Tokens [B, L, hidden] and their mask [B, L]; None if no sequence is padded."""
        hidden = self.hidden(inputs, self.mllm.get_input_embeddings().weight[:0])
        return Context(hidden, None if bool(inputs.attention_mask.all()) else inputs.attention_mask)
