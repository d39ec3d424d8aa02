"""InsightEdit's three stages on tiny parts: what each trains, its losses, and a run that goes on where it stopped."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from instructx_core import Editor, InputError
from instructx_core.families.instructx.folder import save_checkpoint
from instructx_core.training.config import DataConfig, TableShare, read_train_config
from instructx_core.training.dry_run import describe_run
from instructx_core.training.new_model import make_model
from instructx_core.training.stages import make_task, train
from instructx_core.training.two_stream import TwoStreamTask
from support import tiny, tiny_insightedit
from support.training_runs import CONFIGS, assert_same, scalars, weights, write_config

DATA = {"images": 6, "videos": 0, "image_batch": 2, "step_images": 2, "video_probability": 0.0, "sizes": [[32, 32]]}
# the beginnings of the names that a stage changes
TRAINED = {
    "stage1": {"connector.unasked", "queries", "rows", "connector.tokens", "connector.qformer"},
    "stage2": {"queries", "rows", "lora", "connector.tokens", "connector.qformer", "unet"},
    "stage3": {"queries", "rows", "lora", "connector.tokens", "connector.qformer", "connector.bim", "connector.iaa",
               "denoiser.image_attention", "unet"},
}  # fmt: skip
LOSSES = {"stage1": ["llm", "alignment"], "stage2": ["llm", "diffusion"], "stage3": ["llm", "diffusion", "iaa"]}


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> dict[str, Path]:
    """A model and the CLIP that it is aligned with."""
    return tiny_insightedit.save_start(tmp_path_factory.mktemp("start"))


def stage(name: str, folders: dict[str, Path], output: Path, **changes: Any):
    """A stage as its own config says but for sizes."""
    plain = yaml.safe_load((CONFIGS / "insightedit" / f"{name}.yaml").read_text())
    for mixture in ("table_weight", "beside"):
        plain.pop(mixture, None)
    plain["start"] = {part: str(folders[part]) for part in plain["start"]}
    plain |= {"output": str(output), "steps": 2, "learning_rate": 1e-2, "warmup": 0, "decay_from": 1.0}
    plain |= {"precision": "no", "save_every": 1, "log_every": 1}
    plain["data"] = {**DATA, "pool": str(folders["model"].parent / "pool")}
    return read_train_config(write_config(output.with_name(f"{output.name}.yaml"), **(plain | changes)))


def beginning(name: str) -> str:
    words = name.split(".")
    if words[0] in ("connector", "denoiser"):
        return ".".join(words[:2])
    return words[0] if words[0] in ("queries", "rows", "lora") else "unet"


def test_a_new_model_begins_as_stable_diffusion(start, tmp_path):
    """From a UNet that only draws: a source weighs nothing yet, image tokens are read as text; stage 1 tells ""."""
    from diffusers import UNet2DConditionModel

    config = UNet2DConditionModel.load_config(start["model"] / "transformer")
    drawing = UNet2DConditionModel.from_config({**config, "in_channels": 4})
    drawing.save_pretrained(tmp_path / "unet")
    sizes = {"guidance.image_queries": 3, "connector.hidden_dim": 24, "connector.layers": 2, "connector.head_dim": 12,
             "connector.tokens": 5, "connector.two_stream.vision_dim": 16, "connector.two_stream.addend_dim": 8,
             "connector.two_stream.bim_heads": 2, "connector.two_stream.image_dim": 6}  # fmt: skip
    make_model(tmp_path / "new", start["model"] / "mllm", tmp_path / "unet",
               tiny_insightedit.write_old_vae(tmp_path / "vae"),
               [f"{name}={size}" for name, size in sizes.items()],
               config=CONFIGS / "insightedit" / "model.yaml")  # fmt: skip
    held = weights(tmp_path / "new")
    entry, own = held["conv_in.weight"], drawing.state_dict()
    assert torch.equal(entry[:, :4], own["conv_in.weight"]) and not entry[:, 4:].any()
    first = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"
    assert torch.equal(held["denoiser.image_attention.0.to_k_ip.0.weight"], own[f"{first}.to_k.weight"])
    Editor.from_pretrained(tmp_path / "new").edit(tiny.clip(1, 32, 32)[0], "make it blue", steps=1)
    trained = weights(train(stage("stage1", {**start, "model": tmp_path / "new"}, tmp_path / "stage1")))
    assert not held["connector.unasked"].any() and trained["connector.unasked"].std() > 0.1


@pytest.mark.parametrize("name", LOSSES)
def test_a_stage_trains_its_parts_with_its_losses(name, start, tmp_path):
    model = train(stage(name, start, tmp_path / name))
    before, after = weights(start["model"]), weights(model)
    assert before.keys() == after.keys()
    assert {beginning(key) for key in before if not torch.equal(before[key], after[key])} == TRAINED[name]
    losses = {loss: scalars(tmp_path / name, loss) for loss in ("loss", *LOSSES[name])}
    assert all(len(values) == 2 for values in losses.values())
    for step, whole in enumerate(losses["loss"]):
        assert whole == pytest.approx(sum(losses[loss][step] for loss in LOSSES[name]), rel=1e-5)
    Editor.from_pretrained(model).edit(tiny.clip(1, 32, 32)[0], "make it blue", steps=1)


def test_a_stopped_run_goes_on_to_the_same_weights(start, tmp_path):
    whole = train(stage("stage3", start, tmp_path / "whole", steps=3))
    half = stage("stage3", start, tmp_path / "half", steps=3)
    train(replace(half, steps=1))
    (tmp_path / "half/model").rename(tmp_path / "half/first")
    assert_same(weights(train(half, resume=True)), weights(whole))


@torch.no_grad()
def test_the_diffusion_loss_is_eq_7(start, tmp_path):
    """By the UNet's own call, with the noise and the levels that the stage draws."""
    task = make_task(stage("stage3", start, tmp_path / "run", drop_instruction=0.0, drop_source=0.0))
    batch = task.batch(torch.Generator().manual_seed(1), False)
    task.module.eval()
    found = task.module(batch, torch.Generator().manual_seed(2))["diffusion"]

    from diffusers import DDPMScheduler

    generator, unet = torch.Generator().manual_seed(2), task.components.denoiser.transformer
    steps = torch.randint(1000, (len(batch),), generator=generator)
    noise = torch.randn(batch.target.shape, generator=generator)[:, :, 0]
    noisy = DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear").add_noise(batch.target[:, :, 0], noise, steps)
    context = task.components.connector(task.components.guidance(batch.inputs))
    handle = unet.conv_in.register_forward_hook(
        lambda _m, _i, out: out + torch.nn.functional.interpolate(context.addend, out.shape[-2:], mode="bilinear")
    )
    given = torch.cat([noisy, batch.source[:, :, 0] / 0.18215], dim=1)
    predicted = unet(given, steps, (context.tokens, [context.image]), return_dict=False)[0]
    handle.remove()
    torch.testing.assert_close(found, torch.nn.functional.mse_loss(predicted, noise), atol=1e-4, rtol=1e-4)


