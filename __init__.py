"""InstructX for ComfyUI: entry point of the node pack. The library, `instructx_core`, never imports ComfyUI.

Nothing is imported until ComfyUI asks for the nodes, so that pytest and linters can import this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> ComfyExtension:
    """Called by ComfyUI to get the nodes."""
    from .nodes.extension import InstructXExtension

    return InstructXExtension()
