"""What the command prints: results on stdout, messages on stderr, and in neither what a terminal would act on."""

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
    """Print a result on stdout: a text line by line, a path on one.

    Raises:
        SystemExit: nobody reads it any more, as behind `| head`; quiet, as other commands are.
        InputError: stdout cannot be written to, as on a full disk.
    """
    if sys.stdout is None:  # closed from the beginning
        return
    try:
        lines = [str(result)] if isinstance(result, Path) else str(result).split("\n")
        print(_encodable("\n".join(map(_printable, lines)), sys.stdout), flush=True)
    except BrokenPipeError as error:
        _discard_stdout()
        raise SystemExit(CLOSED_PIPE) from error
    except OSError as error:
        _discard_stdout()
        raise InputError(f"The result cannot be printed ({why(error)}); write stdout to another place.") from error


def complain(message: object) -> None:
    """Print a message on stderr as one line; where even that is not possible there is nobody to tell."""
    if sys.stderr is None:  # `print` would take stdout
        return
    with suppress(OSError):
        print(one_line(message), file=sys.stderr)


@contextmanager
def logged_as_lines() -> Iterator[None]:
    """Print what the library logs within the block on stderr, warnings and above, one line each."""
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
    """Control characters and lone surrogates are escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _encodable(text: str, stream: TextIO) -> str:
    """What the stream's encoding cannot say (a C locale's ASCII) is escaped."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _discard_stdout() -> None:
    """Let what is still buffered go nowhere, or Python would complain when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
