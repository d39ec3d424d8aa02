"""The architectures that the paper compares (3.2, Fig. 3 and 9): each is a config, here on tiny parts."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from instructx_core import CheckpointError, Editor, InputError, cli, families
from instructx_core.config import ConnectorConfig, ConnectorKind, GuidanceKind
from instructx_core.connectors import make_connector
from instructx_core.context import Context
from instructx_core.convert import convert
from instructx_core.families.overrides import Overrides
from instructx_core.families.part_loaders import load_guidance_part
from instructx_core.guidance.text import TextGuidance
from instructx_core.memory.measure import measure_phases
from instructx_core.memory.phases import Job
from instructx_core.training.config import read_train_config
from instructx_core.training.stages import train
from instructx_core.weights.detect import find_form
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.parts import Part
from instructx_core.weights.readers import load_reader
from recipes.tiny.editing import check_reads
from support import tiny
from support.opening import load, outlined
from support.same import assert_same_tensors
from support.text_encoder import save_text_encoder
from support.training_runs import CONFIGS, FILES, SMALL_DATA, weights, write_config
from support.weight_forms import scaled, write_gguf

TINY = ("guidance.image_queries=4", "guidance.max_pixels=6272", "guidance.video_frames=4", "default_size=[32, 32]",
        "default_frames=5", "sampling.steps=2")  # fmt: skip
# what is smaller than the paper's in each, and what its stage 1 trains
SMALLER: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "a-text": ((), {"blocks", "condition_embedder", "patch_embedding", "proj_out", "scale_shift_table"}),
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
PLACES = {
    "a-text": (512, 512),
    "b-qformer": (7, 7),
    "shared-queries": (4, 4),
}  # of the context, of an image and a video; else 4 and 6


def test_every_variant_is_tested() -> None:
    assert FILES.keys() == SMALLER.keys()


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in FILES]
)
def variant(request, base_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A name of `FILES`, and a new model of it on base models' parts."""
    name = request.param
    folder = tmp_path_factory.mktemp(name) / "model"
    paths = {part: base_parts / part for part in ("mllm", "transformer", "vae")}
    if name == "a-text":
        paths["mllm"] = save_text_encoder(folder.parent / "umt5", 4096)
    parts = [word for part, path in paths.items() for word in (f"--{part}", str(path))]
    sets = [word for change in (*TINY, *SMALLER[name][0]) for word in ("--set", change)]
    assert cli.main(["new", str(folder), *parts, "--config", str(FILES[name]), *sets]) == 0
    return name, folder


