"""GEdit-Bench: pictures, eleven kinds of edit, English and Chinese, VIEScore.

Layout (stepfun-ai/GEdit-Bench): Parquet files with task_type, key, instruction, instruction_language, input_image_raw,
Intersection_exist; or a list with the same columns whose picture column names files. Languages are averaged separately:
the mean over a kind's cases, then over kinds. `intersection` are the cases that every compared method could edit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...images import read_encoded
from ...words import one_line, quoted, quoted_path
from ..judges import Question
from ..listing import read_rows, text_of
from . import viescore
from .case import Case, Columns, check_cases, one_listing, picture_file, safe_name

USUAL = {
    "key": "key",
    "source": "input_image_raw",
    "instruction": "instruction",
    "group": "task_type",
    "language": "instruction_language",
    "intersection": "Intersection_exist",
}
LANGUAGES = ("en", "cn")
AT_ONCE = 16  # rows of a table in memory


class GEditBench:
    name = "gedit"
    title = "GEdit-Bench"
    count = None
    scores = ("Q_SC", "Q_PQ", "Q_O")
    summaries: Mapping[str, tuple[str, ...]] = {"overall": ()}
    subsets: Mapping[str, Mapping[str, str]] = {
        "English": {"language": "en"},
        "Chinese": {"language": "cn"},
        "English, intersection": {"language": "en", "intersection": "yes"},
        "Chinese, intersection": {"language": "cn", "intersection": "yes"},
    }

    def cases(self, data: Path, columns: Columns, scratch: Path) -> list[Case]:
        names, cases = columns.over(USUAL), []
        tables = [] if columns.table else sorted(data.rglob("*.parquet"))
        rows = (row for table in tables for row in _table_rows(table, names)) if tables else None
        listing = data if tables else one_listing(data, columns.table, ("gedit.jsonl", "metadata.jsonl"), self.title)
        for place, row in columns.seen_in(rows or read_rows(listing), listing):
            language, group = (text_of(row, names[name], place) for name in ("language", "group"))
            if language not in LANGUAGES:  # its scores would be in no table
                raise InputError(f"{place}: the language is {quoted(language)}; give {' or '.join(LANGUAGES)}.")
            key = safe_name(f"{language}-{text_of(row, names['key'], place)}")
            picture = row.get(names["source"])
            if isinstance(picture, dict):
                content = picture.get("bytes")
                if not isinstance(content, bytes):
                    raise InputError(f"{place}: the picture has no bytes; download the table again.")
                source = picture_file(scratch, key, content, partial(read_encoded, content, place))
            else:
                source = listing.parent / text_of(row, names["source"], place)
            shared = "yes" if row.get(names["intersection"]) in (True, "True", "true", 1, "1") else "no"
            instruction = text_of(row, names["instruction"], place)
            tags = {"language": language, "intersection": shared}
            cases.append(Case(key, source, instruction, columns.groups.get(group, group), tags=tags))
        return check_cases(cases, listing)

    def questions(self, case: Case, prompts: Mapping[str, str]) -> list[Question]:
        return viescore.questions(case.instruction)

    def score(self, answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return dict(zip(self.scores, viescore.score(answers), strict=True))


def _table_rows(path: Path, names: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        parquet = import_module("pyarrow.parquet")  # from the extra `data`
    except ImportError as error:
        raise InputError(
            f"Reading {quoted_path(path)} needs pyarrow ({one_line(error, 100)}); run `pip install pyarrow`."
        ) from error
    number = 0
    try:
        file = parquet.ParquetFile(path)
        wanted = [name for name in names.values() if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=AT_ONCE, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield f"Row {number} of {quoted_path(path)}", row
    except (OSError, ValueError, RuntimeError) as error:  # Arrow's errors derive from these
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{quoted_path(path)} is not a Parquet file, or is damaged ({one_line(error, 150)}); download it again."
        ) from error
