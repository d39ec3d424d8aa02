"""The progress bar of long work."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tqdm import tqdm


class Progress:
    """A progress bar on stderr that appears with the first step: input that is refused before leaves one line only."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.bar: tqdm | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int, what: object = None) -> None:
        """Show `done` of `total`; `what` renames the bar where it is a string (samplers hand latents there)."""
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(desc=self.what, total=total, file=sys.stderr, dynamic_ncols=True)
        if isinstance(what, str):
            self.bar.set_description(what, refresh=False)
        self.bar.update(done - self.bar.n)
