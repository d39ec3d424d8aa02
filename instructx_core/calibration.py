"""Measure the ratios that MagCache needs for a checkpoint (see `speed.mag_ratios`), with diffusers' calibration mode.

They are averaged over a few edits: the demo's picture and clip, each with both of their instructions. Instruction and
source change the ratios as much as the number of steps does; the seed hardly (bundled model, 12 steps: 0.06 and 0.005).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from . import families
from .bounded import is_dir
from .compat import mag_cache_ratios
from .demo import DEMO_EDITS, DemoEdit
from .editor import Editor
from .errors import CheckpointError, InputError
from .families.networks import network_kind
from .paths import writable_file
from .request import EditRequest, Sampling
from .speed.mag_ratios import MAG_RATIOS, are_ratios, write_ratios
from .speed.options import find_cache, step_caching

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

    from .sampling import StepCallback

EDITS = tuple(DemoEdit(at.source, said.instruction) for at, said in product(DEMO_EDITS[:2], repeat=2))

ProgressCallback = Callable[[int, int], object]  # (steps done, steps in all)


def calibrate(
    folder: str | Path,
    steps: int | None = None,
    device: str | None = None,
    progress: ProgressCallback | None = None,
) -> Path:
    """Measure a model's ratios and write them to its folder, where the cache "mag" finds them.

    Args:
        folder: a model folder, any that `Editor.from_pretrained` reads.
        steps: 2 to 1000, best the number its edits will use; None for the checkpoint's own.
        device: as in `Editor.from_pretrained`.
        progress: called after every step.

    Returns:
        The file.

    Raises:
        InputError: `folder` is not a folder or cannot be written to, the model has no Wan DiT or a pair of them, steps
            out of range, or diffusers has no MagCache.
        CheckpointError: no model there, a damaged one, or ratios that are not finite and positive.
    """
    folder = Path(folder)
    find_cache("mag")
    if not is_dir(folder):
        raise InputError(f"{folder}: it is not a folder; give the model's folder, where {MAG_RATIOS} will be written.")
    writable_file(folder / MAG_RATIOS)
    config = families.open(folder).config
    if not network_kind(config).takes_extras:
        raise InputError(f"{str(folder)!r} has no Wan DiT, and the cache mag needs one; there is nothing to measure.")
    if config.denoiser.boundary:
        raise InputError(
            f"{str(folder)!r} has a pair of DiTs, but the cache mag works with one; choose first-block or taylor."
        )
    steps = Sampling(steps).over(config.sampling).steps
    if steps < 2:
        raise InputError(f"steps is {steps}; a run of at least 2 steps is needed to measure how they differ.")
    editor = Editor.from_pretrained(folder, device=device)
    ratios = measure_ratios(editor, steps, progress)
    if not are_ratios(ratios):
        raise CheckpointError(f"{str(folder)!r} gives ratios that are not finite and above 0; are its weights damaged?")
    return write_ratios(folder, ratios)


def measure_ratios(editor: Editor, steps: int, progress: ProgressCallback | None = None) -> list[float]:
    """The mean ratios of runs of `steps` steps, the first of them 1.

    The editor must have no step cache enabled, and has none afterwards.

    Raises:
        InputError: steps out of range.
    """
    from diffusers.hooks import MagCacheConfig

    transformer = editor.denoiser.transformer
    # one step more than the run has: at the last one diffusers prints its ratios and discards them
    transformer.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=steps + 1))
    runs = []
    try:
        for number, edit in enumerate(EDITS):
            request = EditRequest(edit.instruction, sampling=Sampling(steps))
            editor.edit(edit.source, request, callback=_counting(progress, number * steps))
            runs.append(_noted(transformer))
    finally:
        transformer.disable_cache()
    return [statistics.fmean(ratios) for ratios in zip(*runs, strict=True)]


def _noted(transformer: WanTransformer3DModel) -> list[float]:
    """The ratios that diffusers recorded in the last run."""
    with step_caching(transformer):
        return mag_cache_ratios(transformer.blocks[0])


def _counting(progress: ProgressCallback | None, before: int) -> StepCallback | None:
    """A callback that reports one edit's steps as steps of the whole calibration."""
    if progress is None:
        return None
    return lambda step, steps, _latents: progress(before + step, len(EDITS) * steps)
