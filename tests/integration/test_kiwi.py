"""Kiwi-Edit's published folder against what its authors' own code computed with the same weights."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from instructx_core import Editor, cli
from instructx_core.config import ModelConfig, ReferenceInjection
from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.kiwi.folder import recognise
from instructx_core.guidance.positions import positions
from instructx_core.model_info import describe
from instructx_core.schedules import schedule
from instructx_core.weights.detect import find_form
from instructx_core.weights.files import read_safetensors, read_shapes, write_safetensors
from instructx_core.weights.parts import Part
from instructx_core.weights.vae import load_vae
from support import kiwi_model
from support.folders import linked
from support.kiwi_recorded import recorded, run
from support.opening import config_of, load
from support.recorded import folders
from support.video_files import clip, make_video


@pytest.fixture(scope="module")
def editor(kiwi: Path) -> Editor:
    return Editor.from_pretrained(kiwi, device="cpu", dtype=torch.float32)


def put(path: Path, content: bytes | dict) -> None:
    """Replace a link by a file."""
    path.unlink()
    path.write_bytes(json.dumps(content).encode() if isinstance(content, dict) else content)


# --- parity


def test_the_command_edits_a_clip_with_it(kiwi: Path, tmp_path: Path, capsys):
    """Whether a clip is long is told without this repo's own config, which such a folder does not have."""
    source = make_video(tmp_path / "in.mp4", clip(2, 32, 32))
    output = tmp_path / "out.mp4"
    size = ["--height", "32", "--width", "32"]
    assert cli.main(["edit", str(source), "x", "-o", str(output), "--model", str(kiwi), "--steps", "1", *size]) == 0
    assert output.is_file()


@pytest.fixture(scope="module", params=folders("kiwi"), ids=lambda folder: folder.parent.name)
def compared(request: pytest.FixtureRequest) -> tuple[Path, Editor]:
    """A recorded model, and an editor of it."""
    return request.param, Editor.from_pretrained(request.param, device="cpu", dtype=torch.float32)


@pytest.mark.parametrize("case", ["image", "video", "reference"])
def test_parity_with_the_authors_pipeline(case: str, compared: tuple[Path, Editor]):
    folder, editor = compared
    expected = recorded(folder, case)
    edited = run(editor, expected)
    assert (edited.context - expected.context).abs().max() < 1e-4
    assert (edited.latents - expected.latents).abs().max() < 1e-4
    # the authors cut off to 8 bits where others round, hence a whole step
    off = (edited.frames * 255 - expected.frames).abs()
    assert (off < 1.01).float().mean() > 0.995


def test_parity_with_references_first(kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "renamed")
    path = folder / "ref_embedder" / "config.json"
    put(path, json.loads(path.read_text()) | {"ref_pad_first": True})
    first = Editor.from_pretrained(folder, device="cpu", dtype=torch.float32)
    behind = recorded(kiwi, "reference")
    expected = read_safetensors(kiwi / "reference_outputs.safetensors")[0]["first.latents"]
    assert (expected - behind.latents).abs().max() > 0.01
    assert (run(first, behind).latents - expected).abs().max() < 1e-4


def test_saved_in_this_layout_it_edits_the_same(kiwi: Path, editor: Editor, tmp_path: Path):
    editor.save_pretrained(tmp_path / "own")
    assert config_of(tmp_path / "own") == editor.config and recognise(tmp_path / "own") is None
    again = Editor.from_pretrained(tmp_path / "own", device="cpu", dtype=torch.float32)
    case = recorded(kiwi, "reference")
    torch.testing.assert_close(run(again, case).latents, case.latents, atol=1e-4, rtol=0)


def test_bfloat16(kiwi: Path):
    half = Editor.from_pretrained(kiwi, device="cpu", dtype=torch.bfloat16)
    case = recorded(kiwi, "reference")
    edited = run(half, case)
    assert (edited.context.float() - case.context).abs().mean() < 0.05
    assert (edited.frames * 255 - case.frames).abs().mean() < 4


def test_the_authors_schedule():
    steps, shift, low = 4, 5.0, 0.003 / 1.002
    u = torch.linspace(1, low, steps + 1, dtype=torch.float64)[:-1]
    expected = [*(shift * u / (1 + (shift - 1) * u)).tolist(), 0]
    assert schedule(steps, shift, low).tolist() == pytest.approx(expected, abs=1e-12)


# --- what is read, and what is not


