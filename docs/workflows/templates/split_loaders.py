"""A 14B model in parts: DiT, VAE, MLLM and adapter, each from its own loader."""

from ..blueprints import EDIT_WITH_OWN_LOADERS
from ..description import Box, Column, Links, Node, Template, Text
from ..native import VAE
from ..showing import BOX, FIRST, NARROW, OWN_PICTURE, UNDER, example, note, pictures
from .wan import DIT

TITLE = Text("Split loaders for a 14B", "大模型分开加载")
PARTS = Text(
    "DiT and VAE are ComfyUI's single files (or *Unet Loader (GGUF)*). *adapter* is the `instructx.safetensors` of a"
    " 14B edit model in `models/instructx`. No official InstructX weights are public; CoinVE-Edit's are"
    " (*Three edits and their masks* gets them): *adapter* in both nodes, *weights*: the checkpoint's LoRA, *base*:"
    " Qwen3-VL-8B-Instruct.",
    "DiT 和 VAE 用 ComfyUI 的单个文件（或 *Unet Loader (GGUF)*）。*adapter* 是 `models/instructx` 里 14B 编辑模型的"
    " `instructx.safetensors`；官方 InstructX 权重没有公开，CoinVE-Edit 的已公开"
    "（下载方法见 *Three edits and their masks*）：两处 *adapter* 都选它，*weights* 选 the checkpoint's LoRA，"
    "*base* 选 Qwen3-VL-8B-Instruct。",
)
SMALL = 250


def loaders() -> tuple[tuple[Column, ...], Links]:
    """Loaders in two columns, ending in adapter.MODEL."""
    columns = (
        Column(
            {
                "input": example("rocket", "A photograph"),
                "unet": Node("UNETLoader", "Wan2.1 14B", {"unet_name": DIT[0]["name"]}, models=DIT),
            },
            width=FIRST,
        ),
        Column(
            {
                "adapter": Node("InstructXLoadAdapter", "Adapter", {}),
                "mllm": Node("InstructXLoadMLLM", "MLLM", {}),
                "vae": Node("VAELoader", "VAE", {"vae_name": VAE[0]["name"]}, models=VAE),
            },
            width=SMALL,
            top=UNDER,
        ),
    )
    links: Links = {
        "input.IMAGE": ["edit.source", "before.images"],
        "unet.MODEL": ["adapter.model"],
        "adapter.MODEL": ["edit.model"],
        "adapter.CONNECTOR": ["edit.connector"],
        "mllm.MLLM": ["edit.mllm"],
        "vae.VAE": ["edit.vae"],
        "edit.IMAGE": ["after.images"],
    }
    return columns, links


def split_loaders() -> Template:
    columns, links = loaders()
    box = Box(EDIT_WITH_OWN_LOADERS, "Edit", {"instruction": "Turn the sky into a warm sunset."})
    return Template(
        TITLE,
        note(TITLE, PARTS, OWN_PICTURE),
        (*columns, Column({"edit": box}, width=BOX), *pictures("split-loaders", NARROW)),
        links,
        needs_weights=True,
    )
