"""An endless stream of a table's rows: split among processes, shuffled by a seed, resumable to the row.

An epoch visits the shards in an order drawn from (seed, epoch). A few are open at a time and read in turn into a
buffer, from which rows are drawn at random: so rows mix, files are read from front to back, and memory does not depend
on the size of the data set. A position records the open shards, how far each is read, and the addresses of the buffered
rows, which are read again when a run resumes; also what the order depends on: the seed and the size of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from zlib import crc32

import numpy as np

from ...errors import InputError
from ...words import one_line, quoted_path, shown
from .rows import Address, Row, is_video
from .table import Broken, Table
from .tally import Tally

OPEN = 4  # shards at a time
BUFFER = 512  # rows
BUFFER_BYTES = 64 << 20  # of pictures inside the table
ENOUGH = 4  # shards per process; with fewer, processes split each shard's rows

Entry = tuple[Address, Row]


class RowStream:
    """An endless iterator of (address, row); broken rows are tallied on the way.

    Attributes:
        epoch: how many times the whole share has been read.
    """

    def __init__(
        self,
        table: Table,
        tally: Tally,
        seed: int,
        share: tuple[int, int] = (0, 1),
        takes: Callable[[Address], bool] | None = None,
        kind: bool | None = None,
        listed: dict[int, bool | None] | None = None,
    ) -> None:
        """
        Args:
            share: this process's index, and the number of processes.
            takes: True for the rows to use; None: all.
            kind: only videos (True), only pictures (False), or both (None).
            listed: shard -> the kind of the stream that lists its broken rows; shared by the streams of one table.
        """
        self.table, self.tally, self.seed, self.share = table, tally, seed, share
        self.takes = takes or (lambda address: True)
        self.kind = kind
        self.listed = {} if listed is None else listed
        self.shards = [number for number, part in enumerate(table.parts) if kind is None or kind in part.shard.kinds]
        self.by_shard = len(self.shards) >= ENOUGH * share[1]
        self._begin(0)

    def _begin(self, epoch: int) -> None:
        self.epoch, self.opened, self.drawn, self.turn = epoch, 0, 0, 0
        self._order = self._shard_order()
        self._open: list[list[Any]] = []  # [shard, next row, iterator]
        self._buffer: list[Entry] = []
        self._bytes = 0
        self._given = False  # whether this epoch has yielded a row

    def _shard_order(self) -> list[int]:
        order = _random(self.seed, self.epoch).permutation(len(self.shards)).tolist()
        process, processes = self.share
        return [self.shards[place] for place in (order[process::processes] if self.by_shard else order)]

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        """Raises InputError if a whole epoch has no row, or too many are broken."""
        while True:
            while len(self._buffer) < BUFFER and self._bytes < BUFFER_BYTES and self._pull():
                pass
            if self._buffer:
                break
            if not self._given:
                raise InputError(
                    f"{quoted_path(self.table.path)} has no rows left to train on (process {self.share[0] + 1} of "
                    f"{self.share[1]}); relax data.filters, or use fewer processes."
                )
            self.tally.end_epoch()
            self._begin(self.epoch + 1)
        self._given = True
        place = int(_random(self.seed, self.epoch, self.drawn + 1).integers(len(self._buffer)))
        self.drawn += 1
        self._buffer[place], self._buffer[-1] = self._buffer[-1], self._buffer[place]
        entry = self._buffer.pop()
        self._bytes -= entry[1].nbytes
        return entry

    def _pull(self) -> bool:
        """Read one more row of the next open shard; False at the end of the epoch."""
        while len(self._open) < OPEN and self.opened < len(self._order):
            shard = self._order[self.opened]
            self.opened += 1
            self._open.append([shard, 0, None])
        if not self._open:
            return False
        self.turn %= len(self._open)
        entry = self._open[self.turn]
        if entry[2] is None:
            entry[2] = self.table.rows(entry[0], entry[1])
        address, row = next(entry[2], (None, None))
        if address is None:
            del self._open[self.turn]
            return True
        entry[1] = address.row + 1
        self.turn += 1
        if not (self.by_shard or self._is_own(address)):
            return True
        if isinstance(row, Broken):
            self._skip(address, row.words)
        elif row is not None and self.takes(address):
            try:
                is_wanted = self.kind is None or is_video(row.source) == self.kind
            except InputError as error:
                self._skip(address, f"{row.place}: {one_line(error).rstrip('.')}")
                return True
            self.tally.good()  # the other kind too, since the kind of a broken row is unknown
            if is_wanted:
                self._buffer.append((address, row))
                self._bytes += row.nbytes
        return True

    def _is_own(self, address: Address) -> bool:
        """True for one of every n rows, at a varying position, so that rows which pass a filter at regular intervals do
        not all go to one process."""
        process, processes = self.share
        group, place = divmod(address.row, processes)
        return (place + crc32(f"{address.shard} {group}".encode())) % processes == process

    def _skip(self, address: Address, words: str) -> None:
        """Tally a broken row; it is listed only once over all epochs and streams."""
        lister = self.listed.setdefault(address.shard, self.kind)
        self.tally.skip(words, again=self.epoch > 0 or lister != self.kind)

    def position(self) -> dict[str, Any]:
        """The state of the stream, as plain numbers."""
        return {
            "seed": self.seed,
            "shards": len(self.shards),
            "rows": self.table.total,
            "epoch": self.epoch,
            "opened": self.opened,
            "drawn": self.drawn,
            "turn": self.turn,
            "open": [[shard, row] for shard, row, _ in self._open],
            "buffer": [list(address) for address, _ in self._buffer],
        }

    def go_to(self, position: dict[str, Any]) -> None:
        """Continue from the position of a stream with the same table and share, and with its seed.

        Raises:
            InputError: the table has another number of rows, or a buffered row no longer exists.
        """
        for name, now in (("rows", self.table.total), ("shards", len(self.shards))):
            before = position.get(name, now)  # older positions lack it
            if before != now:
                raise _changed(self.table, f"it had {shown(before)} {name}, now {now}")
        self.seed = position.get("seed", self.seed)
        self._begin(position["epoch"])
        self.tally.go_on()
        self.opened, self.drawn, self.turn = position["opened"], position["drawn"], position["turn"]
        self._open = [[shard, row, None] for shard, row in position["open"]]
        self._given = self.drawn > 0
        self._buffer = reread(self.table, [Address(*address) for address in position["buffer"]])
        self._bytes = sum(row.nbytes for _, row in self._buffer)


def reread(table: Table, addresses: list[Address]) -> list[Entry]:
    """Read rows again that were good before, each shard once. Raises InputError if one no longer exists."""
    wanted: dict[int, set[int]] = {}
    for address in addresses:
        wanted.setdefault(address.shard, set()).add(address.row)
    found: dict[Address, Row] = {}
    for shard, rows in wanted.items():
        if shard >= len(table.parts):
            continue
        for address, row in table.rows(shard, min(rows)):
            if address.row in rows and isinstance(row, Row):
                found[address] = row
            if address.row >= max(rows):
                break
    if missing := [address for address in addresses if address not in found]:
        raise _changed(table, f"{len(missing)} rows are gone")
    return [(address, found[address]) for address in addresses]


def _changed(table: Table, how: str) -> InputError:
    return InputError(
        f"{quoted_path(table.path)} is not what this run was reading ({how}); restore it, or start over in another "
        "output folder."
    )


def _random(*numbers: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(numbers)))
