"""Tables and plots of benchmark runs beside published numbers, never two judges in one table.

Published numbers are `published.json`: each table with its source and its judge, as printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from ..bounded import read_json
from ..errors import InputError
from ..words import quoted, quoted_path
from .benches import BENCHES, Bench
from .case_log import CaseLog
from .plotting import Bar, draw_bars, new_figure, save_figure

PUBLISHED = Path(__file__).with_name("published.json")
NO_JUDGE = "no judge"
COUNT = "cases"  # the column that is no score


@dataclass(frozen=True)
class Judged:
    """What one judge said of one run.

    Attributes:
        means: subset -> group (summaries included) -> score -> mean.
        counts: subset -> group -> cases with scores.
        unreadable: cases whose answers could not be read, also when asked again.
        missing: cases without an edit.
        prompt_tokens, answer_tokens: what the judge counted.
    """

    method: str
    bench: Bench
    judge: str
    means: Mapping[str, Mapping[str, Mapping[str, float]]]
    counts: Mapping[str, Mapping[str, int]]
    unreadable: int
    missing: int
    prompt_tokens: int
    answer_tokens: int


@dataclass
class ScoreTable:
    """Rows of one judge under one head: a value or None for each column."""

    title: str
    judge: str
    columns: list[str]
    rows: dict[str, list[float | None]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_markdown(self) -> str:
        head = (
            f"**{self.title}**, judged by {self.judge}" if self.judge != NO_JUDGE else f"**{self.title}**, {NO_JUDGE}"
        )
        lines = [head, "", f"| method | {' | '.join(self.columns)} |", "|---" * (len(self.columns) + 1) + "|"]
        lines += [f"| {name} | {' | '.join(map(_cell, values))} |" for name, values in self.rows.items()]
        return "\n".join([*lines, *("\n" + note for note in self.notes)])


def read_run(folder: Path) -> list[Judged]:
    """What each judge said of the run in a folder, and what was measured without one.

    Raises:
        InputError: no run of `instructx bench`, or nothing judged yet.
    """
    about = read_json(folder / "run.json")
    if not isinstance(about, dict) or about.get("bench") not in BENCHES:
        raise InputError(f"{quoted_path(folder)} is no run of `instructx bench`; give the folder of one.")
    bench, method = BENCHES[about["bench"]], folder.resolve().name
    cases = CaseLog(folder / "cases.jsonl").read()
    logs = [CaseLog(path).read() for path in sorted((folder / "judged").glob("*.jsonl"))]
    found = [_judged(method, bench, str(next(iter(log.values()))["judge"]), log, cases) for log in logs if log]
    if measured := CaseLog(folder / "measured.jsonl").read():
        found.append(_judged(method, bench, NO_JUDGE, measured, cases))
    if not found:
        raise InputError(f"{quoted_path(folder)} has no scores yet; run `instructx bench {bench.name}` with --judge.")
    return found


def own_tables(found: Sequence[Judged]) -> Iterator[ScoreTable]:
    """Every group and score of each run, a table for each subset."""
    for one in found:
        if not one.means:
            yield ScoreTable(f"{one.bench.title}, {one.method}", one.judge, [], notes=[_missing(one)])
        for subset, groups in one.means.items():
            scores = list(dict.fromkeys(score for values in groups.values() for score in values))
            table = ScoreTable(f"{one.bench.title}, {one.method}, {subset}", one.judge, [COUNT, *scores])
            for group, values in groups.items():
                table.rows[group] = [one.counts[subset].get(group), *(values.get(score) for score in scores)]
            table.notes.append(_missing(one))
            yield table


def _missing(one: Judged) -> str:
    """What a table does not show, and what was spent."""
    told = f"{one.unreadable} answers could not be read, {one.missing} cases have no edit or score yet."
    return told + (f" {one.prompt_tokens} + {one.answer_tokens} tokens." if one.prompt_tokens else "")


def compared_tables(found: Sequence[Judged]) -> Iterator[ScoreTable]:
    """The papers' tables of these benchmarks, each judge's rows by themselves, runs beside them where it is theirs."""
    titles = {one.bench.name: None for one in found}
    for published in read_published():
        if published["bench"] not in titles:
            continue
        columns = published["columns"]
        tables: dict[str, ScoreTable] = {}

        def table_of(judge: str, published: Any = published, tables: Any = tables) -> ScoreTable:
            heads = [column["title"] for column in published["columns"]]
            return tables.setdefault(judge, ScoreTable(published["title"], judge, heads))

        for one in found:
            if one.bench.name == published["bench"]:
                groups = one.means.get(published["subset"], {})
                values = [groups.get(column["group"], {}).get(column["score"]) for column in columns]
                if any(value is not None for value in values):
                    table_of(one.judge).rows[one.method] = values
        theirs = table_of(published["judge"])
        theirs.title += f" ({published['source']})" if not theirs.rows else f" (published rows: {published['source']})"
        for row in published["rows"]:
            theirs.rows[f"{row['method']} (published)"] = row["values"]
        theirs.notes.append(published["note"])
        yield from tables.values()


def plot(tables: Sequence[ScoreTable], path: Path) -> None:
    """A panel of bars for each table. Raises InputError where there is no score, or no matplotlib."""
    shown = [table for table in tables if table.rows]
    if not shown:
        raise InputError("--plot: no answer of a judge could be read, so there is nothing to draw; leave it out.")
    figure, panels = new_figure(10, 3.2, len(shown))
    for axes, table in zip(panels, shown, strict=True):
        columns = [column for column in table.columns if column != COUNT]
        rows = {
            name: {column: Bar(value) for column, value in zip(table.columns, values, strict=True) if value is not None}
            for name, values in table.rows.items()
        }
        draw_bars(axes, rows, columns, f"{table.title}, judged by {table.judge}")
    save_figure(figure, path)


@cache
def read_published() -> list[dict[str, Any]]:
    """The papers' tables: bench, title, source, judge, subset, note, columns, rows."""
    return read_json(PUBLISHED)["tables"]


