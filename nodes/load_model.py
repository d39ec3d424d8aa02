"""InstructX Load Model: load a complete model with one node."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from . import categories, requirements
from .folders import OWN, PARTS, find_model, find_part, model_names, part_names, stamp
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
            description=("Load a complete InstructX model. The bundled one needs no download and runs on a CPU."),
            search_aliases=[
                "instructx",
                "edit image",
                "edit video",
                "instruction edit",
                "instruct pix2pix",
                "kiwi",
                "wan",
                "bernini",
            ],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=model_names(),
                    tooltip=(
                        "The bundled tiny model; a model folder in models/instructx or models/diffusers "
                        "(instructx.safetensors with mllm, transformer and vae next to it, or Kiwi-Edit as "
                        "published); or a file in models/instructx that holds only the trained part (choose its base "
                        "models below)."
                    ),
                ),
                io.Combo.Input(
                    "precision", options=list(PRECISIONS), default="default", tooltip=PRECISION_TOOLTIP, advanced=True
                ),
                *(
                    io.Combo.Input(
                        part,
                        options=part_names(part),
                        default=OWN,
                        optional=True,
                        advanced=True,
                        tooltip=f"{title} to use instead of the model's own, or if it has none.",
                    )
                    for part, title in PARTS.items()
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="MODEL", tooltip="The DiT, a native Wan model. LoRA loaders and samplers work on it."
                ),
                io.Vae.Output(display_name="VAE", tooltip="Pixels to latents and back."),
                Mllm.Output(
                    display_name="MLLM", tooltip="The model that reads the instruction and looks at the pixels."
                ),
                Connector.Output(display_name="CONNECTOR", tooltip="Turns what the MLLM understood into CONDITIONING."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        model_name: str | None = None,
        transformer: str = OWN,
        vae: str = OWN,
        mllm: str = OWN,
    ) -> bool | str:
        said = True if model_name is None else problem(find_model, model_name)
        for part, name in {"transformer": transformer, "vae": vae, "mllm": mllm}.items():
            if said is True and name not in (None, OWN):
                said = problem(partial(find_part, part), name)
        return said

    @classmethod
    def fingerprint_inputs(
        cls, model_name: str | None, transformer: str = OWN, vae: str = OWN, mllm: str = OWN, **_: Any
    ) -> str:
        own = "" if model_name is None else stamp(find_model(model_name))  # None: comes from a link
        return own + "".join(map(stamp, _given(transformer, vae, mllm).values()))

    @classmethod
    def execute(
        cls,
        model_name: str,
        precision: str = "default",
        transformer: str = OWN,
        vae: str = OWN,
        mllm: str = OWN,
    ) -> io.NodeOutput:
        requirements.check()
        from ..instructx_core import families
        from ..instructx_core.families.overrides import Overrides
        from . import loading

        path, given = find_model(model_name), _given(transformer, vae, mllm)
        opened = families.open(path, Overrides(**given))
        loading.check_one_dit(opened)
        opened.check()
        bar = LoadBar(map(opened.form, opened.parts))
        connector = loading.load_connector(opened)
        decoder, codec = loading.load_vae(opened, bar)
        model = loading.load_model(opened, precision, bar)
        if codec is not None:
            loading.use_codec(model, codec)
        files = stamp(given.get("mllm", path)) + stamp(path)
        reader = loading.load_mllm(opened, precision, model_name, files, bar)
        return io.NodeOutput(model, decoder, reader, connector)


def _given(transformer: str, vae: str, mllm: str) -> dict[str, Path]:
    """The weights chosen in place of the model's own, by part."""
    chosen = {"transformer": transformer, "vae": vae, "mllm": mllm}
    return {part: find_part(part, name) for part, name in chosen.items() if name not in (None, OWN)}
