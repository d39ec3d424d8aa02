"""QingyanBai/Ditto-1M: JSON lists of {source_path, edited_path, instruction, source_caption}; the files lie under
videos/."""

from ..rows import Listed
from .base import Fields, Layout, needed_words, picture


def read(fields: Fields) -> Listed:
    source, target = picture(fields, "source_path"), picture(fields, "edited_path")
    return Listed(source, target, needed_words(fields, "instruction"))


DITTO = Layout("Ditto-1M", ("source_path", "edited_path", "instruction"), read, folders=("", "videos"))
