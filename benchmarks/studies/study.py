"""A study as a value, read from its YAML over `base.yaml`: arms that differ in one thing, and what is measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructx_core.bounded import read_yaml
from instructx_core.errors import InputError
from instructx_core.words import quoted_path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
BASE = HERE / "base.yaml"
FIELDS = {"figure", "question", "paper", "arms", "compare", "medium", "stage", "start", "measure"}
SECTIONS = ("start", "stage", "measure")


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
        start: changes to the fresh model, as `instructx new --set` takes them; `variant` is one of the paper's
            (training/configs/paper/variants).
        stage: the config of its training.
        measure: arguments of `evaluation.evaluate`.
    """

    name: str
    start: Mapping[str, Any]
    stage: Mapping[str, Any]
    measure: Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """`compare` names the arm with what the paper proposes, and the one without.

    `medium` says what is compared: edits of "images" or "videos", or "alignment", the held-out loss with a frozen DiT.
    """

    name: str
    figure: str
    question: str
    paper: str
    arms: tuple[Arm, ...]
    compare: tuple[str, str]
    medium: str
    generator_steps: int


def studies() -> list[str]:
    """The names of all studies."""
    return sorted(path.stem for path in HERE.glob("*.yaml") if path != BASE)


def read_study(name: str, base: Path = BASE) -> Study:
    """A study by its name. Raises InputError for an unknown one, or a file that lacks something."""
    if name not in studies():
        raise InputError(f"There is no study {name!r}; choose from {', '.join(studies())}.")
    path = HERE / f"{name}.yaml"
    own, shared = read_yaml(path), read_yaml(base)
    if not isinstance(own, dict) or own.keys() - FIELDS or not FIELDS - set(SECTIONS) <= own.keys():
        raise InputError(f"{quoted_path(path)}: a study has {', '.join(sorted(FIELDS))}; {SECTIONS} may be left out.")
    common = {section: merged(shared[section], own.get(section, {})) for section in SECTIONS}
    arms = tuple(
        Arm(str(arm), **{section: merged(common[section], changes.get(section, {})) for section in SECTIONS})
        for arm, changes in own["arms"].items()
    )
    first, second = own["compare"]
    if not {first, second} <= {arm.name for arm in arms}:
        raise InputError(f"{quoted_path(path)}: compare names an arm that it does not have.")
    texts = {field: str(own[field]) for field in ("figure", "question", "paper", "medium")}
    return Study(name, arms=arms, compare=(first, second), generator_steps=shared["generator_steps"], **texts)


def merged(one: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings of mappings, the second's values over the first's; `groups` are taken whole."""
    result = dict(one)
    for key, value in over.items():
        inner = isinstance(value, dict) and isinstance(result.get(key), dict) and key != "groups"
        result[key] = merged(result[key], value) if inner else value
    return result


def result_file(results: Path, study: str, arm: str, seed: int) -> Path:
    return results / study / f"{file_name(arm)}-{seed}.json"


def file_name(arm: str) -> str:
    return re.sub(r"\W+", "-", arm)
