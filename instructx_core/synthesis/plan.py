"""Hours and cards for many clips, from seconds that a small run has measured or a config gives."""

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
    """Lines of a plan.

    Args:
        cards: that work at the same time, each on clips of its own.
        given: expert -> seconds of one card for one clip; they take the place of measured ones. Reading, measuring and
            writing, which need no card, count too: a card waits for them where all is one process.
        models: the experts of each model, which on Ray has cards of its own.

    Returns:
        [] where neither is known.
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
            lines.append(f"  --workers {math.ceil(sum(rates.values()) / pace)} keep it busy")
    if measured.clips:
        lines.append(f"  about {clips * measured.kept / measured.clips:.0f} pairs kept, as of {measured.clips} clips")
    return lines


def shared_out(seconds: Mapping[str, float], cards: int) -> dict[str, int]:
    """How many of the cards each model gets, at least one, so that the slowest takes the least time."""
    copies = dict.fromkeys(seconds, 1)
    for _ in range(cards - len(copies)):
        copies[max(copies, key=lambda name: seconds[name] / copies[name])] += 1
    return copies
