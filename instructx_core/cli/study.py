"""`instructx study`: make a user study as one static page, and evaluate its answers."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

from ..errors import InputError
from .options import command, integer
from .printing import complain, say

EXAMPLES = """\
examples:
  instructx study ours theirs -o study.html --cases cases.csv    each folder has NAME.png or NAME.mp4 for each case
  instructx study bench/tiny bench/kiwi -o study.html --items 30 what `instructx bench` wrote
  instructx study --collect answers/*.json --plot study.png      means, intervals, agreement

The page needs no server: raters open the file, and save their answers to a file that they send back. It does not name
the methods, and shows them in a different order for every rater and item. STUDY.key.json, next to the page, is only for
you: keep it with the answers, so that --collect can name the methods.
"""


def add_study(commands: Any) -> None:
    parser = command(commands, "study", "make a page for rating edits, and evaluate the answers", EXAMPLES, _run_study)
    parser.add_argument("folders", metavar="FOLDER", nargs="*", type=Path, help="the results of one method per folder")
    parser.add_argument("-o", "--output", metavar="HTML", type=Path, help="the page to write")
    parser.add_argument(
        "--cases",
        metavar="FILE",
        type=Path,
        help="a .csv, .json or .jsonl with name, source, instruction (default: cases.* or metadata.csv in a folder)",
    )
    parser.add_argument("--items", metavar="N", type=integer(1, 1000), help="cases to draw at random (default: all)")
    parser.add_argument("--seed", type=integer(0, 2**40 - 1), default=0, help="seed of the draw and ids (default: 0)")
    parser.add_argument("--collect", metavar="JSON", nargs="+", type=Path, help="the answer files of all raters")
    parser.add_argument(
        "--key", metavar="FILE", type=Path, help="with --collect: the study's .key.json (default: next to the answers)"
    )
    parser.add_argument("--plot", metavar="PNG", type=Path, help="with --collect: also draw the means")
    parser.add_argument("--json", metavar="OUT", type=Path, help="with --collect: also write every number to this file")


def _run_study(arguments: argparse.Namespace) -> None:
    if arguments.collect:
        others, use = ("cases", "items"), "making a page; leave it or --collect out"
    else:
        others, use = ("key", "plot", "json"), "--collect; give the answers there, or leave it out"
    if given := next((name for name in others if getattr(arguments, name) is not None), None):
        raise InputError(f"--{given} is for {use}.")
    if arguments.collect and (arguments.folders or arguments.output):
        raise InputError("--collect reads answers; leave folders and --output out, or leave it out to make a page.")
    if arguments.collect:
        _collect(arguments)
    elif arguments.folders and arguments.output:
        _make(arguments)
    else:
        raise InputError("Give one folder for each method and -o study.html, or --collect and the answers.")


def _make(arguments: argparse.Namespace) -> None:
    from ..evaluation.study import find_items, write_study
    from ..paths import writable_file

    if arguments.output.suffix.lower() != ".html":
        raise InputError(f"{arguments.output}: the page is HTML; call it NAME.html.")
    writable_file(arguments.output)
    items, left_out = find_items(arguments.folders, arguments.cases)
    if left_out:
        complain(f"instructx: {left_out} cases are not in every folder and were left out; {len(items)} remain.")
    if arguments.items and arguments.items < len(items):
        items = random.Random(arguments.seed).sample(items, arguments.items)
    key = write_study(items, [folder.resolve().name for folder in arguments.folders], arguments.output, arguments.seed)
    say(arguments.output)
    complain(f"instructx: {key} says which method is which; keep it from raters.")


def _collect(arguments: argparse.Namespace) -> None:
    from ..atomic import partial_file
    from ..evaluation.plotting import Bar, draw_bars, new_figure, save_figure
    from ..evaluation.study import collect
    from ..evaluation.study.collect import NAMES
    from ..paths import writable_file

    for path in filter(None, (arguments.plot, arguments.json)):
        writable_file(path)
    outcome = collect(arguments.collect, arguments.key)
    if arguments.plot:
        figure, (axes,) = new_figure(8, 4)
        rows: dict[str, dict[str, Bar]] = {}
        for score in outcome.scores:
            rows.setdefault(score.method, {})[score.question] = Bar(score.mean, score.low, score.high)
        title = f"{outcome.raters} raters, {outcome.items} items; bars: 95 % intervals over items"
        columns = [name for name in (*NAMES, "all") if any(name in bars for bars in rows.values())]
        draw_bars(axes, rows, columns, title)
        axes.set_ylim(1, 5)
        save_figure(figure, arguments.plot)
    if arguments.json:
        with partial_file(arguments.json) as partial:
            partial.write_text(json.dumps(outcome.to_dict(), indent=1) + "\n", encoding="utf-8")
    say(outcome.to_markdown())
