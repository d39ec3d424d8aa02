"""Read a study from its YAML, merged over `base.yaml`: arms that differ in one thing, and what to measure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from instructx_core.bounded import read_yaml
from instructx_core.errors import InputError
from instructx_core.words import quoted_path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
BASES = {"tiny": "base.yaml", "insight": "base-insight.yaml"}
SECTIONS = ("start", "before", "stage", "measure")
FIELDS = {"figure", "question", "paper", "arms", "compare", "medium", "base", "remark", *SECTIONS}
LEFT_OUT = {"base", "remark", *SECTIONS}  # optional fields


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        start: changes to the fresh model, as for `instructx new --set`; `variant` is one of the paper's
            (training/configs/paper/variants), `reads` an MLLM or a umT5.
        stages: the configs of its training stages, in order.
        measure: options for `measuring`.
    """

    name: str
    start: Mapping[str, Any]
    stages: tuple[Mapping[str, Any], ...]
    measure: Mapping[str, Any]

    @property
    def stage(self) -> Mapping[str, Any]:
        """The last stage."""
        return self.stages[-1]


@dataclass(frozen=True)
class Study:
    """A study. `compare` names the arm with the paper's proposal, and the one without it.

    `medium` is what is compared: edits of "images" or "videos", of "long" videos, of pictures with plain and advanced
    "sentences", or "alignment", the held-out loss with a frozen DiT. `base` is the model: "tiny" or "insight".
    """

    name: str
    figure: str
    question: str
    paper: str
    arms: tuple[Arm, ...]
    compare: tuple[str, str]
    medium: str
    base: str
    generator_steps: int
    remark: str = ""


def studies() -> list[str]:
    """The names of all studies."""
    return sorted(path.stem for path in HERE.glob("*.yaml") if path.name not in BASES.values())


def read_study(name: str, bases: Path = HERE) -> Study:
    """A study by its name.

    Args:
        bases: folder of the shared base configs.

    Raises:
        InputError: unknown study, or a file with missing, unknown or inconsistent fields.
    """
    if name not in studies():
        raise InputError(f"There is no study {name!r}; choose from {', '.join(studies())}.")
    path = HERE / f"{name}.yaml"
    own = read_yaml(path)
    if not isinstance(own, dict) or not FIELDS - LEFT_OUT <= own.keys() <= FIELDS:
        raise InputError(
            f"{quoted_path(path)}: a study has {', '.join(sorted(FIELDS - LEFT_OUT))}, and may have "
            f"{', '.join(sorted(LEFT_OUT))}."
        )
    base = own.get("base", "tiny")
    shared = read_yaml(bases / BASES[base])
    arms = tuple(_arm(str(arm), shared, (own, changes)) for arm, changes in own["arms"].items())
    first, second = own["compare"]
    if not {first, second} <= {arm.name for arm in arms}:
        raise InputError(f"{quoted_path(path)}: compare names an arm that the study does not have.")
    texts = {field: str(own[field]) for field in ("figure", "question", "paper", "medium")}
    texts["remark"] = str(own.get("remark", ""))
    steps = shared.get("generator_steps", 0)
    return Study(name, arms=arms, compare=(first, second), base=base, generator_steps=steps, **texts)


def _arm(name: str, shared: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> Arm:
    """Merge an arm: the shared base, overridden by the study, overridden by the arm.

    `before` lists the stages before the last one as changes to the base's `stage`; the most specific list counts.
    A stage with `like: NAME` starts from the base's section of that name, which itself changes `stage`.
    """
    start, measure = (
        reduce(merged, [shared[key], *(one.get(key, {}) for one in changes)]) for key in ("start", "measure")
    )
    before = next(one["before"] for one in (*reversed(changes), shared) if "before" in one)
    last = reduce(merged, (one.get("stage", {}) for one in changes))
    return Arm(name, start, tuple(_stage(shared, one) for one in (*before, last)), measure)


def _stage(shared: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    own = dict(changes)
    like = own.pop("like", None)
    return reduce(merged, [shared["stage"], *([shared[like]] if like else []), own])


def merged(one: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings, the second over the first; `groups` are replaced as a whole, None removes a key."""
    result = dict(one)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
            continue
        inner = isinstance(value, dict) and isinstance(result.get(key), dict) and key != "groups"
        result[key] = merged(result[key], value) if inner else value
    return result


def result_file(results: Path, study: str, arm: str, seed: int) -> Path:
    return results / study / f"{file_name(arm)}-{seed}.json"


def file_name(arm: str) -> str:
    return re.sub(r"\W+", "-", arm)
