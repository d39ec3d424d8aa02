"""Progress of long work: a bar, or a few lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """A progress bar on stderr that appears with the first step, so that input refused earlier prints only one line."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.bar: tqdm | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int, what: object = None) -> None:
        """Show `done` of `total`; `what` renames the bar if it is a string (samplers pass latents there)."""
        from tqdm import tqdm

        if sys.stderr is None:  # closed before the start
            return
        if self.bar is None:
            self.bar = tqdm(desc=self.what, total=total, file=sys.stderr, dynamic_ncols=True)
        if isinstance(what, str):
            self.bar.set_description(what, refresh=False)
        self.bar.update(done - self.bar.n)


class Board:
    """Lines on stderr, updated in place on a terminal and reprinted every half minute elsewhere."""

    EVERY = 0.5  # seconds
    PRINTED_EVERY = 30.0

    def __init__(self) -> None:
        self.live = sys.stderr is not None and sys.stderr.isatty()
        self.lines: Sequence[str] = ()
        self.shown: float | None = None
        self.height = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.lines:
            self._show()

    def __call__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        if self.shown is None or time.monotonic() - self.shown >= (self.EVERY if self.live else self.PRINTED_EVERY):
            self._show()

    def _show(self) -> None:
        if sys.stderr is None:
            return
        up = f"\x1b[{self.height}F\x1b[J" if self.live and self.height else ""
        sys.stderr.write(up + "".join(f"{line}\n" for line in self.lines))
        sys.stderr.flush()
        self.shown, self.height = time.monotonic(), len(self.lines)
