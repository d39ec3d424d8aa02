"""Several instructions, each with its mask, against one sentence with all of them, on the same clip.

    python benchmarks/several_edits.py clip.mp4 "replace the car with a tram" "add a dog on the left" \\
        --model coinve_edit_composite_vllm256_dit128.safetensors --transformer Wan2.1-T2V-14B \\
        --vae wan_2.1_vae.safetensors --mllm Qwen3-VL-8B-Instruct -o compared

Writes both edits and the masks, and prints how much each edit changed inside and outside the masks (mean difference to
the source, of 255) and how long it took. For a model with a mask head (CoinVE-Edit). With random weights the numbers
only show that the two ways differ; to tell which is better takes the published weights and a judge.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructx_core import Editor
from instructx_core.images import to_uint8
from instructx_core.source import load_source
from instructx_core.video import VideoWriter

RATE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("instructions", nargs="+", metavar="EDIT", help="an instruction, each for its own place")
    parser.add_argument("-o", "--output", type=Path, default=Path("compared"), help="a folder to write to")
    for name in ("model", "transformer", "vae", "mllm"):
        parser.add_argument(f"--{name}", type=Path, required=name == "model")
    for name in ("steps", "width", "height"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument(
        "--frames", type=int, default=49, help="length to edit, from the clip's start (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    parts = {name: path for name in ("transformer", "vae", "mllm") if (path := getattr(given, name)) is not None}
    editor = Editor.from_pretrained(given.model, **parts)
    source = load_source(given.clip).frames[: given.frames]
    said = {"seed": given.seed} | {
        name: value for name in ("steps", "width", "height") if (value := getattr(given, name)) is not None
    }
    found, seconds = {}, {}
    for name, asked in (("several", given.instructions), ("one sentence", ", ".join(given.instructions))):
        began = time.monotonic()
        found[name] = editor.edit(source, asked, **said)
        seconds[name] = time.monotonic() - began
    masks = found["several"].masks.float().cpu()  # [K, t, h, w]
    whole = F.interpolate(masks[None], source.shape[:3], mode="trilinear", align_corners=False)[0].clamp(0, 1)
    inside = whole.amax(0) > 0.5  # [T, H, W]
    print(f"{'':14}{'inside':>8}{'outside':>9}{'seconds':>9}    masks cover {inside.float().mean():.1%}")
    given.output.mkdir(parents=True, exist_ok=True)
    for name, result in found.items():
        changed = (result.frames.float().cpu() - source).abs().mean(-1) * 255
        within, without = (changed[where].mean().item() if where.any() else 0.0 for where in (inside, ~inside))
        print(f"{name:14}{within:8.2f}{without:9.2f}{seconds[name]:9.1f}")
        write(given.output / f"{name.replace(' ', '-')}.mp4", result.frames.float().cpu())
    for place, mask in enumerate(whole):
        write(given.output / f"mask-{place}.mp4", mask[..., None].expand(-1, -1, -1, 3))


def write(path: Path, frames: torch.Tensor) -> None:
    with VideoWriter(path, fps=RATE) as writer:
        for frame in frames:
            writer.write(to_uint8(frame))


if __name__ == "__main__":
    main()
