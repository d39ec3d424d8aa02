"""The command line, called in this process."""

from __future__ import annotations

from instructx_core import cli


def run(*arguments: object) -> int:
    try:
        return cli.main(["edit", *map(str, arguments)])
    except SystemExit as stop:  # argparse leaves this way
        return stop.code
