"""InstructX Local Edits: several instructions for one clip, each with its own region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from comfy_api.latest import io

from . import categories
from .menus import problem
from .sockets import Connector, Fit, Mllm

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy_api.latest import Input

    from .sockets import FitValue, LoadedConnector, LoadedMllm


class InstructXLocalEdits(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXLocalEdits",
            display_name="InstructX Local Edits",
            category=categories.CONDITIONING,
            description=(
                "Several instructions for one clip, one per line. The model finds where each applies "
                "and edits there. Replaces MLLM Guidance and Connector; for models with a mask head "
                "(CoinVE-Edit)."
            ),
            search_aliases=["instructx", "coinve", "mask", "several edits", "regional prompt", "local edit"],
            inputs=[
                io.Model.Input("model", tooltip="From InstructX Load Model or InstructX Load Adapter."),
                Mllm.Input("mllm", tooltip="From InstructX Load Model or InstructX Load MLLM."),
                Connector.Input("connector", tooltip="From InstructX Load Model or InstructX Load Adapter."),
                io.MultiType.Input("source", [io.Image, io.Video], tooltip="The clip to edit. Not a single picture."),
                io.String.Input(
                    "instructions",
                    multiline=True,
                    default="make the red circle blue\nmake the background green",
                    tooltip="What to change: one sentence per line.",
                ),
                Fit.Input(
                    "fit",
                    optional=True,
                    tooltip=("Connect it if the source comes from InstructX Fit. The masks then fit the original."),
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="positive", tooltip="Conditioning with all instructions and where they apply."
                ),
                io.Conditioning.Output(
                    display_name="negative", tooltip="Conditioning without them. Only used when cfg is not 1."
                ),
                io.Mask.Output(
                    display_name="MASK",
                    is_output_list=True,
                    tooltip="Roughly where each instruction applies: one mask of the whole clip per line.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, instructions: str | None = None) -> bool | str:
        return True if instructions is None else problem(lines, instructions)

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        mllm: LoadedMllm,
        connector: LoadedConnector,
        source: torch.Tensor | Input.Video,
        instructions: str,
        fit: FitValue | None = None,
    ) -> io.NodeOutput:
        from ..instructx_core.local_edits import check_places, over_latents
        from .conditioning import check_local, with_local
        from .connector import connect
        from .memory import read_places
        from .mllm_guidance import understand
        from .pixels import to_clip
        from .vae import strides

        each = lines(instructions)
        clip = to_clip(source)
        frames, is_video = (clip.frames, clip.is_video) if fit is None else (fit.cut(clip.frames), fit.is_video)
        check_places(connector.config.name, connector.masks, is_video)
        check_local(model)
        guidance = understand(mllm, ", ".join(each), frames, [], is_video)
        positive, negative = connect(connector, guidance)
        local = read_places(mllm, connector, each, frames)
        size = frames.shape[:3] if fit is None else (fit.plan.frames, *fit.plan.size)
        masks = F.interpolate(local.masks.cpu(), size, mode="trilinear", align_corners=False)[0].clamp(0, 1)
        if fit is not None:
            own = strides(fit.vae)
            time = 1 + (fit.plan.padded_frames - 1) // own.time
            latents = (time, *(side // own.space for side in fit.plan.canvas))
            local = over_latents(local, latents, (own.time, own.space))
        return io.NodeOutput(with_local(positive, local), negative, list(masks))


def lines(instructions: str) -> list[str]:
    """Split text into instructions, one per line.

    Raises:
        InputError: no instructions, too many, or one that is too long.
    """
    from ..instructx_core.request import EditRequest

    return list(EditRequest.of([line.strip() for line in instructions.splitlines() if line.strip()]).each)
