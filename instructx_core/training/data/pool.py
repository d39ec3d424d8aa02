"""Pools of examples whose latents are computed once: the VAE runs before training, not in every step.

A pool is a folder of safetensors files, each with examples of one shape, read by index: what a step does not draw stays
on disk. `cache` makes pools.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ...bounded import UnreadableError, parse_json, read_json
from ...errors import InputError
from ...latents import LatentCodec
from ...photographs import photographs_digest
from ...weights.files import read_header, write_safetensors
from ...words import listed, quoted_path
from ..config import DataConfig, ExampleWords
from .encoding import TENSORS, TEXTS, Encoded

ORIGIN = "origin.json"
LONGEST_TEXTS = 32 << 20  # characters, the most that a header takes


@dataclass(frozen=True)
class Bucket:
    """All examples of one shape."""

    is_video: bool
    frames: int  # of a clip, before encoding
    files: tuple[Path, ...]
    ends: tuple[int, ...]  # number of examples up to the end of each file

    def __len__(self) -> int:
        return self.ends[-1]

    def lacking(self, words: ExampleWords) -> int:
        """How many examples lack this text. Raises CheckpointError, InputError as `read_buckets`."""
        return sum(not text for file in self.files for text in read_texts(file)[f"{words}s"])

    def take(self, indices: list[int]) -> Encoded:
        """Read these examples, in this order. Raises CheckpointError, InputError as `read_buckets`."""
        tensors: dict[str, list[torch.Tensor]] = {name: [] for name in TENSORS}
        texts: dict[str, list[str]] = {name: [] for name in TEXTS}
        by_file: dict[int, list[int]] = {}
        for place, index in enumerate(indices):
            by_file.setdefault(bisect_right(self.ends, index), []).append(place)
        for number, places in by_file.items():
            begin = self.ends[number - 1] if number else 0
            words = read_texts(self.files[number])
            # opened for this batch only: mapped pages count as memory
            with safe_open(self.files[number], framework="pt") as file:
                slices = {name: file.get_slice(name) for name in TENSORS}
                for place in places:
                    own = indices[place] - begin
                    for name, whole in slices.items():
                        tensors[name].append(whole[own : own + 1])
                    for name in TEXTS:
                        texts[name].append(words[name][own])
        read = [place for places in by_file.values() for place in places]
        order = sorted(range(len(read)), key=read.__getitem__)
        joined = {name: torch.cat([held[place] for place in order]) for name, held in tensors.items()}
        words = {name: [held[place] for place in order] for name, held in texts.items()}
        return Encoded(is_video=self.is_video, frames=self.frames, **joined, **words)


def read_pool(folder: Path, origin: dict[str, Any]) -> list[Bucket]:
    """The buckets of a finished pool.

    Args:
        origin: what it must have been made from, see `describe_origin`.

    Raises:
        CheckpointError: a file is truncated or damaged.
        InputError: the pool was made from other data or with another VAE, or it is damaged.
    """
    found = read_origin(folder)
    if found != origin:
        differing = sorted(name for name in origin.keys() | found.keys() if origin.get(name) != found.get(name))
        raise InputError(
            f"The pool {quoted_path(folder)} was made with other settings ({listed(differing)}); choose another folder."
        )
    return read_buckets(folder.glob("*.safetensors"), f"The pool {quoted_path(folder)}")


def read_buckets(files: Iterable[Path], what: str) -> list[Bucket]:
    """Group the files of a pool by the shape of their examples.

    Raises:
        CheckpointError: a file is truncated or damaged.
        InputError: a file holds no examples, or there are no files.
    """
    by_key: dict[str, list[tuple[Path, int, bool, int]]] = {}
    for path in sorted(files):
        count, is_video, frames = _check(path)
        by_key.setdefault("-".join(path.stem.split("-")[:5]), []).append((path, count, is_video, frames))
    if not by_key:
        raise InputError(f"{what} holds no examples; delete it to have it made again.")
    return [
        Bucket(held[0][2], held[0][3], tuple(each[0] for each in held), tuple(accumulate(each[1] for each in held)))
        for _, held in sorted(by_key.items(), key=lambda entry: f"{entry[0]}.safetensors")
    ]


def write_bucket(path: Path, examples: list[Encoded]) -> None:
    """Write examples of one shape to a file. Raises InputError if it cannot be written."""
    tensors = {name: torch.cat([getattr(each, name) for each in examples]) for name in TENSORS}
    texts = {name: [text for each in examples for text in getattr(each, name)] for name in TEXTS}
    metadata = {"is_video": str(int(examples[0].is_video)), "frames": str(examples[0].frames)}
    write_safetensors(path, tensors, metadata | {name: json.dumps(held) for name, held in texts.items()})


def read_origin(folder: Path) -> dict[str, object]:
    """What `describe_origin` returned when the pool was made.

    Raises:
        InputError: the file with it is missing or damaged.
    """
    try:
        found = read_json(folder / ORIGIN)
    except UnreadableError as error:
        found, reason = None, error.reason
    else:
        reason = "it is not a JSON object"
    if not isinstance(found, dict):
        raise InputError(
            f"The pool {quoted_path(folder)} is damaged: {ORIGIN} cannot be read ({reason}); choose another folder, or "
            "delete this one to have it made again."
        )
    return found


def describe_origin(data: DataConfig, codec: LatentCodec, shown_frames: int, stride: int) -> dict[str, Any]:
    """Everything that a pool's contents depend on; arguments as for `cache.Maker`."""
    weights = sum(float(parameter.double().abs().sum()) for parameter in codec.vae.parameters())
    names = ["table", "images", "videos", "sizes", "lengths", "groups", "held_out_from_video", "world", "photographs"]
    names += [name for name in ("root", "columns", "filters") if getattr(data, name)]
    origin = {name: getattr(data, name) for name in names}
    origin |= {"vae": round(weights, 3), "shown_frames": shown_frames, "stride": stride}
    if data.photographs is not None:
        origin["pictures"] = photographs_digest(data.photographs)
    return json.loads(json.dumps(origin))  # as read back from JSON: lists, not tuples


@lru_cache(16)
def read_texts(path: Path) -> dict[str, list[str]]:
    """The texts of a file's examples. Raises CheckpointError, InputError if it has none."""
    metadata = read_header(path).get("__metadata__", {})
    try:
        texts = {name: parse_json(metadata[name], name, LONGEST_TEXTS) for name in TEXTS}
        if not all(isinstance(held, list) and all(isinstance(text, str) for text in held) for held in texts.values()):
            raise TypeError("texts that are not a list of strings")
    except (KeyError, TypeError, ValueError) as error:  # including UnreadableError
        raise _no_bucket(path) from error
    return texts


def _check(path: Path) -> tuple[int, bool, int]:
    """Read from a file's header: number of examples, whether they are videos, and their number of frames."""
    header = read_header(path)
    metadata = header.get("__metadata__", {})
    texts = read_texts.__wrapped__(path)
    try:
        shapes = {name: header[name]["shape"] for name in TENSORS}
        lengths = {*(shape[0] for shape in shapes.values()), *(len(held) for held in texts.values())}
        if len(lengths) != 1 or not lengths - {0} or shapes["source"] != shapes["target"]:
            raise ValueError("its parts differ in length")
        return len(texts["names"]), metadata["is_video"] == "1", int(metadata["frames"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _no_bucket(path) from error


def _no_bucket(path: Path) -> InputError:
    return InputError(
        f"{quoted_path(path)} is not a file of a pool, or is damaged; delete its pool to have it made again."
    )
