"""Long video: edit minutes of footage with constant memory, in joined windows that survive a crash (A.5).

options -> footage (the source, window by window) -> window_model (the interface of a model; editor_model: the library's
own) -> window_editor (edits a window with a model) or frame_edit (with any function) -> joining (of adjacent windows)
-> store (finished windows on disk) -> run (the loop) -> edit (the whole edit, from file to file, one run at a time)
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
