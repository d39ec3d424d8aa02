"""`instructx evaluate`: measure the numbers of a model card."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_model, command, integer, load_editor
from .printing import complain, say
from .progress import Progress

if TYPE_CHECKING:
    from ..editor import Editor
    from ..evaluation import SummaryLine

EXAMPLES = """\
examples:
  instructx evaluate                                          the numbers of the model card (slow on a CPU)
  instructx evaluate --images 20 --videos 10                  a quick look
  instructx evaluate --model runs/mine --json mine.json
  instructx evaluate --rich --photographs photos              every kind of edit, natural backgrounds, two languages

Samples come from seeds that training never draws. An edit succeeds if it covers more than half of the way to the target
where it applies, and everything else has at least 24 dB PSNR.
"""


def add_evaluate(commands: Any) -> None:
    parser = command(commands, "evaluate", "measure a model on held-out samples of the world", EXAMPLES, _run_evaluate)
    add_model(parser)
    parser.add_argument(
        "--images", metavar="N", type=integer(0, 100_000), default=500, help="pictures per group (default: 500)"
    )
    parser.add_argument(
        "--videos", metavar="N", type=integer(0, 100_000), default=200, help="videos per group (default: 200)"
    )
    parser.add_argument(
        "--rich",
        action="store_true",
        help="use the rich world, with every kind of edit (default: the plain world's ten)",
    )
    parser.add_argument(
        "--drawn",
        metavar="N",
        type=integer(0, 100_000),
        default=40,
        help="pictures per kind from another renderer (default: 40)",
    )
    parser.add_argument(
        "--outside",
        metavar="N",
        type=integer(0, 100_000),
        default=200,
        help="instructions that are unknown to the world (default: 200)",
    )
    parser.add_argument(
        "--photographs", metavar="DIR", type=Path, help="pictures whose tone to edit, at 512 pixels (default: none)"
    )
    parser.add_argument("--steps", type=integer(1, 1000), help="sampling steps, 1 to 1000 (default: the model's own)")
    parser.add_argument("--json", metavar="OUT", type=Path, help="also write every number to this file")


def _run_evaluate(arguments: argparse.Namespace) -> None:
    from ..atomic import partial_file
    from ..paths import writable_file

    if arguments.json:
        writable_file(arguments.json)
    from ..evaluation import evaluate, list_photographs, without_references
    from ..world import CLIP_GROUPS, EVERY_GROUP, GROUPS, PLAIN, RICH

    groups = EVERY_GROUP[:-1] if arguments.rich else GROUPS  # the last, "outside", asks for no edit
    photographs = list_photographs(arguments.photographs) if arguments.photographs else []
    editor = load_editor(arguments)
    videos = arguments.videos
    if editor.guidance.edits_pictures_alone:
        complain("instructx: this model only edits pictures, without references; all other measurements are skipped.")
        groups, videos = without_references(groups), 0
    with Progress("edits") as progress:
        report = evaluate(
            editor,
            images=arguments.images,
            videos=videos,
            groups=[group for group in groups if group not in CLIP_GROUPS],
            video_groups=groups,
            variety=RICH if arguments.rich else PLAIN,
            held_out_video=editor.config.held_out_from_video,
            steps=arguments.steps,
            progress=progress,
        )
    report = replace(report, beyond=tuple(_beyond(editor, arguments, photographs)))
    if arguments.json:
        with partial_file(arguments.json) as partial:
            partial.write_text(report.to_json() + "\n", encoding="utf-8")
    say(report.to_markdown())


def _beyond(editor: Editor, arguments: argparse.Namespace, photographs: list[Path]) -> Iterator[SummaryLine]:
    """The requested measurements beyond samples of the world, with a progress bar each."""
    from ..evaluation import measure_drawn, measure_outside, measure_photographs

    parts = (
        (measure_drawn, arguments.drawn, "another renderer's pictures"),
        (measure_outside, arguments.outside, "unknown instructions"),
        (measure_photographs, photographs, "photographs"),
    )
    for measure, asked, what in parts:
        if asked:
            with Progress(what) as progress:
                yield from measure(editor, asked, arguments.steps, progress)
