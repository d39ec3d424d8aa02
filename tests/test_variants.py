"""The architectures that the paper compares (3.2, Fig. 3 and 9): each is a config, here on tiny parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from opening import load, outlined
from test_bundle import assert_same_tensors
from training_runs import CONFIGS, SMALL_DATA, weights, write_config

from instructx_core import Editor, cli
from instructx_core.config import ConnectorConfig, ConnectorKind, GuidanceKind
from instructx_core.connectors import make_connector
from instructx_core.context import Context
from instructx_core.memory.measure import measure
from instructx_core.memory.phases import Job
from instructx_core.training.config import read_train_config
from instructx_core.training.stages import train

FILES = {path.stem: path for path in sorted((CONFIGS / "paper" / "variants").glob("*.yaml"))}
TINY = ("guidance.image_queries=4", "guidance.max_pixels=6272", "guidance.video_frames=4", "default_size=[32, 32]",
        "default_frames=5", "sampling.steps=2")  # fmt: skip
# what is smaller than the paper's in each, and what its stage 1 trains
SMALLER: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "b-qformer": (
        ("connector.hidden_dim=32", "connector.head_dim=16", "connector.layers=2", "connector.tokens=7",
         "guidance.lora_rank=4"),
        {"lora", "connector"},
    ),
    "c-metaquery": (
        ("connector.hidden_dim=32", "connector.layers=2", "guidance.video_queries=6"),
        {"queries", "connector"},
    ),
    "d-paper": (
        ("connector.hidden_dim=32", "guidance.lora_rank=4", "guidance.video_queries=6"),
        {"queries", "lora", "connector"},
    ),
    "shared-queries": (("connector.hidden_dim=32", "guidance.lora_rank=4"), {"queries", "lora", "connector"}),
    "first-frame": (
        ("connector.hidden_dim=32", "guidance.lora_rank=4", "guidance.video_queries=6", "guidance.video_frames=1"),
        {"queries", "lora", "connector"},
    ),
}  # fmt: skip
SLOW = {"d-paper", "first-frame"}  # the paper's own is what other tests train and edit with
PLACES = {"b-qformer": (7, 7), "shared-queries": (4, 4)}  # of the context, of an image and a video; else 4 and 6


def test_every_variant_is_tested() -> None:
    assert FILES.keys() == SMALLER.keys()


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in FILES]
)
def variant(request, bundled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A name of `FILES`, and a new model of it on the bundled model's parts."""
    name = request.param
    folder = tmp_path_factory.mktemp(name) / "model"
    parts = [word for part in ("mllm", "transformer", "vae") for word in (f"--{part}", str(bundled / part))]
    sets = [word for change in (*TINY, *SMALLER[name][0]) for word in ("--set", change)]
    assert cli.main(["new", str(folder), *parts, "--config", str(FILES[name]), *sets]) == 0
    return name, folder


