"""Edit a clip with Bernini-R 1.3B from ComfyUI's own loaders, on an 8 GB card."""

from ..description import Blueprint, Box, Column, Node, Template, Text
from ..native import UMT5, VAE
from ..parts import RESTORE, STATION, node
from ..showing import BOX, FIRST, OWN_VIDEO, clips, example, note
from .kiwi import CLIP

TITLE = Text("Bernini-R on an 8 GB card", "小显存编辑视频")
HOW = Text(
    "**To get it** (29 GB; size and licence are shown first), in this pack's folder with ComfyUI's Python:"
    " `python -m instructx_core download bernini-r-1.3b --to ../../models/instructx`, then `python -m instructx_core"
    " convert ../../models/instructx/ByteDance--Bernini-R-1.3B-Diffusers"
    " ../../models/diffusion_models/bernini_r_1.3b.safetensors`.",
    "**下载**（29 GB，先显示大小和许可）：在本节点包的文件夹里用 ComfyUI 的 Python 运行 `python -m instructx_core"
    " download bernini-r-1.3b --to ../../models/instructx`，再运行 `python -m instructx_core convert"
    " ../../models/instructx/ByteDance--Bernini-R-1.3B-Diffusers"
    " ../../models/diffusion_models/bernini_r_1.3b.safetensors`。",
)
SMALL_CARD = Text(
    "umT5 in fp8 (6.7 GB), the DiT in bfloat16 (2.8 GB) and the VAE take turns on the card. Apache-2.0. Needs ComfyUI"
    " 0.33. Tested only with random weights.",
    "umT5 用 fp8（6.7 GB），DiT 用 bfloat16（2.8 GB），和 VAE 轮流使用显存。Apache-2.0。需要 ComfyUI 0.33。"
    "只用随机权重试过。",
)
SYSTEM = "You are a helpful assistant specialized in video editing."
NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，丑陋的，残缺的，"
    "多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，"
    "背景人很多，倒着走"
)
NODES = {
    "said": node("StringConcatenate", "With the task before it", string_a=SYSTEM, delimiter=""),
    "negative": node("CLIPTextEncode", "What to keep away from", text=NEGATIVE),
    "fit": node("InstructXFit", "To its size"),
    "positive": node("CLIPTextEncode", "The instruction"),
    "size": node("GetImageSize", "How large that is"),
    "sources": node("BerniniConditioning", "What is edited"),
    "guider": node("InstructXGuidance", "As its authors guide it"),
    "solver": node("InstructXUniPC", "As its authors sample"),
    "noise": node("RandomNoise", noise_seed=0),
    "sampler": node("SamplerCustomAdvanced", "Sample"),
    "decode": node("VAEDecode", height=RESTORE),
    "restore": node("InstructXRestore", "To the source's size"),
}
COLUMNS = tuple(
    Column({key: NODES[key] for key in keys}, width=STATION)
    for keys in (
        ("said", "negative", "fit"),
        ("positive", "size"),
        ("sources", "solver", "noise"),
        ("guider",),
        ("sampler",),
        ("decode",),
        ("restore",),
    )
)
EDIT = Blueprint(
    name="Edit video (Bernini-R)",
    description="Edit a short video from a sentence with Bernini-R of 1.3B.",
    aliases=("bernini", "edit video", "instructx"),
    category="Video generation and editing/Edit video",
    columns=COLUMNS,
    links={
        "said.STRING": ["positive.text"],
        "fit.IMAGE": ["size.image", "sources.source_video"],
        "fit.FIT": ["restore.fit"],
        "size.width": ["sources.width"],
        "size.height": ["sources.height"],
        "size.batch_size": ["sources.length"],
        "positive.CONDITIONING": ["sources.positive"],
        "negative.CONDITIONING": ["sources.negative"],
        "sources.positive": ["guider.positive"],
        "sources.negative": ["guider.negative"],
        "sources.latent": ["sampler.latent_image"],
        "guider.GUIDER": ["sampler.guider"],
        "solver.SAMPLER": ["sampler.sampler"],
        "solver.SIGMAS": ["sampler.sigmas"],
        "noise.NOISE": ["sampler.noise"],
        "sampler.output": ["decode.samples"],
        "decode.IMAGE": ["restore.image"],
    },
    inputs={
        "model": ("fit.model", "guider.model"),
        "clip": ("positive.clip", "negative.clip"),
        "vae": ("fit.vae", "sources.vae", "decode.vae"),
        "video": ("fit.source",),
        "instruction": ("said.string_b",),
        "seed": ("noise.noise_seed",),
        "steps": ("solver.steps",),
    },
    outputs={"VIDEO": "restore.VIDEO", "IMAGE": "restore.IMAGE"},
)


def bernini() -> Template:
    loads = {
        "unet": Node("UNETLoader", "Bernini-R 1.3B", {"unet_name": "bernini_r_1.3b.safetensors"}),
        "clip": Node("CLIPLoader", "umT5", {"clip_name": UMT5[0]["name"], "type": "wan"}, models=UMT5),
        "vae": Node("VAELoader", "VAE", {"vae_name": VAE[0]["name"]}, models=VAE),
    }
    return Template(
        TITLE,
        note(TITLE, HOW, OWN_VIDEO, SMALL_CARD),
        (
            Column({"input": example(CLIP, "A clip")} | loads, width=FIRST),
            Column({"edit": Box(EDIT, "Edit video", {"instruction": "Turn the coffee into green tea."})}, width=BOX),
            *clips("bernini"),
        ),
        {
            "input.VIDEO": ["edit.video", "before.video"],
            "unet.MODEL": ["edit.model"],
            "clip.CLIP": ["edit.clip"],
            "vae.VAE": ["edit.vae"],
            "edit.VIDEO": ["after.video"],
        },
        needs_weights=True,
    )
