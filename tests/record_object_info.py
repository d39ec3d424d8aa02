"""Record tests/golden/object_info.json from a real ComfyUI server: python tests/record_object_info.py

Of ComfyUI's own nodes only those that the shipped workflows use are kept. Do it after every change of a node's inputs,
then run docs/make_workflows.py, whose files hold the inputs too, and bring locales/ in step.
"""

import json
import sys
import tempfile
from pathlib import Path

import comfyui_server
import workflow_files

STOCK = (
    "ImageCompare",
    "ImageCompositeMasked",
    "ImageScaleBy",
    "ImageSharpen",
    "KSampler",
    "LoadImage",
    "LoadVideo",
    "MaskToImage",
    "PreviewImage",
    "SaveImage",
    "SaveVideo",
    "SetLatentNoiseMask",
    "VAEDecode",
    "VAEEncode",
)


def chosen(object_info):
    """The part of /object_info that the golden file holds."""
    return {name: object_info[name] for name in sorted(object_info) if name.startswith("InstructX") or name in STOCK}


def main():
    with tempfile.TemporaryDirectory() as base, comfyui_server.Server(Path(base)) as server:
        text = json.dumps(chosen(server.get("/object_info")), indent=1, ensure_ascii=False)
    workflow_files.GOLDEN.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {workflow_files.GOLDEN}", file=sys.stderr)


if __name__ == "__main__":
    main()
