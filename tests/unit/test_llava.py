"""LLaVA's guidance: the [MM] tokens' hidden states and features, and L_LLM by a loop over eq. 2."""

from __future__ import annotations

import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.guidance.llava import DEVIATION, LORA_TARGETS, MEAN, LlavaGuidance
from support import tiny, tiny_insightedit

CONFIG = tiny_insightedit.CONFIG.guidance
COUNT = CONFIG.image_queries


@pytest.fixture(scope="module")
def guidance() -> LlavaGuidance:
    made = LlavaGuidance(tiny_insightedit.llava(), tiny.tokenizer(), CONFIG)
    tiny.shake(made, 0.3)
    return made.eval().requires_grad_(False)


def inputs(guidance: LlavaGuidance, *instructions: str):
    return guidance.prepare(instructions, [tiny.clip(1, 30, 44, seed) for seed in range(len(instructions))])


@torch.no_grad()
def test_the_hidden_states_are_llavas_own(guidance):
    """The library's own forward, over the same sequence with the [MM] tokens' embeddings behind it."""
    given = inputs(guidance, "make the red circle blue")
    context = guidance(given)
    assert context.tokens.shape == (1, COUNT, tiny_insightedit.HIDDEN)
    model = guidance.mllm.model
    projected = torch.cat(list(model.get_image_features(given.patches, return_dict=True).pooler_output))
    places = given.token_ids == guidance.mllm.config.image_token_index
    assert int(places.sum()) == 16  # a picture of 28 in patches of 7
    words = guidance.mllm.get_input_embeddings()(given.token_ids.masked_fill(places, 0))
    words[places] = projected
    embeds = torch.cat([words, guidance.queries["image"][None]], dim=1)
    theirs = model.language_model(inputs_embeds=embeds).last_hidden_state[:, -COUNT:]
    torch.testing.assert_close(context.tokens, theirs, atol=1e-5, rtol=1e-5)
    assert context.image.shape == (1, 16, tiny_insightedit.VISION)


@torch.no_grad()
def test_a_batch_is_each_by_itself(guidance):
    instructions = ("make it blue", "add a green star in the top left and make the red circle blue")
    together = guidance(inputs(guidance, *instructions))
    for row, instruction in enumerate(instructions):
        alone = guidance(guidance.prepare([instruction], [tiny.clip(1, 30, 44, row)]))
        torch.testing.assert_close(together.tokens[row, None], alone.tokens, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.image[row, None], alone.image, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_the_token_loss_is_eq_2(guidance):
    """Token by token: each said after the prompt and the ones before it."""
    given = inputs(guidance, "make it blue", "add a star")
    _, hidden = guidance.read(given)
    head = torch.cat([guidance.mllm.lm_head.weight, guidance.rows["image"]])
    terms = []
    for row in range(2):
        for number in range(COUNT):
            said = torch.log_softmax(head @ hidden[row, -COUNT - 1 + number], 0)
            terms.append(-said[len(head) - COUNT + number])
    torch.testing.assert_close(guidance.token_loss(hidden), torch.stack(terms).mean(), atol=1e-5, rtol=1e-5)


def test_the_token_loss_teaches_the_new_rows_and_the_lora_alone():
    made = LlavaGuidance(tiny_insightedit.llava(), tiny.tokenizer(), CONFIG)
    made.mllm.requires_grad_(False)
    for name, parameter in made.mllm.named_parameters():
        parameter.requires_grad_("lora_" in name)
    _, hidden = made.read(inputs(made, "make it blue"))
    made.token_loss(hidden).backward()
    assert made.rows["image"].grad.abs().sum() > 0 and made.queries["image"].grad.abs().sum() > 0
    assert made.mllm.lm_head.weight.grad is None and made.mllm.get_input_embeddings().weight.grad is None
    adapted = {name.split(".lora_")[0].rsplit(".", 1)[1] for name, _ in made.mllm.named_parameters() if "lora_" in name}
    assert adapted == set(LORA_TARGETS)


def test_pixels_are_clips(guidance):
    pixels = guidance.prepare(["a"], [torch.full((1, 30, 44, 3), 0.5)]).patches
    assert pixels.shape == (1, 3, 28, 28)
    expected = (0.5 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    torch.testing.assert_close(pixels[0].mean((1, 2)), expected, atol=1e-5, rtol=0)


def test_what_it_cannot_read_is_named(guidance):
    with pytest.raises(InputError, match="edits pictures"):
        guidance.prepare(["a"], [tiny.clip(5)], is_video=True)
    with pytest.raises(InputError, match="no reference pictures"):
        guidance.prepare(["a"], [tiny.clip(1)], [[tiny.clip(1)[0]]])
    for refused in (guidance.check_length, lambda words: guidance.prepare([words], [tiny.clip(1)])):
        with pytest.raises(InputError, match="tokens; give at most"):
            refused("blue " * 5000)


def test_a_person_s_words_are_never_special_tokens(guidance):
    special = guidance.tokenizer.get_added_vocab()
    assert special
    ids = guidance.prepare([" ".join(special)], None).token_ids[0].tolist()
    assert not set(ids) & set(special.values())


@torch.no_grad()
def test_without_a_picture_words_alone_are_read(guidance):
    context = guidance(guidance.prepare(["a photo of a dog"], None))
    assert context.image is None and context.tokens.shape == (1, COUNT, tiny_insightedit.HIDDEN)
