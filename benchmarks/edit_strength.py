"""How far the bundled model's edits go at each edit strength: python benchmarks/edit_strength.py

The library's guidance_scale is what the nodes' edit_strength sets for a model whose own is 1.
"""

from __future__ import annotations

from statistics import mean

import torch

from instructx_core.editor import Editor
from instructx_core.world import HELD_OUT_SEED, sample_triplet

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
GROUPS = ("recolor", "remove", "background", "replace")
SEEDS = range(14, 20)


def main() -> None:
    editor = Editor.from_pretrained(device="cpu")
    print("strength  of the way  change elsewhere / 255")
    for strength in STRENGTHS:
        measured = [measure(editor, strength, group, seed) for group in GROUPS for seed in SEEDS]
        ways, changes = zip(*measured, strict=True)
        print(f"{strength:8}  {mean(ways):10.2f}  {mean(changes):22.1f}", flush=True)


def measure(editor: Editor, strength: float, group: str, seed: int) -> tuple[float, float]:
    """How far the pixels of the true edit went towards it, 1 all the way, and how much the others changed, of 255."""
    triplet = sample_triplet(HELD_OUT_SEED + seed, group, frames=1, height=64, width=64)
    source, target = torch.from_numpy(triplet.source), torch.from_numpy(triplet.target)
    edited = editor.edit(source, triplet.instruction, seed=0, guidance_scale=strength).frames
    inside = (target - source).abs().amax(-1) > 0.1
    wanted, made = (target - source)[inside], (edited - source)[inside]
    elsewhere = (edited - source).abs().amax(-1)[~inside]
    return ((made * wanted).sum() / wanted.square().sum()).item(), 255 * elsewhere.mean().item()


if __name__ == "__main__":
    main()
