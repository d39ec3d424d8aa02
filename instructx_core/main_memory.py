"""Main memory that this process can still allocate, and a check of large inputs against it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import NoRoom
from .words import in_bytes, one_line

EDIT_BYTES = 16  # maximum per source pixel, from the input file to the edited file, without the model
USABLE = 0.9  # share of the free memory
UNLIMITED = 2**60  # bytes; limits above it do not count


@dataclass(frozen=True)
class Room:
    """Bytes that can still be allocated, and the limiting factor in words."""

    bytes: int
    limit: str
    advice: str = "raise that limit"  # how to get more


def free_main_memory() -> int | None:
    """Bytes that this process can still allocate within the machine's, its container's and its own limits.

    None if the system does not say.
    """
    rooms = (main_memory(), address_space())
    free = min(room.bytes for room in rooms if room is not None)
    return None if free == UNLIMITED else free


def main_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Room:
    """Memory that can still become resident: the machine's free memory, or less under a cgroup limit.

    The page cache counts as free, because the system drops it when needed.
    """
    rooms = [Room(_available(proc), "free on this machine", "close other programs")]
    if sys.platform.startswith("linux"):
        rooms += _cgroup_rooms(proc, cgroups)
    return min(rooms, key=lambda room: room.bytes)


def address_space() -> Room | None:
    """Address space left under `ulimit -v` on Linux, which includes mapped files; None without a limit."""
    if not sys.platform.startswith("linux"):  # macOS accepts the limit but does not enforce it, Windows has none
        return None
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY or limit > UNLIMITED:
        return None
    pages = [int(line.split()[0]) for line in _lines(Path("/proc/self/statm"))]  # empty if /proc is not mounted
    return Room(max(0, limit - sum(pages) * resource.getpagesize()), "left under ulimit -v")


def check_room(
    name: str, width: int, height: int, frames: int = 1, advice: str = "scale it down", needed: int | None = None
) -> None:
    """Refuse pictures that are too large to work on here, before they are decoded.

    Args:
        name: of the input.
        width, height, frames: from its header.
        advice: what to do, as the end of a sentence.
        needed: bytes that the work takes; None: those of an edit.

    Raises:
        NoRoom: the work would need more main memory than is free.
    """
    free, needed = free_main_memory(), width * height * frames * EDIT_BYTES if needed is None else needed
    if free is not None and needed > (usable := USABLE * free):
        size = f"{width} x {height}" + (f" x {frames} frames" if frames != 1 else " pixels")
        raise NoRoom(
            f"{name}: {size} needs {in_bytes(needed)} of memory, but only {in_bytes(usable)} are available; "
            f"{one_line(advice)}."
        )


class GrowingRoom:
    """Room for a clip that may be longer than its file says: grows by half each time, after a check.

    Args:
        frames: from the file; at least 1.
        check: raises for a number of frames that does not fit.
    """

    def __init__(self, frames: int, check: Callable[[int], None]) -> None:
        self.frames, self._check = frames, check
        check(frames)

    def reach(self, count: int) -> bool:
        """Make room for `count` frames; return whether it had to grow."""
        if count <= self.frames:
            return False
        self.frames = max(count, self.frames + self.frames // 2)
        self._check(self.frames)
        return True


def _available(proc: Path) -> int:
    """Bytes available on the machine, with its caches dropped."""
    if sys.platform == "win32":
        return _windows() or UNLIMITED
    for line in _lines(proc / "meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    with suppress(OSError, ValueError):  # macOS reports only its total memory
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return UNLIMITED


def _cgroup_rooms(proc: Path, cgroups: Path) -> Iterator[Room]:
    """Memory left under the limits of this process's cgroup and its ancestors, versions 1 and 2."""
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
        # in a container the path may be the host's, of which only the root is visible
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                yield from _left(folder, *names)


def _left(folder: Path, limit: str, usage: str, *cached: str) -> Iterator[Room]:
    """Memory left under one cgroup's limit; yields nothing if it has no limit."""
    most, used = ("".join(_lines(folder / name)) for name in (limit, usage))
    if not most.isdecimal() or not used.isdecimal() or int(most) > UNLIMITED:  # "max", or no such cgroup here
        return
    stat = dict(line.split(maxsplit=1) for line in _lines(folder / "memory.stat"))
    reclaimable = sum(int(stat.get(name, 0)) for name in cached)
    yield Room(max(0, int(most) - max(0, int(used) - reclaimable)), "left under the limit of this container or cgroup")


def _lines(path: Path) -> list[str]:
    """The lines of a kernel file; [] if it cannot be read."""
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
