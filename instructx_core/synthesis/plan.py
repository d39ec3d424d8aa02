"""Hours and cards for many clips, from seconds that a small run has measured or a config gives."""

from __future__ import annotations

from collections.abc import Mapping

from .run import RunSummary


def plan_lines(clips: int, cards: int, given: Mapping[str, float], measured: RunSummary) -> list[str]:
    """Lines of a plan.

    Args:
        cards: that work at the same time, each on clips of its own.
        given: expert -> seconds of one card for one clip; they take the place of measured ones.

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
        lines.append(f"  {name}: {rates[name]:.3f} s a clip ({origin}), {spent:.2f} card hours, {spent / total:.0%}")
    if measured.clips:
        lines.append(f"  about {clips * measured.kept / measured.clips:.0f} pairs kept, as of {measured.clips} clips")
    return lines
