"""osunlp/MagicBrush: Parquet img_id,turn_index,source_img,mask_img,instruction,target_img. Its masks are pictures with
a hole, not maps of the edit, and are ignored."""

from ..rows import ListedPair
from .base import Fields, Layout, needed_words, picture


def read(fields: Fields) -> ListedPair:
    source, target = picture(fields, "source_img"), picture(fields, "target_img")
    return ListedPair(source, target, needed_words(fields, "instruction"))


MAGICBRUSH = Layout("MagicBrush", ("source_img", "target_img", "instruction"), read)
