"""Names of files that come from outside: whether one stays below the folder that it is joined to, on every system.

The rules of all systems hold everywhere: a name that a Linux machine lists or fetches means the same on Windows.
"""

from __future__ import annotations

# what Windows opens in place of a file, whatever the folder and the ending
DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"
}
FORBIDDEN = frozenset('\\:<>"|?*')  # another separator, drives and streams, and what no name on Windows may hold
LONGEST_PART = 200  # bytes; systems take 255, and a download adds an ending


def is_plain(name: object) -> bool:
    """Whether `name`, a file's or folder's or several joined by "/", stays below any folder that it is joined to.

    Refused are absolute names, drives, network shares, devices, "..", ".", empty parts, backslashes, control
    characters, parts of more than 200 bytes, and parts that end with a dot or a space (Windows drops those).
    """
    if not isinstance(name, str) or not name.isprintable() or FORBIDDEN & set(name):
        return False
    return all(map(_is_plain_part, name.split("/")))


def _is_plain_part(part: str) -> bool:
    if not part or part.endswith((".", " ")) or len(part.encode()) > LONGEST_PART:  # "." and ".." end with a dot
        return False
    return part.partition(".")[0].rstrip(" ").upper() not in DEVICES
