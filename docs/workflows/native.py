"""ComfyUI's own nodes and weights that several boxes share."""

from __future__ import annotations

from .description import Links, Node
from .showing import weights

WAN21 = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
VAE = weights("wan_2.1_vae.safetensors", f"{WAN21}/vae/wan_2.1_vae.safetensors", "vae")
UMT5 = weights(
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    f"{WAN21}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "text_encoders",
)
LIGHTX2V = weights(
    "lightx2v_T2V_14B_cfg_step_distill_v2_lora_rank64_bf16.safetensors",
    "https://huggingface.co/Kijai/WanVideo_comfy/resolve/main/Lightx2v/"
    "lightx2v_T2V_14B_cfg_step_distill_v2_lora_rank64_bf16.safetensors",
    "loras",
)
CAUSVID = weights(
    "Wan21_CausVid_14B_T2V_lora_rank32.safetensors",
    "https://huggingface.co/Kijai/WanVideo_comfy/resolve/main/Wan21_CausVid_14B_T2V_lora_rank32.safetensors",
    "loras",
)
FASTWAN = weights(
    "Wan2_2_5B_FastWanFullAttn_lora_rank_128_bf16.safetensors",
    "https://huggingface.co/Kijai/WanVideo_comfy/resolve/main/FastWan/"
    "Wan2_2_5B_FastWanFullAttn_lora_rank_128_bf16.safetensors",
    "loras",
)
SAM3 = weights(
    "sam3.1_multiplex_fp16.safetensors",
    "https://huggingface.co/Comfy-Org/sam3.1/resolve/main/checkpoints/sam3.1_multiplex_fp16.safetensors",
    "checkpoints",
)


def lora(files: tuple[dict[str, str], ...], strength: float) -> Node:
    settings = {"lora_name": files[0]["name"], "strength_model": strength}
    return Node("LoraLoaderModelOnly", "Few steps", settings, models=files)


def negative() -> Node:
    """The negative prompt for Wan."""
    return Node("CLIPTextEncode", "What to leave out", {"text": "blurry, low quality, static, distorted"}, 110)


def to_size() -> Node:
    """Scale to about 480p in any aspect ratio, both sides multiples that Wan accepts."""
    settings = {"upscale_method": "area", "megapixels": 0.4, "resolution_steps": 16}
    return Node("ImageScaleToTotalPixels", "To the model's size", settings)


def measured(node: str) -> Links:
    """Links that pass a window's size and length, which is shorter in a short scene, to a node that needs them."""
    return {
        "measure.width": [f"{node}.width"],
        "measure.height": [f"{node}.height"],
        "measure.batch_size": [f"{node}.length"],
    }


def steps(start: int, stop: int, title: str) -> Node:
    """A range of the six steps that two models share."""
    settings = {"steps": 6, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    settings |= {"start_at_step": start, "end_at_step": stop}
    first = {"add_noise": "enable", "return_with_leftover_noise": "enable"}
    later = {"add_noise": "disable", "return_with_leftover_noise": "disable"}
    return Node("KSamplerAdvanced", title, settings | (later if start else first))
