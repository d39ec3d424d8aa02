"""Run a recipe over all clips, in this process or on Ray; an interrupted run continues with the next clip."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..bounded import why
from ..errors import InputError, NoRoom
from ..run_lock import only_run
from ..words import listed, quoted_path
from .clips import ClipSource
from .config import Cluster, SynthesisConfig
from .dashboard import Dashboard
from .experts import Experts
from .manifest import read_manifest
from .models import check_experts, check_folders, models_of
from .on_ray import check_answers, made_on_ray
from .one_clip import Unfinished, finish_clip, open_clips, open_experts, timed
from .store import Made, Store

Progress = Callable[[Dashboard], None]
NAMED = 10  # clips in a message


@dataclass(frozen=True)
class RunSummary:
    """The results of a run so far.

    Attributes:
        dropped: "task: reason" -> pairs.
        seconds: expert or other stage -> total seconds.
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


def synthesise(
    config: SynthesisConfig,
    experts: Experts | None = None,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
) -> RunSummary:
    """Make the pairs of all clips that are not finished yet.

    Args:
        experts: replace those of the config; only without `cluster`.
        progress: called with the run's dashboard after every clip.
        cluster: run on Ray; None: in this process.

    Raises:
        InputError: clips or experts cannot be opened, or the output belongs to another run or cannot be written.
        NoRoom: some clips did not fit into main memory; all others are finished, and the next run tries these again.
    """
    output = Path(config.output)
    if experts is not None and cluster is not None:
        raise InputError("experts: objects stay in this process; for a run on Ray, name models in the config instead.")
    if experts is None and config.world is None:
        _check_needs(config, config.experts)
        check_experts(config.experts)
    source = open_clips(config)
    keys = source.keys()
    _check_apart(config)
    if experts is None:
        check_folders(config.asked)
    if cluster is not None and cluster.address is not None:
        check_answers(cluster.address)
    with _written(output), only_run(output):
        store = Store(output, config.form, _settings(config))
        done = store.finished()
        left = [key for key in keys if key not in done]
        packed = {*store.packed_clips()}
        order = [key for key in dict.fromkeys((*keys, *store.waiting())) if key not in packed]
        dashboard = Dashboard(len(keys), len(keys) - len(left), *_processes(config, cluster))
        order = store.pack_in_order(order, done, config.shard, last=not left)
        unfinished: list[Unfinished] = []
        with closing(_work(config, source, left, experts, store, cluster)) as work:
            for number, made in enumerate(work, start=1):
                if isinstance(made, Unfinished):
                    unfinished.append(made)
                    order.remove(made.clip)
                else:
                    done.add(made.clip)
                order = store.pack_in_order(order, done, config.shard, last=number == len(left))
                if isinstance(made, Made):
                    dashboard.count(made)
                    if progress:
                        progress(dashboard)
        store.clear_working()
    if unfinished:
        raise _short_of_memory(config, source, unfinished, len(keys), cluster)
    return read_summary(output)


def _work(
    config: SynthesisConfig,
    source: ClipSource,
    left: Sequence[str],
    experts: Experts | None,
    store: Store,
    cluster: Cluster | None,
) -> Generator[Made | Unfinished]:
    """Try the clips one by one; each finished one is in `pending` by the time it is yielded."""
    if not left:
        return
    if cluster is not None:
        for made in made_on_ray(config, left, store.working, cluster):
            if isinstance(made, Made):
                store.take(store.working / made.clip)
            yield made
        return
    experts = experts or open_experts(config, source)
    _check_needs(config, [field.name for field in fields(experts) if getattr(experts, field.name) is not None])
    for key in left:
        seconds: Counter[str] = Counter()
        yield finish_clip(config, source, key, timed(experts, seconds), seconds, store.pending)


def _short_of_memory(
    config: SynthesisConfig, source: ClipSource, unfinished: Sequence[Unfinished], clips: int, cluster: Cluster | None
) -> NoRoom:
    """What to do about clips that did not fit into memory."""
    names = listed([source.name(one.clip) for one in unfinished], NAMED)
    fewer = "" if cluster is None or cluster.workers == 1 else "give fewer --workers, "
    lower = "frames" if config.film is None else "film or frames"
    return NoRoom(
        f"Memory was short for {len(unfinished)} of {clips} clips ({names}), all others are finished; free memory, "
        f"{fewer}scale them down or move them out of the folder, and run again, or give a new output and lower "
        f"{lower}; the first: {unfinished[0].why}"
    )


def _check_needs(config: SynthesisConfig, there: Collection[str]) -> None:
    """Raise InputError if an expert that the recipe needs is missing."""
    if missing := [role for role in config.needed if role not in there]:
        raise InputError(f"{config.recipe} needs experts for {', '.join(missing)}; add each under experts.")


def _check_apart(config: SynthesisConfig) -> None:
    """Raise InputError if the output is inside the clip folder: the next run would take its files for clips."""
    if config.clips is not None:
        clips, output = Path(config.clips).resolve(), Path(config.output).resolve()
        if output == clips or clips in output.parents:
            raise InputError(
                f"The output {quoted_path(config.output)} is inside the clip folder {quoted_path(config.clips)}, where "
                "it would be taken for footage; give a folder outside it."
            )


@contextmanager
def _written(output: Path) -> Iterator[None]:
    """Create the output's parent folders, and turn file system errors into an InputError of one sentence."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise InputError(
            f"{quoted_path(output)} cannot be written ({why(error)}); free space or give another output."
        ) from error


def read_summary(output: Path) -> RunSummary:
    """Sum up the manifest of an output."""
    entries = read_manifest(output)
    dropped, seconds = Counter(), Counter()
    for entry in entries:
        dropped.update(entry["dropped"])
        seconds.update(entry["seconds"])
    clips, kept = (sum(counts) for counts in ([len(e["clips"]) for e in entries], [e["kept"] for e in entries]))
    return RunSummary(clips, kept, dict(dropped), dict(seconds))


def _settings(config: SynthesisConfig) -> dict[str, Any]:
    """The settings that affect records: all but the output, planning rates, batch size and process counts."""
    asked = asdict(replace(config, experts=config.asked))
    plain = {name: value for name, value in asked.items() if name not in ("output", "rates", "batch")}
    for choice in plain["experts"].values():
        del choice["copies"], choice["gpus"]
    return plain


def _processes(config: SynthesisConfig, cluster: Cluster | None) -> tuple[int, dict[str, int]]:
    """The number of workers, and the copies of each expert that does not run in them."""
    if cluster is None:
        return 1, {}
    copies = {role: choice.copies for choices in models_of(config.asked) for role, choice in choices.items()}
    return cluster.workers or os.cpu_count() or 1, copies
