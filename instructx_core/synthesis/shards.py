"""Shards: the pairs of several clips in one file, in a form that `training/data` reads directly."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..atomic import flush, partial_file
from ..bounded import parse_json, read_bytes, read_text
from ..errors import InputError
from ..training.data.extras import library
from ..words import one_line, quoted_path
from .config import Form
from .manifest import MEDIA as FOLDER

SUFFIXES: dict[Form, str] = {"parquet": ".parquet", "webdataset": ".tar", "records": ".jsonl"}
MEDIA = ("source", "target", "reference", "mask")
TEXTS = ("instruction", "caption", "task", "clip", "key", "reason", "instructions", "about")
SCORES = ("detection", "area", "seen", "change", "fit", "outside", "follow", "preserve", "quality")
LARGEST = 2 << 30  # bytes per packed file
Row = dict[str, Any]  # media are file names when writing, bytes when reading


def write_shard(form: Form, path: Path, rows: Sequence[Row], folders: Sequence[Path]) -> list[str]:
    """Write a shard atomically. The media of row i are in `folders[i]`.

    Returns:
        The media files that were put next to the shard, by the names with which it refers to them.
    """
    writer: dict[Form, Callable[[Path, Path, Sequence[Row], Sequence[Path]], list[str]]] = {
        "parquet": _write_parquet,
        "webdataset": _write_tar,
        "records": _write_records,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(path) as partial:
        beside = writer[form](partial, path.parent / FOLDER, rows, folders)
        flush(partial)  # the packed clips are deleted afterwards
    return beside


def read_shard(form: Form, path: Path) -> Iterator[Row]:
    """The rows of a shard, with media as bytes. Raises InputError if it has another form or cannot be read."""
    if path.suffix != SUFFIXES[form]:
        raise InputError(f"{quoted_path(path)} does not have form: {form}; give the config that it was made with.")
    try:
        yield from _rows_of(form, path)
    except (OSError, KeyError, TypeError, ValueError, tarfile.TarError) as error:  # pyarrow's errors are ValueErrors
        if isinstance(error, InputError):
            raise
        raise InputError(f"{quoted_path(path)} cannot be read ({one_line(error, 200)}).") from error


def _rows_of(form: Form, path: Path) -> Iterator[Row]:
    if form == "parquet":
        parquet = library("pyarrow.parquet", "Parquet shards")
        for row in parquet.read_table(path).to_pylist():
            yield row | {name: _bytes(path, row[name]) for name in MEDIA}
    elif form == "webdataset":
        yield from _read_tar(path)
    else:
        for line in read_text(path, LARGEST).split("\n")[:-1]:
            row = parse_json(line, "a record")
            names = {"source": row["origin_img_path"], "target": row["target_img_path"], "mask": row["mask_img_path"]}
            media = {name: _bytes(path, names.get(name)) for name in MEDIA}
            yield row | media | {"instruction": " | ".join(row["instruction"]), "task": row["task_type"]}


def _bytes(shard: Path, value: str | bytes | None) -> bytes | None:
    if not value:  # records name missing media ""
        return None
    return read_bytes(shard.parent / value, LARGEST) if isinstance(value, str) else value


def _write_parquet(path: Path, media: Path, rows: Sequence[Row], folders: Sequence[Path]) -> list[str]:
    """Pictures are embedded. If there are clips, all media are separate files that the shard refers to by name."""
    arrow = library("pyarrow", "Parquet shards")
    parquet = library("pyarrow.parquet", "Parquet shards")
    clips = any(str(row.get("source")).endswith(".mp4") for row in rows)
    schema = arrow.schema(
        [(name, arrow.string() if clips else arrow.binary()) for name in MEDIA]
        + [(name, arrow.string()) for name in TEXTS]
        + [(name, arrow.float64()) for name in SCORES]
    )
    table, beside = [], []
    for row, folder in zip(rows, folders, strict=True):
        files = {name: row[name] for name in MEDIA if row.get(name)}
        if clips:
            files = {name: _beside(folder / file, media) for name, file in files.items()}
            beside += files.values()
        else:
            files = {name: read_bytes(folder / file, LARGEST) for name, file in files.items()}
        table.append({name: files.get(name) for name in MEDIA} | _texts(row) | _scores(row))
    parquet.write_table(arrow.Table.from_pylist(table, schema), path, row_group_size=64)
    return beside


def _write_tar(path: Path, media: Path, rows: Sequence[Row], folders: Sequence[Path]) -> list[str]:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for row, folder in zip(rows, folders, strict=True):
            for name in MEDIA:
                if row.get(name):
                    _add(archive, row[name], read_bytes(folder / row[name], LARGEST))
            told = _texts(row) | {name: value for name, value in _scores(row).items() if value is not None}
            _add(archive, f"{row['key']}.json", json.dumps(told).encode())
    return []


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _read_tar(path: Path) -> Iterator[Row]:
    row: Row = {}
    with tarfile.open(path, "r:") as archive:
        for info in archive:
            file = archive.extractfile(info)
            data = file.read() if file else b""
            kind = info.name.split(".")[1]
            if kind == "json":
                yield {name: row.get(name) for name in MEDIA} | parse_json(data, info.name)
                row = {}
            else:
                row[kind] = data


def _write_records(path: Path, media: Path, rows: Sequence[Row], folders: Sequence[Path]) -> list[str]:
    """Write records in the format in which AdvancedEdit is published."""
    lines, beside = [], []
    for row, folder in zip(rows, folders, strict=True):
        files = {name: _beside(folder / row[name], media) for name in MEDIA if row.get(name)}
        beside += files.values()
        scores = row["scores"]
        record = {
            "target_img_path": files.get("target", ""),
            "origin_img_path": files.get("source", ""),
            "mask_img_path": files.get("mask", ""),
            "instruction": list(row["instructions"]),
            "task_type": row["task"],
            **row["about"],
            "qwen_VIE_SC": [scores.get("follow"), scores.get("preserve")],
            "qwen_VIE_PQ": [scores.get("quality")],
            "key": row["key"],
            "clip": row["clip"],
            "reason": row["reason"],
        }
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
    return beside


def _beside(file: Path, media: Path) -> str:
    """Hard-link a file into the media folder, or copy it if that fails; return the name by which shards refer to it."""
    media.mkdir(parents=True, exist_ok=True)
    with partial_file(media / file.name) as partial:
        try:
            os.link(file, partial)
        except OSError:
            shutil.copyfile(file, partial)
        flush(partial)
    return f"{FOLDER}/{file.name}"


def _texts(row: Row) -> dict[str, str]:
    plain = {name: row[name] for name in ("caption", "task", "clip", "key", "reason")}
    return plain | {
        "instruction": row["instructions"][0] if row["instructions"] else "",
        "instructions": json.dumps(row["instructions"], ensure_ascii=False),
        "about": json.dumps(row["about"], ensure_ascii=False),
    }


def _scores(row: Row) -> dict[str, float | None]:
    return {name: row["scores"].get(name) for name in SCORES}
