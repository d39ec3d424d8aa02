"""ComfyUI without its server, in this process, with the pack loaded the way its own loader does it.

Import this first: it must set the command line before anything of ComfyUI is imported.
"""

import asyncio
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path

PACK = Path(__file__).resolve().parents[3]
COMFYUI = Path(os.environ["COMFYUI_PATH"])

ASKED = sys.argv[1:]  # what this process was asked to check; the command line is ComfyUI's from here on
sys.argv = [sys.argv[0], "--cpu"]
sys.path.insert(0, str(COMFYUI))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import torch  # noqa: E402

NAME = "instructx_pack"


class Skipped(Exception):
    """What a check needs is not on this machine; the message says what was not tried."""


def load_pack():
    """The pack as a package called NAME."""
    spec = importlib.util.spec_from_file_location(NAME, PACK / "__init__.py", submodule_search_locations=[str(PACK)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return module


def load_nodes():
    """Node classes of the pack by id."""

    async def collect():
        extension = await load_pack().comfy_entrypoint()
        await extension.on_load()
        return await extension.get_node_list()

    return {node.GET_SCHEMA().node_id: node for node in asyncio.run(collect())}


@cache
def schema_of(node):
    """Made once: loaders look through all folders of models for their menus."""
    return node.GET_SCHEMA()


def run(node, **inputs):
    """Outputs of one V3 node, as ComfyUI's executor calls it (inference mode, defaults filled in); of a list of one
    what is in it, as the next node gets it."""
    schema = schema_of(node)
    defaults = {i.id: i.default for i in schema.inputs if getattr(i, "default", None) is not None and not i.optional}
    with torch.inference_mode():
        made = node.execute(**(defaults | inputs)).args
    listed = [getattr(output, "is_output_list", False) for output in schema.outputs]
    return tuple(
        value[0] if is_list and len(value) == 1 else value for value, is_list in zip(made, listed, strict=True)
    )
