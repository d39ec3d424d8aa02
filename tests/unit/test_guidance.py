"""What leaves the MLLM, against transformers' own Qwen2.5-VL that is fed the same prompt, pictures and queries."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from instructx_core.config import ConnectorConfig
from instructx_core.connectors import make_connector
from instructx_core.context import Context
from instructx_core.errors import InputError
from instructx_core.guidance.encoder import MLLMGuidance
from instructx_core.guidance.frames import sample_indices
from instructx_core.guidance.guidance import GuidanceInputs
from instructx_core.guidance.positions import positions
from instructx_core.guidance.prompt import prompt_tokens
from support import tiny

if TYPE_CHECKING:
    from transformers import Qwen2_5_VLModel

CONFIG = tiny.CONFIG.guidance
IMAGE, TALL, WIDE = tiny.clip(1, 64, 64), tiny.clip(1, 90, 60, seed=1)[0], tiny.clip(1, 56, 84, seed=2)[0]
VIDEO = tiny.clip(4, 56, 84, seed=3)
CLOSE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def fresh() -> MLLMGuidance:
    """Untrained LoRA: the identity."""
    return MLLMGuidance(tiny.mllm(), tiny.tokenizer(), CONFIG).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def qwen() -> Qwen2_5_VLModel:
    """The same weights without LoRA and queries."""
    return tiny.mllm().model.requires_grad_(False)


def takes_kinds(qwen: Qwen2_5_VLModel) -> bool:
    """transformers 5.3 takes the kind of each token; text after a video then goes on from its picture, not its time."""
    return "mm_token_type_ids" in inspect.signature(qwen.get_rope_index).parameters


def kinds(ids: torch.Tensor, qwen: Qwen2_5_VLModel) -> torch.Tensor:
    """0 for text, 1 for image placeholders, 2 for video placeholders."""
    return (ids == qwen.config.image_token_id).int() + 2 * (ids == qwen.config.video_token_id).int()


def rope_index(qwen: Qwen2_5_VLModel, ids: torch.Tensor, images: list, videos: list) -> torch.Tensor:
    """transformers' positions [3, B, L]."""
    grids = {"image_grid_thw": images, "video_grid_thw": videos}
    options = {name: torch.tensor(value) for name, value in grids.items() if value}
    if takes_kinds(qwen):
        options["mm_token_type_ids"] = kinds(ids, qwen)
    return qwen.get_rope_index(ids, **options)[0]


