"""ComfyUI's own nodes for Bernini-R, wired as in its template, with six steps."""

from ..description import Blueprint, Links, Node
from ..layers import layered
from ..native import LIGHTX2V, UMT5, VAE, lora, measured, negative, steps, to_size
from ..showing import weights

FILES = "https://huggingface.co/Comfy-Org/Bernini-R/resolve/main/diffusion_models"
HIGH, LOW = (
    weights(name, f"{FILES}/{name}", "diffusion_models")
    for name in (
        "wan2.2_bernini_r_high_noise_fp8_scaled.safetensors",
        "wan2.2_bernini_r_low_noise_fp8_scaled.safetensors",
    )
)
NODES = {
    "size": to_size(),
    "high": Node("UNETLoader", "High noise", {"unet_name": HIGH[0]["name"]}, models=HIGH),
    "low": Node("UNETLoader", "Low noise", {"unet_name": LOW[0]["name"]}, models=LOW),
    "clip": Node("CLIPLoader", "Text encoder", {"clip_name": UMT5[0]["name"], "type": "wan"}, models=UMT5),
    "vae": Node("VAELoader", "VAE", {"vae_name": VAE[0]["name"]}, models=VAE),
    "measure": Node("GetImageSize"),
    "fast_high": lora(LIGHTX2V, 3.0),
    "fast_low": lora(LIGHTX2V, 1.5),
    "words": Node("CLIPTextEncode", "What to change", {}, 160),
    "not": negative(),
    "bernini": Node("BerniniConditioning"),
    "first": steps(0, 3, "Steps 1 to 3"),
    "rest": steps(3, 10000, "Steps 4 to 6"),
    "decode": Node("VAEDecode"),
}
LINKS: Links = {
    "size.IMAGE": ["measure.image", "bernini.source_video"],
    "high.MODEL": ["fast_high.model"],
    "low.MODEL": ["fast_low.model"],
    "clip.CLIP": ["words.clip", "not.clip"],
    "vae.VAE": ["bernini.vae", "decode.vae"],
    "words.CONDITIONING": ["bernini.positive"],
    "not.CONDITIONING": ["bernini.negative"],
    "fast_high.MODEL": ["first.model"],
    "fast_low.MODEL": ["rest.model"],
    "bernini.positive": ["first.positive", "rest.positive"],
    "bernini.negative": ["first.negative", "rest.negative"],
    "bernini.latent": ["first.latent_image"],
    "first.LATENT": ["rest.latent_image"],
    "rest.LATENT": ["decode.samples"],
} | measured("bernini")
BERNINI = Blueprint(
    name="Bernini-R",
    description="Edit frames with Bernini-R, a Wan2.2 that is shown what it edits.",
    aliases=("bernini", "edit video"),
    category="Video generation and editing/Edit video",
    columns=layered(NODES, LINKS),
    links=LINKS,
    inputs={"frames": ("size.image",), "prompt": ("words.text",), "seed": ("first.noise_seed",)},
    outputs={"IMAGE": "decode.IMAGE"},
)
