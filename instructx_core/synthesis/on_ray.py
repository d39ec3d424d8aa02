"""Process clips in parallel with Ray Data, on this machine or on a cluster.

Workers run clips through a recipe and write the results to the run's folder, which all machines must be able to access.
Models do not run in the workers: each is a separate actor, with a GPU if there is one, in as many copies as the config
says; roles with the same model share it. If a worker or an actor dies, Ray restarts it and hands its clips out again;
clips that were already finished are not made twice.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import socket
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..device import pick_device
from ..errors import InputError, InstructXError
from ..words import one_line, quoted
from .answering import answered, spent
from .config import Cluster, ExpertChoice, Role, SynthesisConfig
from .experts import ExpertFailed, Experts
from .models import load_experts, models_of
from .one_clip import Unfinished, finish_clip, open_clips, timed
from .store import Made, has_kept, read_made
from .world import World

OURS = (InstructXError, ExpertFailed, OSError)
ANSWERS_WITHIN = 20.0  # seconds
SETTINGS = 4  # a type of HTTP/2 frame
Actors = Mapping[Role, Sequence[Any]]


def made_on_ray(
    config: SynthesisConfig, clips: Sequence[str], place: Path, cluster: Cluster
) -> Iterator[Made | Unfinished]:
    """Make the pairs of some clips. Each finished one is in `place`/CLIP when it is yielded; the order is arbitrary.

    Raises:
        InputError: Ray is not installed, the cluster does not answer or is too small, or a worker failed.
    """
    config = _absolute(config)
    with _connected(cluster) as ray, _own_errors():
        workers = _workers(ray, config, cluster)
        actors = _start_models(ray, config)
        footage = ray.data.from_items(
            [{"clip": clip} for clip in clips], override_num_blocks=math.ceil(len(clips) / config.batch)
        )
        done = footage.map(
            ClipWorker,
            fn_constructor_args=(config, str(place.resolve()), actors),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
        )
        for row in done.iter_rows():
            if row["problem"]:
                raise InputError(row["problem"])
            if row["short"]:
                yield Unfinished(row["clip"], row["short"])
            else:
                yield Made(row["clip"], **json.loads(row["told"]))


class ClipWorker:
    """Runs clips through the recipe one by one; reuses clips that a worker finished before it died."""

    def __init__(self, config: SynthesisConfig, place: str, actors: Actors) -> None:
        self.config, self.place, self.actors = config, Path(place), actors
        self.source = open_clips(config)
        light = {role: choice for role, choice in config.asked.items() if role not in actors}
        self.experts = (
            self.source.experts()
            if isinstance(self.source, World)
            else load_experts(light, "cpu", lambda: has_kept(Path(config.output)))
        )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        key, told, problem, short = row["clip"], {}, "", ""
        try:
            made = read_made(self.place / key) or self._finished(key)
            if isinstance(made, Unfinished):
                short = made.why
            else:
                counts = {"seconds": dict(made.seconds), "dropped": dict(made.dropped)}
                told = {"kept": made.kept, "pairs": made.pairs, **counts}
        except (InstructXError, OSError) as error:  # Ray Data would only show its own stack frames
            problem = one_line(error, 1000)
        return {"clip": key, "told": json.dumps(told), "problem": problem, "short": short}

    def _finished(self, key: str) -> Made | Unfinished:
        seconds: Counter[str] = Counter()
        far = {role: FarExpert(role, copies, seconds) for role, copies in self.actors.items()}
        experts = replace(timed(self.experts, seconds), **far)
        return finish_clip(self.config, self.source, key, experts, seconds, self.place)


class ModelActor:
    """A model in a separate process, for all roles that name it; loaded on first use."""

    def __init__(self, choices: Mapping[Role, ExpertChoice]) -> None:
        self.choices = choices
        self.experts: Experts | None = None

    def load(self) -> Experts:
        self.experts = self.experts or load_experts(self.choices, str(pick_device(None)))
        return self.experts

    def is_loaded(self) -> bool:
        return self.load() is not None

    def call(self, role: Role, method: str, arguments: tuple[Any, ...]) -> tuple[Any, float]:
        """Return the expert's answer and the seconds it took."""
        ask = getattr(getattr(self.load(), role), method)
        seconds: Counter[str] = Counter()
        with spent(seconds, role):
            answer = answered(role, ask, *arguments)
        return answer, seconds[role]


