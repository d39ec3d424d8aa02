"""Measure how well a stage edits, and draw a sheet of held-out pictures: a row each of sources, edits and targets.

    python -m recipes.tiny.look MODEL OUT.png             a model folder
    python -m recipes.tiny.look STAGE.yaml OUT.png        a running stage, from its newest saved state
    python -m recipes.tiny.look MODEL OUT.png --kinds remove tone --rich --size 64 --count 24

*left* is the share of the way from source to target that edits leave in the edited region, *shape* the share of new
objects with the right shape (`evaluation.metrics`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from einops import rearrange

from instructx_core import Editor
from instructx_core.cli.options import integer
from instructx_core.cli.printing import complain, say
from instructx_core.errors import InputError, InstructXError
from instructx_core.evaluation import evaluate
from instructx_core.images import IMAGE_SUFFIXES, write_image
from instructx_core.paths import writable_file
from instructx_core.training.config import read_train_config
from instructx_core.training.states import read_state, saved_states
from instructx_core.training.tasks import make_task
from instructx_core.words import quoted_path
from instructx_core.world import GROUPS, HELD_OUT_SEED, PICTURE_KINDS, PLAIN, RICH, Variety, sample_triplet

MEASURED = (*GROUPS, *PICTURE_KINDS)  # groups for pictures that have a target
KINDS = ("add", "replace", "reference_swap", "reference_add")
SHOWN = 8


def write_running(config: Path, folder: Path) -> None:
    """Write the model of a stage's newest state, with the average of its weights if it keeps one.

    Raises:
        InputError: no state was saved yet, or the config cannot be used.
    """
    stage = read_train_config(config)
    states = saved_states(Path(stage.output))
    if not states:
        raise InputError(f"{quoted_path(config)} has saved no state yet; wait for step {stage.save_every}.")
    tensors = read_state(states[-1]).tensors
    task = make_task(stage)
    own = dict(task.module.named_parameters())
    with torch.no_grad():
        for name, value in (tensors["average"] or tensors["weights"]).items():
            own[name].copy_(value)
    task.export(folder)


def sheet(editor: Editor, kind: str, variety: Variety) -> torch.Tensor:
    """Sources, edits and targets of `SHOWN` held-out pictures, [3 H, SHOWN W, 3]."""
    height, width = editor.default_size
    seeds = range(HELD_OUT_SEED, HELD_OUT_SEED + SHOWN)
    cases = [sample_triplet(seed, kind, height=height, width=width, variety=variety) for seed in seeds]
    sources, targets = ([torch.from_numpy(getattr(case, part)) for case in cases] for part in ("source", "target"))
    references = [[torch.from_numpy(picture) for picture in case.references] for case in cases]
    edits = editor.edit_batch(sources, [case.instruction for case in cases], references)
    rows = (sources, [edit.frames.cpu() for edit in edits], targets)
    return rearrange(torch.stack([torch.cat(row) for row in rows]), "r n h w c -> (r h) (n w) c")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and draw what is asked for; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model folder, or the config of a running stage")
    parser.add_argument("output", type=Path, help="the PNG to write")
    parser.add_argument("--kinds", nargs="+", choices=MEASURED, default=KINDS, help=f"default: {' '.join(KINDS)}")
    parser.add_argument(
        "--count", type=integer(1, 100_000), default=16, help="pictures to measure per kind (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=integer(32, 1024), help="side of the square pictures in pixels (default: the model's own size)"
    )
    parser.add_argument("--rich", action="store_true", help="natural backgrounds, turned and lit objects, Chinese")
    asked = parser.parse_args(arguments)
    try:
        look(asked)
    except InstructXError as error:
        complain(str(error))
        return 2
    return 0


def look(asked: argparse.Namespace) -> None:
    if writable_file(asked.output).suffix.lower() not in IMAGE_SUFFIXES:
        suffixes = ", ".join(IMAGE_SUFFIXES)
        raise InputError(f"{quoted_path(asked.output)} is not a picture; save the sheet as one of {suffixes}.")
    with TemporaryDirectory() as folder:
        model = asked.model
        if model.suffix in (".yaml", ".yml"):
            model = Path(folder) / "model"
            write_running(asked.model, model)
        editor = Editor.from_pretrained(model)
    if asked.size:
        editor.config = replace(editor.config, default_size=(asked.size, asked.size))
    variety = RICH if asked.rich else PLAIN
    found = evaluate(editor, images=asked.count, videos=0, groups=asked.kinds, variety=variety).images
    for kind, rate in found.groups.items():
        shape = "" if rate.shape is None else f"  shape {rate.shape:.2f}"
        say(f"{kind:15} success {rate.success:.2f}  left {rate.remaining:.3f}  {rate.psnr:.1f} dB{shape}")
    write_image(torch.cat([sheet(editor, kind, variety) for kind in asked.kinds]), asked.output)


if __name__ == "__main__":
    sys.exit(main())