@pytest.fixture(scope="module")
def trained(variant: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variant after two steps of the paper's stage 1."""
    name, folder = variant
    return run_stage("stage1", folder, tmp_path_factory.mktemp(name), videos=0, video_probability=0.0)


def run_stage(stage: str, model: Path, root: Path, **data: Any) -> Path:
    """Two steps of a stage of the paper's, as its own config says but for sizes."""
    plain = yaml.safe_load((CONFIGS / "paper" / f"{stage}.yaml").read_text())
    plain |= {"start": {"model": str(model)}, "output": str(root / stage), "steps": 2, "learning_rate": 1e-2}
    plain |= {"precision": "no", "sample_every": 0, "validate_every": 0, "data": {**SMALL_DATA, **data}}
    return train(read_train_config(write_config(root / f"{stage}.yaml", **plain)))


def test_stage_one_trains_what_there_is(variant: tuple[str, Path], trained: Path) -> None:
    name, folder = variant
    before, after = weights(folder), weights(trained)
    assert before.keys() == after.keys()
    changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
    assert changed == SMALLER[name][1]


def test_it_edits_images_and_videos(variant: tuple[str, Path], trained: Path) -> None:
    name, folder = variant
    editor, fresh = (Editor.from_pretrained(path, device="cpu", dtype=torch.float32) for path in (trained, folder))
    for frames, places in zip((1, 5), PLACES.get(name, (4, 6)), strict=True):
        source = tiny.clip(frames, 32, 32)
        result = editor.edit(source, "make it grayscale", steps=1, guidance_scale=2.0)
        assert result.frames.shape == source.shape and result.frames.isfinite().all()
        assert result.context.shape[1] == places
        assert not torch.equal(result.context, fresh.edit(source, "make it grayscale", steps=1).context)
        other = editor.edit(source, "remove the green star", steps=1)
        assert not torch.equal(result.context, other.context), "the instruction says nothing"


def test_saved_and_loaded_it_is_the_same(trained: Path, tmp_path: Path) -> None:
    editor = Editor.from_pretrained(trained, device="cpu", dtype=torch.float32)
    editor.save_pretrained(tmp_path / "again")
    assert_same_tensors(editor.components, load(tmp_path / "again"))
    half = load(tmp_path / "again", dtype=torch.bfloat16)
    assert {value.dtype for value in half.connector.parameters()} == {torch.bfloat16}


def test_memory_is_planned_without_weights(variant: tuple[str, Path]) -> None:
    components = outlined(variant[1])
    phases = measure(components, Job(frames=5, height=32, width=32))
    assert len(phases) == 4 and all(phase.working > 0 for phase in phases)


def test_a_video_shows_its_first_frame_alone() -> None:
    config = tiny.CONFIG.guidance
    guidance = tiny.components(replace(tiny.CONFIG, guidance=replace(config, video_frames=1))).guidance
    one = tiny.clip(5)
    other = torch.cat([one[:1], 1 - one[1:]])
    read = [guidance(guidance.prepare(["make it red"], [clip], is_video=True)).tokens for clip in (one, other)]
    assert torch.equal(*read)


@pytest.mark.parametrize("kind", [ConnectorKind.QFORMER, ConnectorKind.TRANSFORMER])
@torch.no_grad()
def test_padding_changes_nothing(kind: ConnectorKind) -> None:
    """A sequence padded on the left gives what it gives alone."""
    torch.manual_seed(0)
    connector = make_connector(ConnectorConfig(kind, 32, 16, 20, layers=4, head_dim=8, tokens=3)).eval()
    tokens, mask = torch.randn(2, 5, 32), torch.ones(2, 5, dtype=torch.bool)
    mask[0, :2] = False
    both = connector(Context(tokens, mask))
    alone = connector(Context(tokens[:1, 2:]))
    own = both.tokens[:1] if kind is ConnectorKind.QFORMER else both.tokens[:1, 2:]
    torch.testing.assert_close(own, alone.tokens, atol=1e-5, rtol=1e-5)
    assert both.tokens.shape[:2] == (2, connector.places(5))


@torch.no_grad()
def test_the_transformer_attends_both_ways() -> None:
    connector = make_connector(ConnectorConfig(ConnectorKind.TRANSFORMER, 32, 16, 20, layers=2, head_dim=8)).eval()
    tokens = torch.randn(1, 5, 32)
    changed = tokens.clone()
    changed[:, -1] += 1
    first, last = (connector(Context(both)).tokens[:, 0] for both in (tokens, changed))
    assert not torch.allclose(first, last)


@torch.no_grad()
def test_hidden_states_of_a_padded_batch_are_each_sequence_s_own() -> None:
    own = replace(tiny.CONFIG, guidance=replace(tiny.CONFIG.guidance, kind=GuidanceKind.HIDDEN_STATES))
    guidance = tiny.components(own).guidance
    words = ["make the red circle blue and add a green star", "make it red"]
    both = guidance(guidance.prepare(words, [tiny.clip(), tiny.clip(seed=1)]))
    alone = guidance(guidance.prepare(words[1:], [tiny.clip(seed=1)]))
    assert alone.mask is None and both.mask is not None and both.mask.sum(1).tolist()[1] == alone.tokens.shape[1]
    torch.testing.assert_close(both.tokens[1][both.mask[1]], alone.tokens[0], atol=1e-4, rtol=1e-4)
