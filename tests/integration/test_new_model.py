"""`instructx new`: base models in every form with fresh queries, LoRA and connector, which a stage then trains."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from instructx_core import CheckpointError, Editor, InputError, cli
from instructx_core.config import ModelConfig
from instructx_core.training.config import TrainConfig, read_train_config
from instructx_core.training.new_model import make_model, new_config
from instructx_core.training.steps import batch_generator
from instructx_core.training.tasks import make_task
from instructx_core.training.trainer import Trainer
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.wan_keys import dit_to_original
from support.opening import config_of, load
from support.training_runs import SMALL_DATA, weights, write_config
from support.weight_forms import scaled, write_gguf

DIT = "transformer/diffusion_pytorch_model.safetensors"
SMALL = ("guidance.image_queries=4", "guidance.video_queries=6", "guidance.lora_rank=4", "connector.hidden_dim=64",
         "guidance.max_pixels=6272", "default_size=[32, 32]", "default_frames=5", "sampling.steps=2")  # fmt: skip


def parts(folder: Path, **others: Path) -> dict[str, Path]:
    return {"mllm": folder / "mllm", "transformer": folder / "transformer", "vae": folder / "vae", **others}


@pytest.fixture(scope="module")
def new(base_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new model on base models' parts, by the command line; read-only."""
    folder = tmp_path_factory.mktemp("new") / "model"
    options = [word for name, path in parts(base_parts).items() for word in (f"--{name}", str(path))]
    changes = [word for change in SMALL for word in ("--set", change)]
    assert cli.main(["new", str(folder), *options, *changes]) == 0
    return folder


def stage1(model: Path, output: Path, **changes: Any) -> TrainConfig:
    """The paper's stage 1 at tiny sizes."""
    data = {**SMALL_DATA, "videos": 0, "video_probability": 0.0}
    basics = {"task": "editing", "train": ["queries", "lora", "connector"], "use_source": False, "steps": 2}
    plain = {**basics, "start": {"model": str(model)}, "output": str(output), "data": data, **changes}
    return read_train_config(write_config(output.with_name(f"{output.name}.yaml"), **plain))


def test_base_models_are_untouched(base_parts: Path, new: Path) -> None:
    for file in (DIT, "vae/diffusion_pytorch_model.safetensors", "mllm/model.safetensors"):
        assert (new / file).read_bytes() == (base_parts / file).read_bytes(), file
    assert not list(new.parent.glob(".*")), "something unfinished was left"


def test_what_is_new_is_the_paper_s_and_knows_nothing_yet(new: Path) -> None:
    config, state = config_of(new), read_safetensors(new / "instructx.safetensors")[0]
    assert (config.guidance.lora_rank, config.guidance.lora_alpha) == (4, 4)
    assert (config.denoiser, config.keep_source, config.sampling.shift) == (ModelConfig().denoiser, 0.0, 5.0)
    assert state["queries.image"].shape == (4, 128) and state["queries.image"].std().item() == pytest.approx(
        0.02, rel=0.2
    )
    assert all(not value.any() for name, value in state.items() if ".lora_B." in name)
    assert all(value.any() for name, value in state.items() if ".lora_A." in name)
    assert all(value.any() for name, value in state.items() if name.startswith("connector."))


def test_the_default_is_the_paper_s() -> None:
    """256 and 512 queries, a LoRA of 0.6B on Qwen2.5-VL-3B, a connector from its width to Wan's text."""
    config = new_config((), hidden=2048, text_dim=4096, width=5120)
    assert config == ModelConfig()
    assert (config.guidance.image_queries, config.guidance.video_queries, config.guidance.lora_rank) == (256, 512, 320)
    hidden, inner, layers, kv = 2048, 11008, 36, 256  # of Qwen2.5-VL-3B
    sides = 2 * (hidden + hidden) + 2 * (hidden + kv) + 3 * (hidden + inner)
    assert layers * 320 * sides == pytest.approx(0.6e9, rel=0.01)
    past = new_config(("connector.entry=width",), hidden=2048, text_dim=4096, width=5120)
    assert past.connector.output_dim == 5120
    assert new_config(("guidance.lora_rank=8", "guidance.lora_alpha=2"), 1, 1, 1).guidance.lora_alpha == 2


def test_a_new_model_is_trained_by_stage_one_and_edits(new: Path, tmp_path: Path) -> None:
    config = stage1(new, tmp_path / "run")
    task = make_task(config)
    trainer = Trainer(config, task)
    trainer.model(task.batch(batch_generator(0, 0, 0, 0), False), batch_generator(0, 0, 0, 0))["loss"].backward()
    assert task.module.guidance.queries["image"].grad.norm() > 0
    trainer.model.zero_grad()
    folder, before = trainer.run(), weights(new)
    after = weights(folder)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"queries", "lora", "connector"}
    result = Editor.from_pretrained(folder).edit(torch.rand(32, 32, 3), "make it grayscale", steps=1)
    assert result.frames.shape == (1, 32, 32, 3) and result.frames.isfinite().all()


