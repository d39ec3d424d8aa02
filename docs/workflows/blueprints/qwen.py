"""ComfyUI's own nodes for Qwen-Image-Edit 2509, four steps: edit each frame to look like the edited first frame."""

from ..description import Blueprint, Links, Node
from ..layers import layered
from ..native import lora
from ..showing import weights

FILES = "https://huggingface.co/Comfy-Org"
PARTS = f"{FILES}/Qwen-Image_ComfyUI/resolve/main/split_files"
EDIT = "qwen_image_edit_2509_fp8_e4m3fn.safetensors"
DIT = weights(
    EDIT,
    f"{FILES}/Qwen-Image-Edit_ComfyUI/resolve/main/split_files/diffusion_models/{EDIT}",
    "diffusion_models",
)
LIGHTNING = weights(
    "Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors",
    "https://huggingface.co/lightx2v/Qwen-Image-Lightning/resolve/main/Qwen-Image-Edit-2509/"
    "Qwen-Image-Edit-2509-Lightning-4steps-V1.0-bf16.safetensors",
    "loras",
)
ENCODER = weights(
    "qwen_2.5_vl_7b_fp8_scaled.safetensors",
    f"{PARTS}/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",
    "text_encoders",
)
VAE = weights("qwen_image_vae.safetensors", f"{PARTS}/vae/qwen_image_vae.safetensors", "vae")
SAMPLING = {"steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
READ = "TextEncodeQwenImageEditPlus"
LIKE_IT = "Give image 1 the look and style of image 2."


def sampled(prefix: str) -> dict[str, Node]:
    """The nodes from a picture to its edit."""
    return {
        f"{prefix}size": Node("FluxKontextImageScale"),
        f"{prefix}words": Node(READ, "", {} if prefix else {"prompt": LIKE_IT}, 160),
        f"{prefix}latent": Node("VAEEncode"),
        f"{prefix}sample": Node("KSampler", "", SAMPLING),
        f"{prefix}decode": Node("VAEDecode"),
    }


def wired(prefix: str) -> Links:
    return {
        f"{prefix}size.IMAGE": [f"{prefix}words.image1", f"{prefix}latent.pixels"],
        f"{prefix}words.CONDITIONING": [f"{prefix}sample.positive"],
        f"{prefix}latent.LATENT": [f"{prefix}sample.latent_image"],
        f"{prefix}sample.LATENT": [f"{prefix}decode.samples"],
    }


NODES = {
    "slice": Node("Video Slice", "Its beginning", {"duration": 0.1}),
    "parts": Node("GetVideoComponents"),
    "first": Node("ImageFromBatch", "Its first frame"),
    "single": Node("RebatchImages", "One by one"),
    "dit": Node("UNETLoader", "Qwen-Image-Edit", {"unet_name": EDIT}, models=DIT),
    "clip": Node("CLIPLoader", "Text encoder", {"clip_name": ENCODER[0]["name"], "type": "qwen_image"}, models=ENCODER),
    "vae": Node("VAELoader", "VAE", {"vae_name": VAE[0]["name"]}, models=VAE),
    "fast": lora(LIGHTNING, 1.0),
    "shift": Node("ModelSamplingAuraFlow", "", {"shift": 3.0}),
    "not": Node("CLIPTextEncode", "Nothing", {"text": ""}, 100),
    **sampled("first_"),
    **sampled(""),
}
LINKS: Links = {
    "slice.VIDEO": ["parts.video"],
    "parts.images": ["first.image"],
    "first.IMAGE": ["first_size.image"],
    "single.IMAGE": ["size.image"],
    "dit.MODEL": ["fast.model"],
    "fast.MODEL": ["shift.model"],
    "shift.MODEL": ["first_sample.model", "sample.model"],
    "clip.CLIP": ["first_words.clip", "words.clip", "not.clip"],
    "not.CONDITIONING": ["first_sample.negative", "sample.negative"],
    "vae.VAE": [f"{name}.vae" for one in ("first_", "") for name in (f"{one}words", f"{one}latent", f"{one}decode")],
    "first_decode.IMAGE": ["words.image2"],
    **wired("first_"),
    **wired(""),
}
QWEN = Blueprint(
    name="Frames like the first one",
    description="Edit a video's first frame with Qwen-Image-Edit, and every frame to look like that.",
    aliases=("qwen", "edit frames", "first frame"),
    category="Video generation and editing/Edit video",
    columns=layered(NODES, LINKS),
    links=LINKS,
    inputs={
        "frames": ("single.images",),
        "video": ("slice.video",),
        "prompt": ("first_words.prompt",),
        "seed": ("first_sample.seed", "sample.seed"),
    },
    outputs={"IMAGE": "decode.IMAGE"},
)