def test_config(kiwi: Path):
    config = config_of(kiwi)
    guidance, connector, denoiser = config.guidance, config.connector, config.denoiser
    assert (config.default_size, config.default_frames, config.sampling.steps) == ((480, 832), 81, 50)
    assert (guidance.image_queries, guidance.video_queries, guidance.reference_queries) == (8, 12, 16)
    assert guidance.dialect == "kiwi" and guidance.lora_rank == 0 and guidance.video_frames == 16
    assert (connector.input_dim, connector.hidden_dim, connector.output_dim) == (32, 48, 48)
    assert denoiser.reference is ReferenceInjection.EMBEDDING and not denoiser.references_first
    assert config.sampling.sigma_min == pytest.approx(0.003 / 1.002)


def test_it_is_known_by_its_tensors(kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "wan-of-a-friend")
    (folder / "model_index.json").unlink()
    adapter = folder / "mllm_encoder" / "diffusion_pytorch_model.safetensors"
    adapter.rename(adapter.with_name("anything.safetensors"))
    assert recognise(folder) and config_of(folder) == config_of(kiwi)
    (folder / "mllm_encoder" / "anything.safetensors").unlink()
    assert recognise(folder) is None


def test_without_a_reference_embedder_references_share_the_dits(kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "model")
    shutil.rmtree(folder / "ref_embedder")
    components = load(folder)
    assert components.config.denoiser.reference is ReferenceInjection.LATENT
    assert components.denoiser.reference_embedding is None


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("processor/qwen_config.json", "qwen_config.json"),
        ("processor/tokenizer.json", "mllm_encoder.* has no tokenizer next to it"),
        ("transformer/diffusion_pytorch_model.safetensors", "transformer.* has no .safetensors weights"),
        ("vae/config.json", "vae.* has no config.json"),
        ("source_embedder/diffusion_pytorch_model.safetensors", "source_embedder.* has no .safetensors"),
        ("mllm_encoder/model.safetensors", "mllm_encoder.* does not hold a Qwen2.5-VL"),
    ],
)
def test_a_missing_file_is_named(part: str, message: str, kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "model")
    (folder / part).unlink()
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_truncated_and_pickled_weights_are_refused(kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "model")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    put(path, (kiwi / path.relative_to(folder)).read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="truncated"):
        load(folder)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(CheckpointError, match="pickle"):
        load(folder)


def test_a_vae_without_its_scale_is_refused(kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "model")
    put(folder / "vae" / "config.json", {"z_dim": 48})
    with pytest.raises(CheckpointError, match="latents_mean of 48 values"):
        load(folder)


def test_a_vae_with_a_gap_is_refused(kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "model")
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    state, _ = read_safetensors(path)
    path.unlink()
    del state["decoder.middle.1.proj.bias"]
    write_safetensors(path, state)
    message = r"decoder.mid_block.attentions.0.proj.bias is missing, expected \(16,\) \(1 tensors differ\)"
    with pytest.raises(CheckpointError, match=message):
        load_vae(find_form(folder / "vae", Part.VAE), torch.float32)


