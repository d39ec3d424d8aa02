"""The page of a study: sources, sentences and every method's results in one HTML file, without the methods' names.

A second file next to it, `NAME.key.json`, maps ids to methods; raters do not get it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...atomic import partial_file
from ...bounded import is_dir, read_bytes
from ...errors import InputError
from ...words import in_bytes, listed, quoted, quoted_path
from ..listing import read_listing

QUESTIONS = (
    {
        "name": "instruction",
        "title": "Instruction",
        "meaning": "1: the instruction was not followed. 2-3: partly. 4-5: fully.",
    },
    {
        "name": "preservation",
        "title": "Preservation",
        "meaning": "1: everything else changed too. 2-4: some of it did. 5: nothing else changed.",
    },
    {
        "name": "quality",
        "title": "Quality",
        "meaning": "1: seams, artifacts, unnatural. 2-4: partly. 5: seamless and natural.",
    },
)
PICTURES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
}
CLIPS = {".mp4": "video/mp4", ".webm": "video/webm"}  # what browsers play
KINDS = PICTURES | CLIPS
LARGEST = 400 << 20  # bytes of pictures and clips in one page; browsers give up at about twice that much text
LISTINGS = ("cases.jsonl", "cases.json", "cases.csv", "metadata.csv")
PLACEHOLDER = "/*STUDY*/"


@dataclass(frozen=True)
class StudyItem:
    """One item of a study: `results` in the order of the methods."""

    name: str
    instruction: str
    source: Path
    results: tuple[Path, ...]


def find_items(folders: Sequence[Path], cases: Path | None = None) -> tuple[list[StudyItem], int]:
    """The items for which every method has a result, and the number of cases skipped because one lacks it.

    Args:
        folders: one per method, with results named after their case (NAME.png, NAME.mp4), or written by
            `instructx bench`.
        cases: a .csv, .json or .jsonl with name, source and instruction. None: one of LISTINGS in one of the folders,
            or in their common parent.

    Raises:
        InputError: no folder or item, two methods with the same name, two results for a case, or a missing or damaged
            list of cases.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise InputError(f"Two folders are called {listed([n for n in names if names.count(n) > 1][:1])}; rename one.")
    for folder in folders:
        if not is_dir(folder):
            raise InputError(f"{quoted_path(folder)} is not a folder; give one folder of results per method.")
    listing = cases or _listing(folders)
    results = [_media(folder / "edits" if is_dir(folder / "edits") else folder) for folder in folders]
    items, left_out = [], 0
    for row in read_listing(listing):
        if all(row.name in found for found in results):
            source = listing.parent / row.source
            items.append(StudyItem(row.name, row.instruction, source, tuple(found[row.name] for found in results)))
        else:
            left_out += 1
    if not items:
        raise InputError(
            f"{quoted_path(listing)} lists no case for which all {len(folders)} folders have a result; name results "
            "after their case: NAME.png or NAME.mp4."
        )
    return items, left_out


def write_study(items: Sequence[StudyItem], methods: Sequence[str], output: Path, seed: int = 0) -> Path:
    """Write the page and its key next to it; return the path of the key.

    Args:
        methods: names, in the order of each item's results.
        seed: shuffles the ids; each rater's order follows from the study's id and the rater's name.

    Raises:
        InputError: a file type that browsers do not show, an item that mixes pictures and clips, too much for one page.
    """
    total = sum(path.stat().st_size for item in items for path in (item.source, *item.results) if path.is_file())
    if total > LARGEST:
        raise InputError(
            f"The study has {in_bytes(total)} of pictures and clips, more than {in_bytes(LARGEST)}; choose fewer "
            "with --items."
        )
    order = list(range(len(methods)))
    random.Random(seed).shuffle(order)
    ids = [f"m{order.index(place) + 1}" for place in range(len(methods))]
    pages = [_page(item, ids) for item in items]
    content = json.dumps([pages, seed], sort_keys=True)
    number = hashlib.sha256(content.encode()).hexdigest()[:12]
    study = {"id": number, "methods": sorted(ids), "questions": QUESTIONS, "items": pages}
    text = json.dumps(study, ensure_ascii=False).replace("</", "<\\/").replace("<!--", "\\u003c!--")
    template = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    key = {
        "study": number,
        "methods": dict(zip(ids, methods, strict=True)),
        "items": [item.name for item in items],
    }
    place = output.with_suffix(".key.json")
    for path, written in ((output, template.replace(PLACEHOLDER, text)), (place, json.dumps(key, indent=1) + "\n")):
        with partial_file(path) as partial:
            partial.write_text(written, encoding="utf-8")
    return place


def _page(item: StudyItem, ids: Sequence[str]) -> dict[str, object]:
    source, *results = map(_data, (item.source, *item.results))
    kinds = {path.suffix.lower() in CLIPS for path in (item.source, *item.results)}
    if len(kinds) > 1:
        raise InputError(f"{item.name}: pictures and clips are mixed; give an item only one or the other.")
    return {
        "instruction": item.instruction,
        "video": kinds == {True},
        "source": source,
        "results": dict(zip(ids, results, strict=True)),
    }


def _data(path: Path) -> str:
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{quoted_path(path)}: browsers do not show it; convert it to one of {', '.join(KINDS)}.")
    return f"data:{kind};base64,{base64.b64encode(read_bytes(path, LARGEST)).decode()}"


def _media(folder: Path) -> dict[str, Path]:
    """Results by the name of their case: case -> path. Raises InputError if a case has two."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in KINDS:
            continue
        if other := found.get(path.stem):
            raise InputError(
                f"{quoted_path(folder)} has two results for {quoted(path.stem)}: {quoted(other.name)} and "
                f"{quoted(path.name)}; remove one."
            )
        found[path.stem] = path
    return found


def _listing(folders: Sequence[Path]) -> Path:
    above = {folder.resolve().parent for folder in folders}
    for folder in (*folders, *(above if len(above) == 1 else ())):
        for name in LISTINGS:
            if (folder / name).is_file():
                return folder / name
    raise InputError(
        f"Neither the folders nor their common parent has a list of cases ({', '.join(LISTINGS)}); give one with "
        "--cases, with the columns name, source and instruction."
    )
