"""The interface of all kinds of guidance: inputs are prepared once, then read into hidden states for the DiT."""

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


NO_CLIPS = "This model edits pictures, not clips; give it one picture, or each frame separately."
USUAL_WORDS = 64  # tokens of the chat template and a usual instruction


@dataclass(frozen=True)
class GuidanceInputs:
    """A batch of inputs; an MLLM's are padded on the left, so that queries always have the same positions."""

    token_ids: torch.Tensor  # int64 [B, L], queries not included
    attention_mask: torch.Tensor  # bool [B, L + N]
    position_ids: torch.Tensor  # int64 [3, B, L + N], for a LLaVA [B, L + N]; empty for a text encoder
    # [sum of t * h * w, 6 * patch ** 2], in the placeholders' order; for a LLaVA [pictures, 3, H, W]; may be empty
    patches: torch.Tensor
    grids: torch.Tensor  # int64 [pictures, 3]
    query_set: str  # "image", "video" or "reference"; "" for guidance without queries
    reference_places: int = 0  # how many positions at the guidance's beginning are the reference image's
    keeps_seen: bool = False  # also return the states at the clip's positions: `Context.seen`

    def to(self, device: torch.device | str) -> GuidanceInputs:
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **moved)


class Guidance(nn.Module, ABC):
    """Instruction + source frames (+ references) -> hidden states [B, N, width]. One class per kind."""

    reads: ClassVar[str] = "Qwen2.5-VL"  # name of the model that reads
    # The queries are words that the language model learns to generate; `rows` holds each set's head rows, [N, hidden].
    is_spoken: ClassVar[bool] = False
    edits_pictures_alone: ClassVar[bool] = False  # neither clips nor with references

    def __init__(self, mllm: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: GuidanceConfig) -> None:
        """`mllm` is the model that `reads` names, `tokenizer` its own."""
        super().__init__()
        self.config = config
        self.mllm = mllm
        self.tokenizer = tokenizer
        self.queries = nn.ParameterDict()
        self.rows = nn.ParameterDict()

    @property
    def device(self) -> torch.device:
        """The device that computes guidance: queries stay there while the MLLM may be kept elsewhere."""
        return self._weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the guidance."""
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
            sources: B tensors [T, H, W, 3] in [0, 1]; T may differ where is_video. None: only words are read.
            references: for each of the B, any number of [H, W, 3] in [0, 1].
            is_video: whether the batch is all videos, or else all images.

        Raises:
            InputError: an image source with more than one frame, or an instruction that is too long.
        """

    @abstractmethod
    def check_length(self, instruction: str) -> None:
        """Raise InputError if an instruction is too long for `prepare`."""

    def prepare_without(
        self,
        count: int,
        sources: Sequence[torch.Tensor] | None,
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        is_video: bool = False,
    ) -> GuidanceInputs:
        """As `prepare`, for the negative prompt: an empty instruction, unless a family defines another."""
        return self.prepare([""] * count, sources, references, is_video)

    @abstractmethod
    def forward(self, inputs: GuidanceInputs) -> Context:
        """The hidden states that guide the DiT, with a mask if some positions are padding."""

    @abstractmethod
    def layers(self) -> Iterator[nn.Module]:
        """The layers, in the order in which they run."""

    @abstractmethod
    def numbers(self, inputs: GuidanceInputs) -> int:
        """The number of values in one layer's input, over all positions of the batch."""

    @abstractmethod
    def rehearse(self, frames: int, height: int, width: int, count: int = 1) -> Context:
        """The guidance of a source of this size and usual instructions on the meta device, to measure memory.

        Args:
            count: instructions read in one batch.
        """