def mixed(start, output: Path, **changes: Any):
    """Stage 2 on three sets of pictures, of weights 1, 2 and 5."""
    tables = []
    for number, words in enumerate(("caption", "segment", "edit")):
        folder = output.parent / f"{output.name}-{words}"
        folder.mkdir(exist_ok=True)
        for name in "ab":
            Image.new("RGB", (32, 32), (60 * number, 0, 90)).save(folder / f"{name}.png")
        lines = [f"a.png,b.png,{words} {row},{words}" for row in range(9)]
        (folder / "pairs.csv").write_text("\n".join(["source,target,instruction,caption", *lines]))
        tables.append(str(folder / "pairs.csv"))
    data = {"table": tables[0], "image_batch": 2, "video_probability": 0.0, "sizes": [[32, 32]]}
    beside = [{"table": tables[1], "weight": 2.0}, {"table": tables[2], "weight": 5.0}]
    return stage("stage2", start, output, data=data, beside=beside, **changes)


def test_a_mixture_draws_each_set_by_its_weight(start, tmp_path):
    task = TwoStreamTask(mixed(start, tmp_path / "run"))
    drawn = Counter()
    for seed in range(200):
        examples = task.source.draw(torch.Generator().manual_seed(seed), False)
        kinds = {words.split()[0] for words in examples.instructions}
        assert len(kinds) == 1  # a micro-batch is of one set
        drawn.update(kinds)
    shares = [drawn[words] / 200 for words in ("caption", "segment", "edit")]
    assert shares == pytest.approx([1 / 8, 2 / 8, 5 / 8], abs=0.08)


