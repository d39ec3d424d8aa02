"""Examples with their latents computed once: the VAE runs before the training, not in every step of it.

A pool is a folder of buckets, one safetensors file for all examples of one shape; a finished pool is found again when a
run resumes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from ..bounded import UnreadableError, is_dir, parse_json, read_json
from ..errors import InputError
from ..fit import fit_reference
from ..guidance.frames import sample_indices
from ..latents import LatentCodec
from ..weights.files import atomic_folder, read_safetensors, write_safetensors
from ..words import listed, quoted_path
from .config import DataConfig
from .examples import Example
from .tables import check_table, table_examples
from .world_data import check_shapes, world_examples

ENCODE_BATCH = 32
ORIGIN = "origin.json"
LONGEST_TEXTS = 32 << 20  # characters; a header takes no more
TENSORS = ("source", "target", "references", "shown", "reference_images")


@dataclass(frozen=True)
class Bucket:
    """All examples of one shape. Latents are normalised float16, pictures uint8."""

    is_video: bool
    source: torch.Tensor  # [N, C, t, h, w]
    target: torch.Tensor  # [N, C, t, h, w]
    references: torch.Tensor  # [N, R, C, 1, h, w]
    shown: torch.Tensor  # [N, frames, H, W, 3]: what the MLLM sees of the source
    reference_images: torch.Tensor  # [N, R, H, W, 3]
    instructions: list[str]
    captions: list[str]
    names: list[str]  # where each example is from, for messages
    frames: int  # of the clip, in pixels

    def __len__(self) -> int:
        return len(self.instructions)


def open_pool(folder: Path, data: DataConfig, codec: LatentCodec, shown_frames: int, stride: int) -> list[Bucket]:
    """Read the pool in `folder`, making it first where there is none.

    Raises:
        InputError: the pool there was made from other data or with another VAE, or it is damaged.
    """
    origin = describe_origin(data, codec)
    if not is_dir(folder):
        if data.table is None:
            check_shapes(data, stride, codec.frame_multiple)
            examples = world_examples(data)
        else:
            rows = check_table(Path(data.table))
            examples = table_examples(Path(data.table), rows, data, stride, codec.frame_multiple)
        with atomic_folder(folder) as partial:
            build_pool(partial, examples, codec, shown_frames)
            try:
                (partial / ORIGIN).write_text(json.dumps(origin, indent=1))
            except OSError as error:
                raise InputError(
                    f"The pool {str(folder)!r} could not be written ({error.strerror}); free space."
                ) from error
    found = read_origin(folder)
    if found != origin:
        differing = sorted(name for name in origin.keys() | found.keys() if origin.get(name) != found.get(name))
        raise InputError(
            f"The pool {quoted_path(folder)} was made with other settings ({listed(differing)}); "
            "choose another folder for it."
        )
    buckets = [read_bucket(path) for path in sorted(folder.glob("*.safetensors"))]
    if not buckets:
        raise InputError(f"The pool {str(folder)!r} holds no examples; delete it, and it is made anew.")
    return buckets


def read_origin(folder: Path) -> dict[str, object]:
    """What `describe_origin` said when the pool was made.

    Raises:
        InputError: the file that says it is missing or damaged.
    """
    try:
        found = read_json(folder / ORIGIN)
    except UnreadableError as error:
        found, reason = None, error.reason
    else:
        reason = "it is no mapping"
    if not isinstance(found, dict):
        raise InputError(
            f"The pool {quoted_path(folder)} is damaged: {ORIGIN} cannot be read ({reason}); choose another folder, or "
            "delete this one, and it is made anew."
        )
    return found


def describe_origin(data: DataConfig, codec: LatentCodec) -> dict[str, object]:
    """What a pool's contents depend on."""
    weights = sum(float(parameter.double().abs().sum()) for parameter in codec.vae.parameters())
    names = ("table", "images", "videos", "sizes", "lengths", "groups", "held_out_from_video", "world", "photographs")
    origin = {**{name: getattr(data, name) for name in names}, "vae": round(weights, 3)}
    return json.loads(json.dumps(origin))  # as it is read again: lists, no tuples


