"""Guidance from a Qwen2.5-VL that reads instruction and pixels, by learnable queries (section 3.1).

- The queries are embeddings appended to the prompt; only their last hidden states leave the MLLM.
- Images and videos have separate query sets (3.2); some checkpoints have a third, for edits with references.
- LoRA is on the language model only; the vision tower stays as pre-trained.
- Preparing (tokens, patches, positions) is separate from encoding, so that a trainer can do it once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..config import GuidanceConfig
from ..context import Context
from ..errors import InputError
from .frames import sample_indices
from .guidance import USUAL_WORDS, Guidance, GuidanceInputs
from .positions import positions
from .prompt import plain_words, prompt_tokens
from .vision import MERGE, PATCH, TEMPORAL, Patches, smart_resize, to_patches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

# every linear layer of a decoder block
LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
QUERY_SIZE = 0.02  # standard deviation of new queries, as of Qwen's own embeddings


class MLLMGuidance(Guidance):
    """Instruction + source frames (+ references) -> guidance [B, N, hidden].

    Args:
        mllm: a Qwen2.5-VL of any size; LoRA layers are injected into its language model.
        tokenizer: the MLLM's own.
        config: query counts, frames, pixel bounds and LoRA rank.
    """

    def __init__(
        self,
        mllm: Qwen2_5_VLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        config: GuidanceConfig,
    ) -> None:
        super().__init__(mllm, tokenizer, config)
        width = mllm.config.text_config.hidden_size
        self.queries = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(count, width) * QUERY_SIZE) for name, count in config.queries.items()}
        )
        if config.lora_rank:
            add_lora(mllm.model.language_model, config)

    def prepare(
        self,
        instructions: Sequence[str],
        sources: Sequence[torch.Tensor] | None,
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        is_video: bool = False,
    ) -> GuidanceInputs:
        """As `Guidance.prepare`; `is_video` chooses the query set and the placeholder.

        Raises:
            InputError: an image source with more than one frame.
        """
        references = references or [()] * len(instructions)
        query_set = self.config.query_set(is_video, any(references))
        query_count = self.config.queries.get(query_set, 0)
        sequences: list[list[int]] = []
        places: list[torch.Tensor] = []
        pictures: list[Patches] = []
        for instruction, source, extra in zip(
            instructions, sources or [None] * len(instructions), references, strict=True
        ):
            own = [self._patches(reference[None], self.config.reference_max_pixels) for reference in extra]
            if source is not None:  # before the references, as in the prompt
                limit = self.config.video_max_pixels if is_video else 0
                own.insert(0, self._patches(self._shown(source, is_video), limit))
            ids = prompt_tokens(self.tokenizer, instruction, [patches.tokens for patches in own], is_video)
            sequences.append(ids)
            places.append(self._positions(ids, [patches.grid for patches in own], query_count))
            pictures.extend(own)
        return GuidanceInputs(*pad_left(sequences, places), *join_pictures(pictures), query_set)

    def check_length(self, instruction: str) -> None:
        plain_words(self.tokenizer, instruction)

    def forward(self, inputs: GuidanceInputs) -> Context:
        """Tokens [B, N, hidden]: the MLLM's last hidden states at the query positions."""
        queries = self.queries[inputs.query_set]  # [N, hidden]
        # [B, L + N, hidden]: rows are padded on the left, so the queries are the last N of each
        return Context(self.hidden(inputs, queries)[:, -len(queries) :])

    def hidden(self, inputs: GuidanceInputs, behind: torch.Tensor) -> torch.Tensor:
        """The language model's last hidden states [B, L + N, hidden] over the prompt and what follows it.

        Args:
            behind: embeddings [N, hidden] that follow the prompt.
        """
        embeds = embed(self.mllm, inputs.token_ids, inputs.patches, inputs.grids)  # [B, L, hidden]
        embeds = torch.cat([embeds, behind.to(embeds).expand(len(embeds), -1, -1)], dim=1)  # [B, L + N, hidden]
        # without padding the mask is just causal, for which attention has a faster path
        mask = None if bool(inputs.attention_mask.all()) else inputs.attention_mask
        # no vocabulary head and no cache, since nothing is generated
        return self.mllm.model.language_model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=inputs.position_ids, use_cache=False
        ).last_hidden_state

    def layers(self) -> Iterator[nn.Module]:
        yield from self.mllm.model.visual.blocks
        yield from self.mllm.model.language_model.layers

    def numbers(self, inputs: GuidanceInputs) -> int:
        config = self.mllm.config
        tokens = inputs.attention_mask.numel() * config.text_config.hidden_size
        return tokens + len(inputs.patches) * config.vision_config.hidden_size

    def rehearse(self, frames: int, height: int, width: int, count: int = 1) -> Context:
        grid, queries = self.grid(frames, height, width), self.config.query_count(frames > 1)
        config, patches = self.mllm.config, math.prod(grid)
        length = patches // MERGE**2 + USUAL_WORDS
        inputs = GuidanceInputs(
            token_ids=torch.zeros(count, length, dtype=torch.int64),
            attention_mask=torch.ones(count, length + queries, dtype=torch.bool),
            position_ids=torch.zeros(3, count, length + queries, dtype=torch.int64, device="meta"),
            patches=torch.empty(count * patches, 3 * TEMPORAL * config.vision_config.patch_size**2, device="meta"),
            grids=torch.tensor([grid] * count),
            query_set="",
        )
        hidden = self.hidden(inputs, torch.empty(queries, config.text_config.hidden_size, device="meta"))
        return Context(hidden[:, -queries:] if queries else hidden)

    def grid(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        is_video = frames > 1
        limit = (is_video and self.config.video_max_pixels) or self.config.max_pixels
        height, width = smart_resize(height, width, self.config.min_pixels, limit)
        shown = min(frames, self.config.video_frames) if is_video else 1
        return math.ceil(shown / TEMPORAL), height // PATCH, width // PATCH

    def _shown(self, source: torch.Tensor, is_video: bool) -> torch.Tensor:
        """The frames of a source that the MLLM sees."""
        if is_video:
            return source[sample_indices(len(source), self.config.video_frames)]
        if len(source) != 1:
            raise InputError(f"An image source has one frame, not {len(source)}; give a clip as a video.")
        return source

    def _patches(self, frames: torch.Tensor, max_pixels: int = 0) -> Patches:
        """`max_pixels` of a frame overrides the config's general bound; 0 keeps it."""
        return to_patches(frames, self.config.min_pixels, max_pixels or self.config.max_pixels)

    def _positions(self, ids: list[int], grids: list[tuple[int, int, int]], query_count: int) -> torch.Tensor:
        config = self.mllm.config
        # the queries' positions continue the prompt's like text, as those of any id that is not a placeholder do
        return positions(
            [*ids, *[-1] * query_count],
            grids,
            config.image_token_id,
            config.video_token_id,
            config.vision_config.tokens_per_second,
        )


def pad_left(
    sequences: Sequence[Sequence[int]], places: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Left-padded token ids [B, L], mask and positions [3, B, L + N]; `places` [3, own length + N] include N more."""
    token_ids, mask = pad_ids(sequences, places[0].shape[1] - len(sequences[0]))
    position_ids = torch.zeros(3, *mask.shape, dtype=torch.int64)
    for row, place in enumerate(places):
        position_ids[:, row, mask.shape[1] - place.shape[1] :] = place
    return token_ids, mask, position_ids


def pad_ids(sequences: Sequence[Sequence[int]], extra: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded token ids [B, L], and the mask [B, L + N] that is False at padding, with N = `extra`."""
    length = max(map(len, sequences))
    token_ids = torch.zeros(len(sequences), length, dtype=torch.int64)  # 0 is a real token too; the mask hides it
    mask = torch.zeros(len(sequences), length + extra, dtype=torch.bool)
    for row, ids in enumerate(sequences):
        token_ids[row, length - len(ids) :] = torch.tensor(ids)
        mask[row, length - len(ids) :] = True
    return token_ids, mask


def join_pictures(pictures: Sequence[Patches]) -> tuple[torch.Tensor, torch.Tensor]:
    """The concatenated patches of a batch, and their grids int64 [pictures, 3]."""
    if not pictures:
        return torch.empty(0), torch.empty(0, 3, dtype=torch.int64)
    return torch.cat([picture.values for picture in pictures]), torch.tensor([picture.grid for picture in pictures])


def embed(
    mllm: Qwen2_5_VLForConditionalGeneration, token_ids: torch.Tensor, patches: torch.Tensor, grids: torch.Tensor
) -> torch.Tensor:
    """[B, L, hidden]: the tokens' embeddings, with the vision tower's output at the placeholders."""
    embeds = mllm.get_input_embeddings()(token_ids)
    if not len(patches):
        return embeds
    vision = mllm.model.visual(patches.to(embeds.dtype), grid_thw=grids)
    vision = getattr(vision, "pooler_output", vision)  # transformers 4.57 returns the tensor itself
    # row by row, in the prompt's order of pictures, which is that of the vision tower's output
    placeholder = (token_ids == mllm.config.image_token_id) | (token_ids == mllm.config.video_token_id)
    return embeds.masked_scatter(placeholder[..., None], vision.to(embeds.dtype))


def add_lora(language_model: nn.Module, config: GuidanceConfig, targets: Sequence[str] = LORA_TARGETS) -> None:
    """Inject peft's LoRA layers into the language model, in place; they start as the identity."""
    from peft import LoraConfig, inject_adapter_in_model

    lora = LoraConfig(r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=list(targets))
    inject_adapter_in_model(lora, language_model)