def test_a_mixture_goes_on_where_it_stood(start, tmp_path):
    """The position of every set is in the state: the same rows follow."""
    config = mixed(start, tmp_path / "run")
    generators = [torch.Generator().manual_seed(seed) for seed in range(20)]
    first = TwoStreamTask(config)
    for generator in generators[:8]:
        first.source.draw(generator, False)
    held = json.loads(json.dumps(first.position()))
    rest = [first.source.draw(generator, False).instructions for generator in generators[8:]]
    second = TwoStreamTask(config)
    second.go_to(held)
    again = [torch.Generator().manual_seed(seed) for seed in range(8, 20)]
    assert [second.source.draw(generator, False).instructions for generator in again] == rest
    with pytest.raises(InputError, match="is for 2 data sets"):
        second.go_to({"0": {}, "1": {}})


def test_a_mixture_trains_and_logs_each_loss(start, tmp_path):
    config = mixed(start, tmp_path / "run")
    train(config)
    assert all(len(scalars(tmp_path / "run", name)) == 2 for name in ("loss", "llm", "diffusion"))


def test_stage_1_reads_a_table_of_captions(start, tmp_path):
    """One picture and its caption a row, as CC12M's; with a second such set beside it."""
    rows = []
    for number in range(9):
        Image.new("RGB", (32, 32), (20 * number, 0, 90)).save(tmp_path / f"{number}.png")
        rows.append(json.dumps({"image": f"{number}.png", "text": f"a box of shade {number}"}))
    (tmp_path / "captions.jsonl").write_text("\n".join(rows))
    columns = {"source": "image", "target": "image", "caption": "text"}
    table = str(tmp_path / "captions.jsonl")
    data = {"table": table, "columns": columns, "image_batch": 2, "video_probability": 0.0, "sizes": [[32, 32]]}
    config = stage("stage1", start, tmp_path / "run", data=data, beside=[{"table": table, "columns": columns}])
    assert TwoStreamTask.batch(make_task(config), torch.Generator().manual_seed(0), False).captions.any()
    train(config)
    assert len(scalars(tmp_path / "run", "alignment")) == 2


@pytest.mark.parametrize(("name", "words"), [("stage1", "caption"), ("stage2", "instruction")])
def test_rows_without_the_words_of_a_stage_are_broken(start, tmp_path, name, words):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "a.png")
    other = {"caption": "instruction", "instruction": "caption"}[words]
    row = {"source": "a.png", "target": "a.png", other: "a box"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    data = {"table": str(tmp_path / "pairs.jsonl"), "image_batch": 2, "video_probability": 0.0, "sizes": [[32, 32]]}
    data["columns"] = {name: name for name in row}
    with pytest.raises(InputError, match=f"has no {words}, which this kind of stage reads"):
        make_task(stage(name, start, tmp_path / "run", data=data, beside=[]))
    data["pool"] = str(tmp_path / "pool")  # which any stage may read
    with pytest.raises(InputError, match=f"1 encoded examples have no {words}"):
        make_task(stage(name, start, tmp_path / "run", data=data, beside=[]))


@pytest.mark.parametrize(("name", "words"), [("stage1", "captions"), ("stage2", "instructions")])
def test_a_text_that_is_too_long_is_named_with_its_example(start, tmp_path, name, words):
    task = make_task(stage(name, start, tmp_path / "run"))
    examples = task.source.draw(torch.Generator().manual_seed(0), False)
    held = replace(examples, names=["one", "two"], **{words: ["a box", "box " * 5000]})
    with pytest.raises(InputError, match=r"Example 'two' cannot be used: .* tokens; give at most 4096"):
        task.make_batch(held, torch.zeros(2, dtype=torch.bool), None)


def test_a_check_counts_and_reads_all_sets(start, tmp_path):
    said = describe_run(mixed(start, tmp_path / "run"), processes=2)
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.strip()}
    assert rows["bim"][1] == rows["iaa"][1] == "0" and rows["qformer"][0] == rows["qformer"][1] != "0"
    assert rows["transformer"][0] == rows["transformer"][1] != "0"
    for words in ("caption", "segment", "edit"):
        assert f"{words} 0" in said
    assert "activations: not measured" in said and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"data": DATA}, "beside needs a table"), ({"beside": [{"table": "nowhere.csv"}]}, "nowhere.csv")],
)
def test_a_mixture_that_cannot_be_read_is_named(start, tmp_path, changes, reason):
    with pytest.raises(InputError, match=reason):
        plain = mixed(start, tmp_path / "run")
        if "data" in changes:
            replace(plain, data=DataConfig(**{**DATA, "sizes": ((32, 32),)}))
        else:
            train(replace(plain, beside=(TableShare(table=str(tmp_path / "nowhere.csv")),)))


