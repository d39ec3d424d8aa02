"""Examples with their latents computed once: the VAE runs before the training, not in every step of it.

A pool is a folder of buckets, one safetensors file for all examples of one shape; a finished pool is found again when a
run resumes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ..checkpoints.files import atomic_folder, read_safetensors, write_safetensors
from ..errors import InputError
from ..fit import fit_reference, plan_fit
from ..guidance.frames import sample_indices
from ..latents import LatentCodec
from ..source import load_references, load_source
from ..world import CLIP_GROUPS, GROUPS, sample_triplet
from .config import DataConfig

ENCODE_BATCH = 32
ORIGIN = "origin.json"
TENSORS = ("source", "target", "references", "shown", "reference_images")


@dataclass(frozen=True)
class Example:
    """One editing triplet in pixels, float [T, H, W, 3] in [0, 1], at the model's stride and length."""

    source: torch.Tensor
    target: torch.Tensor
    references: tuple[torch.Tensor, ...]  # [H, W, 3] each
    instruction: str
    caption: str  # of the target; "" where nobody wrote one
    is_video: bool


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
    frames: int  # of the clip, in pixels

    def __len__(self) -> int:
        return len(self.instructions)


def open_pool(folder: Path, data: DataConfig, codec: LatentCodec, shown_frames: int, stride: int) -> list[Bucket]:
    """Read the pool in `folder`, making it first where there is none.

    Raises:
        InputError: the pool there was made from other data or with another VAE, or it is damaged.
    """
    origin = describe_origin(data, codec)
    if not folder.is_dir():
        with atomic_folder(folder) as partial:
            build_pool(partial, draw_examples(data, stride, codec.frame_multiple), codec, shown_frames)
            try:
                (partial / ORIGIN).write_text(json.dumps(origin, indent=1))
            except OSError as error:
                raise InputError(
                    f"The pool {str(folder)!r} could not be written ({error.strerror}); free space."
                ) from error
    found = read_origin(folder)
    if found != json.loads(json.dumps(origin)):
        differing = ", ".join(
            sorted(name for name in origin if json.loads(json.dumps(origin[name])) != found.get(name))
        )
        raise InputError(
            f"The pool {str(folder)!r} was made with other settings ({differing}); choose another folder for it."
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
        found = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{str(folder / ORIGIN)!r} is missing or damaged; choose another pool, or delete this one to make it anew."
        ) from error
    return found


def describe_origin(data: DataConfig, codec: LatentCodec) -> dict[str, object]:
    """What a pool's contents depend on."""
    weights = sum(float(parameter.double().abs().sum()) for parameter in codec.vae.parameters())
    names = ("table", "images", "videos", "sizes", "lengths", "groups", "held_out_from_video", "world", "photographs")
    return {**{name: getattr(data, name) for name in names}, "vae": round(weights, 3)}


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
        texts = {name: json.loads(metadata[name]) for name in ("instructions", "captions")}
        bucket = Bucket(is_video=metadata["is_video"] == "1", frames=int(metadata["frames"]), **tensors, **texts)
        lengths = {len(getattr(bucket, name)) for name in (*TENSORS, *texts)}
        words = all(isinstance(text, str) for held in texts.values() for text in held)
        if len(lengths) != 1 or not len(bucket) or not words or bucket.source.shape != bucket.target.shape:
            raise ValueError("its parts differ in length")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{str(path)!r} is no bucket of examples, or damaged; delete its pool, and it is made anew."
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
        frames=len(first.source),
    )


def draw_examples(data: DataConfig, stride: int, frame_multiple: int) -> Iterator[Example]:
    """The examples that a config asks for: a table of files, or the procedural world."""
    if data.table is not None:
        yield from table_examples(Path(data.table), data, stride, frame_multiple)
    else:
        yield from world_examples(data)


def world_examples(data: DataConfig) -> Iterator[Example]:
    """Triplets of the world; the first size serves half of them, lengths share the clips evenly."""
    from tqdm import tqdm

    weights = data.groups or dict.fromkeys(GROUPS, 1.0)
    random = torch.Generator().manual_seed(0)
    rest = max(1, len(data.sizes) - 1)
    sizes = torch.tensor([1.0 if len(data.sizes) == 1 else 0.5] + [0.5 / rest] * (len(data.sizes) - 1))
    for index in tqdm(range(data.images + data.videos), desc="encoding examples"):
        is_video = index >= data.images
        frames = data.lengths[index % len(data.lengths)] if is_video else 1
        height, width = data.sizes[int(torch.multinomial(sizes, 1, generator=random))]
        while True:
            group = list(weights)[int(torch.multinomial(torch.tensor(list(weights.values())), 1, generator=random))]
            drawn = int(torch.randint(2**40, (), generator=random))
            if group in (data.held_out_from_video if is_video else CLIP_GROUPS):
                continue
            triplet = sample_triplet(drawn, group, frames=frames, height=height, width=width, variety=data.variety)
            if not (is_video and set(triplet.edits) & set(data.held_out_from_video)):
                break
        yield Example(
            source=torch.from_numpy(triplet.source),
            target=torch.from_numpy(triplet.target),
            references=tuple(torch.from_numpy(image) for image in triplet.references),
            instruction=triplet.instruction,
            caption=triplet.target_caption,
            is_video=is_video,
        )


def table_examples(table: Path, data: DataConfig, stride: int, frame_multiple: int) -> Iterator[Example]:
    """Pairs of files listed in a CSV with columns source, target, instruction and, if any, reference.

    Paths are relative to the CSV; several references are separated by ";". Frames are brought to the area of the first
    size of the config, clips cut to its longest length.

    Raises:
        InputError: no such table, a missing column, or a row whose source and target differ in length.
    """
    if not table.is_file():
        raise InputError(f"There is no table {str(table)!r}; give a CSV with columns source, target, instruction.")
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"source", "target", "instruction"} <= set(rows[0]):
        raise InputError(f"{str(table)!r} needs the columns source, target, instruction (and may have reference).")
    area, longest = data.sizes[0][0] * data.sizes[0][1], max(data.lengths)
    for number, row in enumerate(rows, start=2):
        source = load_source(table.parent / row["source"], name=f"source in line {number}")
        target = load_source(table.parent / row["target"], name=f"target in line {number}")
        if len(source.frames) != len(target.frames):
            raise InputError(f"Line {number} of {str(table)!r}: source and target differ in length.")
        frames = min(len(source.frames), longest)
        fit = plan_fit(frames, tuple(source.frames.shape[1:3]), stride, frame_multiple, area)
        paths = [table.parent / part for part in (row.get("reference") or "").split(";") if part]
        yield Example(
            source=fit.apply(source.frames[:frames]),
            target=fit.apply(target.frames[:frames]),
            references=tuple(fit_reference(image, fit.canvas) for image in load_references(paths)),
            instruction=row["instruction"],
            caption=row.get("caption") or "",
            is_video=source.is_video,
        )


def to_bytes(frames: torch.Tensor) -> torch.Tensor:
    return (frames * 255).round().to(torch.uint8)
