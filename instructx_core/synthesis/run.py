"""A recipe over all clips in one process, resumable to the clip."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..bounded import why
from ..device import pick_device
from ..errors import InputError
from ..run_lock import only_run
from ..words import one_line, quoted_path
from .candidate import Candidate, Tray
from .checks import filtered
from .clips import Clip, ClipFolder, ClipSource
from .config import SynthesisConfig
from .experts import ExpertFailed, Experts
from .recipes import RECIPES
from .store import Store, read_manifest
from .world import World

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RunSummary:
    """What a run has made so far.

    Attributes:
        dropped: "task: reason" -> pairs.
        seconds: expert -> seconds of it in all.
    """

    clips: int
    kept: int
    dropped: Mapping[str, int]
    seconds: Mapping[str, float]

    @property
    def pairs(self) -> int:
        return self.kept + sum(self.dropped.values())

    def lines(self) -> list[str]:
        share = self.kept / self.pairs if self.pairs else 0.0
        said = [f"{self.clips} clips, {self.pairs} pairs: {self.kept} kept ({share:.0%})"]
        said += [f"  dropped {count}: {reason}" for reason, count in Counter(self.dropped).most_common()]
        said += [f"  {name}: {self.clips / spent:.2f} clips/s" for name, spent in self.seconds.items() if spent]
        return said


def synthesise(config: SynthesisConfig, experts: Experts | None = None, progress: Progress | None = None) -> RunSummary:
    """Make the pairs of every clip that has none yet.

    Args:
        experts: in place of the config's.

    Raises:
        InputError: clips or experts that cannot be opened, an output of another run, or one that cannot be written.
    """
    output = Path(config.output)
    if experts is None and config.experts:
        from .models import check_experts

        check_experts(config.experts)
    source = open_clips(config)
    keys = source.keys()
    with _written(output), only_run(output):
        store = Store(output, config.form, _settings(config))
        done = store.finished()
        left = [key for key in keys if key not in done]
        if left and experts is None:
            experts = open_experts(config, source)
        for at, key in enumerate(left, start=len(keys) - len(left)):
            seconds: Counter[str] = Counter()
            store.add(key, make_pairs(config, source, key, timed(experts, seconds)), seconds)
            _pack(store, config.shard, last=False)
            if progress:
                progress(at + 1, len(keys), "clips")
        _pack(store, config.shard, last=True)
    return read_summary(output)


@contextmanager
def _written(output: Path) -> Iterator[None]:
    """Make the output's parents; errors of the file system come as one sentence, and no finished clip is lost."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(
            f"{quoted_path(output)}: it cannot be written ({why(error)}); free space or give another output."
        ) from error


def _pack(store: Store, clips: int, last: bool) -> None:
    waiting = store.waiting()
    while len(waiting) >= clips or (last and waiting):
        store.pack(waiting[:clips])
        waiting = waiting[clips:]


def make_pairs(config: SynthesisConfig, source: ClipSource, key: str, experts: Experts) -> list[Candidate]:
    """All candidates of one clip, filtered; a clip that cannot be read is one that was dropped."""
    try:
        clip = source.read(key)
    except InputError as error:
        return [Candidate(f"{key}-00", key, "any", None, reason="unreadable", about={"why": one_line(error, 300)})]
    made: list[Candidate] = []
    for scene in _scenes(clip, experts):
        tray = Tray(scene)
        try:
            if len(scene.frames) < config.least_frames:
                tray.drop(("any",), "too short")
            else:
                RECIPES[config.recipe].make(scene, experts, config.choices, tray)
        except ExpertFailed as error:
            tray.drop(("any",), str(error))
        made += [_filtered(one, config, experts) for one in tray.candidates]
    return [replace(one, clip=key) for one in made]


def _filtered(candidate: Candidate, config: SynthesisConfig, experts: Experts) -> Candidate:
    try:
        return filtered(candidate, config.all_bounds, experts.judge)
    except ExpertFailed as error:
        return replace(candidate, reason=str(error))


def _scenes(clip: Clip, experts: Experts) -> list[Clip]:
    parts = experts.cuts.scenes(clip.frames) if experts.cuts and len(clip.frames) > 1 else [(0, len(clip.frames))]
    if len(parts) == 1:
        return [clip]
    return [replace(clip, key=f"{clip.key}-s{n}", frames=clip.frames[a:b]) for n, (a, b) in enumerate(parts)]


def open_clips(config: SynthesisConfig) -> ClipSource:
    if (world := config.world) is not None:
        return World(world.count, world.frames, world.size, world.seed)
    return ClipFolder(Path(config.clips or ""), config.frames)


def open_experts(config: SynthesisConfig, source: ClipSource) -> Experts:
    """The experts that a config names; of the world, its own."""
    if isinstance(source, World):
        return source.experts()
    from .models import load_experts

    return load_experts(config.experts, str(pick_device(None)))


def read_summary(output: Path) -> RunSummary:
    """What the manifest of an output says."""
    entries = read_manifest(output)
    dropped, seconds = Counter(), Counter()
    for entry in entries:
        dropped.update(entry["dropped"])
        seconds.update(entry["seconds"])
    clips, kept = (sum(counts) for counts in ([len(e["clips"]) for e in entries], [e["kept"] for e in entries]))
    return RunSummary(clips, kept, dict(dropped), dict(seconds))


class _Timed:
    """An expert whose time is added up."""

    def __init__(self, expert: Any, name: str, seconds: Counter[str]) -> None:
        self._expert, self._name, self._seconds = expert, name, seconds

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._expert, method)

        def timed_call(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*arguments)
            finally:
                self._seconds[self._name] += time.perf_counter() - start

        return timed_call


def timed(experts: Experts | None, seconds: Counter[str]) -> Experts:
    """The experts, each of which adds the seconds of its calls under its name."""
    named = {field.name: getattr(experts, field.name) for field in fields(Experts)}
    return Experts(**{name: one and _Timed(one, name, seconds) for name, one in named.items()})


def _settings(config: SynthesisConfig) -> dict[str, Any]:
    """What makes records differ; the output's place and rates of a plan do not."""
    return {name: value for name, value in asdict(config).items() if name not in ("output", "rates")}
