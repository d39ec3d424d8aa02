"""Printing: results on stdout, messages on stderr, and in neither characters that control a terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from ..bounded import why
from ..errors import InputError
from ..words import one_line

CLOSED_PIPE = 141  # 128 + SIGPIPE, what shells expect


def say(result: object) -> None:
    """Print a result on stdout: text keeps its lines, a path is always one line.

    Raises:
        SystemExit: the reader is gone, as after `| head`; without a message, like other commands.
        InputError: stdout cannot be written to, as on a full disk.
    """
    if sys.stdout is None:  # closed before the start
        return
    try:
        lines = [str(result)] if isinstance(result, Path) else str(result).split("\n")
        print(_encodable("\n".join(map(_printable, lines)), sys.stdout), flush=True)
    except BrokenPipeError as error:
        _discard_stdout()
        raise SystemExit(CLOSED_PIPE) from error
    except OSError as error:
        _discard_stdout()
        raise InputError(f"The result cannot be printed ({why(error)}); redirect stdout elsewhere.") from error


def complain(message: object) -> None:
    """Print a message on stderr as one line; if stderr cannot be written to, it is dropped."""
    if sys.stderr is None:  # `print` would use stdout
        return
    with suppress(OSError):
        print(one_line(message), file=sys.stderr)


@contextmanager
def logged_as_lines() -> Iterator[None]:
    """Within the block, print the library's log messages on stderr, warnings and above, one line each."""
    handler = _Lines(logging.WARNING)
    logger = logging.getLogger("instructx_core")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def _printable(text: str) -> str:
    """Escape control characters and lone surrogates."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _encodable(text: str, stream: TextIO) -> str:
    """Escape characters that the stream's encoding lacks (a C locale's ASCII)."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _discard_stdout() -> None:
    """Discard what is still buffered, or Python would complain at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
