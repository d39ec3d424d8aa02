"""Encoded examples, as a training stage takes them: latents, the frames that the MLLM sees, and texts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...fit import fit_reference
from ...guidance.frames import sample_indices
from ...latents import LatentCodec
from .example import Example

TENSORS = ("source", "target", "references", "shown", "reference_images")
TEXTS = ("instructions", "captions", "names")


@dataclass(frozen=True)
class Encoded:
    """Examples of one shape. Latents are normalised float16, pictures uint8."""

    is_video: bool
    source: torch.Tensor  # [N, C, t, h, w]
    target: torch.Tensor  # [N, C, t, h, w]
    references: torch.Tensor  # [N, R, C, 1, h, w]
    shown: torch.Tensor  # [N, frames, H, W, 3]: the source frames that the MLLM sees
    reference_images: torch.Tensor  # [N, R, H, W, 3]
    instructions: list[str]
    captions: list[str]
    names: list[str]  # origin of each example, for messages
    frames: int  # of the clip, before encoding

    def __len__(self) -> int:
        return len(self.instructions)


@torch.no_grad()
def encode_examples(examples: list[Example], codec: LatentCodec, shown_frames: int) -> Encoded:
    """Encode examples of one shape on the codec's device; the result is on the CPU."""
    first = examples[0]
    device = codec.mean.device
    canvas = tuple(first.source.shape[1:3])
    references = [[fit_reference(image, canvas) for image in example.references] for example in examples]

    def encode(frames: list[torch.Tensor]) -> torch.Tensor:
        return codec.encode(torch.stack(frames).to(device)).half().cpu()

    indices = sample_indices(len(first.source), shown_frames)
    encoded = [encode([images[place][None] for images in references]) for place in range(len(first.references))]
    empty = torch.zeros(len(examples), 0)
    return Encoded(
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