@pytest.mark.parametrize("form", ["original", "fp8", "gguf"])
def test_every_form_of_a_dit(form: str, base_parts: Path, tmp_path: Path) -> None:
    state, _ = read_safetensors(base_parts / DIT)
    original = dit_to_original(state)
    path = tmp_path / ("wan.gguf" if form == "gguf" else "wan.safetensors")
    if form == "gguf":
        write_gguf(original, path, "Q8_0")
    else:
        write_safetensors(path, original if form == "original" else scaled(original, "new"))
    make_model(tmp_path / "new", **parts(base_parts, transformer=path), changes=SMALL)
    found, _ = read_safetensors(tmp_path / "new" / DIT)
    assert found.keys() == state.keys()
    for name, value in state.items():
        if form == "original":
            assert torch.equal(found[name], value) and found[name].dtype == value.dtype
        else:
            assert (found[name].float() - value.float()).norm() <= 0.05 * value.float().norm(), name
    load(tmp_path / "new")


@pytest.mark.parametrize("dead", ["proj_out", "text_embedder.linear_2", "attn2.to_out", "attn2.to_v"])
def test_a_frozen_dit_that_cannot_answer_is_refused(dead: str, new: Path, tmp_path: Path) -> None:
    """As one is that starts from {vae, mllm}: the gradient of all before it would be exactly 0.0."""
    model = shutil.copytree(new, tmp_path / "model")
    state, metadata = read_safetensors(model / DIT)
    hit = {name for name in state if f"{dead}." in f"{name}." and name.endswith("weight")}
    assert hit
    write_safetensors(model / DIT, {n: v.zero_() if n in hit else v for n, v in state.items()}, metadata)
    with pytest.raises(InputError, match=f"because {dead}.* is zero.*add transformer to train"):
        make_task(stage1(model, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_stage_that_trains_nothing_is_refused(new: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="train: the model has no source_embedding, so nothing would be trained"):
        make_task(stage1(new, tmp_path / "run", train=["source_embedding"]))


def test_what_does_not_fit_is_refused_before_anything_is_written(base_parts: Path, tmp_path: Path, capsys) -> None:
    options = {name: str(path) for name, path in parts(base_parts).items()}
    cases = [
        ({}, ["guidance.rank=3"], "has no field 'rank'"),
        ({}, ["guidance.lora_rank=x"], "guidance.lora_rank is 'x'"),
        ({}, ["guidance=3"], "guidance is 3"),
        ({}, ["lora"], "KEY=VALUE"),
        ({}, ["connector.input_dim=64"], "hidden states of width 64"),
        ({"vae": str(base_parts / "transformer")}, [], "does not hold a Wan VAE"),
        ({"mllm": str(tmp_path / "nothing")}, [], "nothing"),
    ]
    for others, changes, words in cases:
        given = [word for name, path in {**options, **others}.items() for word in (f"--{name}", path)]
        sets = [word for change in changes for word in ("--set", change)]
        assert cli.main(["new", str(tmp_path / "new"), *given, *sets]) == 2
        said = capsys.readouterr().err
        assert words in said and said.count("\n") == 1, said
        assert not (tmp_path / "new").exists()


def test_a_dit_that_predicts_no_velocity_is_refused(bundled: Path, tmp_path: Path) -> None:
    """The bundled model's own has a gain and an offset for every channel."""
    with pytest.raises(CheckpointError, match="has 16 input and 32 output channels.* does not predict a velocity"):
        make_model(tmp_path / "new", **parts(bundled), changes=SMALL)
    assert not (tmp_path / "new").exists()


def test_the_target_may_not_be_one_of_the_sources(base_parts: Path, tmp_path: Path) -> None:
    own = shutil.copytree(base_parts, tmp_path / "own")
    for target in (own / "mllm", own / "mllm" / "new"):
        with pytest.raises(InputError, match="is the same as, contains or is inside"):
            make_model(target, **parts(own), changes=SMALL)


def test_the_same_seed_gives_the_same_model(new: Path, base_parts: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "same", **parts(base_parts), changes=SMALL)
    make_model(tmp_path / "other", **parts(base_parts), changes=SMALL, seed=1)
    name = "instructx.safetensors"
    assert (tmp_path / "same" / name).read_bytes() == (new / name).read_bytes()
    assert (tmp_path / "other" / name).read_bytes() != (new / name).read_bytes()
