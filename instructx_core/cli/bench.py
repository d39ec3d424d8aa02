"""`instructx bench`: run published benchmarks on any model with a judge of your choice; `bench report` sums them up."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .judging import add_judge, open_judge
from .options import add_model, command, given_base, integer, load_editor
from .printing import complain, say
from .progress import Progress

if TYPE_CHECKING:
    from ..evaluation.benches import Columns

NAMES = {
    "imgedit": "ImgEdit-Bench, 737 pictures, 1 to 5",
    "gedit": "GEdit-Bench, pictures, English and Chinese, VIEScore",
    "vie": "VIE-Bench, 140 videos, 1 to 10",
    "openve": "OpenVE-Bench, videos, 1 to 5",
    "refvie": "RefVIE-Bench, videos with a reference, 1 to 5",
    "advancededit": "AdvancedEdit-Eval, pictures with masks, VIEScore",
    "reasonedit": "Reason-Edit, pictures with masks, VIEScore",
}
FRAMES = 8
EXAMPLES = """\
examples:
  instructx bench imgedit --data ImgEdit -o runs/imgedit --judge models/Qwen2.5-VL-7B-Instruct
  instructx bench vie --data VIE-Bench -o runs/vie --columns vie.yaml \\
      --judge https://api.example.com/v1 --judge-model NAME
  instructx bench report runs/imgedit --plot imgedit.png

A run has two steps: edit the cases that have no edit yet, then judge the edits that have no score yet. Run the command
again to continue; several processes can share one --output. Layouts, judges and files: docs/evaluation.md.
"""
BENCH_EXAMPLES = """\
examples:
  instructx bench {name} --data DOWNLOAD -o runs/{name}          edit only
  instructx bench {name} --data DOWNLOAD -o runs/{name} --judge models/Qwen2.5-VL-7B-Instruct
  instructx bench report runs/{name}

