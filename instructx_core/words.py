"""Format untrusted text for messages: escaped, on one line, and cut.

Names of tensors, values of settings and paths may contain escape codes, line breaks or megabytes of text. A terminal
must not interpret them, and a message must stay one sentence.
"""

from __future__ import annotations

from collections.abc import Collection

NAME = 100  # characters shown of a name or a value
PATH = 300  # of a path: real ones are long


def quoted(name: object, most: int = NAME) -> str:
    """An untrusted name in quotes, cut to about `most` characters, with control characters and surrogates escaped."""
    return _cut(repr(_cut(str(name), most)), 2 * most)


def escaped(name: object, most: int = NAME) -> str:
    """As `quoted`, without the quotes."""
    return quoted(name, most)[1:-1]


def quoted_path(path: object) -> str:
    """A path in quotes; one longer than any real path is cut in the middle."""
    return quoted(path, PATH)


def shown(value: object, most: int = NAME) -> str:
    """An untrusted value as its `repr`, cut; for long or nested containers only type and length."""
    if isinstance(value, (dict, list, tuple, set, frozenset)) and (len(value) > 8 or any(map(_is_container, value))):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, str):
        return quoted(value, most)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 1000:
        return "an integer with hundreds of digits"
    return _cut(" ".join(repr(value).split()), most)


def listed(names: Collection[object], most: int = 3) -> str:
    """The first few names, quoted, and ", ..." if there are more."""
    first = [quoted(name) for name, _ in zip(names, range(most), strict=False)]
    return ", ".join(first) + (", ..." if len(names) > most else "")


def one_line(text: object, most: int = 1000) -> str:
    """Another library's message as one line without control characters, cut."""
    words = " ".join(str(text)[: 8 * most].split())
    return _cut("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in words), most)


def _is_container(value: object) -> bool:
    return isinstance(value, (dict, list, tuple, set, frozenset))


def _cut(text: str, most: int) -> str:
    """A text; one longer than `most` loses its middle."""
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 3]}...{text[-tail:]}"


def in_bytes(count: float) -> str:
    """A human-readable number of bytes, such as '1.5 GB'."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            break
        count /= 1000
    return f"{count:.1f} {unit}" if count < 10 and unit != "bytes" else f"{count:,.0f} {unit}"
