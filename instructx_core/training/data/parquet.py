"""Stream Parquet files through `datasets`; a shard is one row group.

The library's own builder gets one local file and plain types: types of `datasets` that the file declares (pictures to
decode, and so on) are ignored. Nothing is looked up on a hub.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from ...bounded import UnreadableError, open_regular
from ...errors import InputError
from ...words import one_line, quoted, quoted_path
from .extras import library, scratch
from .rows import Record, RowError, Shard

AT_ONCE = 16  # rows decoded at a time
LARGEST_GROUP = 4 << 30  # bytes of a row group, decompressed
WHAT = "Parquet files"


@dataclass(frozen=True)
class ParquetShard:
    """A row group."""

    path: Path
    group: int
    before: int  # rows of the file in earlier groups
    size: int
    columns: tuple[str, ...]
    name: str
    kinds: frozenset[bool] = field(default=frozenset({False}))
    told: bool = False

    def records(self, start: int) -> Iterator[Record]:
        try:
            stream = _stream(self.path, self.columns)
            rows = iter(stream.shard(num_shards=stream.num_shards, index=self.group).skip(start))
        except Exception as error:  # the library raises all kinds of errors
            raise RowError(f"it cannot be read ({one_line(error, 150)})") from error
        for number in count(start):
            try:
                fields = next(rows, None)
            except Exception as error:
                raise RowError(
                    f"it cannot be read from row {self.before + number + 1} on ({one_line(error, 150)})"
                ) from error
            if fields is None:
                return
            yield Record(f"Row {self.before + number + 1} of {quoted(self.path.name)}", _plain(fields))


def parquet_columns(path: Path) -> tuple[str, ...]:
    """The column names of a file. Raises InputError if it cannot be read."""
    return tuple(_metadata(path).schema.to_arrow_schema().names)


def parquet_texts(path: Path) -> set[str]:
    """The names of the text columns. Raises InputError if the file cannot be read."""
    types = library("pyarrow.types", WHAT)
    return {
        each.name
        for each in _metadata(path).schema.to_arrow_schema()
        if types.is_string(each.type) or types.is_large_string(each.type)
    }


def parquet_shards(path: Path, columns: Sequence[str], kinds: frozenset[bool]) -> tuple[list[Shard], int]:
    """The row groups of a file, and its total number of rows.

    Args:
        columns: the columns to read.
        kinds: what its rows may hold, as in `Shard`.

    Raises:
        InputError: the file cannot be read, or a row group is too large.
    """
    if "::" in str(path) or "://" in str(path):
        raise InputError(f"{quoted_path(path)}: `datasets` takes a path with '::' or '://' for a URL; rename it.")
    metadata = _metadata(path)
    shards: list[Shard] = []
    before = 0
    for group in range(metadata.num_row_groups):
        about = metadata.row_group(group)
        if about.total_byte_size > LARGEST_GROUP:
            raise InputError(
                f"{quoted_path(path)}: one of its row groups has {about.total_byte_size >> 30} GiB; rewrite it with "
                "fewer rows per group."
            )
        name = f"row group {group + 1} of {quoted(path.name)}"
        shards.append(ParquetShard(path, group, before, about.num_rows, tuple(columns), name, kinds))
        before += about.num_rows
    return shards, before


def _metadata(path: Path) -> Any:
    parquet = library("pyarrow.parquet", WHAT)
    try:
        with open_regular(path) as file:
            return parquet.read_metadata(file)
    except UnreadableError as error:
        raise InputError(f"The table {quoted_path(path)} cannot be read: {error.reason}.") from error
    except Exception as error:  # Arrow has many error types of its own
        raise InputError(
            f"{quoted_path(path)} is not a Parquet file, or is damaged ({one_line(error, 150)})."
        ) from error


@lru_cache(8)
def _stream(path: Path, columns: tuple[str, ...]) -> Any:
    """A file's rows, one shard per row group."""
    datasets = library("datasets", WHAT)
    files = library("datasets.data_files", WHAT)
    builders = library("datasets.packaged_modules.parquet.parquet", WHAT)
    schema = _metadata(path).schema.to_arrow_schema().remove_metadata()
    features = datasets.Features.from_arrow_schema(schema)
    builder = builders.Parquet(
        cache_dir=scratch().name,
        # built directly, so that a name with brackets is not taken for a pattern
        data_files=files.DataFilesDict({"train": files.DataFilesList([str(path.absolute())], [("local",)])}),
        hash="local",
        columns=list(columns),
        features=datasets.Features({name: features[name] for name in columns}),
        batch_size=AT_ONCE,
    )
    return builder.as_streaming_dataset(split="train").reshard()


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Replace pictures, which `datasets` gives as {bytes, path}, by their bytes or else their path."""
    return {
        name: (value["bytes"] or value["path"])
        if isinstance(value, dict) and {"bytes", "path"} == set(value)
        else value
        for name, value in fields.items()
    }
