"""timbrooks/instructpix2pix-clip-filtered: Parquet original_prompt,original_image,edit_prompt,edited_prompt,
edited_image."""

from ..rows import ListedPair
from .base import Fields, Layout, needed_words, picture, words


def read(fields: Fields) -> ListedPair:
    source, target = picture(fields, "original_image"), picture(fields, "edited_image")
    return ListedPair(source, target, needed_words(fields, "edit_prompt"), caption=words(fields, "edited_prompt"))


INSTRUCT_PIX2PIX = Layout(
    "InstructPix2Pix", ("original_image", "edit_prompt", "edited_image"), read, optional=("edited_prompt",)
)
