"""The config of a training run: a YAML file, read into frozen dataclasses and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from ..bounded import UnreadableError, read_yaml
from ..errors import InputError
from ..validation import Choice, FieldError, Length, Range, check_fields, converted
from ..words import quoted, quoted_path, shown
from ..world import CLIP_GROUPS, EVERY_GROUP, PLAIN, RICH, Variety
from .changes import apply_change

TrainedPart = Literal[
    "queries", "lora", "connector", "transformer", "transformer_lora", "source_embedding", "reference_embedding"
]
# the default; a LoRA of the DiT has to be requested
PARTS: tuple[TrainedPart, ...] = (
    "queries",
    "lora",
    "connector",
    "transformer",
    "source_embedding",
    "reference_embedding",
)

Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(0, 10**9)]
Some = Annotated[int, Range(1, 10**9)]
Weight = Annotated[float, Range(0, 10**6)]
Rate = Annotated[float, Range(above=0, most=10)]
Name = Annotated[str, Length(1, 4096)]
Side = Annotated[int, Range(16, 8192)]
Batch = Annotated[int, Range(1, 65536)]
Column = Literal["source", "target", "instruction", "reference", "caption", "mask"]


@dataclass(frozen=True)
class DataConfig:
    """Where examples come from, and how images and videos are mixed."""

    table: Name | None = (
        None  # a CSV of your own or a public data set, file or folder (docs/data.md); None: the procedural world
    )
    root: Name | None = None  # folder of the table's files; None: the table's own folder
    columns: dict[Column, Name] = field(default_factory=dict)  # column names, for a table in an unknown layout
    # name -> minimum score, [minimum, maximum] or accepted words; "mask" is the white share of the mask
    filters: dict[Name, float | tuple[float, float] | Annotated[tuple[Name, ...], Length(1)]] = field(
        default_factory=dict
    )
    broken: Share = 0.05  # tolerated share of broken rows in a table; they are skipped
    # folder of encoded examples, shared by stages with the same data; None: the world is encoded into OUTPUT/pool,
    # and tables are read and encoded during training
    pool: Name | None = None
    images: Count = 20000  # examples drawn from the world, encoded once
    videos: Count = 4000
    image_batch: Batch = 32  # per process and micro-batch
    video_batch: Batch = 8  # for the shortest clips; batches of longer ones have the same cost
    step_images: Count = 0  # per step over all processes, split into micro-batches; 0: `accumulate` micro-batches each
    step_videos: Count = 0
    video_probability: Share = 0.6  # of a video step; the kind is the same in all processes and micro-batches (4.1)
    # (height, width); half of the world's examples have the first size
    sizes: Annotated[tuple[tuple[Side, Side], ...], Length(1, 100)] = ((64, 64),)
    lengths: Annotated[tuple[Annotated[int, Range(1, 100_000)], ...], Length(1, 100)] = (5, 9, 17, 33)  # frames
    # relative weights of the world's edit groups; empty: those in `world.GROUPS`, equally weighted
    groups: dict[Annotated[str, Choice(EVERY_GROUP)], Weight] = field(default_factory=dict)
    world: Literal["plain", "rich"] = "plain"  # rich: natural grounds, lively objects, Chinese and English
    photographs: Name | None = None  # a folder of pictures; half of the rich world's natural grounds are cut from it

    @property
    def held_out_from_video(self) -> tuple[str, ...]:
        """Edit kinds of the world that no clip shows; a recipe's config may name some."""
        return ()

    @property
    def variety(self) -> Variety:
        return replace(RICH, photographs=self.photographs) if self.world == "rich" else PLAIN

    def __post_init__(self) -> None:
        _checked(self, "the data section of the training config")
        if self.groups and not sum(self.groups.values()):
            raise InputError("In the training config, every weight in data.groups is 0; give at least one group more.")
        if self.table is None and (given := [name for name in ("root", "columns", "filters") if getattr(self, name)]):
            raise InputError(f"In the training config, data.{given[0]} is only for a table; give data.table too.")
        if self.photographs is not None and (self.table is not None or self.world != "rich"):
            raise InputError(
                "In the training config, data.photographs are backgrounds for the rich world; set data.world to rich "
                "and leave data.table out."
            )
        if self.columns and not {"source", "target"} < set(self.columns):
            raise InputError("In the training config, data.columns needs source, target and instruction (or caption).")
        if self.table is None and not self.images + self.videos:
            raise InputError("In the training config, data.images and data.videos are both 0; raise one of them.")
        weighed = {group for group, weight in self.groups.items() if weight} or set(EVERY_GROUP)
        for count, without, kind in (
            (self.images, CLIP_GROUPS, "images"),
            (self.videos, self.held_out_from_video, "videos"),
        ):
            if count and not weighed - set(without):
                raise InputError(
                    f"In the training config, data.groups leaves no group for {kind}; give another one a weight, or "
                    f"set data.{kind} to 0."
                )


