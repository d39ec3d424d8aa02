"""Batches of one shape from a stream of rows, each read while the previous step runs."""

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

WAITING_BYTES = 1 << 30  # of examples waiting for a full batch of their shape
THREADS = {False: 4, True: 1}  # for reading pictures, and clips, which are large

Batch = list[Example]


@dataclass(frozen=True)
class PendingRow:
    """A row whose files are being read; `again` if it was met before, as in an earlier epoch."""

    address: Address
    row: Row
    again: bool
    example: Future[Example]


class Batches:
    """Collects examples by shape until there are enough for a batch.

    Once too many bytes are waiting, the shape that has waited longest becomes a smaller batch: memory stays bounded,
    and no row is dropped.
    """

    def __init__(
        self, stream: RowStream, read: Callable[[Row], Example], batch_size: Callable[[bool, int], int], threads: int
    ) -> None:
        """
        Args:
            read: a row -> its example. Raises RowError.
            batch_size: kind and frames -> examples per batch.
            threads: how many rows are read in parallel; the stream's order is kept.
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
        """Wait for the oldest pending row; its example is None if it is broken."""
        first = self.reading.popleft()
        try:
            return first.address, first.example.result()
        except Exception as error:  # decoders raise any kind of error on hostile bytes
            words = str(error) if isinstance(error, RowError) else f"{type(error).__name__}: {one_line(error, 200)}"
            self.stream.tally.skip(f"{first.row.place}: {words}", again=first.again, seen=True)
            return first.address, None

    def _add(self, address: Address, example: Example) -> list[tuple[Address, Example]]:
        held = self.waiting.setdefault(example.shape, [])
        held.append((address, example))
        self.bytes += example.nbytes
        return held

    def _pop(self, shape: tuple[int, ...]) -> Batch:
        """Take one batch of a shape; more examples may be waiting if a run resumes with smaller batches."""
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
        """Continue from `position`. Raises InputError if the table has changed."""
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
    """Reads one batch ahead in its own thread; `position` covers only the batches already taken."""

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
        """Continue from `position`; call this before the first `take`."""
        self.batches.go_to(position)
        self._position = position
