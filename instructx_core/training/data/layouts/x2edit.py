"""OPPOer/X2Edit-Dataset: X2Edit_data/MODEL/NUMBER/NUMBER.tar, WebDataset archives.

A sample is KEY.1.0.jpg (or 1.jpg; the source), KEY.2.jpg (the target), KEY.3.jpg (a mask, for deletions only), KEY.txt
and KEY.json {instruction (or instruction_en, instruction_zh), task, scores}. Samples published without words are left
out. 1.1.jpg, a drawing of the letters in one part of the set, is not read.
"""

import re

from ....bounded import UnreadableError, parse_json
from ..rows import LONGEST_TEXT, LeftOut, ListedPair, RowError
from .base import Fields, Layout, picture, words

PICTURE = re.compile(r"([123])(\.0)?\.(jpg|jpeg|png|webp)")
SOURCES = tuple(f"1{part}.{suffix}" for part in ("", ".0") for suffix in ("jpg", "jpeg", "png", "webp"))


def read(fields: Fields) -> ListedPair:
    pictures = {found[1]: picture(fields, name) for name in fields if (found := PICTURE.fullmatch(name))}
    for number, what in (("1", "source (1.jpg)"), ("2", "target (2.jpg)")):
        if number not in pictures:
            raise RowError(f"it has no {what}")
    told = about(fields)
    instruction = words(told, "instruction_en") or words(fields, "txt")
    instruction = instruction or words(told, "instruction") or words(told, "instruction_zh")
    if not instruction:
        raise LeftOut
    return ListedPair(pictures["1"], pictures["2"], instruction, mask=pictures.get("3"))


def about(fields: Fields) -> Fields:
    """The fields of a sample's JSON; none if it has no JSON."""
    text = fields.get("json")
    if text is None:
        return {}
    if not isinstance(text, (str, bytes)):  # in a listing with X2Edit's names
        raise RowError("its json is not text")
    try:
        plain = parse_json(text, "its json", LONGEST_TEXT)
    except UnreadableError as error:
        raise RowError(f"its json cannot be read: {error.reason}") from error
    if not isinstance(plain, dict):
        raise RowError("its json is not a JSON object")
    return plain


X2EDIT = Layout(
    "X2Edit",
    (SOURCES, ("json", "txt")),
    read,
    members=re.compile(rf"{PICTURE.pattern}|txt|json"),
    scores=about,
)
