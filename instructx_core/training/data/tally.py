"""Count and list broken rows, which are skipped; too many end the run."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from threading import Lock

from ...errors import InputError
from ...words import one_line, quoted_path

logger = logging.getLogger(__name__)

SEEN = 1000  # rows: fewer say little about a large table, whose broken rows may be clustered
NAMED = 10
LONGEST = 75  # characters per row where several are named


class Tally:
    """Counts rows as they are read; thread-safe.

    Attributes:
        seen, broken: this process's rows so far in this epoch.
    """

    def __init__(self, table: Path, share: float, total: int | None, processes: int = 1) -> None:
        """
        Args:
            share: tolerated share of broken rows.
            total: number of rows in the table, if known.
            processes: how many share these rows, each with a tally of its own.
        """
        self.table, self.share, self.total, self.processes = table, share, total, processes
        self.seen = self.broken = 0
        self._is_whole = True  # whether this epoch was counted from its beginning
        self._words: list[str] = []  # the first ones
        self._waiting: list[str] = []
        self._file: Path | None = None
        self._lock = Lock()

    def good(self) -> None:
        with self._lock:
            self.seen += 1

    def skip(self, words: str, again: bool = False, seen: bool = False) -> None:
        """Count a broken row.

        Args:
            words: its place and what is wrong with it.
            again: whether it was already met and listed, as in an earlier epoch.
            seen: whether it was counted as good before its files were opened.

        Raises:
            InputError: there are too many; the first ten are named.
        """
        with self._lock:
            self.seen += not seen
            self.broken += 1
            if not again:
                self._waiting.append(one_line(words))
                self._write()
            if len(self._words) < NAMED and words not in self._words:
                self._words.append(words)
                logger.warning("%s. The row is skipped.", one_line(words, 400))
            self._judge()

    def end_epoch(self) -> None:
        """Reset the counts once this process has read its whole share. Raises InputError as `skip` does."""
        with self._lock:
            if self.total is None and self._is_whole:
                self.total = self.seen * self.processes
            self._judge()
            self.seen = self.broken = 0
            self._is_whole = True

    def go_on(self) -> None:
        """Note that a run resumes within an epoch, whose count will not tell the total number of rows."""
        with self._lock:
            self._is_whole = False

    def _judge(self) -> None:
        if self.broken > max(self.share * self.seen, self._always_tolerated()):
            raise InputError(self.summary())

    def _always_tolerated(self) -> float:
        """How many broken rows are tolerated however few have been seen."""
        if self.total is None:
            return self.share * SEEN
        table, own = self.share * min(self.total, SEEN), self.share * self.total / self.processes
        # three standard deviations: by chance, a process's part may have more of them than the whole
        return table if self.processes == 1 else min(table, own + 3 * math.sqrt(own))

    def list_in(self, file: Path) -> None:
        """Append each broken row, past ones included, as a line to a file."""
        with self._lock:
            self._file = file
            self._write()

    def _write(self) -> None:
        if self._file is None or not self._waiting:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(f"{line}\n" for line in self._waiting)
        except OSError as error:
            raise InputError(
                f"{quoted_path(self._file)} could not be written ({one_line(error, 200)}); free up space and "
                "continue with --resume."
            ) from error
        self._waiting.clear()

    def summary(self) -> str:
        """What is broken, in one sentence; "" if nothing is."""
        if not self._words:
            return ""
        allowed = f"data.broken allows {self.share:.3g} of them"
        if len(self._words) == 1:
            return f"{one_line(self._words[0], 600)} ({self.broken} of {self.seen} rows; {allowed})."
        named = "; ".join(one_line(words, LONGEST) for words in self._words)
        return f"{self.broken} of {self.seen} rows of {quoted_path(self.table)} are broken; {allowed}. {named}."
