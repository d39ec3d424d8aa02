"""Weights that are mapped from files: giving their pages back to the system, which reads them again on need.

On Linux only; elsewhere the system takes them back by itself when it needs memory.
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

# of a page in /proc/self/pagemap (the kernel's admin-guide/mm/pagemap.rst)
PRESENT, SWAPPED, OF_FILE = np.uint64(1 << 63), np.uint64(1 << 62), np.uint64(1 << 61)
DONT_NEED = 4  # MADV_DONTNEED: pages of a private mapping go, and come from the file again when they are touched


def give_back(tensors: Iterable[torch.Tensor]) -> None:
    """Take the pages of tensors on the CPU out of this process's memory where a file has the same bytes.

    Tensors with pages that were written to, as by merging a LoRA, stay: these are no longer the file's.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError), open("/proc/self/pagemap", "rb", buffering=0) as pagemap:  # not in every container
        madvise = ctypes.CDLL(None).madvise
        for tensor in tensors:
            if tensor.device.type != "cpu":
                continue
            first = -(-tensor.data_ptr() // mmap.PAGESIZE)  # whole pages, which are this tensor's alone
            count = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE - first
            if count > 0 and _is_of_file(os.pread(pagemap.fileno(), 8 * count, 8 * first)):
                madvise(ctypes.c_void_p(first * mmap.PAGESIZE), ctypes.c_size_t(count * mmap.PAGESIZE), DONT_NEED)


def _is_of_file(entries: bytes) -> bool:
    """Whether all pages that are in memory, by their entries of the pagemap, are a file's own."""
    states = np.frombuffer(entries, np.uint64)
    return bool((states[(states & (PRESENT | SWAPPED)) != 0] & OF_FILE).all())