def build_pool(folder: Path, examples: Iterable[Example], codec: LatentCodec, shown_frames: int) -> None:
    """Encode `examples` and write a bucket for every shape among them."""
    waiting: dict[tuple[object, ...], list[Example]] = {}
    parts: dict[tuple[object, ...], list[Bucket]] = {}
    for example in examples:
        key = (example.is_video, *example.source.shape[:3], len(example.references))
        waiting.setdefault(key, []).append(example)
        if len(waiting[key]) * len(example.source) >= ENCODE_BATCH:
            parts.setdefault(key, []).append(encode_examples(waiting.pop(key), codec, shown_frames))
    for key, rest in waiting.items():
        parts.setdefault(key, []).append(encode_examples(rest, codec, shown_frames))
    for key, buckets in parts.items():
        name = "-".join(str(int(number)) for number in key)
        tensors = {name: torch.cat([getattr(bucket, name) for bucket in buckets]) for name in TENSORS}
        texts = {
            "instructions": [text for bucket in buckets for text in bucket.instructions],
            "captions": [text for bucket in buckets for text in bucket.captions],
            "names": [text for bucket in buckets for text in bucket.names],
        }
        metadata = {
            "is_video": str(int(bool(key[0]))),
            "frames": str(key[1]),
            **{name: json.dumps(text) for name, text in texts.items()},
        }
        write_safetensors(folder / f"{name}.safetensors", tensors, metadata)


def read_bucket(path: Path) -> Bucket:
    """A bucket as `build_pool` wrote it.

    Raises:
        CheckpointError: the file is truncated or damaged.
        InputError: it is no bucket.
    """
    tensors, metadata = read_safetensors(path)
    try:
        texts = {
            name: parse_json(metadata[name], name, LONGEST_TEXTS) for name in ("instructions", "captions", "names")
        }
        if not all(isinstance(held, list) for held in texts.values()):
            raise TypeError("texts that are no list")
        bucket = Bucket(is_video=metadata["is_video"] == "1", frames=int(metadata["frames"]), **tensors, **texts)
        lengths = {len(getattr(bucket, name)) for name in (*TENSORS, *texts)}
        words = all(isinstance(text, str) for held in texts.values() for text in held)
        if len(lengths) != 1 or not len(bucket) or not words or bucket.source.shape != bucket.target.shape:
            raise ValueError("its parts differ in length")
    except (KeyError, TypeError, ValueError) as error:  # UnreadableError among them
        raise InputError(
            f"{quoted_path(path)} is no bucket of examples, or damaged; delete its pool, and it is made anew."
        ) from error
    return bucket


@torch.no_grad()
def encode_examples(examples: list[Example], codec: LatentCodec, shown_frames: int) -> Bucket:
    """Examples of one shape as a bucket."""
    first = examples[0]
    device = codec.mean.device
    canvas = tuple(first.source.shape[1:3])
    references = [[fit_reference(image, canvas) for image in example.references] for example in examples]

    def encode(frames: list[torch.Tensor]) -> torch.Tensor:
        return codec.encode(torch.stack(frames).to(device)).half().cpu()

    indices = sample_indices(len(first.source), shown_frames)
    encoded = [encode([images[place][None] for images in references]) for place in range(len(first.references))]
    empty = torch.zeros(len(examples), 0)
    return Bucket(
        is_video=first.is_video,
        source=encode([example.source for example in examples]),
        target=encode([example.target for example in examples]),
        references=torch.stack(encoded, 1) if encoded else empty.half(),
        shown=to_bytes(torch.stack([example.source[indices] for example in examples])),
        reference_images=to_bytes(torch.stack([torch.stack(images) for images in references]))
        if encoded
        else to_bytes(empty),
        instructions=[example.instruction for example in examples],
        captions=[example.caption for example in examples],
        names=[example.name for example in examples],
        frames=len(first.source),
    )


def to_bytes(frames: torch.Tensor) -> torch.Tensor:
    return (frames * 255).round().to(torch.uint8)
