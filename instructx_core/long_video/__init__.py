"""Long video: minutes of footage with flat memory, joined windows and finished windows that survive a crash (A.5).

options (how) -> footage (the source, window by window) -> window_editor (one window) -> joining (one to the next)
-> store (finished windows on the disk) -> edit (all of it, from file to file)
"""

from .edit import LongProgress, LongResult, edit_video
from .options import Head, LongOptions, Reading

__all__ = ["Head", "LongOptions", "LongProgress", "LongResult", "Reading", "edit_video"]
