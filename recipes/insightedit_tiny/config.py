"""The config of these stages: additions to `TwoStreamTrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from instructx_core.training.config import Name, Share, TwoStreamTrainConfig, Weight

# what each stage starts from
STARTS = {
    "insight-autoencoder": set(),
    "insight-clip": set(),
    "insight-llava": {"clip"},
    "insight-drawing": {"vae", "clip"},
    "insight-alignment": {"model", "clip"},
}
ONE_SIZE = ("insight-autoencoder", "insight-clip")  # stages that hold all their pictures as one tensor


@dataclass(frozen=True)
class InsightTinyTrainConfig(TwoStreamTrainConfig):
    """Substitutes for the pre-training that a tiny model lacks; all off by default."""

    start: dict[Literal["model", "clip", "vae"], Name] = field(default_factory=dict)  # folders to start from
    model: dict[str, Any] = field(default_factory=dict)  # sizes of the part that this stage creates
    edited_weight: Weight = 1.0  # weight of latent positions that the edit changes
    balance: Weight = 0.0  # weight each example by (how much it changes) ** -this
    instructions: Share = 0.0  # of an alignment batch that gets instructions instead of captions

    def problem(self) -> str | None:
        wanted = STARTS.get(self.task)
        if wanted is None:
            wanted = {"model", "clip"} if "iaa" in self.train else {"model"}
        if set(self.start) != wanted:
            return f"an {self.task} stage starts from {' and '.join(sorted(wanted)) or 'nothing'}"
        if bool(self.model) != ("model" not in wanted):
            if self.model:
                return f"an {self.task} stage creates no part; leave model out"
            return f"an {self.task} stage needs model, the sizes of the part that it creates"
        if self.data.table is not None:
            return f"{self.task} stages draw from the world; leave data.table out"
        if self.task in ONE_SIZE and len(self.data.sizes) > 1:
            return f"an {self.task} stage takes pictures of one size: give one pair under data.sizes"
        if self.data.video_probability or self.data.videos:
            return f"{self.task} stages train on pictures: set data.videos and data.video_probability to 0"
        return None
