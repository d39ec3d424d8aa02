"""Batches of one shape out of a stream of rows, each read while the step before it runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from .example import Example
from .rows import Address, Row, RowError
from .stream import RowStream, reread

WAITING_BYTES = 1 << 30  # of examples for which no batch of their shape has come together

Batch = list[Example]


class Batches:
    """Examples wait by shape until there are enough for a batch.

    Where many shapes wait, the one that has waited longest comes as a smaller batch: memory stays bounded, and no row
    is left out.
    """

    def __init__(
        self, stream: RowStream, read: Callable[[Row], Example], batch_size: Callable[[bool, int], int]
    ) -> None:
        """
        Args:
            read: a row -> its example. Raises RowError.
            batch_size: kind and frames -> examples in a batch.
        """
        self.stream, self.read, self.batch_size = stream, read, batch_size
        self.waiting: dict[tuple[int, ...], list[tuple[Address, Example]]] = {}
        self.bytes = 0

    def take(self) -> Batch:
        """The next batch. Raises InputError as the stream does."""
        while True:
            address, row = next(self.stream)
            try:
                example = self.read(row)
            except RowError as error:
                self.stream.tally.skip(f"{row.place}: {error}", again=self.stream.epoch > 0, seen=True)
                continue
            held = self._add(address, example)
            if len(held) == self.batch_size(example.is_video, len(example.source)):
                return self._pop(example.shape)
            if self.bytes > WAITING_BYTES:
                return self._pop(next(iter(self.waiting)))

    def _add(self, address: Address, example: Example) -> list[tuple[Address, Example]]:
        held = self.waiting.setdefault(example.shape, [])
        held.append((address, example))
        self.bytes += example.nbytes
        return held

    def _pop(self, shape: tuple[int, ...]) -> Batch:
        batch = [example for _, example in self.waiting.pop(shape)]
        self.bytes -= sum(example.nbytes for example in batch)
        return batch

    def position(self) -> dict[str, Any]:
        waiting = [list(address) for held in self.waiting.values() for address, _ in held]
        return {"stream": self.stream.position(), "waiting": waiting}

    def go_to(self, position: dict[str, Any]) -> None:
        """Raises InputError where the table is not the same any more."""
        self.stream.go_to(position["stream"])
        self.waiting, self.bytes = {}, 0
        for address, row in reread(self.stream.table, [Address(*address) for address in position["waiting"]]):
            try:
                self._add(address, self.read(row))
            except RowError as error:
                self.stream.tally.skip(f"{row.place}: {error}", again=True, seen=True)


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
