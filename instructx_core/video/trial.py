"""Check that a video can be written before it is edited."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from types import TracebackType
from typing import BinaryIO

from ..errors import InputError
from .info import VideoInfo
from .writer import VideoWriter

logger = logging.getLogger(__name__)

_FIRST_SOUND = Fraction(1, 10)  # seconds


def check_writer(path: str | os.PathLike[str], like: VideoInfo, growing: bool = False) -> None:
    """Start to write the edited video into memory: open all encoders, write the header and the first sound.

    Args:
        path, like, growing: as `VideoWriter`.

    Raises:
        InputError: as `VideoWriter`; or an encoder or the container cannot be opened for what `like` holds.
    """
    with _Trial(path, like, growing=growing) as trial:
        trial.begin(like.height, like.width)


class _Trial(VideoWriter):
    """The real writer, but it writes into memory and logs no warnings."""

    def begin(self, height: int, width: int) -> None:
        """Open all encoders, write the header and the first sound, but no frame: 8K in VP9 would take gigabytes."""
        self._start(height, width)
        self._output.start_encoding()
        if self._others is not None:
            self._others.advance(_FIRST_SOUND)

    def _target(self, stack: ExitStack) -> str | BinaryIO:
        return io.BytesIO()

    def _say(self, *words: object) -> None:
        logger.debug(*words)

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import av

        with suppress(av.FFmpegError):  # a file without frames may not end properly
            self._output.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import av

        try:
            yield
        except InputError:
            raise
        except (av.FFmpegError, ValueError) as error:  # ValueError: from PyAV's own checks
            reason = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"{self.path}: the tracks of {self._like.path.name} cannot be written in this format ({reason}); "
                "use another, such as .mkv."
            ) from error
