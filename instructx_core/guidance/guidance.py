"""What guides a DiT, whatever reads the instruction: prepared once, then read to hidden states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from ..config import GuidanceConfig
from ..context import Context

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


USUAL_WORDS = 64  # tokens of the chat form and an instruction


@dataclass(frozen=True)
class GuidanceInputs:
    """A batch as its reader takes it: an MLLM's padded on the left, so that queries are always in the same places."""

    token_ids: torch.Tensor  # int64 [B, L], queries not included
    attention_mask: torch.Tensor  # bool [B, L + N]
    position_ids: torch.Tensor  # int64 [3, B, L + N], of a LLaVA [B, L + N]; empty of a text encoder
    # [sum of t * h * w, 6 * patch ** 2], as the placeholders come; of a LLaVA [pictures, 3, H, W]; empty without any
    patches: torch.Tensor
    grids: torch.Tensor  # int64 [pictures, 3]
    query_set: str  # "image", "video" or "reference"; "" of guidance without queries
    reference_places: int = 0  # how many places at its beginning are the reference image's own
    keeps_seen: bool = False  # the states at the clip's own places are wanted too: `Context.seen`

    def to(self, device: torch.device | str) -> GuidanceInputs:
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **moved)


class Guidance(nn.Module, ABC):
    """Instruction + source frames (+ references) -> hidden states [B, N, width]. One class per kind."""

    reads: ClassVar[str] = "Qwen2.5-VL"  # the title of the model that reads
    # The queries are words that the language model learns to say: `rows` holds each set's in its head, [N, hidden].
    is_spoken: ClassVar[bool] = False
    edits_pictures_alone: ClassVar[bool] = False  # neither clips nor by references

    def __init__(self, mllm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: GuidanceConfig) -> None:
        """`mllm` reads, with its own tokenizer: what `reads` names."""
        super().__init__()
        self.config = config
        self.mllm = mllm
        self.tokenizer = tokenizer
        self.queries = nn.ParameterDict()
        self.rows = nn.ParameterDict()

    @property
    def device(self) -> torch.device:
        """Where guidance is computed: queries stay there while the MLLM may be kept elsewhere."""
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the guidance."""
        return self._weight.dtype

    @property
    def _weight(self) -> torch.Tensor:
        return next(iter(self.queries.values()), self.mllm.get_input_embeddings().weight)

    @abstractmethod
    def prepare(
        self,
        instructions: Sequence[str],
        sources: Sequence[torch.Tensor] | None,
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        is_video: bool = False,
    ) -> GuidanceInputs:
        """Tokens, patches and positions of a batch.

        Args:
            instructions: B sentences.
            sources: B tensors [T, H, W, 3] in [0, 1]; T may differ where is_video. None: words alone are read.
            references: for each of the B, any number of [H, W, 3] in [0, 1].
            is_video: one batch is all images or all videos.

        Raises:
            InputError: an image source with more than one frame, or an instruction that is too long.
        """

    def prepare_without(
        self,
        count: int,
        sources: Sequence[torch.Tensor] | None,
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        is_video: bool = False,
    ) -> GuidanceInputs:
        """As `prepare`, of what a run is guided away from: no instruction at all, unless a family says another."""
        return self.prepare([""] * count, sources, references, is_video)

    @abstractmethod
    def forward(self, inputs: GuidanceInputs) -> Context:
        """The hidden states that guide the DiT, with a mask where places of them are padding."""

    @abstractmethod
    def layers(self) -> Iterator[nn.Module]:
        """The layers that run one after the other."""

    @abstractmethod
    def numbers(self, inputs: GuidanceInputs) -> int:
        """How many numbers one layer's input has, all places of the batch together."""

    @abstractmethod
    def rehearse(self, frames: int, height: int, width: int, count: int = 1) -> Context:
        """The guidance of a source of this size and usual instructions on the meta device, for what it takes there.

        Args:
            count: instructions that are read side by side.
        """
