"""Ten rows of each public data set, in the very form that it is published in; pictures of 64 pixels, clips of 5 frames.

To look at them: `PYTHONPATH=tests python -m support.public_sets FOLDER`.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from instructx_core.training.config import DataConfig
from instructx_core.training.data.rows import Row
from instructx_core.training.data.table import Broken, Table
from instructx_core.video import VideoWriter

ROWS = 10
SIZE = 64
COLOURS = ["red", "green", "blue", "yellow", "purple", "orange", "cyan", "white", "grey", "pink"]


def picture(number: int, edited: bool) -> Image.Image:
    image = Image.new("RGB", (SIZE, SIZE), (20 * number, 60, 90))
    colour = COLOURS[(number + edited) % len(COLOURS)]
    ImageDraw.Draw(image).rectangle((8, 8, 40, 40), fill=colour)
    return image


def mask() -> Image.Image:
    image = Image.new("L", (SIZE, SIZE), 0)
    ImageDraw.Draw(image).rectangle((0, 0, 31, 31), fill=255)
    return image


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def put(path: Path, number: int, edited: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number, edited).save(path)


def put_clip(path: Path, number: int, edited: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = torch.frombuffer(bytearray(picture(number, edited).tobytes()), dtype=torch.uint8).view(SIZE, SIZE, 3)
    with VideoWriter(path, fps=8) as writer:
        for shift in range(5):
            writer.write(frame.roll(shift, 1))


def instruction(number: int) -> str:
    return f'make the box {COLOURS[(number + 1) % len(COLOURS)]}, "as it is"'


def write_csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]], images: tuple[str, ...], group: int = 4) -> Path:
    """As `datasets` writes them: pictures as {bytes, path}, and its own types in the metadata."""
    import datasets

    kinds = {
        name: datasets.Image() if name in images else datasets.Value("int64" if type(value) is int else "string")
        for name, value in rows[0].items()
        if not isinstance(value, bytes) or name in images
    }
    kinds |= {name: datasets.Value("binary") for name in rows[0] if name not in kinds}
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows, features=datasets.Features(kinds)).to_parquet(path, batch_size=group)
    return path


def own(folder: Path) -> Path:
    rows = []
    for number in range(ROWS):
        put(folder / f"{number}.png", number, False)
        put(folder / f"{number}_edited.png", number, True)
        rows.append({"source": f"{number}.png", "target": f"{number}_edited.png", "instruction": instruction(number)})
    return write_csv(folder / "pairs.csv", rows)


def kiwi_images(folder: Path) -> Path:
    rows = []
    for number in range(ROWS):
        names = [f"gpt_edit/{kind}/{number:05d}.jpg" for kind in ("src", "tgt")]
        for name, edited in zip(names, (False, True), strict=True):
            put(folder / name, number, edited)
        rows.append({"src_video": names[0], "tgt_video": names[1], "prompt": instruction(number)})
    return write_csv(folder / "image_edit.csv", rows)


def kiwi_videos(folder: Path) -> Path:
    rows = []
    for number in range(ROWS):
        names = [f"ditto/{kind}/{number:05d}.mp4" for kind in ("src", "tgt")]
        for name, edited in zip(names, (False, True), strict=True):
            put_clip(folder / name, number, edited)
        put(folder / f"refs/{number:05d}.jpg", number, True)
        rows.append({"src_video": names[0], "tgt_video": names[1], "prompt": instruction(number),
                     "ref_image": f"refs/{number:05d}.jpg"})  # fmt: skip
    write_csv(folder / "ref_video_edit.csv", rows)
    return folder


def refvie(folder: Path) -> Path:
    rows = []
    for number in range(ROWS):
        names = [f"videos/{number}_{kind}.mp4" for kind in ("src", "tgt")]
        for name, edited in zip(names, (False, True), strict=True):
            put_clip(folder / name, number, edited)
        rows.append({"iid": str(number), "prompt": instruction(number), "src_video": names[0], "tgt_video": names[1],
                     "ref_image_bytes": encoded(picture(number, True))})  # fmt: skip
    write_parquet(folder / "refvie.parquet", rows, ())
    return folder / "refvie.parquet"


def nhr_edit(folder: Path) -> Path:
    lines = []
    for number in range(ROWS):
        names = [f"images/{number:02x}/{number:04d}_{kind}.jpg" for kind in ("source", "edited")]
        for name, edited in zip(names, (False, True), strict=True):
            put(folder / "train" / name, number, edited)
        lines.append({"sample_id": f"{number:04d}", "source_file_name": names[0], "edited_file_name": names[1],
                      "edit_instruction": instruction(number), "augmented_instructions": ["please", "do"],
                      "category": "Color", "style": "photo", "kind": "real", "img_width": SIZE,
                      "img_height": SIZE})  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "train/metadata.jsonl").write_text(text)
    return folder


def nhr_edit_parquet(folder: Path) -> Path:
    rows = [
        {"sample_id": str(number), "source_image": encoded(picture(number, False)), "edit_instruction":
         instruction(number), "edited_image": encoded(picture(number, True)), "category": "Color"}
        for number in range(ROWS)
    ]  # fmt: skip
    write_parquet(folder / "data/train-00000-of-00001.parquet", rows, ("source_image", "edited_image"))
    return folder


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def x2edit(folder: Path) -> Path:
    """Two archives; the second is two put together, in which keys come again, and has a sample without words."""
    for path, numbers in (
        ("flux/0/00000.tar", range(4)),
        ("kontext/0/00000.tar", range(4, 8)),
        (".more", range(8, 11)),
    ):
        file = folder / "X2Edit_data" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(file, "w") as archive:
            for number in numbers:
                key = f"{number % 4:09d}"
                said = instruction(number) if number < ROWS else ""
                about = {"instruction": said, "caption": "a box", "model": path.split("/")[0], "label": number,
                         "task": "subject_deletion" if number % 2 else "color_change",
                         "aesthetic_score": 4.0 + number / 10, "liqe_score": 3.5}  # fmt: skip
                # both spellings are about
                add(archive, f"{key}.{'1.0' if number % 3 == 0 else '1'}.jpg", encoded(picture(number, False)))
                add(archive, f"{key}.2.jpg", encoded(picture(number, True)))
                if number % 2:
                    add(archive, f"{key}.3.jpg", encoded(mask()))
                add(archive, f"{key}.json", json.dumps(about).encode())
                add(archive, f"{key}.txt", said.encode())
    more = folder / "X2Edit_data/.more"
    with (folder / "X2Edit_data/kontext/0/00000.tar").open("ab") as joined:
        joined.write(more.read_bytes())
    more.unlink()
    return folder


def gpt_image_edit(folder: Path) -> Path:
    entries = []
    for number in range(ROWS):
        names = [f"{number:06d}_{kind}.png" for kind in ("input", "output")]
        for name, edited in zip(names, (False, True), strict=True):
            put(folder / "omniedit" / name, number, edited)
        turns = [{"from": "human", "value": f"<image>\n{instruction(number)}"}, {"from": "gpt", "value": "<image>"}]
        entries.append({"image": names, "conversations": turns})
    entries.append({"image": ["000000_output.png"], "conversations": turns})  # generated from words: no edit
    (folder / "training_json").mkdir()
    (folder / "training_json/omniedit.json").write_text(json.dumps(entries))
    (folder / "data.txt").write_text("omniedit,training_json/omniedit.json,false\n")
    return folder


def openve(folder: Path) -> Path:
    rows = []
    for number in range(ROWS):
        names = [f"videos/{kind}/{number}.mp4" for kind in ("original", "edited")]
        for name, edited in zip(names, (False, True), strict=True):
            put_clip(folder / name, number, edited)
        rows.append({"original_video": names[0], "video": names[1], "prompt": instruction(number),
                     "category": "local_change"})  # fmt: skip
    write_csv(folder / "local_change.csv", rows)
    return folder


def ditto(folder: Path) -> Path:
    entries = []
    for number in range(ROWS):
        names = [f"{kind}/{number}.mp4" for kind in ("source", "local")]
        for name, edited in zip(names, (False, True), strict=True):
            put_clip(folder / "videos" / name, number, edited)
        entries.append({"source_path": names[0], "edited_path": names[1], "instruction": instruction(number),
                        "source_caption": "a box"})  # fmt: skip
    (folder / "training_metadata").mkdir()
    (folder / "training_metadata/local.json").write_text(json.dumps(entries, indent=4))
    return folder


def magicbrush(folder: Path) -> Path:
    images = ("source_img", "mask_img", "target_img")
    rows = [
        {"img_id": str(number), "turn_index": 1, "source_img": encoded(picture(number, False), "PNG"), "mask_img":
         encoded(mask(), "PNG"), "instruction": instruction(number),
         "target_img": encoded(picture(number, True), "PNG")}
        for number in range(ROWS)
    ]  # fmt: skip
    write_parquet(folder / "data/train-00000-of-00001.parquet", rows, images)
    write_parquet(folder / "data/dev-00000-of-00001.parquet", rows[:2], images)
    return folder


def instruct_pix2pix(folder: Path) -> Path:
    rows = [
        {"original_prompt": "a box", "original_image": encoded(picture(number, False)), "edit_prompt":
         instruction(number), "edited_prompt": f"a box, {number}", "edited_image": encoded(picture(number, True))}
        for number in range(ROWS)
    ]  # fmt: skip
    write_parquet(folder / "data/train-00000-of-00001.parquet", rows, ("original_image", "edited_image"))
    return folder


def other(folder: Path) -> Path:
    """A set that nobody here knows; `COLUMNS` says what its names mean."""
    lines = []
    for number in range(ROWS):
        put(folder / f"img/{number}_a.png", number, False)
        put(folder / f"img/{number}_b.png", number, True)
        lines.append({"before": f"img/{number}_a.png", "after": f"img/{number}_b.png", "text": instruction(number),
                      "score": number})  # fmt: skip
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "list.jsonl"


COLUMNS = {"source": "before", "target": "after", "instruction": "text"}
# name -> how it is made, what it is called when it is met, and whether it is of videos
SETS: dict[str, tuple[Callable[[Path], Path], str, bool]] = {
    "own": (own, "own pairs", False),
    "kiwi-images": (kiwi_images, "pairs of videos", False),
    "kiwi-videos": (kiwi_videos, "pairs of videos", True),
    "refvie": (refvie, "pairs of videos", True),
    "nhr-edit": (nhr_edit, "NHR-Edit", False),
    "nhr-edit-parquet": (nhr_edit_parquet, "NHR-Edit", False),
    "x2edit": (x2edit, "X2Edit", False),
    "gpt-image-edit": (gpt_image_edit, "GPT-Image-Edit-1.5M", False),
    "openve": (openve, "OpenVE-3M", True),
    "ditto": (ditto, "Ditto-1M", True),
    "magicbrush": (magicbrush, "MagicBrush", False),
    "instruct-pix2pix": (instruct_pix2pix, "InstructPix2Pix", False),
    "other": (other, "columns 'before', 'after', 'text'", False),
}


def make(name: str, folder: Path) -> Path:
    """Write a set; returns what a config's `data.table` is to be."""
    folder.mkdir(parents=True, exist_ok=True)
    return SETS[name][0](folder)


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every set, ten rows each; read-only."""
    root = tmp_path_factory.mktemp("sets")
    return {name: make(name, root / name) for name in SETS}


def config(table: Path, name: str = "", **changes: Any) -> DataConfig:
    columns = COLUMNS if name == "other" else {}
    return DataConfig(table=str(table), **{"columns": columns, "lengths": (5,), "sizes": ((64, 64),), **changes})


def rows_of(table: Table) -> list[Row | Broken | None]:
    return [row for shard in range(len(table.parts)) for _, row in table.rows(shard)]


def long_csv(folder: Path, rows: int) -> Path:
    put(folder / "a.png", 0, False)
    put(folder / "b.png", 0, True)
    lines = "".join(f"a.png,b.png,number {number}\n" for number in range(rows))
    (folder / "pairs.csv").write_text("source,target,instruction\n" + lines)
    return folder / "pairs.csv"


if __name__ == "__main__":
    for each in SETS:
        print(make(each, Path(sys.argv[1]) / each))
