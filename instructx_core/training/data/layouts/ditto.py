"""QingyanBai/Ditto-1M: JSON lists of {source_path, edited_path, instruction, source_caption}; the files are under
videos/."""

from ..rows import ListedPair
from .base import Fields, Layout, needed_words, picture


def read(fields: Fields) -> ListedPair:
    source, target = picture(fields, "source_path"), picture(fields, "edited_path")
    return ListedPair(source, target, needed_words(fields, "instruction"))


DITTO = Layout("Ditto-1M", ("source_path", "edited_path", "instruction"), read, folders=("", "videos"))
