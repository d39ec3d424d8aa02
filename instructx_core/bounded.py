"""Bounded reading of untrusted files (JSON, YAML, text); all such files are read through this module.

- Regular files only: a FIFO, a device or a link to one would block or never end.
- Size is limited before reading, depth and count after: nothing here takes more than a few seconds or a few hundred
  megabytes, whatever the bytes are.
- An error is one sentence that names the file and never dumps its content.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from .errors import InputError
from .words import one_line, quoted_path, shown

CONFIG_BYTES = 16 << 20  # of a JSON text; the largest config or index in use has about 10 MB
YAML_BYTES = 256 << 10  # PyYAML reads about 100 kB a second
DEPTH = 64  # of nested mappings and lists
YAML_VALUES = 100_000  # with every alias expanded


class UnreadableError(InputError):
    """A file or text that cannot be read. `reason` says why without naming it, for a caller's own message."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} cannot be read: {reason}.")
        self.reason = reason


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; anything else (folder, FIFO, device, socket) is refused without blocking.

    Raises UnreadableError, also for an invalid name.
    """
    name = quoted_path(path)
    try:
        # a FIFO would block until somebody writes to it
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise UnreadableError(name, "it does not exist") from error
    except IsADirectoryError as error:
        raise UnreadableError(name, "it is a folder") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte or an undecodable name
        raise UnreadableError(name, why(error)) from error
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise UnreadableError(name, "it is a folder" if stat.S_ISDIR(mode) else "it is not a regular file")
    return os.fdopen(handle, "rb")


def read_bytes(path: str | os.PathLike[str], most: int = CONFIG_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises UnreadableError."""
    with open_regular(path) as file:
        try:
            content = file.read(most + 1)  # its size proves nothing: files in /proc report 0, and a file may grow
        except OSError as error:
            raise UnreadableError(quoted_path(path), why(error)) from error
    if len(content) > most:
        raise UnreadableError(quoted_path(path), f"it is larger than {_bytes(most)}")
    return content


def read_text(path: str | os.PathLike[str], most: int = CONFIG_BYTES) -> str:
    """The UTF-8 text of a file of at most `most` bytes, without a byte order mark. Raises UnreadableError."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(quoted_path(path), f"it is not UTF-8 text (byte {error.start})") from error


def read_json(path: str | os.PathLike[str], most: int = CONFIG_BYTES) -> Any:
    """The value of a JSON file. Raises UnreadableError."""
    return parse_json(read_text(path, most), quoted_path(path), most)


def parse_json(text: str | bytes, name: str, most: int = CONFIG_BYTES) -> Any:
    """The value of a JSON text, such as one in a file's metadata.

    Args:
        name: what error messages call the text.
        most: maximum length in characters or bytes.

    Raises:
        UnreadableError: too long, too deep, or not JSON.
    """
    if len(text) > most:
        raise UnreadableError(name, f"it is larger than {_bytes(most)}")
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise UnreadableError(name, f"it is nested more than {DEPTH} levels deep") from error
    except (ValueError, TypeError) as error:
        raise UnreadableError(name, f"it is not valid JSON ({one_line(error, 100)})") from error
    _check_layers(value, name)
    return value


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """The value of a YAML file, of plain types only; keys are text. Raises UnreadableError."""
    return parse_yaml(read_text(path, YAML_BYTES), quoted_path(path))


def parse_yaml(text: str, name: str) -> Any:
    """The value of a YAML text. Raises UnreadableError, also if its aliases expand to too many values."""
    import yaml

    if len(text) > YAML_BYTES:
        raise UnreadableError(name, f"it is larger than {_bytes(YAML_BYTES)}")
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node, name)
        value = loader.construct_document(node)
    except RecursionError as error:
        raise UnreadableError(name, f"it is nested more than {DEPTH} levels deep") from error
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(name, f"it is not valid YAML ({one_line(_located(error), 200)})") from error
    finally:
        if loader is not None:
            loader.dispose()
    _check_layers(value, name)
    return value


def _located(error: BaseException) -> object:
    """A YAML error with its line and column, without the snippet of the text that PyYAML appends."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return error
    said = ", ".join(part for part in (error.context, error.problem) if part)  # type: ignore[attr-defined]
    return f"line {mark.line + 1}, column {mark.column + 1}: {said}"


def why(error: BaseException) -> str:
    """The reason for a system error, on one line."""
    if getattr(error, "errno", None) == errno.ENAMETOOLONG:
        return "its name is too long"
    return one_line(getattr(error, "strerror", None) or error, 100)


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether this is a regular file; False for an invalid name, for which `Path.is_file` may raise OSError."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def is_dir(path: str | os.PathLike[str]) -> bool:
    """As `is_file`, for a folder."""
    try:
        return Path(path).is_dir()
    except (OSError, ValueError):
        return False


def _check_layers(value: Any, name: str) -> None:
    """Raise UnreadableError if containers are nested deeper than `DEPTH`, or a key is not text."""
    layer, depth = [value], 0
    while layer:
        inner: list[Any] = []
        for outer in layer:
            if isinstance(outer, dict):
                if odd := next((key for key in outer if not isinstance(key, str)), None):
                    raise UnreadableError(name, f"its key {shown(odd)} is not a string; put it in quotes")
                inner += outer.values()
            elif isinstance(outer, list):
                inner += outer
        layer = [item for item in inner if isinstance(item, (dict, list))]
        depth += 1
        if layer and depth >= DEPTH:
            raise UnreadableError(name, f"it is nested more than {DEPTH} levels deep")


def _check_nodes(root: Any, name: str) -> None:
    """Raise UnreadableError if a YAML graph is cyclic, too deep, or too large with its aliases expanded."""
    import yaml

    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Any, depth: int) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) in open_nodes:
            raise UnreadableError(name, "one of its aliases contains itself")
        if id(node) not in sizes:
            if depth > DEPTH:
                raise UnreadableError(name, f"it is nested more than {DEPTH} levels deep")
            open_nodes.add(id(node))
            inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in inner)
            open_nodes.discard(id(node))
        if sizes[id(node)] > YAML_VALUES:
            raise UnreadableError(name, f"its aliases expand to more than {YAML_VALUES} values")
        return sizes[id(node)]

    size(root, 0)


def _bytes(count: int) -> str:
    return f"{count >> 20} MB" if count >= 1 << 20 else f"{count >> 10} kB"
