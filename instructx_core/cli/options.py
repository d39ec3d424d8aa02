"""What the commands share: the parser, number types, model options, and loading the model."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..memory.choice import FORMATS, NAMES, Memory
from ..speed.options import ATTENTION, CACHES
from ..words import one_line, shown
from .printing import complain, say

if TYPE_CHECKING:
    from ..editor import Editor

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, what shells expect
TERMINATED = 143  # 128 + SIGTERM
BASE = {"transformer": "the DiT", "vae": "the VAE", "mllm": "the Qwen2.5-VL"}
GIVEN = BASE | {"transformer_2": "the second DiT of a pair, for low noise,"}


class Parser(argparse.ArgumentParser):
    """argparse with one line per error, and help texts that keep their line breaks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        complain(f"{self.prog}: {one_line(message, 900)} (see {self.prog} --help)")
        self.exit(BAD_INPUT)

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            say(message.rstrip("\n"))  # only help texts get here


def command(
    commands: Any, name: str, summary: str, examples: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    description = f"{summary[0].upper()}{summary[1:]}."
    parser = commands.add_parser(name, help=summary, description=description, epilog=examples)
    parser.set_defaults(run=run)
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="PATH",
        type=Path,
        help="a model folder, or an adapter file to use with base models (default: the bundled model)",
    )
    add_base(parser)
    parser.add_argument("--device", help="where to run: cpu, cuda, cuda:1, mps (default: a GPU if there is one)")
    parser.add_argument(
        "--memory",
        choices=NAMES,
        default=Memory.AUTO.value,
        help="where to keep weights while they are not needed, from fastest to smallest; see `instructx info --plan` "
        "(default: the first that fits the GPU)",
    )
    parser.add_argument(
        "--dtype",
        choices=FORMATS,
        default=FORMATS[0],
        help="number format of the weights (default: bfloat16; on a CPU float32, if RAM has room for it)",
    )
    parser.add_argument("--fp8", action="store_true", help="keep the DiT in 8-bit floats: half the memory, less exact")
    parser.add_argument(
        "--attention", choices=ATTENTION, default="sdpa", help="attention of the DiT (default: PyTorch's, sdpa)"
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile the DiT's block: a slow first step, then faster ones"
    )
    parser.add_argument(
        "--cache", choices=CACHES, help="reuse outputs of earlier steps: faster, less exact (mag: after `calibrate`)"
    )


def add_base(parser: Any) -> None:  # a parser or an argument group: argparse has no public type for both
    for option, what in GIVEN.items():
        parser.add_argument(
            f"--{option.replace('_', '-')}",
            metavar="PATH",
            type=Path,
            help=f"a file or folder of {what} to use instead of the model's own (forms: docs/weights.md)",
        )


def add_changes(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the option `--set`, stored in `changes`."""
    parser.add_argument(
        "--set", metavar="KEY=VALUE", dest="changes", action="append", default=[], help=f"{what}; repeatable"
    )


def given_base(arguments: argparse.Namespace) -> dict[str, Path | None]:
    """The values of `add_base`'s options, by their names in Python."""
    return {part: getattr(arguments, part) for part in GIVEN}


def add_lora_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lora",
        metavar="FILE[:STRENGTH][:high|:low]",
        dest="loras",
        type=_lora,
        action="append",
        default=[],
        help="a LoRA for the DiT (.safetensors) and its strength (default: 1); with a pair of DiTs, for both or only "
        "that of high or low noise; repeatable",
    )


def check_loras(loras: Sequence[tuple[Path, float, str | None]]) -> None:
    """Check LoRA files before a model is loaded. Raises CheckpointError if one is not a LoRA."""
    if not loras:
        return
    from ..weights.loras import check_lora

    for path, strength, _ in loras:
        check_lora(path, strength)


def load_editor(arguments: argparse.Namespace | None = None) -> Editor:
    """Load the model chosen by `add_model`'s options; the bundled one without arguments."""
    import diffusers.utils.logging
    import transformers.utils.logging

    from ..editor import Editor

    for library in (diffusers, transformers):  # their loading bars would bury an error's one line
        library.utils.logging.disable_progress_bar()
    if arguments is None:
        return Editor.from_pretrained()
    fitting = {name: getattr(arguments, name) for name in ("memory", "dtype", "fp8", "attention", "compile", "cache")}
    loras = getattr(arguments, "loras", ())
    return Editor.from_pretrained(
        arguments.model, device=arguments.device, loras=loras, **given_base(arguments), **fitting
    )


def _lora(text: str) -> tuple[Path, float, str | None]:
    """Parse FILE[:STRENGTH][:HALF]; a colon followed by a path, as after a drive letter, belongs to the file."""
    half = next((half for half in ("high", "low") if text.endswith(f":{half}")), None)
    said = text if half is None else text.removesuffix(f":{half}")
    name, colon, strength = said.rpartition(":")
    if not colon or not name or set(strength) & set("/\\"):
        return Path(said), 1.0, half
    try:
        return Path(name), float(strength), half
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{strength!r} in {text!r} is not a number; give FILE, FILE:0.8 or FILE:0.8:low"
        ) from error


def integer(low: int, high: int) -> Callable[[str], int]:
    """A parser of integers from low to high."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{shown(text)} is not a whole number from {low} to {high}")
        return value

    return parse


def number(low: float, high: float, *, above: bool = False) -> Callable[[str], float]:
    """A parser of numbers from low (excluded if `above`) to high."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value <= high or (value == low and not above)):
            span = f"above {low} and up to {high}" if above else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"{shown(text)} is not a number {span}")
        return value

    return parse
