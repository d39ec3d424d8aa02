"""How far a model's edits go at each edit strength.

For a model whose own guidance_scale is 1, the nodes' edit_strength sets the library's guidance_scale.

    python benchmarks/edit_strength.py
    python benchmarks/edit_strength.py --model runs/stage6/model --strengths 0.5 1 2
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from statistics import mean

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructx_core.editor import Editor
from instructx_core.world import HELD_OUT_SEED, sample_triplet

STRENGTHS = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0]
GROUPS = ("recolor", "remove", "background", "replace")
FIRST_SEED = 14


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder (default: the bundled model)")
    parser.add_argument(
        "--strengths", type=float, nargs="+", default=STRENGTHS, help="strengths to measure (default: 0 to 2)"
    )
    parser.add_argument("--count", type=int, default=6, help="pictures per kind of edit (default: %(default)s)")
    asked = parser.parse_args()
    editor = Editor.from_pretrained(asked.model, device="cpu")
    seeds = range(FIRST_SEED, FIRST_SEED + asked.count)
    print("strength  of the way  change elsewhere / 255")
    for strength in asked.strengths:
        measured = [measure(editor, strength, group, seed) for group in GROUPS for seed in seeds]
        ways, changes = zip(*measured, strict=True)
        print(f"{strength:8}  {mean(ways):10.2f}  {mean(changes):22.1f}", flush=True)


def measure(editor: Editor, strength: float, group: str, seed: int) -> tuple[float, float]:
    """How far the edit went towards the target (1 is all the way), and the mean change of all other pixels, of 255."""
    triplet = sample_triplet(HELD_OUT_SEED + seed, group, frames=1, height=64, width=64)
    source, target = torch.from_numpy(triplet.source), torch.from_numpy(triplet.target)
    edited = editor.edit(source, triplet.instruction, seed=0, guidance_scale=strength).frames
    inside = (target - source).abs().amax(-1) > 0.1
    wanted, made = (target - source)[inside], (edited - source)[inside]
    elsewhere = (edited - source).abs().amax(-1)[~inside]
    return ((made * wanted).sum() / wanted.square().sum()).item(), 255 * elsewhere.mean().item()


if __name__ == "__main__":
    main()
