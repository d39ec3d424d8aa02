"""What this process may still take of the machine's main memory, and a check of large inputs against it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import InputError
from .words import in_bytes, one_line

EDIT_BYTES = 16  # per pixel of a source at most, from the file to the edited file, beside the model
USABLE = 0.9  # of what is free
UNLIMITED = 2**60  # bytes; limits above it are none


@dataclass(frozen=True)
class Room:
    """Bytes that may still be taken, and what allows no more, in words."""

    bytes: int
    limit: str
    advice: str = "raise that limit"  # to get more


def free_main_memory() -> int | None:
    """Bytes that this process may still take: what the system has, what its container and its limits leave.

    None where the system does not say.
    """
    rooms = (main_memory(), address_space())
    free = min(room.bytes for room in rooms if room is not None)
    return None if free == UNLIMITED else free


def main_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Room:
    """What can be resident beside all that runs: the machine's free memory, or less under a cgroup's limit.

    Files in the page cache count as free, because the system drops them when it needs to.
    """
    rooms = [Room(_available(proc), "free in this machine", "end other programs")]
    if sys.platform.startswith("linux"):
        rooms += _cgroup_rooms(proc, cgroups)
    return min(rooms, key=lambda room: room.bytes)


def address_space() -> Room | None:
    """What `ulimit -v` leaves on Linux, where mapped files count too; None where there is no limit."""
    if not sys.platform.startswith("linux"):  # macOS takes the limit and does not keep it, Windows has none
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY or limit > UNLIMITED:
        return None
    pages = [int(line.split()[0]) for line in _lines(Path("/proc/self/statm"))]  # none where /proc is not mounted
    return Room(max(0, limit - sum(pages) * resource.getpagesize()), "left of ulimit -v")


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


class GrowingRoom:
    """Room for a clip that may turn out longer than its file says: half as much again each time, checked before.

    Args:
        frames: as the file says; at least 1.
        check: raises for a number of frames that does not fit.
    """

    def __init__(self, frames: int, check: Callable[[int], None]) -> None:
        self.frames, self._check = frames, check
        check(frames)

    def reach(self, count: int) -> bool:
        """Whether it had to grow for so many frames."""
        if count <= self.frames:
            return False
        self.frames = max(count, self.frames + self.frames // 2)
        self._check(self.frames)
        return True


def _available(proc: Path) -> int:
    """Bytes that the machine could give, dropping caches."""
    if sys.platform == "win32":
        return _windows() or UNLIMITED
    for line in _lines(proc / "meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    with suppress(OSError, ValueError):  # macOS says only what it has in all
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return UNLIMITED


def _cgroup_rooms(proc: Path, cgroups: Path) -> Iterator[Room]:
    """What the memory limits of this process's cgroup and of all around it leave, versions 1 and 2."""
    for line in _lines(proc / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, ("memory.max", "memory.current", "inactive_file", "active_file")
        elif "memory" in controllers.split(","):
            root = cgroups / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
        else:
            continue
        own = root / path.lstrip("/")
        # in a container the path may be the host's, where only the root is visible
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                yield from _left(folder, *names)


def _left(folder: Path, limit: str, usage: str, *cached: str) -> Iterator[Room]:
    """What one cgroup's limit leaves; nothing where it has none."""
    most, used = ("".join(_lines(folder / name)) for name in (limit, usage))
    if not most.isdecimal() or not used.isdecimal() or int(most) > UNLIMITED:  # "max", or no such group here
        return
    stat = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat"))
    reclaimable = sum(int(stat.get(name, 0)) for name in cached)
    yield Room(max(0, int(most) - max(0, int(used) - reclaimable)), "left by the limit of this container or cgroup")


def _lines(path: Path) -> list[str]:
    """A kernel file's lines; none where it cannot be read."""
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


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
