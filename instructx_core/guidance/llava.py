"""Guidance from a LLaVA (InsightEdit, section 4.1): CLIP sees, LLaMA reads, r [MM] tokens carry the result.

- The [MM] tokens are the queries: learned embeddings after the prompt, whose last hidden states are the guidance. A
  language model that generates them would get them one by one; here it gets all at once, which is the same as long as
  it generates the right ones.
- They are words too: each has its own row in the language model's head, and L_LLM (eq. 2) teaches it to generate them.
  The rows of the existing words stay unchanged.
- The picture is squeezed to CLIP's square, as in SmartEdit. Its features also go to the connector's BIM.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from ..config import GuidanceConfig
from ..context import Context
from ..errors import InputError
from ..fit import resize
from .encoder import QUERY_SIZE, add_lora, pad_ids
from .guidance import NO_CLIPS, USUAL_WORDS, Guidance, GuidanceInputs
from .prompt import MOST_TOKENS

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerBase

LORA_TARGETS = ("q_proj", "v_proj")
# Vicuna's chat template, with which LLaVA was trained
BEFORE = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions. USER: "
)
ASKING, ANSWERING = " Edit this picture: ", " ASSISTANT: The edited picture is"
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's pixels


class LlavaGuidance(Guidance):
    """Instruction + one picture -> hidden states at the [MM] tokens [B, r, hidden], and the picture's features.

    Args:
        mllm: a LLaVA of any size; LoRA layers are injected into its language model.
        tokenizer: the language model's.
        config: the number of [MM] tokens is `image_queries`.
    """

    reads = "LLaVA"
    is_spoken = True
    edits_pictures_alone = True

    def __init__(
        self, mllm: LlavaForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, config: GuidanceConfig
    ) -> None:
        super().__init__(mllm, tokenizer, config)
        width = mllm.config.text_config.hidden_size
        for table in (self.queries, self.rows):
            for name, count in config.queries.items():
                table[name] = nn.Parameter(torch.randn(count, width) * QUERY_SIZE)
        if config.lora_rank:
            add_lora(mllm.model.language_model, config, LORA_TARGETS)

    def prepare(
        self,
        instructions: Sequence[str],
        sources: Sequence[torch.Tensor] | None,
        references: Sequence[Sequence[torch.Tensor]] | None = None,
        is_video: bool = False,
    ) -> GuidanceInputs:
        """As `Guidance.prepare`, for pictures only.

        Raises:
            InputError: a video, a reference, or an instruction that is too long.
        """
        if is_video or any(len(source) != 1 for source in sources or ()):
            raise InputError(NO_CLIPS)
        if any(references or ()):
            raise InputError("This model takes no reference pictures; leave them out.")
        pictures = [self._pixels(source) for source in sources or ()]
        sequences = [self._tokens(instruction, bool(pictures)) for instruction in instructions]
        token_ids, mask = pad_ids(sequences, self.config.image_queries)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        pixels = torch.cat(pictures) if pictures else torch.empty(0)
        return GuidanceInputs(token_ids, mask, positions, pixels, torch.empty(0, 3, dtype=torch.int64), "image")

    def check_length(self, instruction: str) -> None:
        self._plain(instruction)

    def forward(self, inputs: GuidanceInputs) -> Context:
        """Tokens [B, r, hidden]; `image` holds the picture's features [B, places, vision], None without pictures."""
        return self.read(inputs)[0]

    def read(self, inputs: GuidanceInputs) -> tuple[Context, torch.Tensor]:
        """As `forward`, with the language model's last hidden states [B, L + r, hidden] over the whole sequence."""
        queries = self.queries[inputs.query_set]
        features = self._features(inputs.patches) if len(inputs.patches) else None
        embeds = torch.cat([self._embed(inputs.token_ids, features), queries.expand(len(inputs.token_ids), -1, -1)], 1)
        hidden = self.mllm.model.language_model(
            inputs_embeds=embeds,
            attention_mask=causal(inputs.attention_mask).to(embeds.device),
            position_ids=inputs.position_ids,
            use_cache=False,
        ).last_hidden_state
        return Context(hidden[:, -len(queries) :], image=features), hidden

    def token_loss(self, hidden: torch.Tensor) -> torch.Tensor:
        """L_LLM (eq. 2): cross-entropy of each [MM] token given those before it, as a mean over r, not a sum.

        Args:
            hidden: [B, L + r, hidden] from `read`.
        """
        rows = self.rows["image"]
        count = len(rows)
        head = torch.cat([self.mllm.lm_head.weight, rows.to(hidden)])  # existing words, then the [MM] tokens
        logits = F.linear(hidden[:, -count - 1 : -1], head.to(hidden)).float()  # [B, r, words + r]
        wanted = torch.arange(count, device=hidden.device) + len(head) - count
        return F.cross_entropy(logits.flatten(0, 1), wanted.repeat(len(hidden)))

    def layers(self) -> Iterator[nn.Module]:
        yield from vision_layers(self.mllm)
        yield from self.mllm.model.language_model.layers

    def numbers(self, inputs: GuidanceInputs) -> int:
        config = self.mllm.config
        tokens = inputs.attention_mask.numel() * config.text_config.hidden_size
        return tokens + len(inputs.patches) * (1 + self._places) * config.vision_config.hidden_size

    def rehearse(self, frames: int, height: int, width: int, count: int = 1) -> Context:
        side, queries = self.mllm.config.vision_config.image_size, self.config.image_queries
        ids = [self.mllm.config.image_token_index] * self._places + [0] * USUAL_WORDS
        inputs = GuidanceInputs(
            token_ids=torch.tensor([ids] * count),
            attention_mask=torch.ones(count, len(ids) + queries, dtype=torch.bool),
            position_ids=torch.zeros(count, len(ids) + queries, dtype=torch.int64, device="meta"),
            patches=torch.empty(count, 3, side, side, device="meta"),
            grids=torch.empty(0, 3, dtype=torch.int64),
            query_set="image",
        )
        return self(inputs)

    @property
    def _places(self) -> int:
        """How many tokens a picture takes in the prompt."""
        vision = self.mllm.config.vision_config
        return (vision.image_size // vision.patch_size) ** 2

    def _tokens(self, instruction: str, has_picture: bool) -> list[int]:
        """Token ids of everything before the [MM] tokens, including the picture's placeholders."""
        instruction = self._plain(instruction)
        before = self.tokenizer(BEFORE)["input_ids"]  # with the BOS token, if there is one
        if self.tokenizer.eos_token_id is not None and before[-1:] == [self.tokenizer.eos_token_id]:
            before = before[:-1]
        picture = [self.mllm.config.image_token_index] * self._places if has_picture else []
        after = self.tokenizer(ASKING + instruction + ANSWERING, add_special_tokens=False)["input_ids"]
        return [*before, *picture, *after]

    def _plain(self, instruction: str) -> str:
        """The user's words, none of them a special token. Raises InputError if they are more than `MOST_TOKENS`."""
        for word in self.tokenizer.get_added_vocab():
            instruction = instruction.replace(word, f"{word[:1]} {word[1:]}")
        said = self.tokenizer(instruction, add_special_tokens=False)["input_ids"]
        if len(said) > MOST_TOKENS:
            raise InputError(f"The instruction has {len(said)} tokens; give at most {MOST_TOKENS}, some 3,000 words.")
        return instruction

    def _pixels(self, source: torch.Tensor) -> torch.Tensor:
        """[1, H, W, 3] in [0, 1] -> the CLIP's [1, 3, side, side]."""
        side = self.mllm.config.vision_config.image_size
        pixels = resize(source.float(), (side, side))
        return ((pixels - torch.tensor(MEAN)) / torch.tensor(DEVIATION)).permute(0, 3, 1, 2)

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        """CLIP's features [B, places, vision], from the layer that LLaVA reads."""
        config = self.mllm.config
        tower = self.mllm.model.vision_tower
        seen = tower(pixels.to(tower.dtype), output_hidden_states=True).hidden_states[config.vision_feature_layer]
        return seen[:, 1:]  # without the class token

    def _embed(self, token_ids: torch.Tensor, features: torch.Tensor | None) -> torch.Tensor:
        """[B, L, hidden]: the tokens' embeddings, with the picture's projected features at its placeholders."""
        is_picture = token_ids == self.mllm.config.image_token_index
        # the placeholder's id may lie beyond the embedding table
        embeds = self.mllm.get_input_embeddings()(token_ids.masked_fill(is_picture, 0))
        if features is None:
            return embeds
        projected = self.mllm.model.multi_modal_projector(features)
        return embeds.masked_scatter(is_picture[..., None], projected.to(embeds.dtype))


def causal(shown: torch.Tensor) -> torch.Tensor:
    """The attention mask, bool [B, 1, L, L]: each position sees itself and those before it that are `shown` [B, L].

    It is explicit because transformers would look at a mask's values to decide whether it needs one, and a plan's
    tensors have none. Padding sees itself because a position that sees nothing becomes NaN.
    """
    length = shown.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=shown.device).tril()
    return ((before & shown[:, None, None]) | torch.eye(length, dtype=torch.bool, device=shown.device)).contiguous()


def vision_layers(mllm: LlavaForConditionalGeneration) -> nn.ModuleList:
    """CLIP's layers, in whichever of its modules transformers keeps them."""
    tower = mllm.model.vision_tower
    return getattr(tower, "vision_model", tower).encoder.layers
