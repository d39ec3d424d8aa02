"""The recipe's commands: build the model stage by stage, evaluate it, and ablate the IAA."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from instructx_core.bounded import why
from instructx_core.cli.printing import complain, say
from instructx_core.errors import InputError, InstructXError
from instructx_core.families.bundled import located
from instructx_core.paths import writable_file
from instructx_core.training.config import read_train_config
from instructx_core.training.new_model import make_model
from instructx_core.training.stages import train
from instructx_core.words import quoted_path

from .measure import ablate, measure

HERE = Path(__file__).parent
STAGES = sorted(HERE.glob("[0-9]-*.yaml"))
RUNS = Path("runs/insightedit")
FIRST_WHOLE = "alignment"  # the parts are assembled into one model before this stage
MODEL = RUNS / "two-streams/model"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    given = _parser().parse_args(arguments)
    try:
        _enter(given)
        given.run(given)
    except InstructXError as error:
        complain(str(error))
        return 2
    return 0


def _enter(given: argparse.Namespace) -> None:
    """Change to FOLDER, which the configs' paths are relative to; other given paths are resolved first.

    Raises InputError if FOLDER does not exist, if `train` cannot create it, or if the JSON cannot be written.
    """
    if given.run is _measure:
        if given.model:
            given.model = located(given.model).resolve()
        if given.json:
            given.json = writable_file(given.json).resolve()
    try:
        if given.run is build:
            given.folder.mkdir(parents=True, exist_ok=True)
        os.chdir(given.folder)
    except OSError as error:
        if given.run is build:
            raise InputError(
                f"{quoted_path(given.folder)} cannot be used ({why(error)}); give a folder, new or existing."
            ) from error
        raise InputError(
            f"{quoted_path(given.folder)} cannot be opened ({why(error)}); give the folder that `train` filled."
        ) from error


def build(given: argparse.Namespace) -> None:
    """Run all stages; finished ones are skipped, an unfinished one resumes from its last saved state."""
    for path in STAGES:
        name = path.stem.split("-", 1)[1]
        if not (RUNS / name / "model").is_dir():
            if name == FIRST_WHOLE and not (RUNS / "new").is_dir():
                assemble(RUNS / "new")
            say(f"== {name}")
            train(read_train_config(path, given.set), resume=True)
        if name == given.until:
            return


def assemble(target: Path) -> None:
    """`instructx new` with the parts from stage 0."""
    parts = (RUNS / "llava/model/mllm", RUNS / "drawing/model/unet", RUNS / "autoencoder/model/vae")
    make_model(target, *parts, config=HERE / "model.yaml")


def _measure(given: argparse.Namespace) -> None:
    say(measure(given.model or MODEL, given.images, given.json))


def _ablate(given: argparse.Namespace) -> None:
    say(ablate(STAGES[-1], RUNS, given.steps, given.images, given.set))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recipes.insightedit_tiny", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, run, said in (
        ("train", build, "build the model from scratch, or resume after an interruption"),
        ("evaluate", _measure, "success on held-out pictures"),
        ("ablate", _ablate, "stage 3 with and without the IAA, three seeds each, from one stage 2"),
    ):
        own = commands.add_parser(name, help=said)
        own.add_argument("folder", type=Path, help="the recipe's working folder")
        own.set_defaults(run=run)
        if name == "train":
            stages = [path.stem.split("-", 1)[1] for path in STAGES]
            own.add_argument("--until", choices=stages, help="the last stage to run")
        if name != "evaluate":
            own.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in `instructx train`")
        if name != "train":
            own.add_argument("--images", type=int, default=300, help="held-out pictures per kind (default: 300)")
        if name == "evaluate":
            own.add_argument("--model", type=Path, help="the model to evaluate (default: the last stage's)")
            own.add_argument("--json", type=Path, help="also write the numbers to this file")
        if name == "ablate":
            own.add_argument("--steps", type=int, default=900, help="steps per run (default: 900, ten minutes)")
    return parser
