"""Single files of Wan2.1 14B, as ComfyUI's own templates name them."""

from ..showing import weights

BASE = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
DIT = weights(
    "wan2.1_t2v_14B_fp8_scaled.safetensors",
    f"{BASE}/diffusion_models/wan2.1_t2v_14B_fp8_scaled.safetensors",
    "diffusion_models",
)
VAE = weights("wan_2.1_vae.safetensors", f"{BASE}/vae/wan_2.1_vae.safetensors", "vae")
LORA = weights(
    "lightx2v_T2V_14B_cfg_step_distill_v2_lora_rank64_bf16.safetensors",
    "https://huggingface.co/Kijai/WanVideo_comfy/resolve/main/Lightx2v/"
    "lightx2v_T2V_14B_cfg_step_distill_v2_lora_rank64_bf16.safetensors",
    "loras",
)
