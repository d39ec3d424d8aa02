"""A model from the Hugging Face hub, fetched only where the switch on the node is on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import comfy.model_management as management
import comfy.utils
from comfy_execution.utils import get_executing_context

from ..instructx_core.errors import CheckpointError
from .folders import ADAPTER, KIWI, roots

if TYPE_CHECKING:
    from pathlib import Path

_logger = logging.getLogger(__name__)


def hub_model(hub_id: str, download: bool) -> Path:
    """The folder of a hub model under `models/instructx`.

    Args:
        hub_id: "owner/name".
        download: fetch it where it is not there.

    Raises:
        CheckpointError: it is not there and `download` is off; the message says where it is and where it belongs.
    """
    name = hub_id.replace("/", "--")
    for root in roots():
        if (root / name / ADAPTER).is_file() or (root / name / KIWI).is_file():
            return root / name
    folder = roots()[0] / name
    if not download:
        raise CheckpointError(
            f"{hub_id!r} is not on this machine; switch download on to fetch it, or copy"
            f" https://huggingface.co/{hub_id} to {folder}."
        )
    from ..instructx_core.checkpoints.hub import fetch, look_up, readable_size

    model = look_up(hub_id)
    _logger.info("InstructX fetches %s (%s) into %s", hub_id, readable_size(model.size), folder)
    _say_on_the_node(f"fetching {readable_size(model.size)}")
    bar = comfy.utils.ProgressBar(max(1, model.size))

    def progress(done: int, _total: int) -> None:
        management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done)

    fetch(model, folder, progress)
    return folder


def _say_on_the_node(words: str) -> None:
    """Show a line on the node that is being run, where a server runs it."""
    running = get_executing_context()
    if running is not None:
        from server import PromptServer

        PromptServer.instance.send_progress_text(words, running.node_id)
