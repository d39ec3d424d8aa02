"""The boxes, one per file; those in SHIPPED are written to subgraphs/, where ComfyUI's search box finds them."""

from .bernini import BERNINI
from .edit_image import EDIT_IMAGE
from .edit_inside_a_mask import EDIT_INSIDE_A_MASK
from .edit_long_video import EDIT_LONG_VIDEO
from .edit_video import EDIT_VIDEO
from .edit_with_own_loaders import EDIT_WITH_OWN_LOADERS
from .edit_with_reference import EDIT_WITH_REFERENCE
from .qwen import QWEN
from .three_steps import THREE_STEPS
from .vace import VACE

SHIPPED = (
    EDIT_IMAGE,
    EDIT_VIDEO,
    EDIT_WITH_REFERENCE,
    EDIT_LONG_VIDEO,
    EDIT_INSIDE_A_MASK,
    EDIT_WITH_OWN_LOADERS,
)

__all__ = ["BERNINI", "QWEN", "SHIPPED", "THREE_STEPS", "VACE"]