Nothing is fetched: download the benchmark yourself and give its folder as --data. A judge service is sent the pictures
and the API key in INSTRUCTX_JUDGE_KEY. To judge other software's edits, put them into edits/, named as in cases.jsonl.
"""


def add_bench(commands: Any) -> None:
    parser = command(commands, "bench", "run a published benchmark and report its results", EXAMPLES, _run_bench)
    names = parser.add_subparsers(title="benchmarks", metavar="NAME", required=True)
    for name, what in NAMES.items():
        _add_options(command(names, name, what, BENCH_EXAMPLES.format(name=name), partial(_run_bench, name=name)))
    report = command(names, "report", "tables and plots of runs, next to published numbers", EXAMPLES, _run_report)
    report.add_argument("runs", metavar="DIR", nargs="+", type=Path, help="folders that `instructx bench` wrote")
    report.add_argument("--plot", metavar="PNG", type=Path, help="also draw the tables")
    report.add_argument("--json", metavar="OUT", type=Path, help="also write every number to this file")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="DIR", type=Path, required=True, help="folder of the downloaded benchmark")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--columns", metavar="YAML", help="file or text with columns: {source: ...}, groups: {...} and table: NAME"
    )
    parser.add_argument("--limit", metavar="N", type=integer(1, 1_000_000), help="run only the first N cases")
    add_model(parser)
    parser.add_argument("--steps", type=integer(1, 1000), help="sampling steps, 1 to 1000 (default: the model's own)")
    parser.add_argument("--seed", type=integer(0, 2**64 - 1), default=0, help="noise seed (default: 0)")
    parser.add_argument("--no-edit", action="store_true", help="edit nothing, only judge what is in edits/")
    add_judge(parser)
    parser.add_argument(
        "--frames",
        type=integer(1, 64),
        default=FRAMES,
        help=f"frames of a clip that the judge sees, 1 to 64 (default: {FRAMES})",
    )
    parser.add_argument(
        "--prompts",
        metavar="JSON",
        type=Path,
        help="file of published prompts by name (VIE-Bench: video, reference; ImgEdit-Bench: each kind)",
    )
    parser.add_argument("--lpips", metavar="FILE", type=Path, help="as in `instructx measure`, for cases with masks")
    parser.add_argument("--clip", metavar="DIR", type=Path, help="as in `instructx measure`, for cases with masks")


def _run_bench(arguments: argparse.Namespace, name: str) -> None:
    from ..bounded import is_dir
    from ..evaluation.bench_measure import measure_cases
    from ..evaluation.bench_run import BenchRun
    from ..evaluation.benches import BENCHES
    from ..words import listed, quoted_path

    if not is_dir(arguments.data):
        raise InputError(f"{quoted_path(arguments.data)} is not a folder; give that of the downloaded benchmark.")
    bench, columns = BENCHES[name], _columns(arguments.columns)
    prompts = _prompts(arguments.prompts, name, arguments.data)
    cases = bench.cases(arguments.data, columns, arguments.output / "sources")
    count, cases = len(cases), cases[: arguments.limit]
    if name == "imgedit" and prompts and (missing := sorted({case.group for case in cases} - prompts.keys())):
        # with some of our own prompts mixed in, scores would not be comparable with published ones
        raise InputError(f"There is no published prompt for {listed(missing)}; give --prompts a file with all kinds.")
    settings: dict[str, Any] = {"cases": len(cases)}
    if not arguments.no_edit:
        settings |= {"model": str(arguments.model or "bundled"), "steps": arguments.steps, "seed": arguments.seed}
        settings |= _loading(arguments)
    make_judge = open_judge(arguments, bool(prompts))
    networks = _networks(arguments)
    run = BenchRun(arguments.output, bench, cases, settings)
    if not arguments.no_edit:
        request = {"steps": arguments.steps, "seed": arguments.seed}
        with Progress("editing") as progress:
            run.edit(lambda: load_editor(arguments), request, progress)
    with Progress("measuring") as progress:
        measure_cases(run, *networks, progress)
    if make_judge:
        judge = make_judge()  # after the edits, which need the memory that a local judge takes
        if arguments.frames != FRAMES:
            judge.name += f", {arguments.frames} frames"
        with Progress("judging") as progress:
            run.judge(judge, prompts, arguments.frames, progress)
    if bench.count and count != bench.count:
        complain(f"instructx: {bench.title} has {bench.count} cases, but this download has {count}.")
    say(arguments.output)


def _run_report(arguments: argparse.Namespace) -> None:
    from ..atomic import partial_file
    from ..evaluation.bench_report import check_same_bench, compared_tables, own_tables, plot, read_run
    from ..paths import writable_file

    for path in filter(None, (arguments.plot, arguments.json)):
        writable_file(path)
    found = [one for folder in arguments.runs for one in read_run(folder)]
    check_same_bench(found)
    own, compared = list(own_tables(found)), list(compared_tables(found))
    if arguments.plot:
        plot(compared or own, arguments.plot)
    if arguments.json:
        tables = [{"compared": table in compared, **vars(table)} for table in (*own, *compared)]
        with partial_file(arguments.json) as partial_path:
            partial_path.write_text(json.dumps(tables, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    say("\n\n".join(table.to_markdown() for table in (*own, *compared)))


def _loading(arguments: argparse.Namespace) -> dict[str, str | None]:
    """Model options other than its name; None for those with their default.

    Without the number format, which `auto` may choose otherwise in a later call: each edit notes its own.
    """
    attention = None if arguments.attention == "sdpa" else arguments.attention
    others = {"fp8": arguments.fp8, "attention": attention, "cache": arguments.cache}
    asked = given_base(arguments) | others
    return {name: str(value) if value else None for name, value in asked.items()}


def _columns(given: str | None) -> Columns:
    from ..bounded import is_file, parse_yaml, read_yaml
    from ..evaluation.benches import Columns
    from ..words import shown

    if given is None:
        return Columns()
    value = read_yaml(given) if is_file(Path(given)) else parse_yaml(given, "--columns")
    known = {"columns", "groups", "table"}
    if not isinstance(value, dict) or not value or value.keys() - known:
        raise InputError(
            f"--columns is {shown(value)}; give YAML, or a file of it, with only columns:, groups:, table:."
        )
    names, groups, table = (value.get(name) for name in ("columns", "groups", "table"))
    for name, mapping in (("columns", names), ("groups", groups)):
        texts = isinstance(mapping, dict) and all(isinstance(one, str) for pair in mapping.items() for one in pair)
        if mapping is not None and not texts:
            raise InputError(f"--columns: {name} is {shown(mapping)}; give a mapping of strings to strings.")
    if table is not None and not isinstance(table, str):
        raise InputError(f"--columns: table is {shown(table)}; give a file name.")
    return Columns(names or {}, groups or {}, table)


def _prompts(given: Path | None, name: str, data: Path) -> dict[str, str]:
    """The published prompts, from the given file or from ImgEdit's download."""
    from ..bounded import read_json
    from ..evaluation.benches.imgedit import read_prompts
    from ..words import quoted_path

    if given is None:
        return read_prompts(data) if name == "imgedit" else {}
    if name not in ("imgedit", "vie"):
        raise InputError(f"--prompts is given, but {name} has built-in prompts; leave it out.")
    value = read_json(given)
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InputError(f"{quoted_path(given)} is not a mapping of names to prompts.")
    if name == "vie" and not {"video", "reference"} <= value.keys():
        raise InputError(f"{quoted_path(given)} lacks a prompt; give both video and reference.")
    return value


def _networks(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """LPIPS and CLIPScore; None for those without weights."""
    from ..evaluation.perceptual import ClipScore, Lpips

    return Lpips(arguments.lpips) if arguments.lpips else None, ClipScore(arguments.clip) if arguments.clip else None