def test_weights_of_another_width_are_refused(kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "model")
    path = folder / "source_embedder" / "diffusion_pytorch_model.safetensors"
    path.unlink()
    write_safetensors(
        path, {"patch_embedding.weight": torch.zeros(3, 2, 1, 2, 2), "patch_embedding.bias": torch.zeros(3)}
    )
    with pytest.raises(CheckpointError, match=r"denoiser.source_embedding.bias is \(3,\), expected \(48,\)"):
        load(folder)
    path.unlink()
    write_safetensors(path, {"patch_embedding.weight": torch.zeros(1), "odd": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="1 of 2 tensors do not belong to Kiwi-Edit's source_embedder: 'odd'"):
        load(folder)


def test_numbers_that_are_none_are_refused(kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "model")
    path = folder / "mllm_encoder" / "config.json"
    for name, value, said in (
        ("max_frames", "many", "'many', expected a whole number from 1"),
        ("max_frames", True, "True, expected a whole number from 1"),
        ("max_pixels_per_frame", False, "False, expected a whole number from 0"),
        ("max_pixels_per_frame", "", "'', expected a whole number from 0"),
    ):
        put(path, {name: value})
        with pytest.raises(CheckpointError, match=f"{name} is {said}"):
            config_of(folder)
    put(path, {"max_frames": "many" * 10_000})
    with pytest.raises(CheckpointError) as refused:
        config_of(folder)
    assert len(str(refused.value)) < 1500
    path.write_text(json.dumps({"max_pixels_per_frame": None}))
    assert config_of(folder).guidance.video_max_pixels == 0  # as the authors' code takes it: no bound
    path.write_text("[]")
    with pytest.raises(CheckpointError, match="is not a JSON object"):
        config_of(folder)


def test_not_a_number_is_refused(kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "model")
    path = folder / "ref_embedder" / "diffusion_pytorch_model.safetensors"
    state, _ = read_safetensors(path)
    path.unlink()
    write_safetensors(path, state | {"patch_embedding.bias": torch.full((48,), torch.nan)})
    with pytest.raises(CheckpointError, match="NaN or infinity in 1 tensors"):
        load(folder)


def test_a_connector_of_another_dit_is_refused(kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "model")
    path = folder / "mllm_encoder" / "diffusion_pytorch_model.safetensors"
    state, _ = read_safetensors(path)
    path.unlink()
    for kind in ("connector", "ref_connector"):
        state |= {f"{kind}.2.weight": torch.zeros(40, 48), f"{kind}.2.bias": torch.zeros(40)}
    write_safetensors(path, state)
    with pytest.raises(CheckpointError, match="a context of width 40, but the DiT in .* takes 48"):
        load(folder)


# --- guidance


def test_a_batch_is_read_as_each_alone(kiwi: Path, editor: Editor):
    video, reference = recorded(kiwi, "video"), recorded(kiwi, "reference")
    source, picture = video.source.float() / 255, reference.reference.float() / 255
    together = editor.context(
        [video.instruction, "Add a hat."], [source, source.flip(0)], [[picture], [1 - picture]], True
    )
    for index, (words, frames, extra) in enumerate(
        ((video.instruction, source, picture), ("Add a hat.", source.flip(0), 1 - picture))
    ):
        alone = editor.context([words], [frames], [[extra]], True)
        torch.testing.assert_close(together.tokens[index : index + 1], alone.tokens, atol=1e-5, rtol=1e-4)


def test_an_image_with_a_reference_is_read_as_a_clip(kiwi: Path, editor: Editor):
    source, picture = (recorded(kiwi, "reference").source[:1].float() / 255, torch.rand(60, 60, 3))
    inputs = editor.guidance.prepare(["Add it."], [source], [[picture]])
    assert inputs.query_set == "reference" and inputs.reference_places == 4
    assert inputs.grids.tolist() == [[1, 20, 28], [1, 4, 4]]
    assert editor.context(["Add it."], [source], [[picture]], False).tokens.shape == (1, 4 + 16, 48)


def test_guidance_refuses(editor: Editor):
    frame, small, large = torch.rand(1, 56, 56, 3), torch.rand(56, 56, 3), torch.rand(112, 112, 3)
    with pytest.raises(InputError, match="give the source"):
        editor.guidance.prepare(["x"], None)
    with pytest.raises(InputError, match=r"different numbers of MLLM tokens, \[4, 16\]"):
        editor.guidance.prepare(["x", "y"], [frame, frame], [[small], [large]])


def test_text_goes_on_behind_a_long_clips_time():
    ids = [7, *[1] * 6, 7]
    assert positions(ids, [(6, 2, 2)], 0, 1, 2.0)[:, -1].tolist() == [2, 2, 2]
    assert positions(ids, [(6, 2, 2)], 0, 1, 2.0, past_time=True)[:, -1].tolist() == [12, 12, 12]


def test_info_describes_the_published_folder(kiwi: Path):
    text = describe(kiwi)
    assert "Kiwi-Edit" in text and "832 x 480 pixels" in text
    assert "8 for images, 12 for videos, 16 for references" in text
    mllm = sum(math.prod(shape) for shape in read_shapes(kiwi / "mllm_encoder" / "model.safetensors").values())
    assert f"{mllm / 1e6:.2f} M parameters" in text  # without the queries and connectors beside it


# --- a model of our own in the published layout, which needs no recorded outputs


@pytest.mark.parametrize("config", [kiwi_model.CONFIG, kiwi_model.references_first()], ids=["behind", "first"])
def test_a_published_model_is_read_as_it_was_written(config: ModelConfig, tmp_path: Path):
    own = kiwi_model.components(config)
    kiwi_model.publish(own, tmp_path / "model")
    read = load(tmp_path / "model")
    assert read.config == config
    for name in ("guidance", "connector", "denoiser", "codec"):
        wanted, found = getattr(own, name).state_dict(), getattr(read, name).state_dict()
        assert wanted.keys() == found.keys()
        for key, value in wanted.items():
            assert torch.equal(value, found[key]), (name, key)
