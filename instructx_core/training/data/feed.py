"""Batches of one shape out of a stream of rows, each read while the step before it runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ...words import one_line
from .example import Example
from .rows import Address, Row, RowError
from .stream import RowStream, reread

WAITING_BYTES = 1 << 30  # of examples for which no batch of their shape has come together
THREADS = {False: 4, True: 1}  # that read pictures, and clips, which are large

Batch = list[Example]


@dataclass(frozen=True)
class PendingRow:
    """A row whose files are being read; `again`: whether an earlier epoch met it."""

    address: Address
    row: Row
    again: bool
    example: Future[Example]


class Batches:
    """Examples wait by shape until there are enough for a batch.

    Where many shapes wait, the one that has waited longest comes as a smaller batch: memory stays bounded, and no row
    is left out.
    """

    def __init__(
        self, stream: RowStream, read: Callable[[Row], Example], batch_size: Callable[[bool, int], int], threads: int
    ) -> None:
        """
        Args:
            read: a row -> its example. Raises RowError.
            batch_size: kind and frames -> examples in a batch.
            threads: how many rows are read at once; they come in the stream's order all the same.
        """
        self.stream, self.read, self.batch_size = stream, read, batch_size
        self.threads = ThreadPoolExecutor(threads, thread_name_prefix="rows")
        self.at_once = threads
        self.reading: deque[PendingRow] = deque()
        self.waiting: dict[tuple[int, ...], list[tuple[Address, Example]]] = {}
        self.bytes = 0

    def take(self) -> Batch:
        """The next batch. Raises InputError as the stream does."""
        while True:
            while len(self.reading) < self.at_once:
                self._begin(*next(self.stream), again=self.stream.epoch > 0)
            address, example = self._finish()
            if example is None:
                continue
            held = self._add(address, example)
            if len(held) >= self.batch_size(example.is_video, len(example.source)):
                return self._pop(example.shape)
            if self.bytes > WAITING_BYTES:
                return self._pop(next(iter(self.waiting)))

    def _begin(self, address: Address, row: Row, again: bool) -> None:
        self.reading.append(PendingRow(address, row, again, self.threads.submit(self.read, row)))

    def _finish(self) -> tuple[Address, Example | None]:
        """The row that was begun first, read; None where it is broken."""
        first = self.reading.popleft()
        try:
            return first.address, first.example.result()
        except Exception as error:  # decoders answer hostile bytes with any kind of error
            words = str(error) if isinstance(error, RowError) else f"{type(error).__name__}: {one_line(error, 200)}"
            self.stream.tally.skip(f"{first.row.place}: {words}", again=first.again, seen=True)
            return first.address, None

    def _add(self, address: Address, example: Example) -> list[tuple[Address, Example]]:
        held = self.waiting.setdefault(example.shape, [])
        held.append((address, example))
        self.bytes += example.nbytes
        return held

    def _pop(self, shape: tuple[int, ...]) -> Batch:
        """The first of a shape, at most a batch: more of them wait where a run goes on with smaller batches."""
        held = self.waiting.pop(shape)
        size = self.batch_size(held[0][1].is_video, len(held[0][1].source))
        if held[size:]:
            self.waiting[shape] = held[size:]
        batch = [example for _, example in held[:size]]
        self.bytes -= sum(example.nbytes for example in batch)
        return batch

    def position(self) -> dict[str, Any]:
        waiting = [list(address) for held in self.waiting.values() for address, _ in held]
        reading = [list(one.address) for one in self.reading]
        return {"stream": self.stream.position(), "waiting": waiting, "reading": reading}

    def go_to(self, position: dict[str, Any]) -> None:
        """Raises InputError where the table is not the same any more."""
        self.stream.go_to(position["stream"])
        self.waiting, self.bytes = {}, 0
        self.reading.clear()
        for address, row in reread(self.stream.table, [Address(*each) for each in position["waiting"]]):
            self._begin(address, row, again=True)
            address, example = self._finish()
            if example is not None:
                self._add(address, example)
        for address, row in reread(self.stream.table, [Address(*each) for each in position["reading"]]):
            self._begin(address, row, again=True)


class ReadAhead:
    """One batch ahead, on a thread of its own; the position is that of the batches that were taken."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._next: Future[tuple[Batch, dict[str, Any]]] | None = None
        self._position = batches.position()

    def take(self) -> Batch:
        following = self._next or self._thread.submit(self._read)
        batch, self._position = following.result()
        self._next = self._thread.submit(self._read)
        return batch

    def _read(self) -> tuple[Batch, dict[str, Any]]:
        return self.batches.take(), self.batches.position()

    def position(self) -> dict[str, Any]:
        return self._position

    def go_to(self, position: dict[str, Any]) -> None:
        """Before the first batch is taken."""
        self.batches.go_to(position)
        self._position = position
