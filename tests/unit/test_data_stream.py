"""Rows of a table without end: order, shares, positions, memory, and rows that are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.training.data import stream as streaming
from instructx_core.training.data.feed import Batches
from instructx_core.training.data.opening import open_table
from instructx_core.training.data.pixels import read_example
from instructx_core.training.data.rows import Row, RowError
from instructx_core.training.data.sources import first_examples, held_out_rows
from instructx_core.training.data.stream import RowStream
from instructx_core.training.data.table import Broken, Table
from instructx_core.training.data.tally import Tally
from instructx_core.video import VideoWriter
from support import public_sets
from support.public_sets import config, long_csv, rows_of
from support.training_runs import environment


def stream(table: Table, seed: int = 0, share: tuple[int, int] = (0, 1), **changes: Any) -> RowStream:
    return RowStream(table, Tally(table.path, 0.05, table.total), seed, share, **changes)


def take(rows: RowStream, count: int) -> list[str]:
    return [next(rows)[1].instruction for _ in range(count)]


def one_epoch(rows: RowStream) -> list[str]:
    """The rest of an epoch."""
    found: list[str] = []
    while True:
        _, row = next(rows)
        if rows.epoch:
            return found
        found.append(row.instruction)


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
        found += one_epoch(stream(long_table, 3, (process, processes)))
    assert Counter(found) == Counter(f"number {number}" for number in range(1200))


def test_rows_at_a_regular_distance_are_shared_by_all_processes(tmp_path: Path) -> None:
    """A filter takes every second row of one shard, and there are two processes."""
    long_csv(tmp_path, 1)
    rows = [{"source": "a.png", "target": "b.png", "instruction": f"{n}", "task": "ab"[n % 2]} for n in range(200)]
    table = open_table(config(public_sets.write_csv(tmp_path / "tasks.csv", rows), filters={"task": ("a",)}))
    shares = [one_epoch(stream(table, 0, (process, 2))) for process in range(2)]
    assert Counter(shares[0] + shares[1]) == Counter(f"{number}" for number in range(0, 200, 2))
    assert all(len(share) > 30 for share in shares)


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


def archives(folder: Path, *samples: int) -> Path:
    """Archives of so many samples each, all but the last cut off in their last one."""
    folder.mkdir()
    for number, count in enumerate(samples):
        with tarfile.open(folder / f"{number}.tar", "w") as archive:
            for sample in range(count):
                for name in ("source.png", "target.png", "json"):
                    public_sets.add(archive, f"{sample}.{name}", b'{"instruction": "x"}')
            end = archive.offset
        if number < len(samples) - 1:
            os.truncate(folder / f"{number}.tar", end - 700)
    return folder


def test_positions_in_archives_that_are_cut_off(tmp_path: Path, monkeypatch) -> None:
    """An archive whose end was met and counted stays so, and what is left of an epoch does not judge the table."""
    monkeypatch.setattr(streaming, "BUFFER", 2)
    monkeypatch.setattr(streaming, "OPEN", 2)
    table = open_table(config(archives(tmp_path / "set", 3, 4, 5, 6)))
    for at in (5, 12):
        first, second = (RowStream(table, Tally(table.path, 0.4, None), 3) for _ in range(2))
        take(first, at)
        second.go_to(json.loads(json.dumps(first.position())))
        addresses, again = ([next(rows)[0] for _ in range(10)] for rows in (first, second))
        assert addresses == again, at


def test_a_table_that_changed_is_named(long_table: Table, tmp_path: Path) -> None:
    first = stream(long_table)
    take(first, 10)
    short = stream(open_table(config(long_csv(tmp_path / "short", 300))))
    with pytest.raises(InputError, match="is not what this run was reading"):
        short.go_to(first.position())


def test_a_table_that_grew_is_named(tmp_path: Path) -> None:
    """Another number of shards is another order, in which some rows would come twice and others never."""
    first = stream(open_table(config(long_csv(tmp_path, 1200))))
    take(first, 600)
    for rows in (1456, 1201):
        grown = stream(open_table(config(long_csv(tmp_path, rows))))
        with pytest.raises(InputError, match=rf"is not what this run was reading \(it had 1200 rows, now {rows}\)"):
            grown.go_to(json.loads(json.dumps(first.position())))


def test_a_changed_seed_and_an_older_position_go_on(long_table: Table) -> None:
    first = stream(long_table, 5)
    take(first, 600)
    position = json.loads(json.dumps(first.position()))
    older = {name: value for name, value in position.items() if name not in ("seed", "shards", "rows")}
    following = take(first, 1000)  # into the next epoch
    for seed, held in ((6, position), (5, older)):
        resumed = stream(long_table, seed)
        resumed.go_to(held)
        assert take(resumed, 1000) == following


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


@pytest.mark.parametrize(("every", "is_refused"), [(5, True), (25, False)])
def test_a_process_tolerates_what_is_broken_of_its_own_rows(every: int, is_refused: bool, tmp_path: Path) -> None:
    """Four processes share 800 rows, of which one in five or in 25 is broken; each reads 200."""
    path = long_csv(tmp_path, 0)
    names = ("none.png" if number % every == 0 else "b.png" for number in range(800))
    path.write_text("source,target,instruction\n" + "".join(f"a.png,{name},x\n" for name in names))
    table = open_table(config(path))
    for process in range(4):
        rows = RowStream(table, Tally(path, 0.05, table.total, 4), 0, (process, 4))
        if is_refused:
            with pytest.raises(InputError, match="data.broken allows 0.05 of them"):
                one_epoch(rows)
        else:
            assert 190 < len(one_epoch(rows)) < 200


def test_broken_rows_among_pictures_and_clips_count_once(tmp_path: Path) -> None:
    """4 % of the rows, whose kind nobody knows, in a table of both kinds, which has a stream for each."""
    long_csv(tmp_path, 1)
    public_sets.put_clip(tmp_path / "a.mp4", 0, False)
    names = ["none.png" if number % 25 == 0 else ("a.png", "a.mp4")[number % 2] for number in range(200)]
    rows = [{"source": name, "target": name, "instruction": f"{number}"} for number, name in enumerate(names)]
    data = config(public_sets.write_csv(tmp_path / "both.csv", rows))
    table, listed = open_table(data), {}
    tallies = {kind: Tally(table.path, 0.05, table.total) for kind in (False, True)}
    for kind, tally in tallies.items():
        tally.list_in(tmp_path / "broken-rows.txt")
        assert len(set(take(RowStream(table, tally, 0, kind=kind, listed=listed), 96))) == 96
        assert (tally.broken, tally.seen) == (8, 200)
    assert len((tmp_path / "broken-rows.txt").read_text().splitlines()) == 8
    short = open_table(config(public_sets.write_csv(tmp_path / "short.csv", [*rows[:1] * 4, *rows[1:25] * 4])))
    found = first_examples(short, data, partial(read_example, data=data, stride=16, frame_multiple=4))
    assert {kind: len(examples) for kind, examples in found.items()} == {False: 10, True: 2}


def test_a_quote_that_is_not_closed_costs_one_row(tmp_path: Path) -> None:
    """At the end of the file, and where the field becomes too long."""
    path = long_csv(tmp_path, 0)
    for words in ("as it is", "long " * 1000):
        path.write_text('source,target,instruction\na.png,b.png,"make it red\n' + f"a.png,b.png,{words}\n" * 40)
        first, *others = rows_of(open_table(config(path)))
        assert isinstance(first, Broken) and first.words.startswith("Line 2 of 'pairs.csv': it")
        assert [row.instruction for row in others] == [words.strip()] * 40
    path.write_text('source,target,instruction\na.png,b.png,"two\nlines"')
    assert rows_of(open_table(config(path)))[-1].instruction == "two\nlines"


def test_blank_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    path = long_csv(tmp_path, 0)
    for blank in ("\n", "\r\n\r\n", "\ufeff\n"):
        path.write_text(f"{blank}source,target,instruction\na.png,b.png,x\nnone.png,b.png,x\n", "utf-8", newline="")
        table = open_table(config(path))
        good, broken = rows_of(table)
        assert table.total == 2 and good.instruction == "x"
        assert broken.words.startswith(f"Line {blank.count(chr(10)) + 3} of 'pairs.csv': there is no file")


def test_a_tenth_of_a_table_is_held_out_at_most(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(50):
            for name in ("source.png", "target.png", "json"):
                public_sets.add(archive, f"{number}.{name}", b"{}")
    assert held_out_rows(open_table(config(path)), 64) == {0: 5}
    for number in range(8):
        long_csv(tmp_path / "set", 13).rename(tmp_path / "set" / f"{number}.csv")
    held = held_out_rows(open_table(config(tmp_path / "set")), 64)
    assert sum(held.values()) == 10 and set(held) == set(range(8))


def test_a_frame_that_the_mllm_cannot_read_is_a_broken_row(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (4000, 10)).save(tmp_path / "a.png")
    (tmp_path / "pairs.csv").write_text("source,target,instruction\na.png,a.png,x\n")
    data = config(tmp_path / "pairs.csv")
    (row,) = rows_of(open_table(data))
    with pytest.raises(RowError, match="4000 x 10 is too narrow"):
        read_example(row, data, 16, 4)


def test_masks_of_clips_filter(tmp_path: Path) -> None:
    long_csv(tmp_path, 1)
    with VideoWriter(tmp_path / "mask.mp4", fps=8) as writer:
        for number in range(4):
            writer.write(torch.full((64, 64, 3), 255 * (number == 0), dtype=torch.uint8))
    (tmp_path / "pairs.csv").write_text("source,target,instruction,mask\na.png,b.png,x,mask.mp4\n")
    for asked, kept in (((0.2, 0.3), True), ((0.3, 1.0), False)):
        (row,) = rows_of(open_table(config(tmp_path / "pairs.csv", filters={"mask": asked})))
        assert isinstance(row, Row) if kept else row is None


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


def test_json_in_a_listing_is_text(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        public_sets.put(tmp_path / name, 0, False)
    lines = [{"1.jpg": "a.png", "2.jpg": "b.png", "json": value} for value in ('{"instruction": "x"}', 5, {}, None)]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    good, number, mapping, none = rows_of(open_table(config(tmp_path / "list.jsonl")))
    assert good.instruction == "x" and none is None  # has no words
    assert [row.words.partition(": ")[2] for row in (number, mapping)] == ["its json is not text"] * 2


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
        (((96, 64), (64, 64)), r"differ in aspect ratio \(96 x 64 and 64 x 64\)"),
        (((96, 64), (64, 96)), "differ in aspect ratio"),
        (((96, 64), (100, 64)), "differ in aspect ratio"),
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
