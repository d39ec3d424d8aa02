"""Check that an untrusted file name stays below the folder that it is joined to, on every operating system.

The rules of all systems are applied everywhere, so that a name listed or fetched on Linux means the same on Windows.
"""

from __future__ import annotations

# device names, which Windows opens instead of a file, whatever the folder and suffix
DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"
}
FORBIDDEN = frozenset('\\:<>"|?*')  # Windows' separator, drives and streams, and characters that it forbids
LONGEST_PART = 200  # bytes; systems allow 255, and a download adds a suffix


def is_plain(name: object) -> bool:
    """Whether `name`, a relative path with "/", stays below any folder that it is joined to.

    Refused are absolute paths, drives, network shares, devices, "..", ".", empty parts, backslashes, control
    characters, parts of more than 200 bytes, and parts that end with a dot or a space (which Windows drops).
    """
    if not isinstance(name, str) or not name.isprintable() or FORBIDDEN & set(name):
        return False
    return all(map(_is_plain_part, name.split("/")))


def _is_plain_part(part: str) -> bool:
    if not part or part.endswith((".", " ")) or len(part.encode()) > LONGEST_PART:  # "." and ".." end with a dot
        return False
    return part.partition(".")[0].rstrip(" ").upper() not in DEVICES
