"""Tell errors by which memory ran out, of the machine or of a GPU, from others, and say them in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import InputError
from .words import one_line

# of PyTorch's errors that have no type of their own: of its allocator on a CPU, of CUDA, HIP and MPS, of cuBLAS
WORDS = ("DefaultCPUAllocator", "out of memory", "ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, according to an error of Python, NumPy or PyTorch."""
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    import torch  # here, as the command line starts without it

    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in WORDS)


@contextmanager
def out_of_memory_refused(what: str, advice: str, kind: type[InputError] = InputError) -> Iterator[None]:
    """Raise an InputError, of this kind, where memory runs out within the block; other errors pass.

    Args:
        what: the subject of the message's sentence.
        advice: what to do, as its end.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        why = ": ".join(filter(None, (type(error).__name__, one_line(error, 200))))
        raise kind(f"{what} needs more memory than is free ({why}); {advice}.") from error
