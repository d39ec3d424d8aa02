"""InstructX Load Model: everything of a model, from one node."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from . import categories, requirements
from .folders import find_model, model_names, stamp
from .load_bar import LoadBar
from .memory import PRECISION_TOOLTIP, PRECISIONS
from .menus import problem
from .sockets import Connector, Mllm


class InstructXLoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXLoadModel",
            display_name="InstructX Load Model",
            category=categories.LOADERS,
            description="Load a whole InstructX model. The bundled one runs on a CPU without any download.",
            search_aliases=["instructx", "instruction edit", "video edit"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_names(),
                    tooltip=(
                        "The bundled tiny model, or a model folder in models/instructx (instructx.safetensors with"
                        " mllm, transformer and vae beside it, or Kiwi-Edit's as published) or in models/diffusers."
                    ),
                ),
                io.Combo.Input(
                    "precision", options=list(PRECISIONS), default="default", tooltip=PRECISION_TOOLTIP, advanced=True
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="MODEL", tooltip="The DiT, a native Wan model: LoRA loaders and samplers work on it."
                ),
                io.Vae.Output(display_name="VAE", tooltip="Pixels to latents and back."),
                Mllm.Output(
                    display_name="MLLM", tooltip="The model that reads the instruction and looks at the pixels."
                ),
                Connector.Output(display_name="CONNECTOR", tooltip="Turns what the MLLM understood into CONDITIONING."),
            ],
        )

    @classmethod
    def validate_inputs(cls, model_name: str | None = None) -> bool | str:
        return True if model_name is None else problem(find_model, model_name)

    @classmethod
    def fingerprint_inputs(cls, model_name: str, **_: Any) -> str:
        return stamp(find_model(model_name))

    @classmethod
    def execute(cls, model_name: str, precision: str = "default") -> io.NodeOutput:
        requirements.check()
        from ..instructx_core.families.part_loaders import mllm_folder
        from . import loading

        folder = find_model(model_name)
        bar = LoadBar([mllm_folder(folder), folder / "transformer", folder / "vae"])
        connector = loading.load_connector(folder)
        vae, codec = loading.load_vae(folder, bar)
        model = loading.load_model(folder, precision, bar)
        if codec is not None:
            loading.use_codec(model, codec)
        mllm = loading.load_mllm(folder, folder, precision, model_name, bar)
        return io.NodeOutput(model, vae, mllm, connector)
