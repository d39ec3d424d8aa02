"""InstructX: edit an image or a video from a sentence.

    from instructx_core import Editor
    result = Editor.from_pretrained().edit("photo.png", "make the red circle blue")

Heavy libraries are imported on first use, so importing the package is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import CheckpointError, EditInterrupted, InputError, InstructXError
from .version import __version__

if TYPE_CHECKING:
    from .editor import Editor, EditResult
    from .long_video import edit_video
    from .request import EditRequest, Sampling

__all__ = [
    "CheckpointError",
    "EditInterrupted",
    "EditRequest",
    "EditResult",
    "Editor",
    "InputError",
    "InstructXError",
    "Sampling",
    "__version__",
    "edit_video",
]


def __getattr__(name: str) -> object:
    if name in ("Editor", "EditResult"):
        from . import editor

        return getattr(editor, name)
    if name in ("EditRequest", "Sampling"):
        from . import request

        return getattr(request, name)
    if name == "edit_video":
        from .long_video import edit_video

        return edit_video
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
