"""AdvancedEdit-Eval and Reason-Edit (InsightEdit, Tables 2 and 3): pictures with a mask and a word for the edited part.

A judge gives the VIEScore. PSNR, SSIM and LPIPS outside the mask and the CLIPScore of the word with the mask's bounding
box need no judge (`measured.jsonl`). The paper reports VIEScore as a share of its maximum, so ours is divided by 10.

- AdvancedEdit-Eval: records with origin_img_path, instruction (understanding, reasoning), task_type, class_target,
  segmentation {size, counts} in COCO's run-length encoding.
- Reason-Edit: folders 1-Left-Right to 5-Multiple-Objects (understanding) and 6-Reasoning; NAME.png, NAME_mask.jpg, and
  a text file with a line `instruction CLIP: word` for each picture.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...bounded import read_text
from ...coco_masks import decode_mask
from ...errors import InputError
from ...words import quoted_path, shown
from ..judges import Question
from ..listing import read_rows, text_of
from . import viescore
from .case import WHOLE, Case, Columns, check_cases, one_listing, picture_file, safe_name

KINDS = ("understanding", "reasoning")
USUAL = {"source": "origin_img_path", "group": "task_type", "word": "class_target", "instruction": "instruction"}


class _Viescored:
    scores = ("VIEScore",)
    summaries: Mapping[str, tuple[str, ...]] = {"overall": ()}
    subsets: Mapping[str, Mapping[str, str]] = WHOLE
    count: int | None = None

    def questions(self, case: Case, prompts: Mapping[str, str]) -> list[Question]:
        return viescore.questions(case.instruction)

    def score(self, answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {"VIEScore": viescore.score(answers)[2] / 10}


class AdvancedEditEval(_Viescored):
    name = "advancededit"
    title = "AdvancedEdit-Eval"
    count = 300
    subsets: Mapping[str, Mapping[str, str]] = WHOLE | {kind: {"kind": kind} for kind in KINDS}

    def cases(self, data: Path, columns: Columns, scratch: Path) -> list[Case]:
        names = columns.over(USUAL)
        listing = one_listing(data, columns.table, (), self.title)
        cases = []
        for number, (place, row) in enumerate(columns.seen_in(read_rows(listing), listing), 1):
            told = row.get(names["instruction"])
            texts = told if isinstance(told, list) and told else [text_of(row, names["instruction"], place)]
            if len(texts) > len(KINDS):
                raise InputError(
                    f"{place}: it has {len(texts)} instructions; give one of {' and one of '.join(KINDS)}."
                )
            group = text_of(row, names["group"], place)
            is_gone = group.lower().startswith("remov")  # then no word describes what the region should show
            word = row.get(names["word"]) or ("" if is_gone else row.get("class_origin")) or ""
            mask = _mask(row.get("segmentation"), scratch, f"{number:04}_mask", place)
            for kind, text in zip(KINDS, texts, strict=False):  # a record may have only the first
                if not isinstance(text, str) or not text.strip():
                    raise InputError(f"{place}: an instruction is {shown(text)}; give text.")
                source = listing.parent / text_of(row, names["source"], place)
                cases.append(
                    Case(
                        f"{number:04}-{kind}", source, text, columns.groups.get(group, group),
                        tags={"kind": kind}, mask=mask, word=str(word),
                    )
                )  # fmt: skip
        return check_cases(cases, listing)


class ReasonEdit(_Viescored):
    name = "reasonedit"
    title = "Reason-Edit"
    count = 219
    summaries: Mapping[str, tuple[str, ...]] = {
        "Understanding Scenarios": ("1-Left-Right", "2-Relative-Size", "3-Mirror", "4-Color", "5-Multiple-Objects"),
        "Reasoning Scenarios": ("6-Reasoning",),
    }

    def cases(self, data: Path, columns: Columns, scratch: Path) -> list[Case]:
        if columns != Columns():
            raise InputError(f"--columns is given, but {self.title} has no list of cases; leave it out.")
        cases = []
        for folder in sorted(path for path in data.iterdir() if path.is_dir() and re.match(r"[1-6]-", path.name)):
            pictures = sorted(folder.glob("*.png"), key=_natural)
            texts = sorted(folder.glob("*.txt"))
            lines = [line for text in texts[:1] for line in read_text(text).splitlines() if line.strip()]
            if len(texts) != 1 or len(lines) != len(pictures):
                raise InputError(
                    f"{quoted_path(folder)} has {len(pictures)} pictures and {len(lines)} lines in {len(texts)} text "
                    "files; it needs one text file with a line per picture."
                )
            for picture, line in zip(pictures, lines, strict=True):
                instruction, _, word = line.partition("CLIP:")
                mask = picture.with_name(f"{picture.stem}_mask.jpg")
                key = safe_name(f"{folder.name}-{picture.stem}")
                cases.append(Case(key, picture, instruction.strip(), folder.name, mask=mask, word=word.strip()))
        return check_cases(cases, data)


def _natural(path: Path) -> tuple[int, str]:
    digits = re.sub(r"\D", "", path.stem)
    return int(digits) if digits else 0, path.stem


def _mask(segmentation: Any, scratch: Path, name: str, place: str) -> Path | None:
    """A COCO run-length mask written as a picture; None if the record has no mask."""
    if segmentation is None:
        return None
    content = json.dumps(segmentation, sort_keys=True).encode()
    return picture_file(
        scratch, name, content, lambda: decode_mask(segmentation, place)[..., None].expand(-1, -1, 3).float()
    )
