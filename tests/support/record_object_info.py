"""Record golden/object_info.json from a real ComfyUI server: `PYTHONPATH=tests python -m support.record_object_info`.

Of ComfyUI's own nodes only those that the shipped workflows use are kept. The English locale file is made from the same
answer, so that English texts exist once, in the nodes. Do it after every change of a node's inputs, then run
docs/make_workflows.py, whose files hold the inputs too, and bring locales/zh in step.
"""

import json
import sys
import tempfile
from pathlib import Path

from support import comfyui_server, workflow_files
from support.places import ROOT

VERSION = "0.33.0"  # of the ComfyUI that was asked
ENGLISH = ROOT / "locales" / "en" / "nodeDefs.json"
STOCK = (
    "BerniniConditioning",
    "CLIPLoader",
    "CLIPTextEncode",
    "CheckpointLoaderSimple",
    "ColorTransfer",
    "CreateVideo",
    "EmptyImage",
    "FluxKontextImageScale",
    "FrameInterpolate",
    "FrameInterpolationModelLoader",
    "GetImageSize",
    "GetVideoComponents",
    "GrowMask",
    "ImageCompositeMasked",
    "ImageCrop",
    "ImageFromBatch",
    "ImageInvert",
    "ImageScale",
    "ImageScaleBy",
    "ImageScaleToTotalPixels",
    "ImageToMask",
    "ImageUpscaleWithModel",
    "InvertMask",
    "KSampler",
    "KSamplerAdvanced",
    "KSamplerSelect",
    "LoadBackgroundRemovalModel",
    "LoadImage",
    "LoadVideo",
    "LoraLoaderModelOnly",
    "ManualSigmas",
    "MaskComposite",
    "MaskToImage",
    "ModelSamplingAuraFlow",
    "ModelSamplingSD3",
    "PreviewAny",
    "PreviewImage",
    "PrimitiveInt",
    "RandomNoise",
    "RebatchImages",
    "RemoveBackground",
    "SAM3_Detect",
    "SAM3_TrackToMask",
    "SAM3_VideoTrack",
    "SamplerCustom",
    "SamplerCustomAdvanced",
    "SaveImage",
    "SaveVideo",
    "SeedVR2Conditioning",
    "SeedVR2PostProcessing",
    "SeedVR2Preprocess",
    "SolidMask",
    "StringConcatenate",
    "TextEncodeQwenImageEditPlus",
    "TextGenerate",
    "UNETLoader",
    "UpscaleModelLoader",
    "VAEDecode",
    "VAEDecodeTiled",
    "VAEEncode",
    "VAEEncodeTiled",
    "VAELoader",
    "Video Slice",
    "WanVaceToVideo",
)


def chosen(object_info):
    """The part of /object_info that the golden file holds: nodes that stand in menus."""
    return {
        name: object_info[name]
        for name in sorted(object_info)
        if name in STOCK or (name.startswith("InstructX") and not object_info[name].get("dev_only"))
    }


def english(object_info):
    """What the English locale file holds: the nodes' own texts."""
    return {
        name: {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": {
                socket: {"name": spec[1].get("display_name", socket), "tooltip": spec[1]["tooltip"]}
                for socket, spec in workflow_files.inputs_of(info["input"]).items()
            },
            "outputs": {
                str(index): {"name": label, "tooltip": tooltip}
                for index, (label, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
            },
        }
        for name, info in object_info.items()
        if name.startswith("InstructX")
    }


def main():
    with tempfile.TemporaryDirectory() as base, comfyui_server.Server(Path(base)) as server:
        text = json.dumps(chosen(server.get("/object_info")), indent=1, ensure_ascii=False)
    workflow_files.GOLDEN.write_text(text + "\n", encoding="utf-8")
    ENGLISH.write_text(json.dumps(english(json.loads(text)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {workflow_files.GOLDEN}", file=sys.stderr)


if __name__ == "__main__":
    main()
