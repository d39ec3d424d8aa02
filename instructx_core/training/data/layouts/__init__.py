"""The layouts of published data sets; to add one, add a file here and a line below."""

from .advanced_edit import ADVANCED_EDIT
from .base import Layout, mapped
from .ditto import DITTO
from .gpt_image_edit import GPT_IMAGE_EDIT
from .instruct_pix2pix import INSTRUCT_PIX2PIX
from .magicbrush import MAGICBRUSH
from .nhr_edit import NHR_EDIT
from .openve import OPENVE
from .own import OWN
from .synthesised import SYNTHESISED
from .video_pairs import VIDEO_PAIRS
from .x2edit import X2EDIT

LAYOUTS: tuple[Layout, ...] = (
    OWN,
    VIDEO_PAIRS,
    NHR_EDIT,
    X2EDIT,
    GPT_IMAGE_EDIT,
    OPENVE,
    DITTO,
    MAGICBRUSH,
    INSTRUCT_PIX2PIX,
    ADVANCED_EDIT,
    SYNTHESISED,
)

__all__ = ["LAYOUTS", "Layout", "mapped"]
