"""The `instructx` command; each subcommand has its own module (edit, demo, new, train, evaluate, ...).

- Heavy modules are imported only when needed, so `--help` and most errors answer at once.
- Cheap checks (numbers, paths, the source itself) come before a model is loaded.
- Unusable input and too little memory exit with code 2 and one line on stderr, Ctrl-C with 130 and one line, SIGTERM
  (which batch systems send) with 143. Any other failure is a bug and keeps its traceback.
- Results go to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ..errors import InstructXError
from ..out_of_memory import out_of_memory_refused
from .bench import add_bench
from .cache import add_cache
from .calibrate import add_calibrate
from .convert import add_convert
from .demo import add_demo
from .download import add_download
from .edit import add_edit
from .evaluate import add_evaluate
from .info import add_info
from .measure import add_measure
from .new import add_new
from .options import BAD_INPUT, INTERRUPTED, TERMINATED, Parser
from .printing import complain, logged_as_lines
from .study import add_study
from .synthesise import add_synthesise
from .train import add_train
from .world import add_world

DESCRIPTION = "Edit pictures and videos by instruction (InstructX)."
OVERVIEW = """\
examples:
  instructx demo                                              see the bundled model edit two pictures and a clip
  instructx edit in.png "make the red circle blue" -o out.png
  instructx edit in.mp4 "make it grayscale" -o out.mp4 --steps 20
  instructx world -o pairs --count 100                        write training pairs to look at or train on
  instructx train stage2.yaml --resume                        continue a training run

`instructx COMMAND --help` explains a command. Exit codes: 0 success, 2 unusable input or too little memory
(one line says why), 130 Ctrl-C, 143 SIGTERM.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own by default); return the exit code."""
    warnings.filterwarnings("ignore", module=r"PIL\.")  # files it warns about are read, or refused with our own message
    try:
        with _terminated_as_interrupted(), logged_as_lines():
            arguments = build_parser().parse_args(argv)
            with out_of_memory_refused("This command", _less_memory(arguments)):
                arguments.run(arguments)
    except InstructXError as error:
        complain(f"instructx: {error}")
        return BAD_INPUT
    except KeyboardInterrupt as stopped:
        complain("instructx: interrupted.")
        return TERMINATED if isinstance(stopped, _TerminatedError) else INTERRUPTED
    return 0


def _less_memory(arguments: argparse.Namespace) -> str:
    """How to get by with less memory, by the options that a command has."""
    ways = {
        "memory": "--memory group or sequential on a GPU",
        "height": "a smaller --height and --width",
        "window": "a shorter --window",
    }
    own = ", or ".join(way for option, way in ways.items() if hasattr(arguments, option))
    if not own:
        return "end other programs, or give it less at a time"
    return f"give {own}; `instructx info --plan` says what an edit needs"


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM, as batch systems send it; handled with the same clean-up as Ctrl-C."""


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Raise on SIGTERM within the block, unless another handler is installed."""

    def stop(*_: object) -> None:
        raise _TerminatedError

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def build_parser() -> Parser:
    """Build the parser of the whole command line."""
    parser = Parser(prog="instructx", description=DESCRIPTION, epilog=OVERVIEW)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_edit(commands)
    add_demo(commands)
    add_new(commands)
    add_train(commands)
    add_synthesise(commands)
    add_cache(commands)
    add_evaluate(commands)
    add_measure(commands)
    add_study(commands)
    add_bench(commands)
    add_world(commands)
    add_convert(commands)
    add_calibrate(commands)
    add_info(commands)
    add_download(commands)
    return parser