def test_what_is_left_out_is_the_context_of_nothing(start, tmp_path):
    """One draw: a tenth is without instruction, a tenth without source, half of each without both."""
    task = TwoStreamTask(stage("stage2", start, tmp_path / "run"))
    dropped = [task.batch(torch.Generator().manual_seed(seed), False) for seed in range(300)]
    told = torch.cat([batch.instructionless for batch in dropped]).float().mean()
    shown = torch.cat([batch.sourceless for batch in dropped]).float().mean()
    both = torch.cat([batch.instructionless & batch.sourceless for batch in dropped]).float().mean()
    assert told == pytest.approx(0.1, abs=0.04) and shown == pytest.approx(0.1, abs=0.04)
    assert both == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"start": {"model": "model"}}, "start needs a clip"),
        ({"data": {**DATA, "video_probability": 0.5}}, "train on pictures"),
        ({"task": "editing"}, "cannot be used"),
    ],
)
def test_a_config_that_does_not_go_together_is_named(start, tmp_path, changes, reason):
    with pytest.raises(InputError, match=reason):
        stage("stage3", start, tmp_path / "run", **changes)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        *((name, changes) for name in ("stage1", "stage2") for changes in (
            {"use_source": False}, {"loss": "data"}, {"noise": {"shift": 3.0}}, {"sample_every": 5},
            {"transformer_lora": {"rank": 4}},
        )),
        *(("stage1", {key: 0.5}) for key in ("drop_instruction", "drop_source", "image_stream", "iaa_weight")),
    ],
)  # fmt: skip
def test_a_setting_without_effect_is_refused(start, tmp_path, name, changes):
    (key,) = changes
    with pytest.raises(InputError, match=f"{key} has no effect in .* stages; leave it out"):
        stage(name, start, tmp_path / "run", **changes)


def test_a_model_of_another_kind_is_refused(start, tmp_path, saved):
    with pytest.raises(InputError, match="is for a two-stream model"):
        make_task(stage("stage2", {"model": saved}, tmp_path / "run", data={**DATA, "pool": str(tmp_path / "pool")}))


@pytest.mark.parametrize("changes", [{}, {"train": ["queries", "bim"]}, {"train": ["transformer"]}])
def test_an_alignment_names_the_parts_that_it_can_train(start, tmp_path, changes):
    """All parts are the default, and those of the image stream and the UNet would stay as they are."""
    plain = {"task": "alignment", "output": str(tmp_path / "run"), "steps": 1, "data": DATA, **changes}
    plain["start"] = {part: str(folder) for part, folder in start.items()}
    with pytest.raises(InputError, match="an alignment stage can train only queries, lora and qformer"):
        read_train_config(write_config(tmp_path / "c.yaml", **plain))


@pytest.mark.parametrize("name", ["stage1", "stage2"])
def test_a_stage_that_trains_nothing_is_refused(start, tmp_path, name):
    own = tiny_insightedit.CONFIG
    plain = replace(own, guidance=replace(own.guidance, lora_rank=0))
    save_checkpoint(tiny_insightedit.components(plain), tmp_path / "model")
    config = stage(name, {**start, "model": tmp_path / "model"}, tmp_path / "run", train=["lora"])
    for tried in (make_task, describe_run):
        with pytest.raises(InputError, match="the model has no lora, so nothing would be trained"):
            tried(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("parts", [["connector"], ["queries", "lora", "connector", "transformer"]])
def test_flow_matching_of_a_diffusion_unet_is_refused(start, tmp_path, parts):
    """The second names the DiT, which needs no check of its gradient: it trained with a wrong objective."""
    plain = {"task": "editing", "output": str(tmp_path / "run"), "steps": 1, "start": {"model": str(start["model"])}}
    config = read_train_config(write_config(tmp_path / "c.yaml", **plain, train=parts))
    for tried in (make_task, describe_run):
        with pytest.raises(InputError, match="has a diffusion UNet.*task: two_stream"):
            tried(config)
    assert not (tmp_path / "run").exists()


def test_a_clip_of_other_widths_is_refused(start, tmp_path):
    from transformers import CLIPConfig, CLIPModel

    clip = CLIPModel.from_pretrained(start["clip"])
    config = CLIPConfig.from_dict(clip.config.to_dict() | {"projection_dim": 8})
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    tiny.tokenizer().save_pretrained(tmp_path / "clip")
    with pytest.raises(InputError, match="connector.two_stream.image_dim is 6"):
        make_task(stage("stage3", {**start, "clip": tmp_path / "clip"}, tmp_path / "run"))
