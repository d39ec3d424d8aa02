"""What the commands share: their parser, their kinds of numbers, and the model that they load."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..memory.choice import NAMES, Memory
from ..speed import ATTENTION, CACHES

if TYPE_CHECKING:
    from ..editor import Editor

BAD_INPUT = 2


class Parser(argparse.ArgumentParser):
    """argparse with one line per error, and help texts that keep their line breaks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {one_line(message)} (see {self.prog} --help)\n")


def command(
    commands: Any, name: str, summary: str, examples: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    description = f"{summary[0].upper()}{summary[1:]}."
    parser = commands.add_parser(name, help=summary, description=description, epilog=examples)
    parser.set_defaults(run=run)
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="DIR", type=Path, help="a model folder (default: the bundled model)")
    parser.add_argument("--device", help="where to run: cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    parser.add_argument(
        "--memory",
        choices=NAMES,
        default=Memory.AUTO.value,
        help="where weights are while they are not needed, from fast to small, see `instructx info --plan` "
        "(default: the first of them that fits the GPU)",
    )
    parser.add_argument("--fp8", action="store_true", help="keep the DiT in 8-bit floats: half the memory, less exact")
    parser.add_argument("--attention", choices=ATTENTION, default="sdpa", help="of the DiT (default: PyTorch's, sdpa)")
    parser.add_argument(
        "--compile", action="store_true", help="compile the DiT's block: a slow first step, faster ones"
    )
    parser.add_argument("--cache", choices=CACHES, help="use outputs of earlier steps again: faster, less exact")


def model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_model` added for memory and speed, as options of `load_editor`."""
    return {name: getattr(arguments, name) for name in ("memory", "fp8", "attention", "compile", "cache")}


def load_editor(model: Path | None = None, device: str | None = None, **options: Any) -> Editor:
    """`options`: further ones of `Editor.from_pretrained`."""
    from transformers.utils.logging import disable_progress_bar

    from ..editor import Editor

    disable_progress_bar()  # its bar over a few weights would stand between the user and the one line of an error
    return Editor.from_pretrained(model, device=device, **options)


def whole(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from low to high."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return parse


def real(low: float, high: float, *, above: bool = False) -> Callable[[str], float]:
    """A parser of numbers from low (or only above it) to high."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value <= high or (value == low and not above)):
            span = f"above {low} and up to {high}" if above else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {span}")
        return value

    return parse


def one_line(text: str) -> str:
    return " ".join(text.split())
