"""Shard a model's weights over the processes, layer by layer, with PyTorch's FSDP2.

`accelerate launch` with `configs/accelerate/fsdp.yaml` enables it. Only the main process reads the weights; the others
build the model on the meta device, receive one layer at a time and keep their shard of it. Gradients and optimizer
state are sharded the same way. Every process has to make all calls here.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import InputError
from ..families.components import Components
from ..families.loading import load_model
from ..families.meta_model import outline
from ..latents import LatentCodec
from ..weights.mllm import find_tokenizer, load_tokenizer
from ..weights.parts import Part
from ..weights.vae import load_vae
from .processes import on_cpu, process_state

if TYPE_CHECKING:
    from ..families.opened import Opened

logger = logging.getLogger(__name__)

# sent, sharded and gathered one at a time
LAYERS = {
    "WanTransformerBlock",
    "Qwen2_5_VLDecoderLayer",
    "Qwen2_5_VLVisionBlock",
    "Qwen3VLTextDecoderLayer",
    "Qwen3VLVisionBlock",
    "Qwen2DecoderLayer",
    "Blip2QFormerLayer",
    "UMT5Block",
}


def is_sharded_run() -> bool:
    """True if this process is one of several that were launched with FSDP."""
    return _is_launched_with_fsdp() and process_state().num_processes > 1


def check_launch() -> None:
    """Raise InputError if FSDP was asked for with one process, for which accelerate replaces the trained parameters."""
    if _is_launched_with_fsdp() and process_state().num_processes == 1:
        raise InputError(
            "FSDP shards a model over several processes, but this run has one; leave out the --config_file that asks "
            "for FSDP, or raise --num_processes."
        )


def _is_launched_with_fsdp() -> bool:
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def warn_on_cpu() -> None:
    """Warn that on a CPU, where accelerate silently ignores FSDP, InstructX shards the weights itself."""
    if on_cpu() and process_state().is_main_process:
        logger.warning(
            "accelerate ignores FSDP on a CPU; InstructX shards the weights itself over gloo, which is slow and meant "
            "for tests."
        )


def check_shardable(components: Components, optimizer: str) -> None:
    """Refuse a stage that sharding does not support.

    Args:
        components: with `requires_grad` set for what is trained.

    Raises:
        InputError: an optimizer that needs whole matrices, or a trained part that only references use.
    """
    if optimizer == "adafactor":
        raise InputError("optimizer: adafactor needs whole matrices, which FSDP splits over processes; use adamw.")
    queries = components.guidance.queries
    alone = {
        "queries": dict(queries.items()).get("reference"),
        "connector": getattr(components.connector, "reference", None),
        "reference_embedding": components.denoiser.reference_embedding,
    }
    for part, held in alone.items():
        own = [held] if isinstance(held, nn.Parameter) else held.parameters() if held is not None else ()
        if any(parameter.requires_grad for parameter in own):
            raise InputError(
                f"This model's {part} has weights that only references use, so that in a step some processes would "
                f"train them and others would not; leave {part} out of train, or train without FSDP."
            )


def load_shared(opened: Opened) -> Components:
    """Load a model to shard: all of it on the main process; on the others only the VAE's weights, which all need.

    Raises:
        CheckpointError: as `load_model`.
    """
    if process_state().is_main_process:
        return load_model(opened)
    components = outline(opened, torch.float32)
    codec = LatentCodec(load_vae(opened.form(Part.VAE), torch.float32))
    components.guidance.tokenizer = load_tokenizer(find_tokenizer(opened.form(Part.MLLM), opened.match.folder))
    return replace(components, codec=codec)


def shard_module(module: nn.Module, device: torch.device) -> None:
    """Shard a module over all processes, in place.

    Args:
        module: whole on the main process; on the others its weights may be on the meta device.
        device: where each process keeps its shard.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (process_state().num_processes,))
    _send_buffers(module, device)
    done: set[nn.Parameter] = set()
    for part in [layer for layer in module.modules() if type(layer).__name__ in LAYERS] + [module]:
        _send([parameter for parameter in part.parameters() if parameter not in done], device)
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
        done |= set(part.parameters())


@torch.no_grad()
def _send(parameters: list[nn.Parameter], device: torch.device) -> None:
    """Broadcast the main process's values to all others."""
    for parameter in parameters:
        if parameter.is_meta:
            empty = nn.Parameter(torch.empty_like(parameter, device=device), parameter.requires_grad)
            torch.utils.swap_tensors(parameter, empty)  # in place, so that tied weights stay tied
        else:
            parameter.data = parameter.data.to(device).contiguous()
        torch.distributed.broadcast(parameter.data, src=0)


def _send_buffers(module: nn.Module, device: torch.device) -> None:
    for owner in module.modules():
        for name, buffer in owner._buffers.items():
            if buffer is not None:
                own = torch.empty_like(buffer, device=device) if buffer.is_meta else buffer.to(device)
                owner._buffers[name] = own.contiguous()
                torch.distributed.broadcast(owner._buffers[name], src=0)


def is_shared_out(tensor: torch.Tensor) -> bool:
    """True if this process holds only a shard of a tensor."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's shard of a tensor, in the same memory; the tensor itself if it is not sharded."""
    return tensor.detach().to_local() if is_shared_out(tensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole tensor, gathered from all processes."""
    return tensor.detach().full_tensor() if is_shared_out(tensor) else tensor


def shared_like(tensor: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
    """Shard a whole tensor like `pattern`, without communication; unchanged if `pattern` has another shape."""
    from torch.distributed.tensor import distribute_tensor

    if not is_shared_out(pattern) or tensor.shape != pattern.shape:
        return tensor
    moved = tensor.to(pattern.device)
    return distribute_tensor(moved, pattern.device_mesh, pattern.placements, src_data_rank=None)


def share_of(share: torch.Tensor, pattern: torch.Tensor) -> torch.Tensor:
    """Wrap this process's shard as a sharded tensor, laid out like `pattern`."""
    from torch.distributed.tensor import DTensor

    if not is_shared_out(pattern):
        return share
    return DTensor.from_local(
        share, pattern.device_mesh, pattern.placements, shape=pattern.shape, stride=pattern.stride()
    )


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Within the block, parts of a sharded module can be called directly: parameters outside its layers are whole."""
    from torch.distributed.fsdp import FSDPModule

    if not isinstance(module, FSDPModule):
        yield
        return
    module.unshard()
    try:
        yield
    finally:
        module.reshard()


@torch.no_grad()
def make_whole(module: nn.Module, keep: bool) -> None:
    """Gather the weights of a sharded module in place, to save them; it cannot be trained afterwards.

    Args:
        keep: whether this process keeps the whole weights, on its CPU; the others only contribute their shards.
    """
    made: dict[nn.Parameter, nn.Parameter] = {}
    for owner in module.modules():
        for name, parameter in owner._parameters.items():
            if parameter is None or not is_shared_out(parameter):
                continue
            if parameter not in made:
                full = whole(parameter)
                made[parameter] = nn.Parameter(full.cpu() if keep else full.to("meta"), parameter.requires_grad)
            owner._parameters[name] = made[parameter]
