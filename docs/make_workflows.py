"""Write workflows/*.json from short descriptions: those below, and those of kiwi_workflows.py.

    python docs/make_workflows.py [--check]

What graphs have in common is in workflow_stations.py; how a description becomes a file is for workflow_layout.py.
`--check` writes nothing and fails when a file on disk differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kiwi_workflows import kiwi_workflows
from workflow_layout import Column, Workflow, build
from workflow_stations import HEAD, PREVIEWED, TINY, edit_columns, example, loader, node

ROOT = Path(__file__).resolve().parent.parent
OBJECT_INFO = ROOT / "tests" / "support" / "golden" / "object_info.json"
WORKFLOWS = ROOT / "workflows"


def image_edit() -> Workflow:
    columns, links = edit_columns("recolor", 10)
    columns[-1].nodes["save"] = node("SaveImage", height=300, filename_prefix="InstructX/image-edit")
    links["restore.IMAGE"] = ["save.images"]
    return Workflow("image-edit", f"## Edit an image from a sentence\n{HEAD}\n\n{TINY}", columns, links)


def video_edit() -> Workflow:
    columns, links = edit_columns("background", 0, frames=5)
    columns[-1].nodes["save"] = node("SaveVideo", height=430, filename_prefix="InstructX/video-edit")
    links["restore.VIDEO"] = ["save.video"]
    note = (
        "## Edit a video from a sentence\nA VIDEO keeps its frame rate and sound from *Load Video* to *Save Video*."
        f" For long ones see *long-video*.\n\n{TINY}"
    )
    return Workflow("video-edit", note, columns, links)


def reference(name: str, group: str, seed: int, words: str) -> Workflow:
    columns, links = edit_columns(group, seed, references=1)
    columns[-1].nodes["save"] = node("SaveImage", height=260, filename_prefix=f"InstructX/{name}")
    columns[0].nodes["look"] = node("PreviewImage", "The reference", 260)
    links["restore.IMAGE"] = ["save.images"]
    links["input.reference"].append("look.images")
    note = (
        f"## {words}\nThe reference goes two ways: the MLLM looks at it to understand the instruction, and the DiT gets"
        f" its pixels. Chain *InstructX Reference* for several.\n\n{TINY}"
    )
    return Workflow(name, note, columns, links)


def long_video() -> Workflow:
    columns = [
        Column("Model and input", {"load": loader(), "input": example("background", 1, 17)}),
        Column(
            "Window by window",
            {"windows": node("InstructXSlidingWindow", "3. Edit, hand over, edit on", 720, window=9, overlap=5)},
            "#a1309b",
        ),
        Column(
            "Result",
            {"save": node("SaveVideo", height=430, filename_prefix="InstructX/long-video")},
            "#b58b2a",
        ),
    ]
    links = {
        "load.MODEL": ["windows.model"],
        "load.VAE": ["windows.vae"],
        "load.MLLM": ["windows.mllm"],
        "load.CONNECTOR": ["windows.connector"],
        "input.VIDEO": ["windows.source"],
        "input.instruction": ["windows.instruction"],
        "windows.VIDEO": ["save.video"],
    }
    note = (
        "## Edit a video of any length\nEach window is edited in one go, and the next one begins with its edited end."
        " With *Load Video* in front it streams: memory holds one window. Cancel keeps finished windows; queue the"
        f" graph again to go on.\n\n{TINY}"
    )
    return Workflow("long-video", note, columns, links)


def hybrid_compare() -> Workflow:
    columns, links = edit_columns("hybrid", 10)
    columns[-1].nodes["compare"] = node("ImageCompare", "Before and after: move the slider", 320)
    columns[-1].nodes["save"] = node("SaveImage", height=260, filename_prefix="InstructX/hybrid-compare")
    links["restore.IMAGE"] = ["save.images", "compare.image_b"]
    links["input.IMAGE"].append("compare.image_a")
    return Workflow("hybrid-compare", f"## Two changes in one sentence, compared\n{HEAD}\n\n{TINY}", columns, links)


def edit_upscale() -> Workflow:
    columns, links = edit_columns("replace", 0)
    columns.append(
        Column(
            "Upscale",
            {
                "scale": node("ImageScaleBy", "Any upscaler of ComfyUI", upscale_method="lanczos", scale_by=4.0),
                "sharpen": node("ImageSharpen"),
                "save": node("SaveImage", height=320, filename_prefix="InstructX/edit-upscale"),
            },
            "#b06634",
        )
    )
    links["restore.IMAGE"] = ["scale.image"]
    links["scale.IMAGE"] = ["sharpen.image"]
    links["sharpen.IMAGE"] = ["save.images"]
    note = f"## Edit, then upscale\n*InstructX Restore* first brings the edit back to the source's size.\n\n{TINY}"
    return Workflow("edit-upscale", note, columns, links)


def edit_mask_inpaint() -> Workflow:
    columns, links = edit_columns("recolor", 14)
    restore = columns[3].nodes.pop("restore")
    columns[3].title = "Only what changed"
    columns[3].nodes |= {
        "composite": node("InstructXComposite", "Source outside, edit inside", grow=2),
        "mask": node("MaskToImage"),
        "look": node("PreviewImage", "The changed region", 240),
    }
    columns.append(
        Column(
            "Once more, only there (stock inpainting)",
            {
                "encode": node("VAEEncode"),
                "only": node("SetLatentNoiseMask"),
                "again": node("InstructXSampler", "A second pass inside the mask", PREVIEWED, seed=1, denoise=0.6),
                "decode2": node("VAEDecode"),
            },
            "#a1309b",
        )
    )
    columns.append(
        Column(
            "Result",
            {
                "paste": node("ImageCompositeMasked", "Paste into the source"),
                "restore": restore,
                "save": node("SaveImage", height=280, filename_prefix="InstructX/edit-mask-inpaint"),
            },
            "#b58b2a",
        )
    )
    links["decode.IMAGE"] = ["composite.edited"]
    links["fit.IMAGE"] += ["composite.source", "paste.destination"]
    links["composite.MASK"] = ["mask.mask", "only.mask", "paste.mask"]
    links["mask.IMAGE"] = ["look.images"]
    links["composite.IMAGE"] = ["encode.pixels"]
    links["load.VAE"] += ["encode.vae", "decode2.vae"]
    links["encode.LATENT"] = ["only.samples"]
    links["only.LATENT"] = ["again.latent"]
    for name in ("MODEL", "positive", "negative"):
        links[f"source.{name}"].append(f"again.{name.lower()}")
    links["again.LATENT"] = ["decode2.samples"]
    links["decode2.IMAGE"] = ["paste.source"]
    links["paste.IMAGE"] = ["restore.image"]
    links["restore.IMAGE"] = ["save.images"]
    note = (
        "## Edit, find what changed, refine only that\n*InstructX Composite* gives the changed region as a MASK: use"
        f" it for inpainting, SAM or an upscaler.\n\n{TINY}"
    )
    return Workflow("edit-mask-inpaint", note, columns, links)


def two_edits() -> Workflow:
    columns, links = edit_columns("recolor", 7)
    second = {
        "guidance2": node("InstructXMLLMGuidance", "A second instruction", 200, instruction="make it grayscale"),
        "connector2": node("InstructXConnector"),
        "source2": node("InstructXSource", "The first edit is the source now"),
        "sampler2": node("InstructXSampler", "Sample again", PREVIEWED, seed=0),
    }
    columns.append(Column("The second edit", second, "#a1309b"))
    columns.append(
        Column(
            "Result",
            {
                "decode2": node("VAEDecode"),
                "restore2": node("InstructXRestore", "Back to the source's size"),
                "save": node("SaveImage", height=300, filename_prefix="InstructX/two-edits"),
            },
            "#b58b2a",
        )
    )
    columns[3].nodes["look"] = node("PreviewImage", "After the first edit", 260)
    links["restore.IMAGE"] = ["look.images"]
    links["decode.IMAGE"] += ["guidance2.source"]
    links["sampler.LATENT"] += ["source2.source"]
    links["load.MLLM"] += ["guidance2.mllm"]
    links["load.CONNECTOR"] += ["connector2.connector"]
    links["load.MODEL"] += ["source2.model"]
    links["load.VAE"] += ["decode2.vae"]
    links["fit.FIT"] += ["guidance2.fit", "restore2.fit"]
    links["guidance2.GUIDANCE"] = ["connector2.guidance"]
    links["connector2.positive"] = ["source2.positive"]
    links["connector2.negative"] = ["source2.negative"]
    for name in ("MODEL", "positive", "negative", "LATENT"):
        links[f"source2.{name}"] = [f"sampler2.{name.lower()}"]
    links["sampler2.LATENT"] = ["decode2.samples"]
    links["decode2.IMAGE"] = ["restore2.image"]
    links["restore2.IMAGE"] = ["save.images"]
    note = (
        "## Two edits, one after the other\nThe first edit's LATENT is the second one's source: nothing is encoded"
        f" twice.\n\n{TINY}"
    )
    return Workflow("two-edits", note, columns, links)


def stock_ksampler() -> Workflow:
    columns, links = edit_columns("remove", 8)
    columns[2].nodes["sampler"] = node(
        "KSampler", "ComfyUI's own sampler", seed=0, steps=20, cfg=1.0, sampler_name="euler", scheduler="simple"
    )
    columns[-1].nodes["save"] = node("SaveImage", height=300, filename_prefix="InstructX/stock-ksampler")
    links["source.LATENT"] = ["sampler.latent_image"]
    links["restore.IMAGE"] = ["save.images"]
    note = (
        "## The stock KSampler\nThe MODEL is a native Wan model: LoRA loaders, ModelSamplingSD3, caches and any"
        f" sampler work on it.\n\n{TINY}"
    )
    return Workflow("stock-ksampler", note, columns, links)


def workflows() -> list[Workflow]:
    return [
        image_edit(),
        video_edit(),
        reference("reference-swap", "reference_swap", 6, "Replace an object by the one in a reference image"),
        reference("reference-add", "reference_add", 0, "Add the object of a reference image"),
        long_video(),
        hybrid_compare(),
        edit_upscale(),
        edit_mask_inpaint(),
        two_edits(),
        stock_ksampler(),
        *kiwi_workflows(),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files on disk instead of writing them")
    check = parser.parse_args().check
    object_info = json.loads(OBJECT_INFO.read_text(encoding="utf-8"))
    WORKFLOWS.mkdir(exist_ok=True)
    stale = []
    for workflow in workflows():
        text = json.dumps(build(workflow, object_info), indent=1, ensure_ascii=False) + "\n"
        path = WORKFLOWS / f"{workflow.name}.json"
        if check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            stale.append(path.name)
        elif not check:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"stale: {', '.join(stale)}; run python docs/make_workflows.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
