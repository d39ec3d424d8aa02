"""InstructX Load Adapter: apply a checkpoint to a MODEL from a stock loader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.sd
from comfy_api.latest import io

from ..instructx_core.errors import CheckpointError
from . import categories, requirements
from .folders import find_model, model_names, stamp
from .load_bar import LoadBar
from .menus import problem
from .sockets import Connector

if TYPE_CHECKING:
    import torch
    from comfy.model_patcher import ModelPatcher

    from ..instructx_core.families.opened import Opened

KEEP, REPLACE, LORA = "keep the MODEL's own", "the checkpoint's", "the checkpoint's LoRA"
DIT_LORA = "dit_lora.safetensors"


class InstructXLoadAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXLoadAdapter",
            display_name="InstructX Load Adapter",
            category=categories.LOADERS,
            description=(
                "Make a Wan MODEL from Load Diffusion Model, a GGUF loader or a LoRA loader edit by instruction."
            ),
            search_aliases=["instructx", "connector", "kiwi", "wan", "bernini"],
            inputs=[
                io.Model.Input(
                    "model", tooltip="A Wan MODEL from any loader. It stays unchanged; the output is a patched copy."
                ),
                io.Combo.Input(
                    "adapter",
                    options=model_names(),
                    tooltip=(
                        "The InstructX checkpoint: a model folder, or a file in models/instructx that holds only the "
                        "trained part."
                    ),
                ),
                io.Combo.Input(
                    "weights",
                    options=[KEEP, REPLACE, LORA],
                    default=KEEP,
                    tooltip=(
                        "Which DiT weights to use: the MODEL's (it already is the edit model, perhaps quantised),"
                        f" those in the checkpoint's transformer folder, or a LoRA on top of the MODEL: in the"
                        f" checkpoint's own file, or {DIT_LORA} next to it."
                    ),
                ),
                io.Float.Input(
                    "lora_strength",
                    default=1.0,
                    min=-4.0,
                    max=4.0,
                    step=0.05,
                    tooltip="Strength of the LoRA, if there is one.",
                    advanced=True,
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="The patched copy."),
                Connector.Output(display_name="CONNECTOR", tooltip="Turns what the MLLM understood into CONDITIONING."),
            ],
        )

    @classmethod
    def validate_inputs(cls, adapter: str | None = None) -> bool | str:
        return True if adapter is None else problem(find_model, adapter)

    @classmethod
    def fingerprint_inputs(cls, adapter: str | None, **_: Any) -> str:
        if adapter is None:  # comes from a link
            return ""
        place = find_model(adapter)
        lora = place.parent / DIT_LORA  # next to a single file; a model folder's stamp already includes it
        return stamp(place) + (stamp(lora) if place.is_file() and lora.is_file() else "")

    @classmethod
    def execute(cls, model: ModelPatcher, adapter: str, weights: str, lora_strength: float = 1.0) -> io.NodeOutput:
        requirements.check()
        from ..instructx_core import families
        from ..instructx_core.weights.parts import Part
        from . import loading

        opened = families.open(find_model(adapter))
        if weights == REPLACE and Part.DIT not in opened.match.own:
            raise CheckpointError(
                f"{adapter!r} has no DiT weights; set weights to the MODEL's own, or choose a model folder."
            )
        if weights == REPLACE:
            loading.check_one_dit(opened)
            model = loading.replace_weights(model, opened, LoadBar([opened.form(Part.DIT)]))
        elif weights == LORA:
            model = cls._with_lora(model, opened, lora_strength)
        return io.NodeOutput(loading.attach_checkpoint(model, opened), loading.load_connector(opened))

    @staticmethod
    def _with_lora(model: ModelPatcher, opened: Opened, strength: float) -> ModelPatcher:
        from ..instructx_core.weights.files import read_safetensors

        lora, path = own_lora(opened), opened.path
        if not lora:
            path = opened.match.folder / DIT_LORA
            if not path.is_file():
                raise CheckpointError(
                    f"{str(opened.match.folder)!r} has no {DIT_LORA}; choose other weights, or put the LoRA there."
                )
            lora, _ = read_safetensors(path)
        patched, _ = comfy.sd.load_lora_for_models(model, None, lora, strength, 0)
        if _patches(patched) == _patches(model):  # ComfyUI would only log this and continue without the LoRA
            raise CheckpointError(
                f"No tensor of {str(path)!r} fits the MODEL; choose the MODEL that it was trained for, or a LoRA in"
                " Wan's own names (diffusion_model.blocks.0...)."
            )
        return patched


def own_lora(opened: Opened) -> dict[str, torch.Tensor]:
    """The DiT's LoRA in a checkpoint's file, under ComfyUI's names; {} if there is none."""
    from ..instructx_core.families.part_loaders import lora_pairs
    from ..instructx_core.weights.parts import Part
    from ..instructx_core.weights.wan_keys import dit_to_original

    return {
        f"diffusion_model.{name.removesuffix('.weight')}.lora_{half}.weight": matrix
        for name, pair in dit_to_original(lora_pairs(opened, Part.DIT)).items()
        for half, matrix in zip("AB", pair, strict=True)
    }


def _patches(model: ModelPatcher) -> int:
    """The number of a MODEL's weight patches."""
    return sum(len(patches) for patches in model.patches.values())
