"""A LoRA of the DiT, made with peft: trained on frozen weights, saved under diffusers' and ComfyUI's names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..weights.files import write_safetensors
from ..weights.wan_keys import dit_to_original
from .config import LoraSettings

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

DIFFUSERS, COMFYUI = "lora-diffusers.safetensors", "lora-comfyui.safetensors"

Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]  # module -> A [rank, in], B [out, rank]; B A is added to W


def add_dit_lora(transformer: WanTransformer3DModel, settings: LoraSettings) -> None:
    """Add a LoRA to a DiT's layers, in place; until it is trained it changes nothing."""
    from peft import LoraConfig, inject_adapter_in_model

    alpha = settings.alpha or settings.rank
    lora = LoraConfig(r=settings.rank, lora_alpha=alpha, target_modules=list(settings.targets))
    inject_adapter_in_model(lora, transformer)


def lora_pairs(transformer: nn.Module) -> Pairs:
    """The matrices of a DiT's LoRA, with its scale (alpha / rank) folded into B."""
    from peft.tuners.lora import LoraLayer

    return {
        name: (layer.lora_A["default"].weight, layer.lora_B["default"].weight * layer.scaling["default"])
        for name, layer in transformer.named_modules()
        if isinstance(layer, LoraLayer)
    }


def merge_lora(network: nn.Module) -> None:
    """Merge the LoRA of a DiT or an MLLM into its base weights, in place, and remove it."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(network.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            network.set_submodule(name, layer.get_base_layer())


def write_lora(folder: Path, pairs: Pairs) -> None:
    """Write a LoRA in two files: with diffusers' tensor names and with ComfyUI's."""
    originals = {own: there.removesuffix(".weight") for there, own in
                 dit_to_original({f"{name}.weight": name for name in pairs}).items()}  # fmt: skip
    diffusers, comfyui = {}, {}
    for name, (down, up) in pairs.items():
        diffusers[f"transformer.{name}.lora_A.weight"] = down
        diffusers[f"transformer.{name}.lora_B.weight"] = up
        comfyui[f"diffusion_model.{originals[name]}.lora_down.weight"] = down
        comfyui[f"diffusion_model.{originals[name]}.lora_up.weight"] = up
        comfyui[f"diffusion_model.{originals[name]}.alpha"] = torch.tensor(float(len(down)))
    for file, tensors in ((DIFFUSERS, diffusers), (COMFYUI, comfyui)):
        write_safetensors(folder / file, tensors, {"format": "pt"})
