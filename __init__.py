"""InstructX for ComfyUI: the node pack's entry. The library beside it, `instructx_core`, never imports ComfyUI.

Nothing is imported here before ComfyUI asks: other programs that meet this file (pytest, linters) pass through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """What ComfyUI calls to get the nodes."""
    from .nodes.extension import InstructXExtension

    return InstructXExtension()
