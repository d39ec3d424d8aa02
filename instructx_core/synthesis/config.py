"""The config of a synthesis run: a YAML file, parsed into frozen dataclasses and checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from ..bounded import UnreadableError, read_yaml
from ..errors import InputError
from ..validation import Choice, FieldError, Length, Range, converted
from ..words import quoted_path
from .checks import DEFAULT, Score
from .experts import Look
from .recipes import RECIPES, Choices

Name = Annotated[str, Length(1, 4096)]
Some = Annotated[int, Range(1, 10**9)]
Form = Literal["parquet", "webdataset", "records"]
Role = Literal["describe", "judge", "detect", "segment", "erase", "redraw", "pose", "animate", "flow", "cuts"]


@dataclass(frozen=True)
class WorldClips:
    """Clips of the procedural world, which brings its own experts: a rehearsal without weights."""

    count: Some
    frames: Annotated[int, Range(1, 1000)] = 5
    size: Annotated[int, Range(32, 1024)] = 64
    seed: Annotated[int, Range(0, 2**40 - 1)] = 0


@dataclass(frozen=True)
class ExpertChoice:
    """The model that serves as one expert.

    Attributes:
        kind: a name listed in docs/synthesis.md.
        model: its folder, or its name at the service.
        url: of a service with OpenAI's chat completions API.
        prompts: replacements for ours, by name.
        settings: additional options of the kind.
        copies: number of processes on Ray.
        gpus: for each copy; None: one if there are GPUs.
    """

    kind: Name
    model: Name | None = None
    url: Name | None = None
    prompts: dict[Name, Annotated[str, Length(1, 20_000)]] = field(default_factory=dict)
    settings: dict[Name, float | Name] = field(default_factory=dict)
    copies: Annotated[int, Range(1, 10_000)] = 1
    gpus: Annotated[float, Range(0, 64)] | None = None


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs.

    Attributes:
        workers: processes that run the recipe, one CPU each; None: one per CPU.
        address: of a cluster ("auto", "HOST:PORT"); None: this machine.
    """

    workers: int | None = None
    address: str | None = None


@dataclass(frozen=True)
class SynthesisConfig:
    """One run of one recipe."""

    recipe: Annotated[str, Choice(tuple(RECIPES))]
    output: Name  # folder; training reads its kept/
    clips: Name | None = None  # folder of videos or pictures
    world: WorldClips | None = None  # instead of clips
    frames: Annotated[int, Range(1, 100_000)] = 81  # per clip, at most
    film: Annotated[int, Range(1, 100_000)] | None = None  # per file, which is split into scenes; None: `frames`
    least_frames: Annotated[int, Range(1, 100_000)] = 1  # shorter scenes are dropped
    experts: dict[Role, ExpertChoice] = field(default_factory=dict)
    bounds: dict[Score, tuple[float, float]] = field(default_factory=dict)  # override `checks.DEFAULT`
    subjects: Annotated[int, Range(1, 20)] = 1  # per clip, at most
    references: bool = True  # make quadruples too
    looks: Annotated[tuple[Look, ...], Length(1)] = ("colour", "style", "tone")
    background: Literal["static", "dynamic", "any"] | None = None  # None: the kind that the recipe is for
    static_below: Annotated[float, Range(0, 1)] = 0.002  # median motion per frame, relative to the shorter side
    form: Form = "parquet"
    shard: Annotated[int, Range(1, 100_000)] = 64  # clips
    batch: Annotated[int, Range(1, 10_000)] = 4  # clips handed to a Ray worker at a time
    rates: dict[Role, Annotated[float, Range(0, 10**6)]] = field(default_factory=dict)  # seconds per clip, for --plan

    def __post_init__(self) -> None:
        if (self.clips is None) == (self.world is None):
            raise FieldError("it needs clips (a folder) or world, but not both")
        if self.form == "records" and self.recipe != "advanced_edit":
            raise FieldError("form: records is only for recipe: advanced_edit; give parquet or webdataset")
        for name, (low, high) in self.bounds.items():
            if low > high:
                raise FieldError(f"bounds.{name} is [{low:g}, {high:g}]; give the lower one first")
        if self.world is not None and self.experts:
            raise FieldError("world has its own experts; leave out experts, or give clips (a folder) instead of world")
        if self.film is not None and (self.film < self.frames or "cuts" not in self.experts):
            raise FieldError(f"film is {self.film}; it needs experts.cuts and must be at least frames ({self.frames})")
        longest = self.frames if self.world is None else self.world.frames
        if self.least_frames > longest:
            raise FieldError(f"least_frames is {self.least_frames}, but clips have at most {longest}; give no more")
        animate = self.experts.get("animate")
        if self.recipe == "look" and animate is not None and animate.kind == "wan-animate":
            raise FieldError("experts.animate: wan-animate needs poses, which recipe: look does not make; give vace")
        if self.world and self.world.frames > 1 and self.world.size % 2:
            raise FieldError(f"world.size is {self.world.size}; clips need an even number")

    @property
    def all_bounds(self) -> dict[str, tuple[float, float]]:
        return {**DEFAULT, **self.bounds}

    @property
    def asked(self) -> dict[Role, ExpertChoice]:
        """The experts that the recipe uses; a config may name more, so that recipes can share it."""
        asked = {*self.needed, "cuts"}
        return {role: choice for role, choice in self.experts.items() if role in asked}

    @property
    def needed(self) -> tuple[str, ...]:
        """The roles that the recipe requires."""
        return RECIPES[self.recipe].needed(self.choices)

    @property
    def choices(self) -> Choices:
        return Choices(
            self.subjects,
            self.references,
            self.looks,
            self.background,
            self.static_below,
            self.all_bounds["detection"][0],
        )


def read_synthesis_config(path: Path) -> SynthesisConfig:
    """Read a YAML file. Raises InputError if it is unreadable, or a field is unknown, missing or out of range."""
    try:
        return converted(SynthesisConfig, read_yaml(path))
    except UnreadableError as error:
        raise InputError(f"The synthesis config {quoted_path(path)} cannot be read: {error.reason}.") from error
    except FieldError as error:
        raise InputError(f"The synthesis config {quoted_path(path)} cannot be used: {error}.") from error
