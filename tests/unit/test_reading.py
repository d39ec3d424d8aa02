"""The auxiliary reader: what is padded does not count, and the queries get the gradient."""

from __future__ import annotations

import torch

from recipes.tiny.reading import IGNORED, InstructionReader, instruction_tokens


class Words:
    """A tokenizer of one token a letter."""

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        assert not add_special_tokens
        return {"input_ids": [ord(letter) - ord("a") for letter in text]}


def test_tokens_are_padded_behind():
    assert instruction_tokens(Words(), ["abc", "", "d"]).tolist() == [
        [0, 1, 2],
        [IGNORED] * 3,
        [3, IGNORED, IGNORED],
    ]


def test_padding_and_empty_rows_do_not_count():
    torch.manual_seed(0)
    reader = InstructionReader(16, 26)
    guidance = torch.randn(3, 4, 16)
    together = reader(guidance, instruction_tokens(Words(), ["abcd", "", "ef"]))
    alone = [reader(guidance[[row]], instruction_tokens(Words(), [text])) for row, text in ((0, "abcd"), (2, "ef"))]
    torch.testing.assert_close(together, (4 * alone[0] + 2 * alone[1]) / 6)
    assert reader(guidance, instruction_tokens(Words(), ["", "", ""])) == 0


def test_no_token_sees_itself_or_what_follows():
    torch.manual_seed(0)
    reader = InstructionReader(16, 26)
    guidance = torch.randn(1, 4, 16)
    first_only = reader(guidance, torch.tensor([[5]]))
    for rest in ([1, 2], [8, 9]):
        followed = reader(guidance, torch.tensor([[5, *rest]]))
        behind = reader.head(
            reader.layer(
                torch.cat([reader.start.expand(1, 1, -1), reader.tokens(torch.tensor([[5, rest[0]]]))], 1)
                + reader.places.weight[:3],
                guidance,
                tgt_mask=torch.nn.Transformer.generate_square_subsequent_mask(3),
            )
        )[:, 1:]
        tail = torch.nn.functional.cross_entropy(behind[0], torch.tensor(rest), reduction="sum")
        torch.testing.assert_close(3 * followed - tail, first_only)


def test_queries_that_tell_instructions_apart_are_rewarded():
    """Two instructions that differ in one word: a few steps on the queries' output alone bring the loss down."""
    torch.manual_seed(0)
    reader = InstructionReader(16, 26).requires_grad_(False)
    guidance = torch.nn.Parameter(torch.randn(2, 4, 16))
    wanted = instruction_tokens(Words(), ["red", "teal"])
    optimizer = torch.optim.Adam([guidance], 0.1)
    before = reader(guidance, wanted).item()
    for _ in range(40):
        optimizer.zero_grad()
        reader(guidance, wanted).backward()
        optimizer.step()
    assert reader(guidance, wanted).item() < 0.8 * before
