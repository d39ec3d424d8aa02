"""Long video: minutes of footage with flat memory, joined windows and finished windows that survive a crash (A.5).

options (how) -> footage (the source, window by window) -> window_model (a model that edits; editor_model: the library's
own) -> window_editor (one window by a model) or frame_edit (by any function) -> joining (one to the next) -> store
(finished windows on the disk) -> run (the loop) -> edit (all of it, from file to file, one run at a time)
"""

from ..windows import Head, Reading
from .edit import LongResult, edit_footage, edit_video, identity, plan_edit
from .frame_edit import EditFunction, FrameEdit
from .options import LongOptions
from .run import LongProgress, WindowRun
from .turn import Turn
from .window_model import WindowModel

__all__ = [
    "EditFunction",
    "FrameEdit",
    "Head",
    "LongOptions",
    "LongProgress",
    "LongResult",
    "Reading",
    "Turn",
    "WindowModel",
    "WindowRun",
    "edit_footage",
    "edit_video",
    "identity",
    "plan_edit",
]
