"""`instructx demo`: the bundled model edits a shipped picture, clip and photograph."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from ..errors import InputError
from .options import command, load_editor
from .printing import say
from .progress import Progress

EXAMPLES = """\
examples:
  instructx demo
  instructx demo -o somewhere/else
"""


def add_demo(commands: Any) -> None:
    parser = command(commands, "demo", "edit a shipped picture, clip and photograph", EXAMPLES, _run_demo)
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("instructx-demo"),
        help="the folder to write to (default: %(default)s)",
    )


def _run_demo(arguments: argparse.Namespace) -> None:
    from ..demo import DEMO_EDITS, run_demo_edit

    directory = _make_folder(arguments.output)
    editor = load_editor()
    for demo in DEMO_EDITS:
        with Progress(f"{demo.source.name}: {demo.instruction}") as progress:
            output = run_demo_edit(editor, demo, directory, progress)
        say(f'"{demo.instruction}": {demo.source.name} and its edit, side by side: {output}')


def _make_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{path}: this folder cannot be written to ({error.strerror}); give another one.") from error
    return path
