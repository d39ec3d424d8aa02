"""What a training run is told: a YAML file, read into frozen values and checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..config import from_plain
from ..errors import InputError
from ..world import PLAIN, RICH, Variety

TASKS = ("autoencoder", "language", "generator", "reading", "editing")
PARTS = ("queries", "lora", "connector", "transformer", "source_embedding")


@dataclass(frozen=True)
class DataConfig:
    """Where examples come from, and how images and videos mix (section 4.1: video with probability 0.6)."""

    table: str | None = None  # a CSV of source,target,instruction[,reference]; None: the procedural world
    pool: str | None = None  # folder of encoded examples, which stages of one data set share; None: in the output
    images: int = 20000  # examples drawn from the world, encoded once
    videos: int = 4000
    image_batch: int = 32
    video_batch: int = 8  # for the shortest clips; longer ones come in batches of the same cost
    video_probability: float = 0.6
    sizes: tuple[tuple[int, int], ...] = ((64, 64),)  # (height, width); the first serves half of the examples
    lengths: tuple[int, ...] = (5, 9, 17, 33)  # frames of a clip
    groups: dict[str, float] = field(default_factory=dict)  # relative weights of edit groups; empty: all alike
    held_out_from_video: tuple[str, ...] = ()  # edit types that no training clip shows
    world: str = "plain"  # or "rich": natural grounds, lively objects, Chinese beside English
    photographs: str | None = None  # a folder of pictures that half of the natural grounds are cut from

    @property
    def variety(self) -> Variety:
        return replace(RICH, photographs=self.photographs) if self.world == "rich" else PLAIN


@dataclass(frozen=True)
class TrainConfig:
    """One run of one stage."""

    task: str
    output: str  # folder for training states, logs and, at the end, the model
    steps: int
    start: dict[str, str] = field(default_factory=dict)  # folders to go on from: "model", or "vae" and "mllm"
    model: dict[str, Any] = field(default_factory=dict)  # sizes of what this stage makes anew
    train: tuple[str, ...] = PARTS  # which parts an editing or generator stage trains
    use_source: bool = True  # stage 1 leaves the VAE source out (3.3)
    loss: str = "data"  # velocity error x sigma^2, or plain "velocity"
    channel_emphasis: float = 0.0  # weight latent channels by (effect on pixels) ** this; 0: all alike
    edited_weight: float = 1.0  # weight of latent positions that the edit changes
    balance: float = 0.0  # weigh each example by (the loss of leaving its source as it is) to minus this power
    reading_weight: float = 0.0  # of the auxiliary loss that reads the instruction back from the queries
    locating_weight: float = 0.0  # of the auxiliary loss that tells where the edit changes something
    deadband: float = 0.0  # that the DiT's predicted changes get from here on (DenoiserConfig); 0: the start's
    drop_instruction: float = 0.0  # probability of an empty instruction, which guidance_scale needs
    learning_rate: float = 1e-5
    guidance_rate: float = 1.0  # times the learning rate: what queries and LoRA get
    warmup: int = 100
    decay_from: float = 0.5  # fraction of the steps after which the rate falls linearly to a fiftieth
    average: float = 0.0  # decay of the exponential average of the weights that is exported; 0: the last weights
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    accumulate: int = 1
    precision: str = "no"  # or "bf16"
    checkpointing: bool = False  # recompute activations in the backward pass
    seed: int = 0
    save_every: int = 500
    log_every: int = 20
    sample_every: int = 0  # 0: no grids
    data: DataConfig = field(default_factory=DataConfig)

    def __post_init__(self) -> None:
        checks = [
            (self.task in TASKS, f"task is {self.task!r}; give one of {', '.join(TASKS)}"),
            (self.steps > 0, f"steps is {self.steps}; give a number above 0"),
            (set(self.train) <= set(PARTS), f"train is {list(self.train)}; its parts are {', '.join(PARTS)}"),
            (self.loss in ("data", "velocity"), f"loss is {self.loss!r}; give data or velocity"),
            (0 <= self.deadband < 1, f"deadband is {self.deadband}; give a share from 0 to below 1"),
            (0 <= self.average < 1, f"average is {self.average}; give a decay from 0 to below 1"),
            (self.precision in ("no", "bf16"), f"precision is {self.precision!r}; give no or bf16"),
            (self.data.world in ("plain", "rich"), f"data.world is {self.data.world!r}; give plain or rich"),
            (0 <= self.data.video_probability <= 1, "video_probability lies from 0 to 1"),
            (
                self.task in ("autoencoder", "language") or set(self.start) in ({"model"}, {"vae", "mllm"}),
                f"a {self.task} stage needs start: a model folder under 'model', or a vae and an mllm folder",
            ),
        ]
        for passed, message in checks:
            if not passed:
                raise InputError(f"In the training config, {message}.")


def read_train_config(path: str | Path) -> TrainConfig:
    """Read a stage's YAML file.

    Raises:
        InputError: no such file, not YAML, or a field that is unknown, missing or out of range.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"There is no training config {str(path)!r}; configs of all stages lie in instructx_core/training/configs."
        )
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(plain, dict) and "sizes" in (plain.get("data") or {}):
            plain["data"]["sizes"] = tuple(tuple(size) for size in plain["data"]["sizes"])
        return from_plain(TrainConfig, plain)
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise InputError(f"The training config {str(path)!r} cannot be used: {error}") from error
