"""What this process may still take of the machine's main memory, and a check of large inputs against it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from .errors import InputError
from .words import one_line

EDIT_BYTES = 16  # per pixel of a source at most, from the file to the edited file, beside the model
USABLE = 0.9  # of what is free


def free_main_memory() -> int | None:
    """Bytes that this process may still take: what the system has, what its container and its limits leave.

    None where the system does not say.
    """
    found = (_system(), _container(), _limit())
    return min((free for free in found if free is not None), default=None)


def check_room(name: str, width: int, height: int, frames: int = 1, advice: str = "scale it down") -> None:
    """Refuse pictures that are too large to edit here, before they are decoded.

    Args:
        name: of the input.
        width, height, frames: as its header says.
        advice: what to do, as the end of a sentence.

    Raises:
        InputError: an edit of it would need more main memory than is free.
    """
    free, needed = free_main_memory(), width * height * frames * EDIT_BYTES
    if free is not None and needed > USABLE * free:
        size = f"{width} x {height}" + (f" x {frames} frames" if frames != 1 else " pixels")
        raise InputError(
            f"{name}: {size} needs {in_bytes(needed)} of memory, and {in_bytes(free)} are free; {one_line(advice)}."
        )


def in_bytes(count: float) -> str:
    """A number of bytes as people say it: '1.5 GB'."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.1f} {unit}" if count < 10 and unit != "bytes" else f"{count:,.0f} {unit}"


def _system() -> int | None:
    if sys.platform == "win32":
        return _windows()
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(OSError, ValueError):  # macOS says only what it has in all
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _container() -> int | None:
    """What the control group of a container leaves, version 2 or 1."""
    root = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # "max": no limit
            return max(0, int((root / limit).read_text()) - int((root / used).read_text()))
    return None


def _limit() -> int | None:
    """What the process's own limit of addresses (`ulimit -v`) leaves."""
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            return max(0, most - pages * resource.getpagesize())
    return None


def _windows() -> int | None:
    import ctypes

    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *(
                (name, ctypes.c_ulonglong)
                for name in ("total", "free", "file", "file_free", "space", "space_free", "more")
            ),
        )

    status = Status(length=ctypes.sizeof(Status))
    asked = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))  # type: ignore[attr-defined]
    return int(status.free) if asked else None
