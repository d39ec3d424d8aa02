"""A node's messages to the user, in the log and on the node itself."""

from __future__ import annotations

import logging

from comfy_execution.utils import get_executing_context

MADE_BEFORE = "Made by an earlier run with these settings; there was nothing left to edit."

_logger = logging.getLogger(__name__)


def say(words: str) -> None:
    """Log one line, and show it on the running node."""
    _logger.warning("InstructX: %s", words)
    show(words)


def show(words: str) -> None:
    """Show a line on the running node, replacing the previous one; does nothing without a server."""
    running = get_executing_context()
    if running is None:
        return
    try:
        from server import PromptServer
    except ImportError:  # a ComfyUI without its server
        return
    PromptServer.instance.send_progress_text(words, running.node_id)


def other_seed(seed: int, windows: int) -> str:
    """Tell the user how many windows of an edit are finished with another seed."""
    return f"Windows of this edit already finished with seed {seed}: {windows}. Set that seed to continue from them."


def clock(seconds: float) -> str:
    """Format seconds as 1:40, from an hour on as 1:02:40."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
