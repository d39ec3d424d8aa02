"""How much of a source *Composite* and detail transfer preserve: exclusivity, PSNR and SRC outside the exact edit.

Sources are larger than the model's canvas. An edit is brought back to full size in four ways: enlarged, with detail
transfer, and each of these composited into the source where it changed something (`compositing.composite`). Cases are
shapes of the world, and a disc on photographs ("make the red circle blue"), each with its exact target. SRC is the
similarity of DINO features.

    python benchmarks/preservation.py --photographs photos --json preservation.json
    python benchmarks/preservation.py --dino dinov2-base          SRC too
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructx_core import Editor
from instructx_core.compositing import changed_region, composite
from instructx_core.evaluation import find_region, measure
from instructx_core.evaluation.perceptual import DinoSimilarity
from instructx_core.fit import resize
from instructx_core.photographs import find_photographs
from instructx_core.source import load_source
from instructx_core.world import HELD_OUT_SEED, RICH, sample_triplet
from instructx_core.world.vocabulary import COLOURS

KINDS = ("recolor", "remove", "add", "replace")
FEATHER = 2


@dataclass(frozen=True)
class Case:
    """Source and exact result [1, H, W, 3]."""

    group: str
    source: torch.Tensor
    target: torch.Tensor
    instruction: str


def shapes(count: int, size: int) -> Iterator[Case]:
    for kind in KINDS:
        for index in range(count):
            t = sample_triplet(HELD_OUT_SEED + index, kind, height=size, width=size, variety=RICH)
            yield Case("world", torch.from_numpy(t.source), torch.from_numpy(t.target), t.instruction)


def photographs(folder: Path, size: int) -> Iterator[Case]:
    """The centre square of each picture with a red disc, once at each of three positions."""
    grid = torch.stack(torch.meshgrid(*[torch.linspace(0, 1, size)] * 2, indexing="ij"))
    for path in find_photographs(folder):
        frames = load_source(path).frames[:1]
        side = min(frames.shape[1:3])
        top, left = (frames.shape[1] - side) // 2, (frames.shape[2] - side) // 2
        square = resize(frames[:, top : top + side, left : left + side], (size, size))
        for y, x in ((0.3, 0.3), (0.5, 0.65), (0.7, 0.4)):
            disc = (grid[0] - y).hypot(grid[1] - x) < 0.15
            source, target = (
                torch.where(disc[..., None], torch.tensor(COLOURS[colour], dtype=torch.float32), square)
                for colour in ("red", "blue")
            )
            yield Case("photographs", source, target, "make the red circle blue")


def ways(editor: Editor, case: Case) -> dict[str, torch.Tensor]:
    found = {}
    for name, detail in (("enlarged", "model"), ("detail transfer", "source")):
        edited = editor.edit(case.source, case.instruction, detail=detail).frames
        found[name] = edited
        mask = changed_region(case.source, edited)
        found[f"{name}, composite"] = composite(case.source, edited, mask, FEATHER)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder (default: the bundled model)")
    parser.add_argument("--photographs", type=Path, help="a folder of pictures (default: only the world)")
    parser.add_argument("--count", type=int, default=6, help="pictures of the world per kind (default: 6)")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--dino", type=Path, help="a DINO, for SRC")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    editor = Editor.from_pretrained(arguments.model)
    dino = DinoSimilarity(arguments.dino) if arguments.dino else None
    cases = [*shapes(arguments.count, arguments.size)]
    if arguments.photographs:
        cases += photographs(arguments.photographs, arguments.size)
    numbers: dict[str, dict[str, dict[str, list[float]]]] = {}
    for case in cases:
        region, _ = find_region(case.source, case.target, target=case.target)
        for way, edited in ways(editor, case).items():
            one = measure(case.source, edited, region[0].float())
            row = numbers.setdefault(case.group, {}).setdefault(way, {})
            src = dino(case.source, edited, region) if dino else None
            for name, value in (("exclusivity", one.exclusivity), ("PSNR outside", one.psnr), ("SRC", src)):
                if value is not None:
                    row.setdefault(name, []).append(value)
    means = {
        group: {way: {name: statistics.fmean(values) for name, values in row.items()} for way, row in rows.items()}
        for group, rows in numbers.items()
    }
    for group, rows in means.items():
        print(f"\n| {group}, {arguments.size} px | {' | '.join(next(iter(rows.values())))} |")
        print("|---" * (1 + len(next(iter(rows.values())))) + "|")
        for way, row in rows.items():
            print(f"| {way} | {' | '.join(f'{value:.3f}' for value in row.values())} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"size": arguments.size, "means": means}, indent=2) + "\n")


if __name__ == "__main__":
    main()
