"""Bar charts with intervals and line charts as PNG, drawn with matplotlib (extra `metrics`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import partial_file
from ..errors import InputError
from ..words import one_line

DPI = 100
LEGEND_COLUMNS = 3


@dataclass(frozen=True)
class Bar:
    """A value, with the bounds of its interval if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


def new_figure(width: float, height: float, panels: int = 1) -> tuple[Any, list[Any]]:
    """A figure (size in inches) with stacked panels; needs no display.

    Raises InputError if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(f"Plots need matplotlib ({one_line(error, 100)}); run `pip install matplotlib`.") from error
    figure = Figure(figsize=(width, height * panels), dpi=DPI, layout="constrained")
    axes = figure.subplots(panels, 1, squeeze=False)
    return figure, list(axes[:, 0])


def draw_bars(axes: Any, rows: Mapping[str, Mapping[str, Bar]], columns: Sequence[str], title: str) -> None:
    """Draw a group of bars per column and a colour per row; values that a row lacks are left out."""
    width = 0.8 / max(1, len(rows))
    for number, (name, bars) in enumerate(rows.items()):
        there = [place for place, column in enumerate(columns) if column in bars]
        values = [bars[columns[place]] for place in there]
        errors = [
            [bar.value - bar.low if bar.low is not None else 0 for bar in values],
            [bar.high - bar.value if bar.high is not None else 0 for bar in values],
        ]
        spots = [place + (number - (len(rows) - 1) / 2) * width for place in there]
        bounded = any(bar.low is not None for bar in values)
        axes.bar(spots, [bar.value for bar in values], width, label=name, yerr=errors if bounded else None, capsize=2)
    axes.set_xticks(range(len(columns)), columns, rotation=25, ha="right")
    axes.set_title(title, fontsize=10)
    axes.margins(y=0.12 * math.ceil(len(rows) / LEGEND_COLUMNS))  # room for the legend above the bars
    axes.legend(fontsize=7, ncols=LEGEND_COLUMNS)
    axes.grid(axis="y", alpha=0.3)


def draw_lines(axes: Any, rows: Mapping[str, Sequence[tuple[float, float]]], across: str, title: str) -> None:
    """Draw a line through the points (x, y) of each row."""
    for name, points in rows.items():
        axes.plot([x for x, _ in points], [y for _, y in points], label=name, linewidth=1.2)
    axes.set_xlabel(across, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=7, ncols=LEGEND_COLUMNS)
    axes.grid(alpha=0.3)


def save_figure(figure: Any, path: Path) -> None:
    """Write a PNG atomically; the same figure gives the same bytes."""
    with partial_file(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})