def _judged(
    method: str, bench: Bench, judge: str, log: Mapping[str, Mapping[str, Any]], cases: Mapping[str, Mapping[str, Any]]
) -> Judged:
    """The sums over a judge's `log` of the run's `cases`, both by key."""
    means: dict[str, dict[str, dict[str, float]]] = {}
    counts: dict[str, dict[str, int]] = {}
    scored = [line for line in log.values() if line.get("scores")]
    for subset, tags in bench.subsets.items():
        lines = [line for line in scored if tags.items() <= line["tags"].items()]
        if not lines:
            continue
        groups: dict[str, list[Mapping[str, float | None]]] = {}
        for line in lines:
            groups.setdefault(line["group"], []).append(line["scores"])
        means[subset] = {group: _means(rows) for group, rows in sorted(groups.items())}
        counts[subset] = {group: len(rows) for group, rows in groups.items()}
        every = {case["group"] for case in cases.values() if tags.items() <= case["tags"].items()}
        for name, members in bench.summaries.items():
            there = [means[subset][group] for group in members or sorted(every) if group in groups]
            if there and len(there) == len(members or every):  # a mean of some kinds is no overall score
                means[subset][name] = _means(there)
    return Judged(
        method, bench, judge, means, counts,
        unreadable=sum(line.get("scores") is None for line in log.values()),
        missing=len(cases) - len(log),
        prompt_tokens=sum(line.get("prompt_tokens", 0) for line in log.values()),
        answer_tokens=sum(line.get("answer_tokens", 0) for line in log.values()),
    )  # fmt: skip


def _means(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
    return {name: fmean(numbers) for name, numbers in values.items() if numbers}


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"


def check_same_bench(found: Sequence[Judged]) -> None:
    """Raise InputError where two runs are called alike, so that one's row would hide the other's."""
    seen: set[tuple[str, str, str]] = set()
    for one in found:
        name = (one.bench.name, one.judge, one.method)
        if name in seen:
            raise InputError(f"Two runs are called {quoted(one.method)}; rename the folder of one.")
        seen.add(name)
