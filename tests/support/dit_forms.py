"""A Wan DiT in every form in which people keep one, as a file holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from support import comfyui, tiny
from support.weight_forms import E4M3, E5M2, scaled

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

State = dict[str, torch.Tensor]


def shaken_dit() -> WanTransformer3DModel:
    """In the sizes that ComfyUI's loader fixes; nothing in it is at one or zero."""
    torch.manual_seed(0)
    model = comfyui.transformer(comfyui.CHANNELS)
    tiny.shake(model, 0.05)
    return model.eval().requires_grad_(False)


def cast(state: State, dtype: torch.dtype) -> State:
    """As repackaged: matrices in `dtype`, the rest in float16."""
    return {name: value.to(dtype if value.ndim == 2 else torch.float16) for name, value in state.items()}


def prefixed(state: State) -> State:
    return {f"model.diffusion_model.{name}": value for name, value in state.items()}


FILES: dict[str, Callable[[State], State]] = {
    "float32": dict,
    "prefix": prefixed,
    "fp16": lambda state: cast(state, torch.float16),
    "bf16": lambda state: cast(state, torch.bfloat16),
    "fp8": lambda state: cast(state, E4M3),
    "fp8 e5m2": lambda state: cast(state, E5M2),
    "fp8 scaled, old spelling": lambda state: scaled(state, "old"),
    "fp8 scaled, new spelling": lambda state: scaled(state, "new"),
    "fp8 scaled, prefix": lambda state: prefixed(scaled(state, "new")),
}


def forward_inputs() -> State:
    generator = torch.Generator().manual_seed(1)
    return {
        "hidden_states": torch.randn(1, comfyui.CHANNELS, 2, 8, 6, generator=generator),
        "timestep": torch.tensor([731.0]),
        "encoder_hidden_states": torch.randn(1, 12, comfyui.TEXT_DIM, generator=generator),
    }
