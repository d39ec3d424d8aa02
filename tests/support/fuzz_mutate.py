"""Valid inputs made bad, by a seeded generator: bytes, JSON values, safetensors files."""

from __future__ import annotations

import copy
import json
import struct
from pathlib import Path
from random import Random
from typing import Any

# What a number, a text or a list in a file from outside may be instead.
NASTY: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2,
    7,
    63,
    10**6,
    10**12,
    2**63,
    -(2**63),
    2**64,
    10**400,
    0.5,
    -0.5,
    1e-38,
    1e38,
    float("inf"),
    float("nan"),
    "",
    "a",
    "7",
    "none",
    "../../x",
    "/etc/passwd",
    "\x1b[2J\x07\nsecond line",
    "\udcff",
    "x" * 100_000,
    [],
    [0],
    [-1, 0],
    [0, 0, 0],
    [10**6, 10**6],
    ["a"],
    [None],
    [[1, 2], [3]],
    {},
    {"a": 1},
    {"x": {"y": {}}},
)
HOSTILE_NAMES = (
    "../x",
    "a/../../x",
    "/x",
    "C:\\x",
    "..\\x",
    "con",
    "x" * 300,
    "\x1b[31m",
    "a\nb",
    "",
    ".",
    "\udcff",
    "é",
)
WORDS32 = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutate_bytes(data: bytes, random: Random, most: int = 6) -> bytes:
    """A few local changes, as of a damaged or forged file."""
    changed = bytearray(data)
    for _ in range(random.randint(1, most)):
        if not changed:
            break
        at = random.randrange(len(changed)) if random.random() < 0.6 else random.randrange(min(len(changed), 64))
        length = random.choice((1, 2, 4, 16, 256, 4096))
        match random.randrange(8):
            case 0:
                changed[at] ^= 1 << random.randrange(8)
            case 1:
                changed[at] = random.randrange(256)
            case 2:
                changed[at : at + 4] = struct.pack(random.choice("<>") + "I", random.choice(WORDS32))
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length]
            case 5:
                changed[at : at + length] = bytes(min(length, len(changed) - at))
            case 6:
                changed[at:at] = random.randbytes(length)
            case 7:
                del changed[at:]
    return bytes(changed)


def mutate_json(value: Any, random: Random, most: int = 2) -> Any:
    """A copy with one or a few places changed: another value, a place gone, a new one, a deep nest."""
    whole = [copy.deepcopy(value)]
    for _ in range(random.randint(1, most)):
        holders = list(_holders(whole))
        holder, key = random.choice(holders)
        match random.randrange(10):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[random.choice(("new", "__class__", *HOSTILE_NAMES))] = random.choice(NASTY)
            case 2:
                holder[key] = deep(random.choice((3, 100, 100_000)))
            case 3 if isinstance(holder[key], list):
                holder[key] = holder[key][:-1] if random.random() < 0.5 else [*holder[key], random.choice(NASTY)]
            case 4 if isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
                holder[key] = random.choice((-1, 2, 0.5, 1000, 10**9)) * holder[key]
            case _:
                holder[key] = copy.deepcopy(random.choice(NASTY))
    return whole[0]


def _holders(value: Any) -> list[tuple[Any, Any]]:
    """Every place (container, key) in a value."""
    found, ahead = [], [value]
    while ahead:
        container = ahead.pop()
        for key, item in container.items() if isinstance(container, dict) else enumerate(container):
            found.append((container, key))
            if isinstance(item, (dict, list)):
                ahead.append(item)
    return found


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def as_json(value: Any) -> bytes:
    """JSON text, also of what Python's writer finds too deep or no Unicode."""
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b"[" * 100_000 + b"]" * 100_000


def put(path: Path, content: bytes) -> None:
    """Write a file of its own in place of a (possibly linked) one."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def mutate_json_file(path: Path, random: Random) -> None:
    """Change a JSON file: mostly its value, sometimes its bytes."""
    data = path.read_bytes()
    if random.random() < 0.15:
        put(path, mutate_bytes(data, random))
    else:
        put(path, as_json(mutate_json(json.loads(data), random)))


def split_safetensors(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors' bytes."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join_safetensors(header: Any, body: bytes, claimed: int | None = None) -> bytes:
    text = as_json(header)
    return (len(text) if claimed is None else claimed).to_bytes(8, "little", signed=False) + text + body


def mutate_safetensors(data: bytes, random: Random) -> bytes:
    """Change the header's values, the metadata, the names, the header's length, the tensors, or just bytes."""
    header, body = split_safetensors(data)
    names = [name for name in header if name != "__metadata__"]
    name = random.choice(names)
    match random.randrange(8):
        case 0:
            return mutate_bytes(data, random)
        case 1:
            return join_safetensors(mutate_json(header, random), body)
        case 2:
            header[name] = mutate_json(header[name], random)
        case 3:
            header[random.choice((*HOSTILE_NAMES, f"{name}.more"))] = header.pop(name)
        case 4:
            header["__metadata__"] = mutate_json(header.get("__metadata__", {}), random)
        case 5:
            return join_safetensors(header, body, random.choice((0, 1, len(data), 2**31, 2**63, 2**64 - 1)))
        case 6:
            start, end = header[name]["data_offsets"]
            value = random.choice((float("nan"), float("inf"), 1e38, 0.0, -1e30, 1e-42))
            return join_safetensors(header, body[:start] + struct.pack("<f", value) * ((end - start) // 4) + body[end:])
        case 7:
            header[name]["shape"] = header[name]["shape"][::-1]
    return join_safetensors(header, body)
