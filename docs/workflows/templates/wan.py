"""The single-file weights of Wan2.1 14B, as named in ComfyUI's own templates."""

from ..native import WAN21
from ..showing import weights

DIT = weights(
    "wan2.1_t2v_14B_fp8_scaled.safetensors",
    f"{WAN21}/diffusion_models/wan2.1_t2v_14B_fp8_scaled.safetensors",
    "diffusion_models",
)
