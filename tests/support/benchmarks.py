"""Downloads of the published benchmarks in their layouts, with a few samples of the world in each; and answers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from instructx_core.evaluation.bench_run import BenchRun
from instructx_core.evaluation.benches import BENCHES, Columns
from instructx_core.images import write_image
from instructx_core.world import sample_triplet
from support.video_files import make_video

SIZE = 64


def picture(path: Path, seed: int, group: str = "recolor") -> str:
    """The source of a sample as a file; its instruction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    triplet = sample_triplet(seed, group, height=SIZE, width=SIZE)
    write_image(torch.from_numpy(triplet.source[0]), path)
    return triplet.instruction


def clip(path: Path, seed: int, group: str = "recolor", frames: int = 5) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    triplet = sample_triplet(seed, group, frames=frames, height=SIZE, width=SIZE)
    make_video(path, np.asarray(triplet.source * 255).round().astype(np.uint8))
    return triplet.instruction


def imgedit(root: Path, kinds: Sequence[str] = ("add", "remove", "extract")) -> Path:
    cases = {}
    for number, kind in enumerate(kinds):
        name = f"animal/{number:03}.png"
        words = picture(root / "Benchmark" / "singleturn" / name, number)
        cases[str(1000 + number)] = {"id": name, "prompt": words, "edit_type": kind}
    folder = root / "Benchmark" / "Basic"
    folder.mkdir(parents=True)
    (folder / "basic_edit.json").write_text(json.dumps(cases))
    return root


def gedit(root: Path) -> Path:
    """As Parquet, its pictures inside."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = []
    for number, (language, shared) in enumerate((("en", True), ("en", False), ("cn", True))):
        words = picture(root / "x.png", number)
        data = (root / "x.png").read_bytes()
        kind = ("subject-add", "ps_human")[number % 2]
        rows.append(
            {
                "task_type": kind,
                "key": f"k{number % 2}",
                "instruction": words,
                "instruction_language": language,
                "input_image": {"bytes": data, "path": None},
                "input_image_raw": {"bytes": data, "path": None},
                "Intersection_exist": shared,
            }
        )
    (root / "x.png").unlink()
    (root / "data").mkdir()
    parquet.write_table(pa.Table.from_pylist(rows), root / "data" / "train-00000.parquet")
    return root


def vie(root: Path) -> Path:
    """A list in names of its own, as a download might have; see VIE_COLUMNS."""
    picture(root / "refs" / "r.png", 9)
    lines = []
    for number, task in enumerate(("Object Swap", "Add", "Reference Base Add")):
        words = clip(root / "videos" / f"{number}.mp4", number)
        line = {"video": f"videos/{number}.mp4", "prompt": words, "task": task}
        if task.startswith("Reference"):
            line["ref"] = "refs/r.png"
        lines.append(json.dumps(line))
    (root / "list.jsonl").write_text("\n".join(lines) + "\n")
    return root


VIE_COLUMNS = "columns: {source: video, instruction: prompt, group: task, references: ref}"


def openve(root: Path, reference: bool = False) -> Path:
    rows = []
    for number, kind in enumerate(("local_remove", "background_change")):
        words = clip(root / f"{number}.mp4", number)
        row = {"src_video" if reference else "original_video": f"{number}.mp4", "prompt": words, "edited_type": kind}
        if reference:
            picture(root / f"ref{number}.png", 20 + number)
            row["ref_image"] = f"ref{number}.png"
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    (root / "benchmark_videos.csv").write_text(text.getvalue())
    return root


def advancededit(root: Path) -> Path:
    records = []
    for number, kind in enumerate(("add", "remove")):
        words = picture(root / f"{number}.png", number)
        counts = [SIZE * 8, SIZE * 16, SIZE * (SIZE - 24)]  # columns 8 to 23
        records.append(
            {
                "origin_img_path": f"{number}.png",
                "instruction": [words, f"please {words}"],
                "task_type": kind,
                "class_origin": "circle",
                "class_target": "square" if kind == "add" else "",
                "segmentation": {"size": [SIZE, SIZE], "counts": counts},
            }
        )
    (root / "advanced.json").write_text(json.dumps(records))
    return root


def reasonedit(root: Path) -> Path:
    for number, folder in enumerate(("1-Left-Right", "6-Reasoning")):
        lines = []
        for index in (1, 2, 10):
            words = picture(root / folder / f"{index}.png", 10 * number + index)
            mask = torch.zeros(SIZE, SIZE, 3)
            mask[16:48, 16:48] = 1
            write_image(mask, root / folder / f"{index}_mask.jpg")
            lines.append(f"{words} CLIP: circle {index}")
        (root / folder / "text.txt").write_text("\n".join(lines) + "\n")
    return root


LAYOUTS = {
    "imgedit": imgedit,
    "gedit": gedit,
    "vie": vie,
    "openve": openve,
    "refvie": lambda root: openve(root, reference=True),
    "advancededit": advancededit,
    "reasonedit": reasonedit,
}


def prepared(name: str, data: Path, folder: Path, columns: Columns | None = None) -> BenchRun:
    """A run of a benchmark, its cases read from a download made for the test."""
    bench = BENCHES[name]
    LAYOUTS[name](data)
    cases = bench.cases(data, columns or Columns(), folder / "sources")
    return BenchRun(folder, bench, cases, {"model": "m"})


def record(path: Path, cases: Sequence[object], bench: object, value: float = 4) -> Path:
    """A log of answers as a judge might have given them: every score is `value`."""
    lines = []
    for case in cases:
        answers = [[json.dumps(dict.fromkeys(q.scores, value))] for q in bench.questions(case, {})]
        lines.append(json.dumps({"key": case.key, "judge": "GPT-4o", "answers": answers}))
    path.write_text("\n".join(lines) + "\n")
    return path
