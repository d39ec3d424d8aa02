"""Tables and plots that compare benchmark runs with published numbers, never with two judges in one table.

The published numbers are in `published.json`: each table with its source and judge, as printed.
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
COUNT = "cases"  # the only column that is not a score


@dataclass(frozen=True)
class Judged:
    """One judge's results for one run.

    Attributes:
        means: subset -> group (summaries included) -> score -> mean.
        counts: subset -> group -> cases with scores.
        unreadable: cases whose answers could not be read, even when asked again.
        missing: cases without an edit or a score so far; without a judge, of those with a mask.
        prompt_tokens, answer_tokens: as reported by the judge.
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
    """A table of one judge: each row has a value or None per column."""

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
    """Each judge's results for the run in a folder, and the metrics measured without a judge.

    Raises:
        InputError: not a run of `instructx bench`, a line that it did not write, or no scores yet.
    """
    about = read_json(folder / "run.json")
    if not isinstance(about, dict) or about.get("bench") not in BENCHES:
        raise InputError(f"{quoted_path(folder)} is not a run of `instructx bench`; give a run's folder.")
    bench, method = BENCHES[about["bench"]], folder.resolve().name
    cases = _lines(folder / "cases.jsonl", "group")
    logs = [_lines(path, "group", "judge") for path in sorted((folder / "judged").glob("*.jsonl"))]
    found = [_judged(method, bench, str(next(iter(log.values()))["judge"]), log, cases) for log in logs if log]
    if measured := _lines(folder / "measured.jsonl", "group"):
        found.append(_judged(method, bench, NO_JUDGE, measured, cases))
    if not found:
        raise InputError(f"{quoted_path(folder)} has no scores yet; run `instructx bench {bench.name}` with --judge.")
    return found


def _lines(path: Path, *texts: str) -> dict[str, dict[str, Any]]:
    """A log's lines by key. Raises InputError for a line that `instructx bench` does not write."""
    lines = CaseLog(path).read()
    for key, line in lines.items():
        tags, scores = line.get("tags"), line.get("scores") or {}
        told = all(isinstance(line.get(name), str) for name in texts) and isinstance(tags, dict)
        if not told or not isinstance(scores, dict) or not all(map(_is_score, scores.values())):
            raise InputError(
                f"{quoted_path(path)}: `instructx bench` did not write the line of the case {quoted(key)}; delete it, "
                "and run `instructx bench` again."
            )
    return lines


def _is_score(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def own_tables(found: Sequence[Judged]) -> Iterator[ScoreTable]:
    """All groups and scores of each run, one table per subset."""
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
    """A note on the cases that a table does not show and on the tokens spent."""
    if one.judge == NO_JUDGE:
        return f"Masked cases not edited or measured yet: {one.missing}."
    told = f"Cases with unreadable answers: {one.unreadable}; not edited or judged yet: {one.missing}."
    return told + (f" {one.prompt_tokens} + {one.answer_tokens} tokens." if one.prompt_tokens else "")


def compared_tables(found: Sequence[Judged]) -> Iterator[ScoreTable]:
    """The papers' tables of these benchmarks, split by judge, with the runs that the same judge scored added."""
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
    """Draw a panel of bars per table. Raises InputError without any scores, or without matplotlib."""
    shown = [table for table in tables if table.rows]
    if not shown:
        raise InputError(
            "--plot: there is nothing to draw, as none of the judges' answers could be read; leave it out."
        )
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
    """Aggregate a judge's `log` of the run's `cases` (both by key)."""
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
            if there and len(there) == len(members or every):  # a mean of only some groups would not be comparable
                means[subset][name] = _means(there)
    return Judged(
        method, bench, judge, means, counts,
        unreadable=sum(line.get("scores") is None for line in log.values()),
        missing=sum(key not in log for key, case in cases.items() if judge != NO_JUDGE or case.get("mask")),
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
    """Raise InputError if two runs have the same name, because one's row would hide the other's."""
    seen: set[tuple[str, str, str]] = set()
    for one in found:
        name = (one.bench.name, one.judge, one.method)
        if name in seen:
            raise InputError(f"Two runs are called {quoted(one.method)}; rename one of their folders.")
        seen.add(name)