@pytest.fixture(scope="module")
def trained(variant: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variant after two steps of the paper's stage 1, or of 2 where there is no 1."""
    name, folder = variant
    stage = "stage2" if name == "a-text" else "stage1"
    return run_stage(stage, folder, tmp_path_factory.mktemp(name), videos=0, video_probability=0.0)


def run_stage(stage: str, model: Path, root: Path, **data: Any) -> Path:
    """Two steps of a stage of the paper's, as its own config says but for sizes."""
    plain = yaml.safe_load((CONFIGS / "paper" / f"{stage}.yaml").read_text())
    plain |= {"start": {"model": str(model)}, "output": str(root / stage), "steps": 2, "learning_rate": 1e-2}
    plain |= {"precision": "no", "sample_every": 0, "validate_every": 0, "data": {**SMALL_DATA, **data}}
    return train(read_train_config(write_config(root / f"{stage}.yaml", **plain)))


def test_its_first_stage_trains_what_there_is(variant: tuple[str, Path], trained: Path) -> None:
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
        before = fresh.edit(source, "make it grayscale", steps=1)
        assert not torch.equal(result.frames, before.frames)
        assert torch.equal(result.context, before.context) is (name == "a-text")
        other = editor.edit(source, "remove the green star", steps=1)
        assert not torch.equal(result.context, other.context), "the instruction says nothing"


def test_saved_and_loaded_it_is_the_same(trained: Path, tmp_path: Path) -> None:
    editor = Editor.from_pretrained(trained, device="cpu", dtype=torch.float32)
    editor.save_pretrained(tmp_path / "again")
    assert_same_tensors(editor.components, load(tmp_path / "again"))
    half = load(tmp_path / "again", dtype=torch.bfloat16)
    assert {value.dtype for value in half.connector.parameters()} <= {torch.bfloat16}


def test_memory_is_planned_without_weights(variant: tuple[str, Path]) -> None:
    components = outlined(variant[1])
    phases = measure_phases(components, Job(frames=5, height=32, width=32))
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
    assert both.tokens.shape[:2] == (2, 3 if kind is ConnectorKind.QFORMER else 5)


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


@pytest.fixture(scope="module")
def umt5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_encoder(tmp_path_factory.mktemp("wan") / "text_encoder", 32)


def test_a_text_encoder_in_float16_is_as_its_library_loads_it(umt5: Path) -> None:
    """Which keeps one layer in float32."""
    state, _ = read_safetensors(umt5 / "model.safetensors")
    read = load_reader(find_form(umt5, Part.MLLM), umt5, torch.float16)[0].state_dict()
    kept = [name for name, value in read.items() if value.dtype is torch.float32]
    assert kept and all(name.endswith("wo.weight") and torch.equal(read[name], state[name]) for name in kept)


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_a_text_encoder_in_gguf(kind: str, umt5: Path, tmp_path: Path) -> None:
    state, _ = read_safetensors(umt5 / "model.safetensors")
    path = shutil.copytree(umt5, tmp_path / "umt5") / "weights"
    values = write_gguf(state, path, kind)
    read = load_reader(find_form(path, Part.MLLM), umt5, torch.float32)[0].state_dict()
    assert all(torch.equal(read[name], value) for name, value in values.items())


@torch.no_grad()
def test_text_guidance_is_wan_s_own(umt5: Path) -> None:
    """Against the prompt embeddings of diffusers' WanPipeline."""
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline

    model, tokenizer = load_reader(find_form(umt5, Part.MLLM), umt5, torch.float32)
    wan = WanPipeline(tokenizer, model, None, FlowMatchEulerDiscreteScheduler(), None)
    words = ["make the red circle blue", ""]
    expected, _ = wan.encode_prompt(words, do_classifier_free_guidance=False, max_sequence_length=512)
    guidance = TextGuidance(model, tokenizer, replace(tiny.CONFIG.guidance, kind=GuidanceKind.TEXT, lora_rank=0))
    found = guidance(guidance.prepare(words))
    assert found.mask is None and found.tokens.shape == (2, 512, 32)
    torch.testing.assert_close(found.tokens, expected)
    for refused in (guidance.check_length, lambda words: guidance.prepare([words])):
        with pytest.raises(InputError, match=r"has \d+ tokens; give at most 512"):
            refused("blue " * 600)


def test_a_text_encoder_in_one_file(umt5: Path, tmp_path: Path) -> None:
    """As ComfyUI's files are: with the tokenizer in a tensor and the table of words twice; fp16 or scaled fp8."""
    state, _ = read_safetensors(umt5 / "model.safetensors")
    pipeline = shutil.copytree(umt5, tmp_path / "tokenizer").parent
    (pipeline / "tokenizer" / "model.safetensors").unlink()
    (pipeline / "encoders").mkdir()
    plain = load_reader(find_form(umt5.parent, Part.MLLM), umt5, torch.float32)[0].state_dict()
    extra = {
        "spiece_model": torch.zeros(9, dtype=torch.uint8),
        "encoder.embed_tokens.weight": state["shared.weight"] + 0,
    }
    for name, held in {"same": state | extra, "scaled": scaled(state, "new")}.items():
        file = pipeline / "encoders" / f"{name}.safetensors"
        write_safetensors(file, held)
        found = load_reader(find_form(file, Part.MLLM), tmp_path, torch.float32)[0].state_dict()
        for key, value in plain.items():
            assert (found[key] - value).norm() <= (0.05 if name == "scaled" else 0) * value.norm(), key


def test_the_wrong_reader_is_refused(variant: tuple[str, Path], umt5: Path, base_parts: Path, tmp_path: Path) -> None:
    name, folder = variant
    other = base_parts / "mllm" if name == "a-text" else umt5
    words = "is guided by a umT5" if name == "a-text" else "is guided by a Qwen2.5-VL"
    with pytest.raises(CheckpointError, match=words):
        Editor.from_pretrained(folder, device="cpu", mllm=other)
    with pytest.raises(CheckpointError, match=words):
        load_guidance_part(families.open(folder, Overrides(mllm=other)), torch.float32)


def test_it_is_converted(variant: tuple[str, Path], tmp_path: Path) -> None:
    """The two files for ComfyUI, and the folder again from what was trained alone and its base models."""
    _, folder = variant
    convert(folder, tmp_path / "dit.safetensors")
    convert(folder, tmp_path / "instructx.safetensors")
    parts = Overrides(folder / "transformer", folder / "vae", folder / "mllm")
    convert(tmp_path / "instructx.safetensors", tmp_path / "again", parts)
    assert_same_tensors(load(folder), load(tmp_path / "again"))


@pytest.mark.parametrize("asked", ["task: reading", "reading_weight", "hearing_weight"])
def test_a_text_encoder_is_not_read_back(asked: str) -> None:
    config = replace(tiny.CONFIG, guidance=replace(tiny.CONFIG.guidance, kind=GuidanceKind.TEXT, lora_rank=0))
    with pytest.raises(InputError, match=f"{asked} trains an MLLM"):
        check_reads(SimpleNamespace(config=config), asked)
