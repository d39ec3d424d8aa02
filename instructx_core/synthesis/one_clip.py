"""Run one clip through a recipe and the filter; open the footage and the experts, and time the experts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..device import pick_device
from ..errors import InputError, NoRoom
from ..words import one_line
from .answering import answered, spent
from .candidate import Candidate, Drop, Tray
from .checks import passed_judge, passed_measures
from .clips import Clip, ClipFolder, ClipSource
from .config import SynthesisConfig
from .experts import ExpertFailed, Experts
from .recipes import RECIPES
from .store import Made, has_kept, write_clip
from .world import World


@dataclass(frozen=True)
class Unfinished:
    """A clip that does not fit into main memory now; the next run tries it again."""

    clip: str
    why: str


def finish_clip(
    config: SynthesisConfig, source: ClipSource, key: str, experts: Experts, seconds: Counter[str], place: Path
) -> Made | Unfinished:
    """Write a clip's candidates to `place`/KEY. Raises InputError as `make_pairs` does, but for NoRoom."""
    try:
        candidates = make_pairs(config, source, key, experts, seconds)
    except NoRoom as error:
        return Unfinished(key, one_line(error, 300))
    return write_clip(place, key, candidates, seconds)


def make_pairs(
    config: SynthesisConfig, source: ClipSource, key: str, experts: Experts, seconds: Counter[str] | None = None
) -> list[Candidate]:
    """All candidates of one clip, filtered; an unreadable clip gives one dropped candidate.

    Args:
        seconds: the time of reading and measuring is added here; experts count their own (`timed`).

    Raises:
        InputError: an expert's device has failed (`answered`), or the clip does not fit into main memory (NoRoom).
    """
    seconds = Counter() if seconds is None else seconds
    try:
        with spent(seconds, "read"):
            clip = source.read(key)
    except NoRoom:  # not the clip's fault: it is not dropped
        raise
    except InputError as error:
        about = {"why": one_line(error, 300)}
        return [Candidate(f"{key}-00", key, "any", None, reason="unreadable", stage="read", about=about)]
    made: list[Candidate] = []
    try:
        scenes = _scenes(clip, experts, config.frames if config.world is None else None)
    except ExpertFailed as error:
        tray = Tray(clip)
        tray.drop(("any",), Drop(str(error), error.stage), about=_why(error))
        return tray.candidates
    for scene in scenes:
        tray = Tray(scene)
        try:
            if len(scene.frames) < config.least_frames:
                tray.drop(("any",), Drop("too short", "read"))
            else:
                RECIPES[config.recipe].make(scene, experts, config.choices, tray)
        except ExpertFailed as error:
            tray.drop(("any",), Drop(str(error), error.stage), about=_why(error))
        made += [_filtered(one, config, experts, seconds) for one in tray.candidates]
    return [replace(one, clip=key) for one in made]


def _filtered(candidate: Candidate, config: SynthesisConfig, experts: Experts, seconds: Counter[str]) -> Candidate:
    """Measure and judge a candidate; the judge, which costs most, sees only those that passed all measures."""
    with spent(seconds, "measures"):
        candidate = passed_measures(candidate, config.all_bounds)
    try:
        return passed_judge(candidate, config.all_bounds, experts.judge)
    except ExpertFailed as error:
        return replace(
            candidate, reason=str(error), stage=error.stage or "judge", about={**candidate.about, **_why(error)}
        )


def _why(error: ExpertFailed) -> dict[str, str]:
    return {"why": error.why} if error.why else {}


def _scenes(clip: Clip, experts: Experts, most: int | None) -> list[Clip]:
    """The scenes of a clip, each cut to at most `most` frames."""
    parts = experts.cuts.scenes(clip.frames) if experts.cuts and len(clip.frames) > 1 else [(0, len(clip.frames))]
    if len(parts) == 1:
        return [replace(clip, frames=clip.frames[:most])]
    return [replace(clip, key=f"{clip.key}-s{n}", frames=clip.frames[a:b][:most]) for n, (a, b) in enumerate(parts)]


def open_clips(config: SynthesisConfig) -> ClipSource:
    if (world := config.world) is not None:
        return World(world.count, world.frames, world.size, world.seed)
    return ClipFolder(Path(config.clips or ""), config.film or config.frames, config.frames)


def open_experts(config: SynthesisConfig, source: ClipSource) -> Experts:
    """The experts that a config names, or the world's own."""
    if isinstance(source, World):
        return source.experts()
    from .models import load_experts

    return load_experts(config.asked, str(pick_device(None)), lambda: has_kept(Path(config.output)))


class _Timed:
    """Wraps an expert: adds up the time of its calls and translates its errors (`answered`)."""

    def __init__(self, expert: Any, name: str, seconds: Counter[str]) -> None:
        self._expert, self._name, self._seconds = expert, name, seconds

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._expert, method)

        def timed_call(*arguments: Any) -> Any:
            with spent(self._seconds, self._name):
                return answered(self._name, call, *arguments)

        return timed_call


def timed(experts: Experts | None, seconds: Counter[str]) -> Experts:
    """Wrap the experts so that each adds the time of its calls to `seconds` under its role."""
    named = {field.name: getattr(experts, field.name) for field in fields(Experts)}
    return Experts(**{name: one and _Timed(one, name, seconds) for name, one in named.items()})
