"""The MLLM under ComfyUI's memory management: loaded when needed, unloaded like other models, freed with its node."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import torch
from comfy.model_patcher import ModelPatcher

from .notes import say
from .sockets import LoadedConnector, LoadedMllm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..instructx_core.context import Context, LocalEdits
    from ..instructx_core.guidance.guidance import Guidance, GuidanceInputs

PRECISIONS = ("default", "float32", "bfloat16", "float16")
PRECISION_TOOLTIP = "Number format of the weights. default: float32 on a CPU, bfloat16 or float16 on a GPU."
# in hidden sizes: hidden states, MLP activations and attention of one layer at a time, with a margin
ACTIVATIONS_PER_TOKEN = 40


class GuidanceHolder(torch.nn.Module):
    """A plain module around a Guidance: ComfyUI sets `device` on the module it manages, a name that Guidance uses."""

    def __init__(self, guidance: Guidance) -> None:
        super().__init__()
        self.guidance = guidance


def dtype_of(precision: str, device: torch.device) -> torch.dtype:
    """The torch dtype of an entry in the precision menu."""
    if precision != "default":
        return getattr(torch, precision)
    if management.is_device_cpu(device):
        return torch.float32
    return torch.bfloat16 if management.should_use_bf16(device) else torch.float16


def manage(guidance: Guidance, name: str, files: str) -> LoadedMllm:
    """Hand an MLLM on the CPU to ComfyUI's memory management; see `LoadedMllm` for `name` and `files`.

    It is loaded completely, because ComfyUI can stream only its own layers. If it does not fit even on an empty GPU, it
    runs on the CPU.
    """
    load, offload = management.text_encoder_device(), management.text_encoder_offload_device()
    holder = GuidanceHolder(guidance)
    needed = management.module_size(holder) + management.minimum_inference_memory()
    there = management.get_total_memory(load)
    if not management.is_device_cpu(load) and needed > there:
        say(
            f"The MLLM {name} needs {needed / 2**30:.1f} GiB, but the GPU has {there / 2**30:.1f} GiB; it runs on the "
            "CPU, which takes longer."
        )
        load = torch.device("cpu")
    return LoadedMllm(ModelPatcher(holder, load_device=load, offload_device=offload), name, files)


@torch.no_grad()
def read(
    mllm: LoadedMllm,
    instruction: str | None,
    source: torch.Tensor,
    references: Sequence[torch.Tensor],
    is_video: bool,
) -> tuple[Context, int]:
    """Guidance in float32 on the CPU for a source [T, H, W, 3], and how many of its positions belong to references.

    Args:
        instruction: None for the negative guidance.
    """
    guidance, beside = mllm.guidance, ([source], [list(references)], is_video)
    inputs = guidance.prepare_without(1, *beside) if instruction is None else guidance.prepare([instruction], *beside)
    management.load_models_gpu([mllm.patcher], memory_required=_working_memory(guidance, inputs), force_full_load=True)
    with _cancel_between_layers(guidance):
        read = guidance(inputs.to(mllm.patcher.load_device)).to(torch.float32, "cpu")
    return read, inputs.reference_places


@torch.no_grad()
def read_places(
    mllm: LoadedMllm, connector: LoadedConnector, instructions: Sequence[str], clip: torch.Tensor
) -> LocalEdits:
    """Contexts of several instructions and masks of where they act in a clip [T, H, W, 3], float32 on the CPU."""
    from ..instructx_core.local_edits import read_local

    guidance = mllm.guidance
    inputs = guidance.prepare([instructions[0]], [clip], None, True)
    needed = _working_memory(guidance, inputs) * len(instructions)
    management.load_models_gpu([mllm.patcher], memory_required=needed, force_full_load=True)
    with _cancel_between_layers(guidance):
        device = mllm.patcher.load_device
        return read_local(guidance, connector.module, connector.masks, [instructions], [clip], device)


@contextmanager
def _cancel_between_layers(guidance: Guidance) -> Iterator[None]:
    """Check for Cancel before every layer: on a CPU a whole forward can take minutes."""

    def stop_if_cancelled(*_: Any) -> None:
        management.throw_exception_if_processing_interrupted()

    hooks = [layer.register_forward_pre_hook(stop_if_cancelled) for layer in guidance.layers()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _working_memory(guidance: Guidance, inputs: GuidanceInputs) -> int:
    """Bytes that a forward needs in addition to the weights."""
    return guidance.numbers(inputs) * ACTIVATIONS_PER_TOKEN * guidance.dtype.itemsize