class FarExpert:
    """An expert in another process; copies are called in turn. Time spent waiting for them is not counted."""

    _turns = itertools.count(os.getpid())

    def __init__(self, role: Role, copies: Sequence[Any], seconds: Counter[str]) -> None:
        self._role, self._copies, self._seconds = role, copies, seconds

    def __getattr__(self, method: str) -> Any:
        if method.startswith("_"):
            raise AttributeError(method)

        def call(*arguments: Any) -> Any:
            import ray

            actor = self._copies[next(self._turns) % len(self._copies)]
            with _own_errors():
                answer, spent = ray.get(actor.call.remote(self._role, method, arguments))
            self._seconds[self._role] += spent
            return answer

        return call


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Start Ray or connect to a cluster; an already initialised Ray is used and left running."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise Ray sends usage statistics to its makers
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # failures arrive as exceptions
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(
            f"Running in several processes needs Ray Data ({one_line(error, 100)}); run `pip install 'ray[data]'`, or "
            "leave out --workers and --ray-address."
        ) from error
    here = not ray.is_initialized()
    if here:
        place: dict[str, Any] = {"address": cluster.address}
        if cluster.address is None:
            cpus = max(cluster.workers or 1, os.cpu_count() or 1)
            place = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        try:
            ray.init(**place, log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # a bare one if its own node does not start in time
            raise _no_cluster(cluster.address, error) from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield ray
    finally:
        if here:
            ray.shutdown()


def check_answers(address: str) -> None:
    """Raise InputError if nothing listens at HOST:PORT; Ray itself would retry for minutes."""
    if "://" in address:
        raise InputError(
            f"The Ray address {quoted(address)} is for Ray Client, which Ray Data does not support; give HOST:PORT "
            "of the head node, or auto on one of the cluster's machines."
        )
    try:
        if not address.strip():
            raise ValueError("the address is empty")
        if ":" in address:
            place = urlsplit(f"//{address}")
            if place.port is None:
                raise ValueError("it has no port")
            with socket.create_connection((place.hostname, place.port), timeout=ANSWERS_WITHIN) as there:
                _check_speaks(there)
    except (OSError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _check_speaks(there: socket.socket) -> None:
    """Raise OSError unless the peer speaks gRPC, as Ray does: its first HTTP/2 frame must be SETTINGS."""
    if os.environ.get("RAY_USE_TLS") == "1":
        return
    there.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]))
    head = b""
    while len(head) < 9:
        if not (more := there.recv(9 - len(head))):
            break
        head += more
    if len(head) < 9 or head[3] != SETTINGS:
        raise OSError("something other than Ray listens there")


def _no_cluster(address: str | None, error: Exception) -> InputError:
    why = one_line(error, 200)
    if address is None:
        return InputError(f"Ray does not start here ({why}); run again, or leave out --workers to use one process.")
    return InputError(
        f"No Ray cluster answers at {quoted(address)} ({why}); check `ray status`, and set RAY_AUTH_MODE=token if the "
        "cluster uses tokens."
    )


def _workers(ray: Any, config: SynthesisConfig, cluster: Cluster) -> int:
    """The number of workers. Raises InputError if the cluster has too few CPUs for them or GPUs for the models."""
    there = ray.cluster_resources()
    cpus, gpus = int(there.get("CPU", 0)), there.get("GPU", 0.0)
    workers = cluster.workers or cpus
    if not 1 <= workers <= cpus:
        raise InputError(
            f"{workers} workers need one CPU each, but the cluster has {cpus}; give --workers {max(cpus, 1)}."
        )
    needed = sum(_copies(choices) * _gpus(choices, gpus) for choices in models_of(config.asked))
    if needed > gpus:
        raise InputError(
            f"The experts need {needed:g} GPUs, but the cluster has {gpus:g}; lower copies or gpus under experts."
        )
    return workers


def _start_models(ray: Any, config: SynthesisConfig) -> Actors:
    """Start an actor for each copy of each model and wait until all are loaded."""
    there = ray.cluster_resources().get("GPU", 0.0)
    actors: dict[Role, list[Any]] = {}
    for choices in models_of(config.asked):
        options = {"num_cpus": 0, "num_gpus": _gpus(choices, there), "max_restarts": -1, "max_task_retries": -1}
        kind = ray.remote(ModelActor).options(**options)
        copies = [kind.remote(choices) for _ in range(_copies(choices))]
        actors |= dict.fromkeys(choices, copies)
    ray.get([copy.is_loaded.remote() for copies in actors.values() for copy in copies])
    return actors


def _copies(choices: Mapping[Role, ExpertChoice]) -> int:
    return max(choice.copies for choice in choices.values())


def _gpus(choices: Mapping[Role, ExpertChoice], there: float) -> float:
    return max(choice.gpus if choice.gpus is not None else float(there > 0) for choice in choices.values())


@contextmanager
def _own_errors() -> Iterator[None]:
    """Re-raise the original error of a Ray process; turn Ray's own failures into an InputError of one sentence."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        cause: BaseException | None = error
        while cause is not None and (isinstance(cause, RayError) or not isinstance(cause, OURS)):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is not None:
            raise cause from None
        raise InputError(f"Ray failed ({one_line(error, 300)}); run again to continue.") from error


def _absolute(config: SynthesisConfig) -> SynthesisConfig:
    """The config with absolute paths, so that every process finds the files."""
    experts = {
        role: choice if choice.model is None or choice.url else replace(choice, model=str(Path(choice.model).resolve()))
        for role, choice in config.experts.items()
    }
    clips = config.clips and str(Path(config.clips).resolve())
    return replace(config, clips=clips, output=str(Path(config.output).resolve()), experts=experts)
