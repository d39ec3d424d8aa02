"""iitolstykh/NHR-Edit: train/metadata.jsonl next to train/images/XX/*.jpg; or Parquet with the pictures inside."""

from ..rows import ListedPair
from .base import Fields, Layout, needed_words, picture


def read(fields: Fields) -> ListedPair:
    names = ("source_image", "edited_image") if "source_image" in fields else ("source_file_name", "edited_file_name")
    source, target = (picture(fields, name) for name in names)
    return ListedPair(source, target, needed_words(fields, "edit_instruction"))


NHR_EDIT = Layout(
    "NHR-Edit",
    ("edit_instruction", ("source_file_name", "source_image"), ("edited_file_name", "edited_image")),
    read,
    folders=("", "images", "train", "train/images"),
)
