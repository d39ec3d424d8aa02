"""Place a loaded model's weights on the device, or offload them until needed with diffusers' and accelerate's hooks.

- On a CPU, weights are in main memory in any case; MODEL gives mapped ones back while another part works.
- Every way of keeping weights gives the same pixels; a tiled VAE changes them slightly.
- Queries, connector and the patch embeddings that a checkpoint adds are small and always stay on the device.
- SEQUENTIAL is diffusers' group offloading by leaf modules, not accelerate's `cpu_offload`, which leaves empty tensors
  in the state dict, so that a model could be neither saved nor fingerprinted.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import InputError
from .choice import Memory
from .plan import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accelerate.hooks import UserCpuOffloadHook

    from ..families.components import Components


def store_in_fp8(components: Components) -> None:
    """Store the DiT's linear layers in 8-bit floats and compute in their original dtype: half the memory, less exact.

    Patch embedding, conditions and norms keep their dtype, by diffusers' own list, as does a UNet's first convolution.
    """
    for half in components.denoiser.halves:
        half.transformer.enable_layerwise_casting(torch.float8_e4m3fn, half.dtype, skip_modules_pattern=half.exact)


def place(components: Components, plan: Plan, device: torch.device) -> Components:
    """Prepare a model that is on the CPU to run on `device` as planned; changes and returns the components."""
    guidance, denoiser, codec = components.guidance, components.denoiser, components.codec
    if plan.tiled:
        codec.vae.enable_tiling()
    if plan.memory is Memory.FULL:
        for module in (guidance, components.connector, denoiser, codec, components.masks):
            if module is not None:
                module.to(device)
        return components
    codec.vae.enable_slicing()  # one clip of a batch at a time, with the same result
    _move_small_parts(components, device)
    if plan.memory is Memory.MODEL:
        _one_at_a_time(components, device)
        if device.type == "cpu":
            _take_turns(components)
        return components
    by_layer = partial(_offload, device=device, offload_type="leaf_level")
    by_layer(guidance.mllm)
    if plan.memory is Memory.SEQUENTIAL:
        for half in denoiser.halves:
            by_layer(half.transformer)
        by_layer(codec.vae)
        return components
    codec.vae.to(device)
    streams = device.type == "cuda"  # load the next block while one computes
    by_block = {"offload_type": "block_level", "num_blocks_per_group": 1}
    for half in denoiser.halves:
        _offload(half.transformer, device, use_stream=streams, record_stream=streams, **by_block)
    return components


def _move_small_parts(components: Components, device: torch.device) -> None:
    """Move everything but the MLLM, the DiT and the VAE to the device."""
    guidance, masks = components.guidance, [] if components.masks is None else [components.masks]
    for module in (guidance.queries, guidance.rows, components.connector, *components.denoiser.beside(), *masks):
        module.to(device)
    codec = components.codec
    codec.mean, codec.std = codec.mean.to(device), codec.std.to(device)


def _one_at_a_time(components: Components, device: torch.device) -> None:
    """Keep one part on the device at a time: MLLM, VAE, DiT (of a pair, one after the other), and VAE again.

    Each part first offloads those that may still be on the device. The MLLM leaves as soon as it has read; after an
    edit that was stopped halfway, it offloads the DiT.
    """
    from accelerate import cpu_offload_with_hook

    guidance, vae = components.guidance, components.codec.vae
    dits = [half.transformer for half in components.denoiser.halves]
    hooks = {part: cpu_offload_with_hook(part, device)[1] for part in (vae, *dits, guidance)}
    before = {guidance: dits, vae: dits} | {dit: [vae, *(other for other in dits if other is not dit)] for dit in dits}
    for part, others in before.items():
        hooks[part].hook.prev_module_hook = together([hooks[other] for other in others])
    guidance.register_forward_hook(lambda _module, _inputs, _output: hooks[guidance].offload())


def together(hooks: Sequence[UserCpuOffloadHook]) -> UserCpuOffloadHook:
    """A hook that offloads several modules, where accelerate takes only one hook."""
    from accelerate.hooks import UserCpuOffloadHook

    class Several(UserCpuOffloadHook):
        def __init__(self) -> None:
            """Skip the base class's setup: accelerate only uses the two members below."""

        @property
        def model(self) -> nn.Module:
            """A module that is on the device, if any: accelerate offloads nothing if this one is not there."""
            there = (hook.model for hook in hooks if next(hook.model.parameters()).device.type != "cpu")
            return next(there, hooks[0].model)

        def offload(self) -> None:
            for hook in hooks:
                hook.offload()

    return Several()


def _take_turns(components: Components) -> None:
    """With all weights in main memory: when a part starts to work, give back the mapped weights of the others."""
    from accelerate.hooks import ModelHook, add_hook_to_module

    from ..weights.mapped import give_back

    dits = (half.transformer for half in components.denoiser.halves)
    parts = (components.guidance, *dits, components.codec.vae)
    turn: list[nn.Module] = []  # the part that is working

    class Turn(ModelHook):
        def pre_forward(self, module: nn.Module, *args: object, **kwargs: object) -> tuple[object, object]:
            if turn != [module]:
                turn[:] = [module]
                for other in parts:
                    if other is not module:
                        give_back(other.parameters())
            return args, kwargs

    for part in parts:
        add_hook_to_module(part, Turn(), append=True)


def _offload(module: nn.Module, device: torch.device, **options: object) -> None:
    from diffusers.hooks import apply_group_offloading

    try:
        apply_group_offloading(module, onload_device=device, offload_device=torch.device("cpu"), **options)
    except AttributeError as error:  # diffusers 0.39 asks PyTorch for an accelerator even if everything is on the CPU
        if torch.accelerator.current_accelerator() is not None:
            raise
        raise InputError(
            'memory is "group" or "sequential", which this version of diffusers cannot do without a GPU; choose "full".'
        ) from error