@dataclass(frozen=True)
class NoiseConfig:
    """The distribution of noise levels sigma (1 = noise) to train on.

    `uniform`: s u / (1 + (s - 1) u) for u uniform in [0, 1] and the shift s, as Wan and SD3 do.
    `logit_normal`: 1 / (1 + exp(-(std n + mean))) for n standard normal.
    """

    kind: Literal["uniform", "logit_normal"] = "uniform"
    shift: Annotated[float, Range(above=0, most=100)] | None = None  # None: the model's own for sampling
    mean: Annotated[float, Range(-20, 20)] = 0.0
    std: Annotated[float, Range(above=0, most=20)] = 1.0

    def __post_init__(self) -> None:
        _checked(self, "the noise section of the training config")
        if self.kind == "uniform" and (self.mean, self.std) != (0.0, 1.0):
            raise InputError("In the training config, noise.mean and noise.std are only for kind: logit_normal.")
        if self.kind == "logit_normal" and self.shift is not None:
            raise InputError("In the training config, noise.shift is only for kind: uniform.")


Layer = Literal["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]
LAYERS: tuple[Layer, ...] = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")


@dataclass(frozen=True)
class LoraSettings:
    """The LoRA that `train: [transformer_lora]` adds to the DiT's blocks."""

    rank: Annotated[int, Range(1, 8192)] = 32
    alpha: Annotated[int, Range(1, 1_000_000)] | None = None  # None: the rank
    targets: Annotated[tuple[Layer, ...], Length(1)] = LAYERS

    def __post_init__(self) -> None:
        _checked(self, "the transformer_lora section of the training config")


ExampleWords = Literal["instruction", "caption"]


@dataclass(frozen=True)
class TrainConfig:
    """One run of one stage. The defaults are the paper's (4.1) where it gives them."""

    task: Name  # a kind of stage, see `KINDS`
    output: Name  # folder for training states, logs and, at the end, the model
    steps: Some
    start: dict[Literal["model"], Name] = field(default_factory=dict)  # the model folder to start from
    train: Annotated[tuple[TrainedPart, ...], Length(1)] = PARTS  # parts to train
    transformer_lora: LoraSettings = field(default_factory=LoraSettings)
    use_source: bool = True  # stage 1 leaves the VAE source out (3.3)
    loss: Literal["velocity", "data"] = "velocity"  # data: the velocity's error times sigma
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    drop_instruction: Share = 0.0  # probability of an empty instruction; guidance_scale needs it
    drop_source: Share = 0.0  # probability of a source of zeros; guidance by the source needs it

    optimizer: Literal["adamw", "muon", "adafactor"] = "adamw"
    learning_rate: Rate = 1e-5
    muon_rate: Rate = 1e-3  # Muon's, for matrices of repeated layers; AdamW trains the rest
    guidance_rate: Weight = 1.0  # factor on the learning rate, for queries and LoRA
    betas: tuple[Annotated[float, Range(0, below=1)], Annotated[float, Range(0, below=1)]] = (0.9, 0.999)  # of AdamW
    weight_decay: Weight = 0.0
    warmup: Count = 100
    decay_from: Share = 0.5  # fraction of the steps after which the rates fall linearly to a fiftieth; 1: never
    max_grad_norm: Annotated[float, Range(above=0, most=10**9)] = 1.0
    average: Annotated[float, Range(0, below=1)] = 0.0  # decay of the exported average of the weights; 0: none
    accumulate: Annotated[int, Range(1, 65536)] = 1  # micro-batches in a step
    precision: Literal["no", "bf16"] = "no"
    checkpointing: bool = False  # recompute activations in the backward pass
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    save_every: Some = 500
    log_every: Some = 20
    sample_every: Count = 0  # 0: no samples
    validate_every: Count = 0  # 0: no validation
    validation: Annotated[int, Range(1, 100_000)] = 64  # examples held out for it
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        _checked(self, "the training config")
        if not isinstance(self, KINDS.get(self.task, ())):
            raise InputError(f"In the training config, task is {quoted(self.task)}; give {_told_kinds()}.")
        if {"transformer", "transformer_lora"} <= set(self.train):
            raise InputError(
                "In the training config, train has both the whole transformer and a LoRA for it; leave one of them out."
            )
        if problem := self.problem():
            raise InputError(f"In the training config, {problem}.")

    def problem(self) -> str | None:
        """Any other inconsistency, as a sentence without its full stop; None if there is none."""
        return None if self.start else f"a {self.task} stage needs start: a model folder under 'model'"

    @property
    def words(self) -> ExampleWords:
        """Which text of an example the stage reads."""
        return "instruction"

    def tables(self) -> tuple[DataConfig, ...]:
        """The data sections to read: a mixture has one for each table."""
        return (self.data,)


@dataclass(frozen=True)
class TableShare:
    """An additional table of a mixture; all other settings are those of the data section."""

    table: Name
    weight: Annotated[float, Range(above=0, most=10**6)] = 1.0
    root: Name | None = None
    columns: dict[Column, Name] = field(default_factory=dict)
    filters: dict[Name, float | tuple[float, float] | Annotated[tuple[Name, ...], Length(1)]] = field(
        default_factory=dict
    )

    def over(self, data: DataConfig) -> DataConfig:
        """The data section with this table instead of its own."""
        return replace(data, table=self.table, root=self.root, columns=self.columns, filters=self.filters)


TwoStreamPart = Literal["queries", "lora", "transformer", "qformer", "bim", "iaa"]
# fields of `TwoStreamTrainConfig` that its stages do not use
UNUSED = ("use_source", "loss", "noise", "sample_every", "transformer_lora")
UNUSED_IN_ALIGNMENT = (*UNUSED, "drop_instruction", "drop_source", "image_stream", "iaa_weight")
ALIGNED: tuple[TwoStreamPart, ...] = ("queries", "lora", "qformer")  # all that an alignment stage can train


@dataclass(frozen=True)
class TwoStreamTrainConfig(TrainConfig):
    """One stage of a two-stream model (InsightEdit, 5.1), on pictures."""

    # the model to continue from, and the frozen CLIP that a stage aligns with
    start: dict[Literal["model", "clip"], Name] = field(default_factory=dict)
    train: Annotated[tuple[TwoStreamPart, ...], Length(1)] = ("queries", "lora", "transformer", "qformer", "bim", "iaa")
    # loss weights, which no source gives: 1 each
    token_weight: Weight = 1.0  # of L_LLM, eq. 2
    iaa_weight: Weight = 1.0  # of L_IAA, eq. 5; used if `train` has iaa
    image_stream: Share = 1.0  # the paper's lambda; 0 in stage 2, before the IAA is trained
    table_weight: Annotated[float, Range(above=0, most=10**6)] = 1.0  # of data.table in a mixture with `beside`
    beside: tuple[TableShare, ...] = ()  # more tables: each micro-batch is of one, drawn by weight

    def problem(self) -> str | None:
        if "model" not in self.start:
            return f"a {self.task} stage needs start: a model folder under 'model'"
        if ("clip" in self.start) != (self.task == "alignment" or "iaa" in self.train):
            return "start needs a clip in an alignment stage or if train has iaa, and takes none otherwise"
        if self.data.video_probability:
            return f"{self.task} stages train on pictures: set data.video_probability to 0"
        if self.beside and (self.data.table is None or self.data.pool is not None):
            return "beside needs a table that is read during training: give data.table, and leave data.pool out"
        if self.task == "alignment" and not set(self.train) <= set(ALIGNED):
            return "an alignment stage can train only queries, lora and qformer; list those that it should under train"
        unused = set(UNUSED_IN_ALIGNMENT if self.task == "alignment" else UNUSED)
        for one in fields(self):
            default = one.default_factory() if one.default_factory is not MISSING else one.default
            if one.name in unused and getattr(self, one.name) != default:
                return f"{one.name} has no effect in {self.task} stages; leave it out"
        return None

    @property
    def words(self) -> ExampleWords:
        return "caption" if self.task == "alignment" else "instruction"

    def tables(self) -> tuple[DataConfig, ...]:
        return (self.data, *(share.over(self.data) for share in self.beside))


# `task` -> the class that its config is read into; see `tasks.add_stage`
KINDS: dict[str, type[TrainConfig]] = {
    "editing": TrainConfig,
    "alignment": TwoStreamTrainConfig,
    "two_stream": TwoStreamTrainConfig,
}
OWN_KINDS = tuple(KINDS)


def _told_kinds() -> str:
    """The known kinds of stage, for messages."""
    told = " or ".join(KINDS)
    if set(KINDS) > set(OWN_KINDS):
        return told
    return f"{told} (stages of InstructX Tiny's recipe are for `python -m recipes.tiny`)"


def read_train_config(path: str | Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a stage's YAML file.

    Args:
        changes: "key=value" or "section.key=value", the value in YAML; they override the file.

    Raises:
        InputError: no such file, not YAML, or a field that is unknown, missing or out of range.
    """
    try:
        plain = read_yaml(path)
    except UnreadableError as error:
        raise InputError(
            f"The training config {quoted_path(path)} cannot be read: {error.reason}; "
            "configs of the paper's stages are in instructx_core/training/configs."
        ) from error
    if not isinstance(plain, dict):
        raise InputError(f"The training config {quoted_path(path)} is not a mapping of fields to values.")
    for change in changes:
        apply_change(plain, change, "steps=10 or --set data.image_batch=4")
    task = plain.get("task", "editing")  # if it is missing, the field check reports that
    if not isinstance(task, str) or task not in KINDS:
        raise InputError(
            f"The training config {quoted_path(path)} cannot be used: task is {shown(task)}; give {_told_kinds()}."
        )
    try:
        return converted(KINDS[task], plain)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"The training config {quoted_path(path)} cannot be used: {error}.") from error


def pool_folder(config: TrainConfig) -> Path | None:
    """The folder of a stage's encoded examples; None if it streams a table."""
    if config.data.pool is not None:
        return Path(config.data.pool)
    return Path(config.output) / "pool" if config.data.table is None else None


def _checked(config: Any, what: str) -> None:
    try:
        check_fields(config)
    except FieldError as error:
        raise InputError(f"In {what}, {error}.") from error
