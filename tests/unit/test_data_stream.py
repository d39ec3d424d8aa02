"""Rows of a table without end: order, shares, positions, memory, and rows that are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from instructx_core.errors import InputError
from instructx_core.training.data.feed import Batches
from instructx_core.training.data.opening import open_table
from instructx_core.training.data.pixels import read_example
from instructx_core.training.data.rows import Row
from instructx_core.training.data.stream import RowStream
from instructx_core.training.data.table import Broken, Table
from instructx_core.training.data.tally import Tally
from support import public_sets
from support.public_sets import config, long_csv, rows_of
from support.training_runs import environment


def stream(table: Table, seed: int = 0, share: tuple[int, int] = (0, 1), **changes: Any) -> RowStream:
    return RowStream(table, Tally(table.path, 0.05, table.total), seed, share, **changes)


def take(rows: RowStream, count: int) -> list[str]:
    return [next(rows)[1].instruction for _ in range(count)]


@pytest.fixture
def long_table(tmp_path: Path) -> Table:
    """1,200 rows of the same two pictures, in five shards."""
    return open_table(config(long_csv(tmp_path / "long", 1200)))


def test_an_epoch_has_every_row_once_in_an_order_of_the_seed(long_table: Table) -> None:
    first, again, other = (stream(long_table, seed) for seed in (0, 0, 1))
    epochs = [take(first, 1200) for _ in range(2)]
    for epoch in epochs:
        assert Counter(epoch) == Counter(f"number {number}" for number in range(1200))
    assert epochs[0] != epochs[1]
    assert take(again, 1200) == epochs[0] != take(other, 1200)
    numbers = [int(text.split()[1]) for text in epochs[0]]
    assert sum(abs(a - b) == 1 for a, b in pairwise(numbers)) < 30  # neighbours are torn apart


@pytest.mark.parametrize("processes", [1, 3])
def test_processes_share_an_epoch(processes: int, long_table: Table) -> None:
    """By shards where there are enough of them, by rows where there are not."""
    found: list[str] = []
    for process in range(processes):
        rows = stream(long_table, 3, (process, processes))
        while True:
            _, row = next(rows)
            if rows.epoch:
                break
            found.append(row.instruction)
    assert Counter(found) == Counter(f"number {number}" for number in range(1200))


@pytest.mark.parametrize("at", [0, 511, 700, 1199, 1200, 1300])
def test_a_position_is_exact(at: int, long_table: Table) -> None:
    first = stream(long_table, 5)
    take(first, at)
    position = json.loads(json.dumps(first.position()))
    second = stream(long_table, 5)
    second.go_to(position)
    assert take(second, 400) == take(first, 400)


@pytest.mark.parametrize("name", ["x2edit", "magicbrush", "ditto", "nhr-edit"])
def test_positions_in_every_kind_of_file(name: str, sets: dict[str, Path]) -> None:
    for at in (3, 10, 17):
        first = stream(open_table(config(sets[name])), 5)
        take(first, at)
        second = stream(open_table(config(sets[name])), 5)
        second.go_to(json.loads(json.dumps(first.position())))
        assert take(second, 25) == take(first, 25)


def test_a_table_that_changed_is_named(long_table: Table, tmp_path: Path) -> None:
    first = stream(long_table)
    take(first, 10)
    short = stream(open_table(config(long_csv(tmp_path / "short", 300))))
    with pytest.raises(InputError, match="is not what this run was reading"):
        short.go_to(first.position())


PEAK = """
import resource, sys
from instructx_core.training.config import DataConfig
from instructx_core.training.data.feed import Batches
from instructx_core.training.data.opening import open_table
from instructx_core.training.data.stream import RowStream
from instructx_core.training.data.tally import Tally
table = open_table(DataConfig(table=sys.argv[1]))
rows = RowStream(table, Tally(table.path, 0.05, table.total), 0)
for _ in range(2000):
    next(rows)
rows.position()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_a_run_that_goes_on_with_smaller_batches_gets_no_larger_ones(long_table: Table) -> None:
    """Six examples wait for a batch of eight; of four they come as fours."""

    def batches(rows: RowStream, size: int) -> Batches:
        read = partial(read_example, data=config(long_table.path), stride=16, frame_multiple=4)
        return Batches(rows, read, lambda *_: size, 1)

    before = batches(stream(long_table), 8)
    for _ in range(6):
        before._begin(*next(before.stream), again=False)
        before._add(*before._finish())
    after = batches(stream(long_table), 4)
    after.go_to(before.position())
    assert [len(after.take()) for _ in range(6)] == [4] * 6
    assert sum(len(held) for held in after.waiting.values()) <= 4


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """A smaller form of benchmarks/reader_memory.py, which trains."""
    peaks = []
    for rows in (1_000, 20_000):
        path = long_csv(tmp_path / str(rows), rows)
        command = [sys.executable, "-c", PEAK, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] <= 1.05 * peaks[0], peaks


