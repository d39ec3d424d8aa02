"""Folders of results to make a user study of, and files of answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from instructx_core.images import write_image
from support.video_files import make_video

METHODS = ("our-model", "the-other", "plainmodel")


def folders(root: Path) -> list[Path]:
    """Three methods' results of two pictures and a clip, listed in cases.csv above them."""
    instruction = 'make it "blue" </script><!-- <b>'
    rows = [("a", "a.png", instruction), ("b", "b.png", "make it red"), ("c", "c.mp4", "make it snow")]
    lines = ["name,source,instruction"]
    for name, file, words in rows:
        quoted = words.replace('"', '""')
        lines.append(f'{name},sources/{file},"{quoted}"')
    (root / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    made = []
    for place, folder in enumerate(("sources", *METHODS)):
        (root / folder).mkdir()
        made.append(root / folder)
        for number, (_, file, _) in enumerate(rows):
            value = 0.2 + 0.15 * place + 0.02 * number
            if file.endswith(".png"):
                write_image(torch.full((32, 48, 3), value), root / folder / file)
            else:
                make_video(root / folder / file, np.full((4, 32, 48, 3), round(value * 255), np.uint8))
    return made[1:]


def answers(root: Path, study: dict[str, Any], rater: str, rate: Callable[[int, str], int]) -> Path:
    """The file that the page of `study` would save for a rater."""
    questions = [question["name"] for question in study["questions"]]
    given = [
        {"item": item, "method": method, "scores": dict.fromkeys(questions, rate(item, method))}
        for item in range(len(study["items"]))
        for method in study["methods"]
    ]
    path = root / f"answers-{rater}.json"
    path.write_text(json.dumps({"study": study["id"], "rater": rater, "answers": given}))
    return path
