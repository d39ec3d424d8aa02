"""Lewandofski/OpenVE-3M: CSVs original_video,video,prompt and a category; `edited_video` is accepted for `video`."""

from ..rows import ListedPair
from .base import Fields, Layout, needed_words, picture

TARGETS = ("video", "edited_video")


def read(fields: Fields) -> ListedPair:
    target = next((name for name in TARGETS if name in fields), TARGETS[0])
    return ListedPair(picture(fields, "original_video"), picture(fields, target), needed_words(fields, "prompt"))


OPENVE = Layout("OpenVE-3M", ("original_video", TARGETS, "prompt"), read, folders=("", "videos"))
