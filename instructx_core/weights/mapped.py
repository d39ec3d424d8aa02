"""Give the pages of weights mapped from files back to the system, which reads them again when needed.

Linux only; other systems reclaim them on their own when they need memory.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterable
from contextlib import suppress

import numpy as np
import torch

# flags of a page in /proc/self/pagemap (the kernel's admin-guide/mm/pagemap.rst)
PRESENT, SWAPPED, OF_FILE = np.uint64(1 << 63), np.uint64(1 << 62), np.uint64(1 << 61)
DONT_NEED = 4  # MADV_DONTNEED: drops pages of a private mapping, which are read from the file again when touched


def give_back(tensors: Iterable[torch.Tensor]) -> None:
    """Drop the pages of CPU tensors from this process's memory if a file holds the same bytes.

    Tensors with modified pages, as after merging a LoRA, stay: they no longer match the file.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError), open("/proc/self/pagemap", "rb", buffering=0) as pagemap:  # not in every container
        madvise = ctypes.CDLL(None).madvise
        for tensor in tensors:
            if tensor.device.type != "cpu":
                continue
            first = -(-tensor.data_ptr() // mmap.PAGESIZE)  # only whole pages, which no other tensor shares
            count = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE - first
            if count > 0 and _is_of_file(os.pread(pagemap.fileno(), 8 * count, 8 * first)):
                madvise(ctypes.c_void_p(first * mmap.PAGESIZE), ctypes.c_size_t(count * mmap.PAGESIZE), DONT_NEED)


def _is_of_file(entries: bytes) -> bool:
    """Whether all pages in memory, according to their pagemap entries, are unmodified pages of a file."""
    states = np.frombuffer(entries, np.uint64)
    return bool((states[(states & (PRESENT | SWAPPED)) != 0] & OF_FILE).all())
