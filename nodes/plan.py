"""InstructX Plan: how much memory an edit needs, before any weights are loaded."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from . import categories, requirements
from .fit import MAX_SIDE, check_size
from .folders import find_model, model_names, stamp
from .menus import problem
from .notes import show


class InstructXPlan(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXPlan",
            display_name="InstructX Plan",
            category=categories.LOADERS,
            description=(
                "How much memory an edit needs in each phase, and whether a GPU with 8, 12, 16 or 24 "
                "GB can run it. Reads file headers only."
            ),
            search_aliases=["instructx", "memory", "vram", "out of memory", "requirements"],
            inputs=[
                io.Combo.Input("model_name", options=model_names(), tooltip="As in InstructX Load Model."),
                io.Int.Input(
                    "width", default=0, min=0, max=MAX_SIDE, step=8, tooltip="Working width. 0: the training width."
                ),
                io.Int.Input(
                    "height", default=0, min=0, max=MAX_SIDE, step=8, tooltip="Working height. 0: the training height."
                ),
                io.Int.Input(
                    "frames",
                    default=0,
                    min=0,
                    max=1025,
                    tooltip="Frames of the clip or window. 0: the training length.",
                ),
            ],
            outputs=[io.String.Output(display_name="STRING", tooltip="The plan, for Preview as Text.")],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(
        cls, model_name: str | None = None, width: int | None = None, height: int | None = None
    ) -> bool | str:
        said = True if model_name is None else problem(find_model, model_name)
        if said is not True or width is None or height is None:
            return said
        return problem(check_size, width, height)

    @classmethod
    def fingerprint_inputs(cls, model_name: str | None, **_: Any) -> str:
        return "" if model_name is None else stamp(find_model(model_name))  # None: comes from a link

    @classmethod
    def execute(cls, model_name: str, width: int, height: int, frames: int) -> io.NodeOutput:
        requirements.check()
        from ..instructx_core.memory.describe import CARDS, describe_cards

        check_size(width, height)
        text = describe_cards(find_model(model_name), (height, width) if width else None, frames or None)
        show("\n".join(text.splitlines()[-len(CARDS) :]))
        return io.NodeOutput(text, ui=ui.PreviewText(text))
