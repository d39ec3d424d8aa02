"""Examples of the procedural world, in the mixture that a config asks for."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ...errors import InputError
from ...photographs import usable_photographs
from ...world import CLIP_GROUPS, GROUPS, sample_triplet
from ..config import DataConfig
from .example import Example

_OF_THE_WORLD = " of the world"


def drawn_as(name: str) -> tuple[str, int]:
    """Parse the group and the seed from the name of a world example."""
    group, seed = name.removesuffix(_OF_THE_WORLD).split()
    return group, int(seed)


def check_world(data: DataConfig, stride: int, frame_multiple: int) -> None:
    """Raise InputError unless the model takes the world's pictures and clips without resizing and the photographs are
    usable."""
    for size in data.sizes:
        if any(side % stride for side in size):
            raise InputError(f"data.sizes has {list(size)}; this model takes sides that are multiples of {stride}.")
    for length in data.lengths if data.videos else ():
        if (length - 1) % frame_multiple:
            raise InputError(f"data.lengths has {length}; this model takes 1 + a multiple of {frame_multiple} frames.")
    check_photographs(data)


def check_photographs(data: DataConfig) -> None:
    """Raise InputError if the folder of photographs is set but holds none that can be read."""
    if data.photographs is not None:
        usable_photographs(data.photographs)


def world_examples(data: DataConfig, wanted: range | None = None) -> Iterator[Example]:
    """Yield triplets of the world; half have the first size, and clips are spread evenly over the lengths.

    Args:
        wanted: their numbers; those before are drawn but not rendered. None: all.
    """
    weights = data.groups or dict.fromkeys(GROUPS, 1.0)
    groups, shares = list(weights), torch.tensor([float(weight) for weight in weights.values()])
    random = torch.Generator().manual_seed(0)
    rest = max(1, len(data.sizes) - 1)
    sizes = torch.tensor([1.0 if len(data.sizes) == 1 else 0.5] + [0.5 / rest] * (len(data.sizes) - 1))
    wanted = range(data.images + data.videos) if wanted is None else wanted
    for index in range(wanted.stop):
        is_video = index >= data.images
        frames = data.lengths[index % len(data.lengths)] if is_video else 1
        height, width = data.sizes[int(torch.multinomial(sizes, 1, generator=random))]
        while True:
            group = groups[int(torch.multinomial(shares, 1, generator=random))]
            drawn = int(torch.randint(2**40, (), generator=random))
            if group in (data.held_out_from_video if is_video else CLIP_GROUPS):
                continue
            if index not in wanted and not (is_video and data.held_out_from_video):
                break
            triplet = sample_triplet(drawn, group, frames=frames, height=height, width=width, variety=data.variety)
            if not (is_video and set(triplet.edits) & set(data.held_out_from_video)):
                break
        if index not in wanted:
            continue
        yield Example(
            source=torch.from_numpy(triplet.source),
            target=torch.from_numpy(triplet.target),
            references=tuple(torch.from_numpy(image) for image in triplet.references),
            instruction=triplet.instruction,
            caption=triplet.target_caption,
            is_video=is_video,
            name=f"{group} {drawn}{_OF_THE_WORLD}",
        )
