"""Three edits of one clip, with a mask of where the model makes each."""

from dataclasses import replace

from ..description import Blueprint, Box, Column, Template, Text
from ..native import VAE
from ..parts import STATION, WIDGETS, node, stations
from ..showing import BOX, FIRST, LOOK, OWN_VIDEO, before, example, look, note, saved_clip
from .kiwi import CLIP
from .wan import DIT

TITLE = Text("Three edits and their masks", "三处修改和各自的遮罩")
NAME, FOLDER = "coinve-edit", "FireCRT--CoinVE-Edit"
EACH = "Turn the coffee into green tea.\nAdd a biscuit on the left.\nMake the table of dark wood."
HOW = Text(
    "CoinVE-Edit 14B: one sentence per line; it finds where each applies and edits there, up to 49 frames. **To get"
    f" it** (3 GB, Apache-2.0): in this pack's folder, with ComfyUI's Python, `python -m instructx_core download"
    f" {NAME} --to ../../models/instructx`; also the Wan2.1 14B and its VAE below, and Qwen3-VL-8B-Instruct's"
    " folder in `models/text_encoders`.",
    "CoinVE-Edit 14B：每行一句，模型自己找到每处位置并只改那里，最多 49 帧。**下载**"
    f"（3 GB，Apache-2.0）：在本节点包的文件夹里用 ComfyUI 的 Python 运行 `python -m instructx_core"
    f" download {NAME} --to ../../models/instructx`；另外需要下面的 Wan2.1 14B 和 VAE，以及放在"
    " `models/text_encoders` 里的 Qwen3-VL-8B-Instruct 文件夹。",
)
CARD = Text(
    "A 24 GB card; the MLLM alone takes 16 GB. 50 steps. Tested only with random weights.",
    "需要 24 GB 显存，其中 MLLM 单独占 16 GB。50 步。只用随机权重试过。",
)


def _box() -> Blueprint:
    """The nodes from the loader to the restored clip, with a picture of each mask in the first frame."""
    columns, links = stations()
    nodes = {key: one for column in columns for key, one in column.nodes.items()}
    edits = node("InstructXLocalEdits", "3. Each edit and its place", 160)
    nodes = {"load": nodes["load"], "fit": nodes["fit"], "edits": edits} | nodes
    del nodes["guidance"], nodes["connector"]
    nodes["sampler"] = replace(nodes["sampler"], settings={"seed": 0})
    groups = [{key: one} for key, one in nodes.items()]
    groups[3] |= {"places": node("MaskToImage", "As pictures")}
    groups[4] |= {"first": node("ImageFromBatch", "Of the first frame", batch_index=0, length=1)}
    inner = {start: [end for end in ends if not end.startswith(("guidance.", "connector."))]
             for start, ends in links.items() if not start.startswith(("guidance.", "connector."))}  # fmt: skip
    for start, end in (
        ("load.MODEL", "edits.model"), ("load.MLLM", "edits.mllm"), ("load.CONNECTOR", "edits.connector"),
        ("fit.IMAGE", "edits.source"), ("fit.FIT", "edits.fit"), ("edits.positive", "source.positive"),
        ("edits.negative", "source.negative"), ("edits.MASK", "places.mask"), ("places.IMAGE", "first.image"),
    ):  # fmt: skip
        inner[start] = [*inner.get(start, []), end]
    parts = {f"{part}_file": (f"load.{part}",) for part in ("transformer", "vae", "mllm")}
    return Blueprint(
        name="Edit several places (InstructX)",
        description="Several edits of one short video, each in its own place.",
        aliases=("local edits", "regional prompt", "coinve", "edit video", "instructx"),
        category="Video generation and editing/Edit video",
        columns=tuple(Column(group, width=STATION) for group in groups),
        links={start: ends for start, ends in inner.items() if ends},
        inputs={"video": ("fit.source",), **WIDGETS, "instruction": ("edits.instructions",), **parts},
        outputs={"VIDEO": "restore.VIDEO", "MASK": "edits.MASK", "PLACES": "first.IMAGE"},
    )


def three_edits() -> Template:
    settings = {
        "instruction": EACH,
        "model_name": FOLDER,
        "transformer_file": f"diffusion_models/{DIT[0]['name']}",
        "vae_file": f"vae/{VAE[0]['name']}",
        "mllm_file": "text_encoders/Qwen3-VL-8B-Instruct",
    }
    box = Box(_box(), "Edit several places", settings, models={"load": DIT + VAE})
    shown = {"after": saved_clip("three-edits"), "places": look("Where each edit acts", 240)}
    return Template(
        TITLE,
        note(TITLE, HOW, OWN_VIDEO, CARD),
        (
            Column({"input": example(CLIP, "A clip")}, width=FIRST),
            Column({"edit": box}, width=BOX),
            before(saved_clip("three-edits-source", "Before")),
            Column(shown, width=LOOK),
        ),
        {
            "input.VIDEO": ["edit.video", "before.video"],
            "edit.VIDEO": ["after.video"],
            "edit.PLACES": ["places.images"],
        },
        needs_weights=True,
    )
