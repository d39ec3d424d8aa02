"""The list of nodes, and setup that runs once when ComfyUI starts."""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyExtension, io

from . import old_graphs, requirements
from .composite import InstructXComposite
from .connector import InstructXConnector
from .example_input import InstructXExampleInput
from .fit import InstructXFit, InstructXRestore
from .folders import register_folder
from .guider import InstructXGuidance
from .load_adapter import InstructXLoadAdapter
from .load_mllm import InstructXLoadMLLM
from .load_model import InstructXLoadModel
from .local_edits import InstructXLocalEdits
from .measure import InstructXMeasure
from .mllm_guidance import InstructXMLLMGuidance
from .plan import InstructXPlan
from .reference import InstructXReference
from .sampler import InstructXSampler
from .sigmas import InstructXSigmas
from .sliding_window import InstructXSlidingWindow, InstructXSlidingWindowImages
from .sliding_window_loop import InstructXSlidingWindowLoop, InstructXSlidingWindowLoopRun
from .source import InstructXSource
from .unipc import InstructXUniPC
from .window_close import InstructXWindowClose, InstructXWindowRun
from .window_open import InstructXWindowOpen

NODES: list[type[io.ComfyNode]] = [
    InstructXLoadModel,
    InstructXLoadMLLM,
    InstructXLoadAdapter,
    InstructXPlan,
    InstructXMLLMGuidance,
    InstructXConnector,
    InstructXLocalEdits,
    InstructXFit,
    InstructXRestore,
    InstructXSource,
    InstructXReference,
    InstructXSampler,
    InstructXSigmas,
    InstructXGuidance,
    InstructXUniPC,
    InstructXSlidingWindow,
    InstructXSlidingWindowImages,
    InstructXSlidingWindowLoop,
    InstructXSlidingWindowLoopRun,
    InstructXWindowOpen,
    InstructXWindowClose,
    InstructXWindowRun,
    InstructXExampleInput,
    InstructXComposite,
    InstructXMeasure,
]

_logger = logging.getLogger(__name__)


class InstructXExtension(ComfyExtension):
    """The extension that ComfyUI loads."""

    async def on_load(self) -> None:
        register_folder()
        old_graphs.register()
        if problems := requirements.lacking():
            _logger.warning(requirements.advice(problems))

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