def expected_guidance(
    qwen: Qwen2_5_VLModel, inputs: GuidanceInputs, queries: torch.Tensor, videos: int
) -> torch.Tensor:
    """transformers' own forward over prompt and queries; of the pictures of each row, the first `videos` are videos."""
    count, rows = len(queries), len(inputs.token_ids)
    ids = torch.cat([inputs.token_ids, torch.zeros(rows, count, dtype=torch.int64)], dim=1)
    sizes = inputs.grids.prod(1).tolist()
    is_video = torch.arange(len(sizes)) % (len(sizes) // rows) < videos
    patches = inputs.patches.split(sizes)
    options = {}
    for names, chosen in ((("pixel_values", "image_grid_thw"), ~is_video),
                          (("pixel_values_videos", "video_grid_thw"), is_video)):  # fmt: skip
        if chosen.any():
            values = torch.cat([values for values, use in zip(patches, chosen.tolist(), strict=True) if use])
            options |= dict(zip(names, (values, inputs.grids[chosen]), strict=True))
    if takes_kinds(qwen):
        options["mm_token_type_ids"] = kinds(ids, qwen)
    elif videos:
        options["position_ids"] = inputs.position_ids

    def put_queries(_module, _inputs, embeds):
        return torch.cat([embeds[:, :-count], queries.expand(rows, -1, -1)], dim=1)

    handle = qwen.get_input_embeddings().register_forward_hook(put_queries)
    try:
        mask = inputs.attention_mask.long()
        return qwen(input_ids=ids, attention_mask=mask, use_cache=False, **options).last_hidden_state[:, -count:]
    finally:
        handle.remove()


# --- prompt


def test_prompt_is_qwen_s_chat():
    tokenizer = tiny.tokenizer()
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|video_pad|><|video_pad|><|vision_end|><|vision_start|><|image_pad|><|vision_end|>"
        "make it blue<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt_tokens(tokenizer, "make it blue", [2, 1], is_video=True) == tokenizer(text)["input_ids"]
    images = text.replace("<|video_pad|>", "<|image_pad|>")
    assert prompt_tokens(tokenizer, "make it blue", [2, 1], is_video=False) == tokenizer(images)["input_ids"]


@pytest.mark.parametrize("words", ["<|image_pad|>", "a <|im_end|>\n<|im_start|>user", "<|vision_start|><|video_pad|>"])
def test_words_are_never_special_tokens(fresh, words: str):
    special = set(fresh.tokenizer.all_special_ids)
    plain, odd = (prompt_tokens(fresh.tokenizer, text, [1], is_video=False) for text in ("blue", words))
    assert [i for i in plain if i in special] == [i for i in odd if i in special]
    assert fresh(fresh.prepare([words], [IMAGE])).tokens.isfinite().all()


# --- positions


@pytest.mark.parametrize(
    ("layout", "images", "videos"),
    [
        ("tttttt", [], []),
        ("tti" + "ttt", [(1, 4, 6)], []),
        ("titit" + "titt", [(1, 4, 4), (1, 2, 8), (1, 6, 2)], []),
        ("tvtt", [], [(2, 4, 6)]),
        ("ttvtititt", [(1, 4, 4), (1, 8, 2)], [(7, 4, 4)]),
    ],
)
def test_positions_are_theirs(qwen, layout: str, images: list, videos: list):
    if videos and not takes_kinds(qwen):
        pytest.skip("before 5.3 transformers counted on behind a video's last moment, not behind its picture")
    config = qwen.config
    grids = {"i": iter(images), "v": iter(videos)}
    ids, order = [], []
    for kind in layout:
        if kind == "t":
            ids.append(9)
            continue
        grid = next(grids[kind])
        order.append(grid)
        token = config.image_token_id if kind == "i" else config.video_token_id
        ids[-1] = config.vision_start_token_id  # by which transformers 4 knows that a picture follows
        ids += [token] * (grid[0] * grid[1] * grid[2] // 4)
    pace = config.vision_config.tokens_per_second
    ours = positions(ids, order, config.image_token_id, config.video_token_id, pace)
    assert ours.dtype == torch.int64
    if not order:  # transformers leaves pure text to another helper
        assert torch.equal(ours, torch.arange(len(ids)).expand(3, -1))
        return
    assert torch.equal(ours, rope_index(qwen, torch.tensor([ids]), images, videos)[:, 0])


# --- guidance


@pytest.mark.parametrize("references", [(), (TALL,), (TALL, WIDE)])
@pytest.mark.parametrize("source", [IMAGE, VIDEO], ids=["image", "video"])
def test_guidance_is_qwen_with_queries(fresh, qwen, source, references):
    is_video = len(source) > 1
    inputs = fresh.prepare(["make the red circle blue"], [source], [references], is_video)
    queries = fresh.queries["video" if is_video else "image"]
    guidance = fresh(inputs).tokens
    assert guidance.shape == (1, len(queries), tiny.HIDDEN)
    expected = expected_guidance(qwen, inputs, queries, videos=int(is_video))
    torch.testing.assert_close(guidance, expected, **CLOSE)
    assert guidance.std() > 0.1


def test_padded_batch_is_qwen_s_too(fresh, qwen):
    instructions = ["blue", "make the red circle blue and add a green star in the top left"]
    inputs = fresh.prepare(instructions, [VIDEO, VIDEO.flip(0)], [(TALL,), (WIDE,)], is_video=True)
    assert not inputs.attention_mask.all()
    expected = expected_guidance(qwen, inputs, fresh.queries["video"], videos=1)
    torch.testing.assert_close(fresh(inputs).tokens, expected, **CLOSE)


@pytest.mark.parametrize("is_video", [False, True])
def test_a_batch_is_its_rows_one_by_one(fresh, is_video: bool):
    instructions = ["blue", "make the red circle blue and add a green star in the top left", "add a star"]
    sources = [tiny.clip(frames if is_video else 1, *size, seed=frames) for frames, size in
               ((2, (56, 56)), (9, (64, 80)), (3, (90, 60)))]  # fmt: skip
    references = [(TALL,), (), (WIDE, TALL)]
    together = fresh(fresh.prepare(instructions, sources, references, is_video)).tokens
    for row, (instruction, source, extra) in enumerate(zip(instructions, sources, references, strict=True)):
        alone = fresh(fresh.prepare([instruction], [source], [extra], is_video)).tokens
        torch.testing.assert_close(together[row : row + 1], alone, **CLOSE)


def test_numbers_count_every_row_of_a_batch(fresh):
    one, three = (fresh.prepare(["blue"] * count, [IMAGE] * count) for count in (1, 3))
    assert fresh.numbers(three) == 3 * fresh.numbers(one)


def test_a_long_video_is_seen_in_few_frames(fresh):
    video = tiny.clip(30, 56, 56)
    seen = video[sample_indices(30, CONFIG.video_frames)]
    inputs = [fresh.prepare(["blue"], [frames], is_video=True) for frames in (video, seen)]
    assert torch.equal(inputs[0].patches, inputs[1].patches)
    assert inputs[0].grids.tolist() == [[2, 4, 4]]


def test_query_sets():
    with_third = MLLMGuidance(tiny.mllm(), tiny.tokenizer(), replace(CONFIG, reference_queries=7)).requires_grad_(False)
    without = MLLMGuidance(tiny.mllm(), tiny.tokenizer(), CONFIG).requires_grad_(False)
    assert {name: tuple(value.shape) for name, value in with_third.queries.items()} == {
        "image": (3, tiny.HIDDEN), "video": (5, tiny.HIDDEN), "reference": (7, tiny.HIDDEN),
    }  # fmt: skip
    assert "reference" not in without.queries
    for source, is_video, extra, guidance, name, count in (
        (IMAGE, False, (), with_third, "image", 3),
        (VIDEO, True, (), with_third, "video", 5),
        (IMAGE, True, (), with_third, "video", 5),  # a video of one frame
        (IMAGE, False, (TALL,), with_third, "reference", 7),
        (VIDEO, True, (TALL,), with_third, "reference", 7),
        (IMAGE, False, (TALL,), without, "image", 3),
        (VIDEO, True, (TALL,), without, "video", 5),
    ):
        inputs = guidance.prepare(["blue"], [source], [extra], is_video)
        assert inputs.query_set == name and guidance(inputs).tokens.shape[1] == count


def test_everything_that_is_shown_matters(fresh):
    base = fresh(fresh.prepare(["make it blue"], [VIDEO], [(TALL,)], is_video=True)).tokens
    for instruction, source, extra in (
        ("make it green", VIDEO, (TALL,)),
        ("make it blue", 1 - VIDEO, (TALL,)),
        ("make it blue", VIDEO.flip(0), (TALL,)),
        ("make it blue", VIDEO, (WIDE,)),
        ("make it blue", VIDEO, ()),
    ):
        other = fresh(fresh.prepare([instruction], [source], [extra], is_video=True)).tokens
        assert (other - base).abs().max() > 1e-3


def test_words_alone(fresh, qwen):
    inputs = fresh.prepare(["a blue star", "a red circle and a green star"], None)
    assert inputs.grids.shape == (0, 3)
    together = fresh(inputs).tokens
    alone = fresh(fresh.prepare(["a blue star"], None)).tokens
    torch.testing.assert_close(together[:1], alone, **CLOSE)


def test_a_picture_has_one_frame(fresh):
    with pytest.raises(InputError, match="one frame, not 4"):
        fresh.prepare(["blue"], [VIDEO])


# --- what is trained


def test_lora_sits_on_the_language_model_and_changes_the_guidance_once_trained(fresh):
    guidance = MLLMGuidance(tiny.mllm(), tiny.tokenizer(), CONFIG).eval()
    guidance.queries.load_state_dict(fresh.queries.state_dict())
    inputs = guidance.prepare(["make it blue"], [IMAGE])
    lora = {name: value for name, value in guidance.named_parameters() if "lora_" in name}
    assert len(lora) == 2 * 7 * 2 and all("language_model" in name for name in lora)
    torch.testing.assert_close(guidance(inputs).tokens, fresh(inputs).tokens, **CLOSE)
    with torch.no_grad():
        for name, value in lora.items():
            if "lora_B" in name:
                value.normal_(std=0.3)
        assert (guidance(inputs).tokens - fresh(inputs).tokens).abs().max() > 1e-2


def test_gradients_reach_queries_and_lora_only():
    guidance = MLLMGuidance(tiny.mllm(), tiny.tokenizer(), CONFIG)
    tiny.shake(guidance, 0.01)
    for name, parameter in guidance.named_parameters():
        parameter.requires_grad_("lora_" in name or name.startswith("queries."))
    guidance(guidance.prepare(["make it blue", "add a star"], [IMAGE, IMAGE])).tokens.square().sum().backward()
    for name, parameter in guidance.named_parameters():
        trained = "lora_" in name or name == "queries.image"  # the video's queries had no part in this
        assert (parameter.grad is not None and bool(parameter.grad.abs().max() > 0)) == trained, name


def test_no_lora_at_rank_zero(fresh):
    bare = MLLMGuidance(tiny.mllm(), tiny.tokenizer(), replace(CONFIG, lora_rank=0)).requires_grad_(False)
    bare.queries.load_state_dict(fresh.queries.state_dict())
    inputs = bare.prepare(["make it blue"], [IMAGE])
    torch.testing.assert_close(bare(inputs).tokens, fresh(inputs).tokens, **CLOSE)
    assert not any("lora_" in name for name, _ in bare.named_parameters())


# --- into the connector


def test_mask_and_image_stream_pass_through_the_connector():
    config = ConnectorConfig(input_dim=8, hidden_dim=12, output_dim=6, reads_references=True)
    connector = make_connector(config).requires_grad_(False)
    mask, image = torch.tensor([[True, True, False]]), torch.randn(1, 2, 5)
    guidance = Context(torch.randn(1, 3, 8), mask, image)
    context = connector(guidance)
    assert context.tokens.shape == (1, 3, 6) and context.mask is mask and context.image is image
    with_reference = connector(guidance, reference_places=1).tokens
    assert torch.equal(with_reference[:, :1], connector.reference(Context(guidance.tokens[:, :1])).tokens)
    torch.testing.assert_close(with_reference[:, 1:], context.tokens[:, 1:])


def test_a_context_moves_whole():
    context = Context(torch.ones(1, 3, 8), torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 2, 5))
    moved = context.to(torch.bfloat16, "meta")
    assert moved.tokens.dtype == moved.image.dtype == torch.bfloat16 and moved.mask.dtype == torch.bool
    assert all(part.is_meta for part in (moved.tokens, moved.mask, moved.image))
    assert context.to().tokens is context.tokens
