"""One's own pairs: files listed in a CSV with columns source, target, instruction, and may be reference, caption."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..bounded import UnreadableError, is_file, open_regular
from ..errors import InputError
from ..fit import fit_reference, plan_fit
from ..source import load_references, load_source
from ..words import one_line, quoted, quoted_path
from .config import DataConfig
from .examples import Example

NEEDED = ("source", "target", "instruction")
KNOWN = (*NEEDED, "reference", "caption")
LONGEST_FIELD = 1 << 17  # characters, the csv module's own bound


@dataclass(frozen=True)
class Row:
    """One pair of a table, its files found but not read."""

    line: int
    source: Path
    target: Path
    references: tuple[Path, ...]
    instruction: str
    caption: str


def check_table(table: Path) -> list[Row]:
    """Read a table and look whether its files are there; none is opened.

    Paths are relative to the table; several references are separated by ";". UTF-8, with or without a byte order mark.

    Raises:
        InputError: no such table, one that is no CSV of these columns, or a row that lacks something.
    """
    rows = []
    for line, fields in _read(table):
        what = f"Line {line} of {quoted_path(table)}"
        if None in fields:
            raise InputError(f"{what} has more fields than the first line has names; put texts with commas in quotes.")
        row = {name: (fields.get(name) or "").strip() for name in KNOWN}
        if missing := [name for name in NEEDED if not row[name] and not (name == "instruction" and row["caption"])]:
            raise InputError(f"{what} has no {missing[0]}.")
        references = [part.strip() for part in row["reference"].split(";") if part.strip()]
        files = [table.parent / name for name in (row["source"], row["target"], *references)]
        for file in files:
            if not is_file(file):
                raise InputError(f"{what}: there is no file {quoted_path(file)}.")
        rows.append(Row(line, files[0], files[1], tuple(files[2:]), row["instruction"], row["caption"]))
    if not rows:
        raise InputError(f"{quoted_path(table)} has no rows; give a CSV with columns {', '.join(NEEDED)}.")
    return rows


def table_examples(
    table: Path, rows: list[Row], data: DataConfig, stride: int, frame_multiple: int
) -> Iterator[Example]:
    """The pairs of `rows`. Frames are brought to the area of the first size of the config, clips cut to its longest.

    Raises:
        InputError: a file that cannot be read, or a source and a target of different size or length; with its line.
    """
    area, longest = data.sizes[0][0] * data.sizes[0][1], max(data.lengths)
    for row in rows:
        try:
            source = load_source(row.source)
            target = load_source(row.target)
            references = load_references(row.references)
            for name, first, second in (
                ("length", *(f"{len(frames)} frames" for frames in (source.frames, target.frames))),
                ("size", *(f"{f.shape[2]} x {f.shape[1]}" for f in (source.frames, target.frames))),
            ):
                if first != second:
                    raise InputError(f"source and target differ in {name} ({first} and {second})")
        except InputError as error:
            raise InputError(f"Line {row.line} of {quoted_path(table)}: {one_line(error)}") from error
        frames = min(len(source.frames), longest)
        fit = plan_fit(frames, tuple(source.frames.shape[1:3]), stride, frame_multiple, area)
        yield Example(
            source=fit.apply(source.frames[:frames]),
            target=fit.apply(target.frames[:frames]),
            references=tuple(fit_reference(image, fit.canvas) for image in references),
            instruction=row.instruction,
            caption=row.caption,
            is_video=source.is_video,
            name=f"line {row.line} of {table.name}",
        )


def _read(table: Path) -> Iterator[tuple[int, dict[str | None, str]]]:
    """The rows of a CSV behind its line of names, each with the number of its (last) line."""
    try:
        file = open_regular(table)
    except UnreadableError as error:
        raise InputError(
            f"The table {quoted_path(table)} cannot be read: {error.reason}; give a CSV with columns "
            f"{', '.join(NEEDED)}."
        ) from error
    # undecodable bytes become lone surrogates, so that the line with them can be named
    with file:
        lines = (line.decode("utf-8-sig" if number == 0 else "utf-8", "surrogateescape") for number, line in
                 enumerate(_lines(file, table)))  # fmt: skip
        reader = csv.DictReader(lines)
        try:
            names = reader.fieldnames or []
            if not set(NEEDED) <= set(names) or len(set(names)) < len(names):
                raise InputError(
                    f"{quoted_path(table)} needs the columns {', '.join(NEEDED)}, each once (and may have reference "
                    f"and caption); its first line is {quoted(','.join(names))}."
                )
            for fields in reader:
                if any(not _is_text(text) for text in fields.values() if isinstance(text, str)):
                    raise InputError(f"Line {reader.line_num} of {quoted_path(table)} is not UTF-8; save it as UTF-8.")
                yield reader.line_num, fields
        except csv.Error as error:
            raise InputError(
                f"Line {reader.line_num + 1} of {quoted_path(table)} is no CSV: {one_line(error, 100)}."
            ) from error


def _lines(file: object, table: Path) -> Iterator[bytes]:
    """Lines of bounded length."""
    while line := file.readline(4 * LONGEST_FIELD * len(KNOWN)):
        if len(line) == 4 * LONGEST_FIELD * len(KNOWN):
            raise InputError(f"{quoted_path(table)} is no CSV: a line in it is longer than any row.")
        yield line


def _is_text(text: str) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for letter in text)
