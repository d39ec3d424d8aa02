"""Average two models' weights (model soups, Wortsman et al., 2022), which keeps most of what each learnt last."""

from __future__ import annotations

from pathlib import Path

import torch

from instructx_core.errors import InputError
from instructx_core.families.components import Components
from instructx_core.families.loading import load_model
from instructx_core.training.start import open_start
from instructx_core.weights.compare import first_difference, shapes_of
from instructx_core.words import quoted_path


@torch.no_grad()
def stir_in(components: Components, folder: Path, share: float) -> None:
    """Mix in weights in place, `share` of the model in `folder` and 1 - `share` of its own; not the VAE's.

    Raises:
        CheckpointError: as `load_model`.
        InputError: the models differ in a shape.
    """
    other = load_model(open_start(folder))
    for part in ("guidance", "connector", "denoiser"):
        own, added = (dict(getattr(model, part).named_parameters()) for model in (components, other))
        odd = first_difference(shapes_of(own), shapes_of(added))
        if odd:
            raise InputError(
                f"start.soup, {quoted_path(folder)}, differs in size from start.model: {odd}; choose another."
            )
        for name, weight in own.items():
            weight.lerp_(added[name], share)
