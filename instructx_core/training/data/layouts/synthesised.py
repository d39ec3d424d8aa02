"""WebDataset archives of `instructx synthesise`: KEY.source.png, target, reference, mask (or .mp4), and KEY.json with
instruction, caption, task and scores."""

import re

from ..rows import ListedPair, RowError
from .base import Fields, Layout, needed_words, picture, words
from .x2edit import about

MEMBER = re.compile(r"(source|target|reference|mask)\.(png|jpg|webp|mp4)")


def read(fields: Fields) -> ListedPair:
    media = {found[1]: picture(fields, name) for name in fields if (found := MEMBER.fullmatch(name))}
    for name in ("source", "target"):
        if name not in media:
            raise RowError(f"it has no {name}")
    told = about(fields)
    references = (media["reference"],) if "reference" in media else ()
    return ListedPair(
        media["source"],
        media["target"],
        needed_words(told, "instruction"),
        references,
        words(told, "caption"),
        media.get("mask"),
    )


SYNTHESISED = Layout(
    "instructx synthesise",
    (("source.png", "source.mp4"), ("target.png", "target.mp4"), "json"),
    read,
    members=re.compile(rf"{MEMBER.pattern}|json"),
    scores=about,
)
