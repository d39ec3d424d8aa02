"""Sockets for several reference images: a first one, and further ones that appear as they are connected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .pixels import to_references

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

FURTHER = "further"  # name of the input; in a prompt its sockets are further.reference_2, ...
NAMES = [f"reference_{number}" for number in range(2, 9)]


def further() -> io.Autogrow.Input:
    """Sockets after `reference`; connecting one adds the next, up to eight references in all."""
    image = io.Image.Input("reference", tooltip="Another reference image, of any size.")
    return io.Autogrow.Input(
        FURTHER,
        template=io.Autogrow.TemplateNames(image, names=NAMES, min=0),
        optional=True,
        tooltip="More reference images, of any size; a new socket appears for each.",
    )


def every(reference: torch.Tensor | None, more: Mapping[str, torch.Tensor] | None) -> list[torch.Tensor]:
    """All connected references in socket order, [H, W, 3] each, of any size."""
    return to_references(reference, *((more or {}).get(name) for name in NAMES))
