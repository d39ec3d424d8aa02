"""UCSC-VLAA/GPT-Image-Edit-1.5M: JSON lists of {image: [source, ..., target], conversations: [{from, value}, ...]},
named by data.txt, whose lines are "folder of the pictures,the JSON,flag".

Entries with one picture (`generate`) are not edits and are left out. Pictures between the
first and the last are references.
"""

import re

from ..rows import LeftOut, ListedPair, RowError
from .base import Fields, Layout, needed_words, picture

PLACEHOLDER = re.compile(r"<image>\s*")


def read(fields: Fields) -> ListedPair:
    images = fields.get("image")
    if isinstance(images, str) or (isinstance(images, list) and len(images) == 1):
        raise LeftOut
    if not isinstance(images, list) or not images:
        raise RowError("it has no pictures")
    source, *references, target = (picture({"image": name}, "image") for name in images)
    return ListedPair(source, target, instruction(fields.get("conversations")), tuple(references))


def instruction(turns: object) -> str:
    """The first human turn, without placeholders."""
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("from") == "human":
            return needed_words({"instruction": PLACEHOLDER.sub("", needed_words(turn, "value"))}, "instruction")
    raise RowError("it has no instruction")


GPT_IMAGE_EDIT = Layout("GPT-Image-Edit-1.5M", ("image", "conversations"), read)
