"""linyq/kiwi_edit_training_data: CSVs src_video,tgt_video,prompt[,ref_image] for videos and for images; RefVIE's
Parquet files iid,prompt,src_video,tgt_video,ref_image_bytes."""

from ..rows import ListedPair
from .base import Fields, Layout, needed_words, optional_picture, picture


def read(fields: Fields) -> ListedPair:
    references = optional_picture(fields, "ref_image") or optional_picture(fields, "ref_image_bytes")
    source, target = picture(fields, "src_video"), picture(fields, "tgt_video")
    return ListedPair(source, target, needed_words(fields, "prompt"), references)


VIDEO_PAIRS = Layout(
    "pairs of videos",
    ("src_video", "tgt_video", "prompt"),
    read,
    optional=("ref_image", "ref_image_bytes"),
)
