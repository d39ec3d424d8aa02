"""How much edits with Kiwi-Edit's weights differ from the recorded outputs of its authors' own pipeline.

    python benchmarks/kiwi_parity.py FOLDER

FOLDER is Kiwi-Edit's published layout with a `reference_outputs.safetensors` next to its components: sources, context,
latents and 8-bit frames for the cases image, video and reference; prompts, steps and seed in its metadata.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructx_core import Editor
from instructx_core.weights.files import read_safetensors

CASES = ("image", "video", "reference")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the published layout with recorded outputs")
    folder = parser.parse_args().folder
    recorded, metadata = read_safetensors(folder / "reference_outputs.safetensors")
    prompts, steps, seed = json.loads(metadata["prompts"]), int(metadata["steps"]), int(metadata["seed"])
    editor = Editor.from_pretrained(folder, device="cpu", dtype=torch.float32)
    print(
        "| case | context, largest difference | latents, largest difference | frames within 1/255 |\n|---|---|---|---|"
    )
    for case in CASES:
        source = recorded["image.source" if case == "image" else "video.source"]
        height, width = source.shape[1:3]
        reference = recorded["reference.image"][0] if case == "reference" else None
        options = {"steps": steps, "seed": seed, "height": height, "width": width}
        edited = editor.edit(source, prompts[case], reference, **options)
        context = (edited.context - recorded[f"{case}.context"]).abs().max()
        latents = (edited.latents - recorded[f"{case}.latents"]).abs().max()
        # the authors truncate to 8 bits instead of rounding
        close = ((edited.frames * 255 - recorded[f"{case}.frames"]).abs() < 1.001).float().mean()
        print(f"| {case} | {context:.1e} | {latents:.1e} | {close:.2%} |")


if __name__ == "__main__":
    main()
