"""Estimate hours and cards for many clips from times that a small run measured or a config gives."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from .run import RunSummary


def plan_lines(
    clips: int,
    cards: int,
    given: Mapping[str, float],
    measured: RunSummary,
    models: Sequence[Collection[str]] = (),
) -> list[str]:
    """The lines of a plan.

    Args:
        cards: working in parallel, each on different clips.
        given: expert -> seconds per clip on one card; overrides measured times. Reading, measuring and writing need no
            card but count too: in a single process the card waits for them.
        models: the experts of each model; on Ray, each model has its own cards.

    Returns:
        [] if no times are given or measured.
    """
    seen = {name: spent / measured.clips for name, spent in measured.seconds.items() if measured.clips}
    rates = {**seen, **given}
    if not rates:
        return []
    hours = {name: seconds * clips / 3600 for name, seconds in rates.items()}
    total = sum(hours.values())
    lines = [f"{clips} clips on {cards} card{'s' * (cards != 1)}: {total / cards:.2f} hours, {total:.2f} card hours"]
    for name, spent in sorted(hours.items(), key=lambda entry: -entry[1]):
        origin = "given" if name in given else "measured"
        share = spent / total if total else 0.0
        lines.append(f"  {name}: {rates[name]:.3f} s a clip ({origin}), {spent:.2f} card hours, {share:.0%}")
    each = {"/".join(roles): sum(rates.get(role, 0.0) for role in roles) for roles in models}
    if each and cards >= len(each):
        copies = shared_out(each, cards)
        slowest = max(each, key=lambda name: each[name] / copies[name])
        told = ", ".join(f"{name} {count}" for name, count in copies.items())
        pace = each[slowest] / copies[slowest]
        lines.append(f"  on Ray with copies: {told}: {pace * clips / 3600:.2f} hours, {slowest} is the slowest")
        if pace:
            lines.append(f"  --workers {math.ceil(sum(rates.values()) / pace)} keeps it busy")
    if measured.clips:
        kept = clips * measured.kept / measured.clips
        lines.append(f"  about {kept:.0f} pairs kept, estimated from {measured.clips} clips")
    return lines


def shared_out(seconds: Mapping[str, float], cards: int) -> dict[str, int]:
    """The number of cards for each model, at least one, such that the slowest model is as fast as possible."""
    copies = dict.fromkeys(seconds, 1)
    for _ in range(cards - len(copies)):
        copies[max(copies, key=lambda name: seconds[name] / copies[name])] += 1
    return copies
