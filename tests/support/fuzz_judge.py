"""What a fuzz case may end in: a sound result or a refusal of one line, within limits of time and memory."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from instructx_core import InstructXError, cli

try:
    import resource
except ImportError:  # Windows has neither limit
    resource = None

SECONDS = 15.0  # of the processor; the slowest case takes one or two
WAITING = 120.0  # seconds in all, for what waits without computing
GIGABYTES = 3.0  # of address space beside what the process has
LONGEST = 1500  # characters of a refusal


class WrongError(Exception):
    """A case ended without an exception, and not as it should."""


class TooSlowError(BaseException):
    """Time is up; no `except Exception` may swallow it."""


def verdict(case: Callable[[], object]) -> str | None:
    """Run a case; None where it held, else what was wrong with it."""
    try:
        with limits(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case()
    except InstructXError as error:
        return of_message(str(error))
    except WrongError as error:
        return str(error)
    except TooSlowError:
        return f"took more than {SECONDS:g} s of the processor, or {WAITING:g} s in all ({_where()})"
    except MemoryError:
        return f"wanted more than {GIGABYTES:g} GB ({_where()})"
    except Exception as error:
        kind = "wanted more memory than there is" if "can't allocate memory" in str(error) else "a traceback"
        return f"{kind}: {type(error).__name__}: {str(error)[:200]!r} ({_where()})"
    return None


def of_message(text: str) -> str | None:
    """What is wrong with the words of a refusal."""
    if "\n" in text or "\r" in text:
        return f"a refusal of several lines: {text[:300]!r}"
    if not text or len(text) > LONGEST:
        return f"a refusal of {len(text)} characters: {text[:200]!r}"
    if not text.isprintable():
        return f"a refusal with control characters: {text[:300]!r}"
    return None


def command(*arguments: object, output: Path | None = None) -> int:
    """Run the command line in this process and check what it says; returns the exit code.

    Raises WrongError: another exit code than 0 or 2, other than one line on stderr, an output missing or left behind.
    """
    said, wrong = io.StringIO(), io.StringIO()
    before = output is not None and os.path.lexists(output)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
            code = cli.main([str(argument) for argument in arguments])
    except SystemExit as error:  # argparse's
        code = error.code
    lines = [line for line in wrong.getvalue().splitlines() if line.strip() and "it/s" not in line and "%|" not in line]
    if code not in (0, 2):
        raise WrongError(f"exit code {code}: {wrong.getvalue()[-500:]}")
    if code == 2:
        if len(lines) != 1 or not lines[0].startswith("instructx"):
            raise WrongError(f"{len(lines)} lines on stderr: {wrong.getvalue()[-800:]!r}")
        if "needs more memory than is free" in lines[0]:  # allocated, where it should have been refused before
            raise WrongError(lines[0])
        if problem := of_message(lines[0]):
            raise WrongError(problem)
        if output is not None and os.path.lexists(output) and not before:
            raise WrongError(f"refused, and yet {output} is there")
    elif output is not None and not output.is_file():
        raise WrongError(f"exit code 0, but there is no {output}")
    return code


def sound(frames: torch.Tensor, channels: int = 3) -> torch.Tensor:
    """Frames [T, H, W, C] as an edit or a source gives them; raises WrongError."""
    if frames.ndim != 4 or frames.shape[-1] != channels or 0 in frames.shape or frames.dtype != torch.float32:
        raise WrongError(f"frames of shape {list(frames.shape)}, {frames.dtype}")
    if not frames.isfinite().all() or frames.min() < 0 or frames.max() > 1:
        raise WrongError("frames with NaN, infinity, or outside of [0, 1]")
    return frames


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Time as alarms, memory as a limit on the process's address space, for the main thread of a POSIX system."""
    if resource is None:
        yield
        return

    def expire(*_: object) -> None:
        raise TooSlowError

    old = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") if _has_proc() else None
    alarms = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, WAITING)}
    handlers = {alarm: signal.signal(alarm, expire) for alarm in alarms}
    for timer, seconds in alarms.values():
        signal.setitimer(timer, seconds)
    try:
        if now is not None:
            resource.setrlimit(resource.RLIMIT_AS, (now + int(GIGABYTES * 2**30), old[1]))
        yield
    finally:
        for alarm, (timer, _) in alarms.items():
            signal.setitimer(timer, 0)
            signal.signal(alarm, handlers[alarm])
        resource.setrlimit(resource.RLIMIT_AS, old)


def _has_proc() -> bool:
    return Path("/proc/self/statm").is_file()


def _where() -> str:
    """The last places in this library that the exception being handled came through."""
    frames = traceback.extract_tb(sys.exc_info()[2])
    own = [frame for frame in frames if f"{os.sep}instructx_core{os.sep}" in frame.filename] or frames
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in own[-4:])
