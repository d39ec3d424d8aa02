"""Shared by the templates for Kiwi-Edit's public weights."""

from __future__ import annotations

from ..description import Text
from ..showing import weights

CLIP = "footage"
INSTRUCT = "linyq/kiwi-edit-5b-instruct-only-diffusers"
REFERENCE = "linyq/kiwi-edit-5b-instruct-reference-diffusers"
MEMORY = Text(
    "**Memory** in bfloat16, by counting parameters: 7.5 GB for the MLLM, then 10 GB for the DiT, and room to compute"
    " in. 50 steps.",
    "**显存**（bfloat16，按参数估算）：MLLM 7.5 GB，之后 DiT 10 GB，另需计算空间。50 步。",
)


def folder(hub_id: str) -> str:
    return hub_id.replace("/", "--")


def files(hub_id: str) -> dict[str, tuple[dict[str, str], ...]]:
    """The weights' URLs, for the loader in a box."""
    one = "diffusion_pytorch_model.safetensors"
    names = [f"mllm_encoder/model-0000{shard}-of-00002.safetensors" for shard in (1, 2)]
    names += [f"{part}/{one}" for part in ("mllm_encoder", "transformer", "vae", "source_embedder")]
    names += [f"ref_embedder/{one}"] if hub_id == REFERENCE else []
    found = ()
    for name in names:
        found += weights(
            f"{folder(hub_id)}/{name}", f"https://huggingface.co/{hub_id}/resolve/main/{name}", "instructx"
        )
    return {"load": found}


def how(hub_id: str) -> Text:
    name = hub_id.removeprefix("linyq/").removesuffix("-diffusers")
    command = f"`python -m instructx_core download {name} --to ../../models/instructx`"
    return Text(
        "**To get it** (20 to 30 GB, no licence stated; size and licence are shown first): in this pack's folder, with"
        f" ComfyUI's Python, {command}, then press R.",
        "**下载**（20 到 30 GB，页面没有写许可；先显示大小和许可）：在本节点包的文件夹里，"
        f"用 ComfyUI 的 Python 运行 {command}，然后按 R。",
    )
