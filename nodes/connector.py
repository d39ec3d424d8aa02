"""InstructX Connector: guidance to CONDITIONING."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.model_management as management
import torch
from comfy_api.latest import io

from ..instructx_core.config import Network
from ..instructx_core.errors import InputError
from . import categories
from .sockets import Connector, Guidance
from .unet import carried

if TYPE_CHECKING:
    from ..instructx_core.context import Context
    from .conditioning import Conditioning
    from .sockets import GuidanceValue, LoadedConnector


class InstructXConnector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="InstructXConnector",
            display_name="InstructX Connector",
            category=categories.CONDITIONING,
            description=(
                "Turn what the MLLM understood into CONDITIONING. It replaces a text encoder in any Wan graph."
            ),
            search_aliases=["instructx", "conditioning", "kiwi"],
            inputs=[
                Connector.Input("connector", tooltip="From InstructX Load Model or InstructX Load Adapter."),
                Guidance.Input("guidance", tooltip="From InstructX MLLM Guidance."),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="Conditioning with the instruction."),
                io.Conditioning.Output(
                    display_name="negative",
                    tooltip="The same pixels without the instruction. Only used when cfg is not 1.",
                ),
            ],
        )

    @classmethod
    def execute(cls, connector: LoadedConnector, guidance: GuidanceValue) -> io.NodeOutput:
        return io.NodeOutput(*connect(connector, guidance))


def connect(connector: LoadedConnector, guidance: GuidanceValue) -> tuple[Conditioning, Conditioning]:
    """Positive and negative CONDITIONING: with the instruction and without it.

    Raises:
        InputError: the guidance is from an MLLM that the connector was not trained with.
    """
    width, taken = guidance.positive.tokens.shape[-1], connector.config.connector.input_dim
    if width != taken:
        raise InputError(
            f"The connector of {connector.config.name!r} takes guidance of width {taken}, but the MLLM "
            f"{guidance.mllm!r} gives {width}; load both from the same checkpoint."
        )
    places, module = guidance.reference_places, connector.module
    with torch.no_grad():
        # on the CPU: the paper's two-layer MLP on a few hundred tokens is too small to be worth moving to the GPU, and
        # larger connectors take seconds
        asking = module(guidance.positive, places)
        unasking = module.unasking(asking) or module(guidance.negative, places)
    is_unets = connector.config.denoiser.network is Network.UNET
    return _conditioning(asking, is_unets), _conditioning(unasking, is_unets)


def _conditioning(context: Context, is_unets: bool) -> Conditioning:
    device = management.intermediate_device()
    if is_unets:
        return [[context.tokens.to(device), {"model_conds": carried(context)}]]
    return [[seen(context).to(device), {}]]


def seen(context: Context) -> torch.Tensor:
    """The unmasked tokens [B, n, D] of a context: ComfyUI's Wan takes no mask, so masked tokens are dropped.

    Raises:
        InputError: a context that CONDITIONING cannot represent.
    """
    if context.image is not None:
        raise InputError(
            "This connector also makes an image stream, which ComfyUI's Wan cannot use; choose another checkpoint."
        )
    if context.mask is None:
        return context.tokens
    if not bool((context.mask == context.mask[:1]).all()):
        raise InputError("The instructions of this batch differ in length; give them one at a time.")
    return context.tokens[:, context.mask[0]]
