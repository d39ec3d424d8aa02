"""Run studies: every arm with three seeds, one JSON per run. Finished work is not repeated.

    python benchmarks/studies/run.py WORK [STUDY ...]        all studies by default
    python benchmarks/studies/estimate.py WORK                hours of all, from a few steps of each stage
    python benchmarks/studies/report.py                       docs/evidence.md and its plots, from the JSON

WORK, outside the checkout, keeps the generator that all runs start from, training states and models; an interrupted run
resumes from its last state. Stages shared by several arms are trained once. Results are
benchmarks/studies/results/STUDY/ARM-SEED.json. A run's JSON is reproducible on the same machine with OMP_NUM_THREADS=1.
Studies of InsightEdit start from the output of `python -m recipes.insightedit_tiny train FOLDER`: give --insight FOLDER
(default: WORK/insight).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import alignment
from studies.curves import curve
from studies.measuring import measured
from studies.study import HERE, RESULTS, Arm, Study, read_study, result_file, studies
from studies.taught_mllm import taught_mllm
from studies.text_reader import text_reader

import recipes.insightedit_tiny  # noqa: F401  its stages
from instructx_core.atomic import partial_file
from instructx_core.errors import InputError
from instructx_core.families.instructx.folder import BUNDLED
from instructx_core.synthesis.config import SynthesisConfig, WorldClips
from instructx_core.synthesis.run import synthesise
from instructx_core.training.config import TrainConfig, read_train_config
from instructx_core.training.new_model import make_model
from instructx_core.training.tasks import make_task
from instructx_core.words import quoted_path

SEEDS = (0, 1, 2)
CLIPS = 3000  # of the world, to synthesise pairs from
VARIANTS = alignment.CONFIGS / "paper" / "variants"

FORMS = {"pairs-simple": "parquet", "pairs-advanced": "records"}  # only plain wordings; one of all
TEXT_DIM = 4096  # of the generator's DiT


@dataclass(frozen=True)
class Places:
    """Folders of a run: its own, the generator's model, InsightEdit Tiny's; and the number of world clips to
    synthesise pairs from."""

    work: Path
    generator: Path
    insight: Path
    clips: int

    def filled(self, value: Any) -> Any:
        """A config with {insight} and {pairs-...} replaced; pairs are synthesised when needed."""
        if isinstance(value, Mapping):
            return {key: self.filled(inner) for key, inner in value.items()}
        if not isinstance(value, str) or "{" not in value:
            return value
        for name, form in FORMS.items():
            if value == f"{{{name}}}":
                output = str(self.work / name)
                world = WorldClips(self.clips, frames=1)
                synthesise(SynthesisConfig("advanced_edit", output, world=world, form=form))
                return f"{output}/kept"
        path = self.insight / "runs" / "insightedit"
        if not (path / "editing" / "model").is_dir():
            raise InputError(
                f"{quoted_path(self.insight)} has no InsightEdit Tiny of stage 2; make it with `python -m "
                "recipes.insightedit_tiny train FOLDER` and give that folder as --insight."
            )
        return value.replace("{insight}", str(path))


def run_arm(study: Study, arm: Arm, seed: int, places: Places) -> dict[str, Any]:
    """Train and measure one arm; existing stages and measurements are reused."""
    configs = stage_configs(study, arm, seed, places)
    module = make_task(configs[-1]).module
    trained = sum(value.numel() for value in module.parameters() if value.requires_grad)
    del module
    model, _ = alignment.trained(configs[-1])
    return {
        "study": study.name,
        "arm": arm.name,
        "seed": seed,
        "steps": sum(config.steps for config in configs),
        "trained_parameters": trained,
        "generator_steps": study.generator_steps,
        "began_from": _began_from(study, places),
        **_measured(study, arm, configs[-1], model, places),
        "curve": curve(Path(configs[-1].output)),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def _began_from(study: Study, places: Places) -> dict[str, str]:
    """Digests of the weights that all arms share; runs that started from different ones are not comparable."""
    shared = {"mllm": places.work / "mllm", "generator": places.generator / "transformer"}
    if study.base == "insight":
        shared = {"model": places.insight / "runs" / "insightedit" / "editing" / "model"}
    return {name: _weights_digest(folder) for name, folder in shared.items() if folder.is_dir()}


def _weights_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _measured(study: Study, arm: Arm, config: TrainConfig, model: Path, places: Places) -> dict[str, Any]:
    """The measurements of a model, made only once even if several studies need them."""
    path = places.work / "measured" / f"{_digest([Path(config.output).parent.name, study.medium, arm.measure])}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = measured(study.medium, config, model, arm.measure)
        with partial_file(path) as partial:
            partial.write_text(json.dumps(found), encoding="utf-8")
    return json.loads(path.read_text("utf-8"))


def stage_configs(study: Study, arm: Arm, seed: int, places: Places) -> list[TrainConfig]:
    """Return the configs of an arm's stages, and train all stages but the last."""
    if study.base == "tiny":
        taught_mllm(places.work / "mllm")
    told: list[Any] = [study.base, arm.start, seed, study.generator_steps, _began_from(study, places)]
    start = {"model": str(_start(arm, _digest(told), seed, places))} if study.base == "tiny" else {}
    configs: list[TrainConfig] = []
    for number, stage in enumerate(arm.stages):
        told.append(stage)
        folder = places.work / "stages" / _digest(told)
        folder.mkdir(parents=True, exist_ok=True)
        own = {"output": str(folder / "stage"), "seed": seed}
        plain = places.filled(dict(stage)) | own
        plain["start"] = {**plain.get("start", {}), **start}
        plain["data"] = {"pool": str(places.work / "pools" / _pool(study, arm, stage)), **plain["data"]}
        (folder / "stage.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
        configs.append(read_train_config(folder / "stage.yaml"))
        if number + 1 < len(arm.stages):
            start = {"model": str(alignment.trained(configs[-1])[0])}
    return configs


def _start(arm: Arm, name: str, seed: int, places: Places) -> Path:
    """A fresh model with the generator's DiT."""
    folder = places.work / "starts" / name
    if not folder.is_dir():
        changes = [f"{key}={value}" for key, value in arm.start.items() if key not in ("variant", "reads")]
        variant = VARIANTS / f"{arm.start['variant']}.yaml" if "variant" in arm.start else None
        umt5 = arm.start.get("reads") == "umt5"
        reader = text_reader(places.work / "umt5", TEXT_DIM) if umt5 else taught_mllm(places.work / "mllm")
        make_model(folder, reader, places.generator / "transformer", BUNDLED / "vae", changes, seed, variant)
    return folder


def _pool(study: Study, arm: Arm, stage: Mapping[str, Any]) -> str:
    """The name of a pool of encoded examples, shared by all stages with the same data."""
    given = {"base": study.base, "data": dict(stage["data"]), "frames": arm.start.get("guidance.video_frames")}
    given["data"].pop("video_probability", None)
    return _digest(given)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def run(
    names: list[str],
    work: Path,
    results: Path,
    seeds: tuple[int, ...] = SEEDS,
    bases: Path = HERE,
    insight: Path | None = None,
    clips: int = CLIPS,
) -> None:
    """Do all runs of these studies that have no JSON yet."""
    for name in names:
        study = read_study(name, bases)
        places = make_places(study, work.resolve(), insight, clips)
        for seed in seeds:
            for arm in study.arms:
                path = result_file(results, name, arm.name, seed)
                if path.is_file():
                    continue
                start = time.monotonic()
                found = run_arm(study, arm, seed, places)
                path.parent.mkdir(parents=True, exist_ok=True)
                with partial_file(path) as partial:
                    partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                print(f"{name}, {arm.name}, seed {seed}: {(time.monotonic() - start) / 60:.1f} minutes", flush=True)


def make_places(study: Study, work: Path, insight: Path | None, clips: int = CLIPS) -> Places:
    """The folders for a study; trains the generator if the study needs it."""
    generator = work / "generator" / "model"
    if study.base == "tiny":
        data = study.arms[0].stages[0]["data"]
        own = [f"data.{name}={data[name]}" for name in ("sizes", "images", "image_batch")]  # the studies' pictures
        generator, _ = alignment.trained(alignment.generator_config(work, [f"steps={study.generator_steps}", *own]))
    return Places(work, generator, (insight or work / "insight").resolve(), clips)


def arguments(description: str | None, work: str) -> argparse.Namespace:
    """Parse the arguments of a command on studies: work, names (none: all), insight.

    Args:
        work: help text for the folder.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help=work)
    parser.add_argument("names", metavar="STUDY", nargs="*", help=f"default: all of {', '.join(studies())}")
    parser.add_argument("--insight", type=Path, help="output of recipes.insightedit_tiny (default: WORK/insight)")
    return parser.parse_intermixed_args()  # names may follow an option


def main() -> None:
    options = arguments(__doc__, "a folder outside the checkout")
    run(options.names or studies(), options.work, RESULTS, insight=options.insight)


if __name__ == "__main__":
    main()
