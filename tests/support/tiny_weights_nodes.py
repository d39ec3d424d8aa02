"""A node pack for the tests of templates: tiny random weights under the names of real ones, made when ComfyUI starts.

Copied into a server's custom_nodes. Of what is large by its layout alone (text encoders, Qwen's DiT, SAM3) there are
nodes in the loaders' places.
"""

from pathlib import Path

import comfy.ldm.wan.model as wan
import comfy.ldm.wan.vae as wan_vae
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import folder_paths
import torch
from safetensors.torch import save_file

MODELS = Path(folder_paths.models_dir)
WAN = {"dim": 128, "ffn_dim": 64, "num_layers": 1, "num_heads": 1, "operations": comfy.ops.disable_weight_init}


def keep(kind, name, state):
    path = MODELS / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in state.items()}, path)


def filled(module):
    """Its weights, random."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, value in module.state_dict().items():
        if "norm" in name or "gamma" in name:
            state[name] = torch.ones(value.shape) * (not name.endswith("bias"))
        elif value.ndim > 1:
            state[name] = torch.randn(value.shape, generator=generator) / max(1, value[0].numel()) ** 0.5
        else:
            state[name] = torch.zeros(value.shape)
    return state


def lora(layer, width):
    down, up = torch.randn(2, width) * 0.01, torch.randn(width, 2) * 0.01
    return {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}


def save_all():
    for noise in ("high", "low"):
        keep("diffusion_models", f"wan2.2_bernini_r_{noise}_noise_fp8_scaled.safetensors", filled(wan.WanModel(**WAN)))
    vace = wan.VaceWanModel(**WAN, vace_layers=1, vace_in_dim=96)
    keep("diffusion_models", "wan2.1_vace_14B_fp16.safetensors", filled(vace))
    for name, width in (("wan_2.1_vae", 8), ("qwen_image_vae", 2)):  # Qwen's codes a megapixel whatever the source
        vae = wan_vae.WanVAE(dim=width, z_dim=16, temperal_downsample=[False, True, True])
        keep("vae", f"{name}.safetensors", filled(vae))
    on_wan = lora("diffusion_model.blocks.0.self_attn.q", 128)
    keep("loras", "lightx2v_T2V_14B_cfg_step_distill_v2_lora_rank64_bf16.safetensors", on_wan)
    keep("loras", "Wan21_CausVid_14B_T2V_lora_rank32.safetensors", on_wan)
    on_qwen = lora("diffusion_model.transformer_blocks.0.attn.to_q", 128)
    keep("loras", "Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors", on_qwen)


class Text:
    """A CLIP that answers every sentence with noise of its own."""

    def __init__(self, width):
        self.width = width

    def tokenize(self, text, **_more):
        return text

    def encode_from_tokens_scheduled(self, tokens, **_more):
        generator = torch.Generator().manual_seed(len(tokens))
        return [[torch.randn(1, 6, self.width, generator=generator), {"pooled_output": None}]]


class TinyText:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"width": ("INT", {"default": 4096})}}

    def run(self, width):
        return (Text(width),)


class TinyQwen:
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        config = {"image_model": "qwen_image", "in_channels": 64, "num_layers": 1, "num_attention_heads": 1}
        chosen = comfy.supported_models.QwenImage({**config, "joint_attention_dim": 64})
        chosen.set_inference_dtype(torch.float32, None)
        model = chosen.get_model({})
        model.diffusion_model.load_state_dict(filled(model.diffusion_model))
        device = comfy.model_management.get_torch_device()
        return (comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device),)


class TinyTrack:
    """In SAM3_VideoTrack's place: the left half of every frame, from one object."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("SAM3_TRACK_DATA",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",)}}

    def run(self, images):
        from comfy.ldm.sam3.tracker import pack_masks

        masks = torch.zeros(len(images), 1, 64, 64)
        masks[..., :32] = 1
        return ({"packed_masks": pack_masks(masks), "orig_size": tuple(images.shape[1:3]), "n_frames": len(images)},)


save_all()
NODE_CLASS_MAPPINGS = {kind.__name__: kind for kind in (TinyText, TinyQwen, TinyTrack)}
