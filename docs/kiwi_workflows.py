"""The graphs for real footage: the same stations with Kiwi-Edit's public weights and one's own picture or video."""

from __future__ import annotations

from workflow_layout import Node, Workflow
from workflow_stations import edit_columns, node

KIWI = (
    "**To get it** (20 to 30 GB; size and licence are shown first): in this pack's folder, with ComfyUI's Python,"
    " `python -m instructx_core download {name} --to ../../models/instructx`, then press R. Or copy the folder that its"
    " authors publish to `models/instructx/{folder}`.\n\n"
    "**Memory** in bfloat16, by counting parameters: 7.5 GB for the MLLM, 10 GB for the DiT, one after the other on the"
    " GPU, and room to compute in. It takes 50 steps, cfg 1."
)


def kiwi_loader(hub_id: str, references: bool) -> Node:
    """Kiwi-Edit by the name of its folder, with links to its weights."""
    weights = "diffusion_pytorch_model.safetensors"
    files = [f"mllm_encoder/model-0000{shard}-of-00002.safetensors" for shard in (1, 2)]
    files += [f"{part}/{weights}" for part in ("mllm_encoder", "transformer", "vae", "source_embedder")]
    files += [f"ref_embedder/{weights}"] if references else []
    folder = hub_id.replace("/", "--")
    loads = node("InstructXLoadModel", "1. Kiwi-Edit", model_name=folder)
    loads.models = [
        {
            "name": f"{folder}/{file}",
            "url": f"https://huggingface.co/{hub_id}/resolve/main/{file}",
            "directory": "instructx",
        }
        for file in files
    ]
    return loads


def kiwi(name: str, hub_id: str, words: str, note: str, video: bool = False, references: bool = False) -> Workflow:
    """A graph for real footage: the same stations, another model and other loaders in front."""
    columns, links = edit_columns("recolor", 0, 2 if video else 1, int(references))
    clip = node("LoadVideo", "2. Your video", file="your-video.mp4")
    columns[0].nodes = {
        "load": kiwi_loader(hub_id, references),
        "input": clip if video else node("LoadImage", "2. Your picture", 380, image="example.png"),
    }
    columns[1].nodes["guidance"] = node("InstructXMLLMGuidance", "4. Say what to change", 200, instruction=words)
    del links["input.instruction"]
    if references:
        columns[0].nodes["look"] = node("LoadImage", "The reference", 380, image="example.png")
        links["look.IMAGE"] = links.pop("input.reference")
    if video:
        columns[-1].nodes["save"] = node("SaveVideo", height=430, filename_prefix=f"InstructX/{name}")
        links["restore.VIDEO"] = ["save.video"]
    else:
        columns[-1].nodes["save"] = node("SaveImage", height=300, filename_prefix=f"InstructX/{name}")
        links["restore.IMAGE"] = ["save.images"]
    how = KIWI.format(name=hub_id.removeprefix("linyq/").removesuffix("-diffusers"), folder=hub_id.replace("/", "--"))
    return Workflow(name, f"{note}\n\n{how}", columns, links)


def kiwi_workflows() -> list[Workflow]:
    instruct = "linyq/kiwi-edit-5b-instruct-only-diffusers"
    picture = "## Edit a photograph with Kiwi-Edit\nChoose your picture and say in a sentence what to change."
    footage = (
        "## Edit a video with Kiwi-Edit\nUp to 81 frames at about 832 x 480 in one go, its training's length; for more"
        " put *InstructX Sliding Window* in the middle, as in *long-video*."
    )
    subject = (
        "## Edit a video with a reference, with Kiwi-Edit\nThis checkpoint was trained with references; the MLLM reads"
        " one, the DiT sees it."
    )
    return [
        kiwi("image-edit-kiwi", instruct, "Turn the sky into a warm sunset.", picture),
        kiwi("video-edit-kiwi", instruct, "Turn the sky into a warm sunset.", footage, video=True),
        kiwi(
            "reference-edit-kiwi",
            "linyq/kiwi-edit-5b-instruct-reference-diffusers",
            "Add the hat of the reference to the person's head.",
            subject,
            video=True,
            references=True,
        ),
    ]