# --- broken rows


def test_broken_rows_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    path = long_csv(tmp_path / "set", 1000)
    with path.open("a") as file:
        file.write("".join(f"a.png,none-{number}.png,x\n" for number in range(40)))
    table = open_table(config(path))
    tally = Tally(path, 0.05, table.total)
    tally.list_in(tmp_path / "run/broken-rows.txt")
    rows = RowStream(table, tally, 0)
    assert len(set(take(rows, 1000))) == 1000
    assert (tally.broken, tally.seen) == (40, 1040)
    take(rows, 1000)
    lines = (tmp_path / "run/broken-rows.txt").read_text().splitlines()
    assert len(lines) == 40 and all("there is no file" in line for line in lines)


def test_too_many_broken_rows_stop_the_run_with_the_first_ten(tmp_path: Path) -> None:
    path = long_csv(tmp_path / "set", 300)
    with path.open("a") as file:
        file.write("".join(f"a.png,none-{number}.png,x\n" for number in range(40)))
    table = open_table(config(path))
    with pytest.raises(InputError) as refused:
        take(RowStream(table, Tally(path, 0.05, table.total), 0), 340)
    message = str(refused.value)
    assert message.count("there is no file") == 10 and "data.broken allows 0.05 of them" in message
    assert len(message) <= 1500
    take(RowStream(table, Tally(path, 0.2, table.total), 0), 340)


def test_a_damaged_line_of_any_listing_is_one_broken_row(sets: dict[str, Path], tmp_path: Path) -> None:
    lines = sets["other"].read_text().splitlines()
    lines[3], lines[5], lines[7] = lines[3][:20], "[" * 100_000, '"words"'
    root = {"root": str(sets["other"].parent)}
    (tmp_path / "list.jsonl").write_text("\n".join(lines))
    rows = rows_of(open_table(config(tmp_path / "list.jsonl", "other", **root)))
    assert [isinstance(row, Row) for row in rows] == [True] * 3 + [False, True, False, True, False, True, True]
    text = "[" + ",".join(sets["other"].read_text().splitlines()) + "]"
    for content, whole in ((text, 10), (text[: len(text) // 2], 4), (text.replace("img/3_a", "img/\\ud800"), 9)):
        (tmp_path / "list.json").write_text(content)
        rows = rows_of(open_table(config(tmp_path / "list.json", "other", **root)))
        assert sum(isinstance(row, Row) for row in rows) == whole
        assert sum(isinstance(row, Broken) for row in rows) == (whole < 10)


def test_a_damaged_archive_or_parquet_file_loses_its_end_alone(tmp_path: Path) -> None:
    folder = public_sets.make("x2edit", tmp_path / "tars")
    first = min(folder.rglob("*.tar"))
    os.truncate(first, first.stat().st_size // 2)
    rows = rows_of(open_table(config(folder)))
    assert 5 < sum(isinstance(row, Row) for row in rows) < 10
    assert any(isinstance(row, Broken) and "cut off" in row.words for row in rows)
    folder = public_sets.make("nhr-edit-parquet", tmp_path / "parquet")
    path = next(folder.rglob("*.parquet"))
    content = bytearray(path.read_bytes())
    content[4:100] = bytes(96)
    path.write_bytes(content)
    rows = rows_of(open_table(config(folder)))
    assert sum(isinstance(row, Row) for row in rows) == 6
    assert [isinstance(row, Broken) for row in rows] == [True] * 4 + [False] * 6


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (((96, 64), (48, 32)), ""),
        (((96, 64), (97, 64)), ""),
        (((1000, 667), (512, 341)), ""),
        (((96, 64), (64, 64)), r"differ in size \(96 x 64 and 64 x 64\), and not by a factor alone"),
        (((96, 64), (64, 96)), "differ in size"),
        (((96, 64), (100, 64)), "differ in size"),
    ],
)
def test_targets_of_another_shape(sizes: Any, words: str, tmp_path: Path) -> None:
    from PIL import Image

    for name, size in zip("ab", sizes, strict=True):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    (tmp_path / "pairs.csv").write_text("source,target,instruction\na.png,b.png,x\n")
    data = config(tmp_path / "pairs.csv")
    (row,) = rows_of(open_table(data))
    if words:
        with pytest.raises(Exception, match=words):
            read_example(row, data, 16, 4)
    else:
        example = read_example(row, data, 16, 4)
        assert example.source.shape == example.target.shape
