"""ComfyUI's own nodes for SAM3 and VACE: track an object and repaint it, keep everything else."""

from ..description import Blueprint, Links, Node
from ..layers import layered
from ..native import CAUSVID, SAM3, UMT5, VAE, WAN21, lora, measured, negative, to_size
from ..showing import weights

VACE_14B = weights(
    "wan2.1_vace_14B_fp16.safetensors", f"{WAN21}/diffusion_models/wan2.1_vace_14B_fp16.safetensors", "diffusion_models"
)
SAMPLING = {"steps": 6, "cfg": 1.0, "sampler_name": "uni_pc", "scheduler": "simple"}
GREY = 8355711  # 127, 127, 127: VACE's value for empty
NODES = {
    "size": to_size(),
    "free": Node("InvertMask", "Not what is held"),
    "sam": Node("CheckpointLoaderSimple", "SAM3", {"ckpt_name": SAM3[0]["name"]}, models=SAM3),
    "grey": Node("EmptyImage", "Nothing", {"width": 16, "height": 16, "color": GREY}),
    "dit": Node("UNETLoader", "VACE", {"unet_name": VACE_14B[0]["name"]}, models=VACE_14B),
    "clip": Node("CLIPLoader", "Text encoder", {"clip_name": UMT5[0]["name"], "type": "wan"}, models=UMT5),
    "vae": Node("VAELoader", "VAE", {"vae_name": VAE[0]["name"]}, models=VAE),
    "measure": Node("GetImageSize"),
    "what": Node("CLIPTextEncode", "What SAM3 looks for", {}, 130),
    "track": Node("SAM3_VideoTrack"),
    "masks": Node("SAM3_TrackToMask"),
    "grow": Node("GrowMask", "", {"expand": 8}),
    "held": Node("ImageScale", "Held, at that size", {"upscale_method": "nearest-exact"}),
    "as_image": Node("MaskToImage"),
    "as_mask": Node("ImageToMask"),
    "both": Node("MaskComposite", "", {"operation": "multiply"}),
    "blank": Node("ImageCompositeMasked", "Blank there", {"resize_source": True}),
    "fast": lora(CAUSVID, 0.3),
    "shift": Node("ModelSamplingSD3", "", {"shift": 5.0}),
    "words": Node("CLIPTextEncode", "What to paint", {}, 130),
    "not": negative(),
    "vace": Node("WanVaceToVideo"),
    "sample": Node("KSampler", "", SAMPLING),
    "decode": Node("VAEDecode"),
    "back": Node("ImageCompositeMasked", "The rest as it was"),
}
LINKS: Links = {
    "size.IMAGE": ["measure.image", "track.images", "blank.destination", "back.destination"],
    "sam.MODEL": ["track.model"],
    "sam.CLIP": ["what.clip"],
    "what.CONDITIONING": ["track.conditioning"],
    "track.track_data": ["masks.track_data"],
    "masks.masks": ["grow.mask"],
    "grow.MASK": ["both.destination"],
    "free.MASK": ["as_image.mask"],
    "as_image.IMAGE": ["held.image"],
    "held.IMAGE": ["as_mask.image"],
    "as_mask.MASK": ["both.source"],
    "both.MASK": ["blank.mask", "vace.control_masks", "back.mask"],
    "grey.IMAGE": ["blank.source"],
    "blank.IMAGE": ["vace.control_video"],
    "dit.MODEL": ["fast.model"],
    "fast.MODEL": ["shift.model"],
    "shift.MODEL": ["sample.model"],
    "clip.CLIP": ["words.clip", "not.clip"],
    "vae.VAE": ["vace.vae", "decode.vae"],
    "words.CONDITIONING": ["vace.positive"],
    "not.CONDITIONING": ["vace.negative"],
    "vace.positive": ["sample.positive"],
    "vace.negative": ["sample.negative"],
    "vace.latent": ["sample.latent_image"],
    "sample.LATENT": ["decode.samples"],
    "decode.IMAGE": ["back.source"],
} | measured("vace")
LINKS["measure.width"].append("held.width")
LINKS["measure.height"].append("held.height")
VACE = Blueprint(
    name="Track and repaint",
    description="SAM3 tracks a thing through frames, VACE paints it anew; all else stays.",
    aliases=("vace", "sam3", "inpaint"),
    category="Video generation and editing/Edit video",
    columns=layered(NODES, LINKS),
    links=LINKS,
    inputs={
        "frames": ("size.image",),
        "held": ("free.mask",),
        "look for": ("what.text",),
        "prompt": ("words.text",),
        "seed": ("sample.seed",),
    },
    outputs={"IMAGE": "back.IMAGE"},
)
