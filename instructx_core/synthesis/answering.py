"""Call an expert: measure its time and translate its errors."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import InputError, InstructXError
from ..out_of_memory import is_out_of_memory
from ..words import one_line
from .experts import ExpertFailed

DEVICE = ("CUDA", "cuDNN", "CUBLAS", "HIP error", "MPS backend")  # substrings of device errors


def answered(role: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Return an expert's answer.

    Raises:
        ExpertFailed: the expert cannot handle these frames; the clip is dropped.
        InputError: its device is out of memory or has failed, so every later clip would be dropped too.
    """
    try:
        return call(*arguments)
    except InstructXError:
        raise
    except ExpertFailed as error:
        error.stage = error.stage or role
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError) as error:
        why = f"{type(error).__name__}: {one_line(error, 200)}"
        if is_out_of_memory(error) or any(word in str(error) for word in DEVICE):
            raise InputError(
                f"experts.{role} cannot continue ({why}); give it a smaller model or fewer frames, and run again."
            ) from error
        raise ExpertFailed(f"{role} failed", role, why) from error


@contextmanager
def spent(seconds: Counter[str], name: str) -> Iterator[None]:
    """Add the duration of a block to `seconds[name]`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[name] += time.perf_counter() - start
