"""Edit, then upscale with SeedVR2, ComfyUI core's one-step restoration model."""

from ..blueprints import EDIT_IMAGE
from ..description import Blueprint, Box, Column, Node, Template, Text
from ..showing import BOX, FIRST, SENTENCES, TINY, below, example, note, weights

TITLE = Text("Edit, then SeedVR2", "编辑后一步放大")
ONE_STEP = Text(
    "SeedVR2 makes the edit larger and adds detail, in one step. Needs ComfyUI 0.33 and SeedVR2 3B, which ComfyUI"
    " offers to download.",
    "SeedVR2 只用一步就把编辑结果放大并补充细节。需要 ComfyUI 0.33 和 SeedVR2 3B（ComfyUI 会提示下载）。",
)
HOME = "https://huggingface.co/Comfy-Org/SeedVR2/resolve/main"
DIT = weights(
    "seedvr2_3b_int8_convrot.safetensors",
    f"{HOME}/diffusion_models/seedvr2_3b_int8_convrot.safetensors",
    "diffusion_models",
)
VAE = weights("seedvr2_ema_vae_fp16.safetensors", f"{HOME}/vae/seedvr2_ema_vae_fp16.safetensors", "vae")
TILES = {"tile_size": 512, "overlap": 128, "temporal_size": 4096, "temporal_overlap": 8}  # as in ComfyUI's own template
SEEDVR2 = Blueprint(
    name="SeedVR2",
    description="Make a picture or a clip larger with SeedVR2.",
    aliases=(),
    category="InstructX",
    columns=(
        Column(
            {
                "unet": Node("UNETLoader", "SeedVR2 3B", {"unet_name": DIT[0]["name"]}),
                "vae": Node("VAELoader", "Its VAE", {"vae_name": VAE[0]["name"]}),
                "resize": Node("ImageScaleBy", "Larger", {"upscale_method": "lanczos", "scale_by": 4.0}),
            }
        ),
        Column({"pad": Node("SeedVR2Preprocess")}),
        Column({"encode": Node("VAEEncodeTiled", "", TILES)}),
        Column({"conditioning": Node("SeedVR2Conditioning")}),
        Column({"sampler": Node("KSampler", "", {"seed": 0, "steps": 1, "cfg": 1.0, "sampler_name": "euler"})}),
        Column({"decode": Node("VAEDecodeTiled", "", TILES)}),
        Column({"align": Node("SeedVR2PostProcessing", "", {"color_correction_method": "none"})}),
    ),
    links={
        "unet.MODEL": ["conditioning.model", "sampler.model"],
        "vae.VAE": ["encode.vae", "decode.vae"],
        "resize.IMAGE": ["pad.resized_images", "align.original_resized_images"],
        "pad.images": ["encode.pixels"],
        "encode.LATENT": ["conditioning.vae_conditioning", "sampler.latent_image"],
        "conditioning.positive": ["sampler.positive"],
        "conditioning.negative": ["sampler.negative"],
        "sampler.LATENT": ["decode.samples"],
        "decode.IMAGE": ["align.images"],
    },
    inputs={"image": ("resize.image",), "scale_by": ("resize.scale_by",), "seed": ("sampler.seed",)},
    outputs={"IMAGE": "align.images"},
)
SOURCE = "cat"


def edit_and_seedvr2() -> Template:
    edit = Box(EDIT_IMAGE, "Edit image", {"instruction": SENTENCES[SOURCE]})
    larger = Box(SEEDVR2, "SeedVR2", models={"unet": DIT, "vae": VAE})
    return Template(
        TITLE,
        note(TITLE, ONE_STEP, TINY),
        (
            Column({"input": example(SOURCE)}, width=FIRST),
            Column({"edit": edit}, width=BOX),
            *below({"larger": larger}, "edit-seedvr2"),
        ),
        {
            "input.IMAGE": ["edit.image", "before.images"],
            "edit.IMAGE": ["larger.image"],
            "larger.IMAGE": ["after.images"],
        },
        needs_weights=True,
    )
