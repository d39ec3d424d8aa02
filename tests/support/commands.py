"""The command line, called in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from instructx_core import cli

if TYPE_CHECKING:
    import pytest


def run(*arguments: object) -> int:
    try:
        return cli.main(["edit", *map(str, arguments)])
    except SystemExit as stop:  # argparse leaves this way
        return stop.code


def called(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit code of any command, and what it printed on stdout."""
    capsys.readouterr()
    try:
        code = cli.main([*map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line with which a command is refused."""
    capsys.readouterr()
    try:
        code = cli.main([*map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr()
    assert code == cli.BAD_INPUT and not said.out
    (line,) = said.err.splitlines()
    return line
