"""Configs that come with a model: numbers that no weight fixes are refused before anything runs, each in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from instructx_core import Editor, families
from instructx_core.config import GuidanceConfig, ModelConfig
from instructx_core.errors import CheckpointError, InputError, InstructXError
from instructx_core.families.configs import read_config
from instructx_core.families.instructx.folder import FORMAT
from instructx_core.families.part_loaders import load_connector
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.marks import ADAPTER
from instructx_core.weights.mllm import load_mllm_config
from support import tiny
from support.opening import load

MISSING = object()


def put(plain: dict[str, Any], place: str, value: Any) -> None:
    *outer, name = place.split("__")
    for part in outer:
        plain = plain.setdefault(part, {})
    if value is MISSING:
        plain.pop(name, None)
    else:
        plain[name] = value


def refused(folder: Path, needle: str = "") -> str:
    """The sentence with which a model is refused, on being loaded; nothing beside it reaches the terminal."""
    start, said = time.monotonic(), io.StringIO()
    with contextlib.redirect_stderr(said), pytest.raises(InstructXError) as caught:
        load(folder)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 700
    assert needle in message, message
    assert not said.getvalue()
    assert time.monotonic() - start < 20
    return message


def whole(*values: Any) -> list[Any]:
    """What is no whole number, and some that are."""
    return [None, "a", [], {}, 1.5, True, math.nan, -1, *values]


ODD = [None, "a", [], {}, True, math.nan, math.inf, -math.inf]  # what is no finite number
HUGE = 10**12
MODEL = {
    "default_size": [None, "a", [], [64], [64, 64, 64], ["a", "b"], [-64, 64], [0, 0], [10**9, 10**9], [64.5, 64],
                     [16384, 16384]],
    "default_frames": whole(0, HUGE),
    "name": [None, 5, [], "a\0b", "x" * 2000],
    "keep_source": [*ODD, -1, 2],
    "held_out_from_video": [None, "a", 5, [1], [None]],
    "guidance": [None, 5, [], "a"],
    "guidance__image_queries": whole(0, HUGE),
    "guidance__video_queries": whole(HUGE),
    "guidance__kind": [*ODD, "evil"],
    "guidance__reference_queries": whole(HUGE),
    "guidance__video_frames": whole(0, HUGE),
    "guidance__min_pixels": whole(0, HUGE, 480 * 833),
    "guidance__max_pixels": whole(0, HUGE, 10),
    "guidance__video_max_pixels": whole(HUGE, 10),
    "guidance__reference_max_pixels": whole(HUGE, 10),
    "guidance__dialect": [None, 5, []],
    "guidance__lora_rank": whole(HUGE),
    "guidance__lora_alpha": whole(HUGE),
    "connector__input_dim": whole(0, HUGE),
    "connector__hidden_dim": whole(0, HUGE),
    "connector__output_dim": whole(0, HUGE),
    "connector__kind": [*ODD, "evil"],
    "connector__layers": whole(0, HUGE),
    "connector__head_dim": whole(0, HUGE),
    "connector__tokens": whole(0, HUGE),
    "connector__tanh_gelu": [None, 1, "a"],
    "denoiser__deadband": [*ODD, -1, 1e30],
    "denoiser__source_waves": whole(9),
    "denoiser__source": [None, 5, "telepathy"],
    "sampling__steps": whole(0, HUGE),
    "sampling__shift": [*ODD, 0, -1, 1e9],
    "sampling__guidance_scale": [*ODD, -1, 1e9],
    "sampling__sigma_min": [*ODD, -0.1, 1, 2],
}  # fmt: skip
DIT = {
    "attention_head_dim": whole(0, 7, HUGE),
    "num_attention_heads": whole(0, HUGE),
    "eps": [*ODD, 0, -1, 1],
    "ffn_dim": whole(0, HUGE),
    "freq_dim": whole(0, HUGE),
    "in_channels": whole(0, HUGE),
    "num_layers": whole(0, HUGE),
    "patch_size": [None, "a", 5, [], [0, 0, 0], [1, 2], [1, -2, 2], [1, 2, 10**6]],
    "qk_norm": [5, "evil", []],
    "rope_max_seq_len": whole(0, 1, 4, HUGE),
    "text_dim": whole(0, HUGE),
    "image_dim": ["a", 0, -1],
}
VAE = {
    "base_dim": whole(0, HUGE),
    "z_dim": whole(0, HUGE, 5),
    "dim_mult": [None, "a", 5, [], [0], [-1], ["a"], [1] * 100],
    "num_res_blocks": whole(0, HUGE),
    "temperal_downsample": [None, "a", [], [1], ["a", "b", "c"], [False, True, True, True]],
    "latents_mean": [None, "a", 5, [], [0.0], ["a"] * 4, [1e38] * 4, [math.nan] * 4, [None] * 4, MISSING],
    "latents_std": [None, "a", 5, [], [1.0], ["a"] * 4, [1e38] * 4, [0] * 4, [-1] * 4, [math.nan] * 4, MISSING,
                    [1e-38] * 4],
    "patch_size": ["a", 0, -1, 2, 10**6, [1]],
    "scale_factor_spatial": whole(0, 7, 4, 10**9),
    "scale_factor_temporal": whole(0, 2, 10**9),
    "in_channels": whole(0, 12),
    "out_channels": whole(0, 12),
    "is_residual": [None, "a", 1],
}  # fmt: skip
MLLM = {
    "text_config__vocab_size": whole(0, HUGE),
    "text_config__hidden_size": whole(0, HUGE),
    "text_config__num_hidden_layers": whole(0, HUGE),
    "text_config__num_attention_heads": whole(0, 7, HUGE),
    "text_config__num_key_value_heads": whole(0, 3, HUGE),
    "text_config__rms_norm_eps": [*ODD, 0, -1, 1],
    "text_config__pad_token_id": ["a", [], -1, HUGE, 100_000],
    "text_config__max_position_embeddings": whole(0),
    "text_config__rope_parameters__mrope_section": [None, "a", 5, [], [1, 1, 1], [-1, 5, 4], [2, 3], ["a", "b", "c"]],
    "text_config__rope_parameters__rope_theta": [*ODD, 0, -1],
    "text_config__rope_parameters__rope_type": ["evil", 5, []],
    "text_config__hidden_act": ["evil", 5],
    "text_config__layer_types": [["evil", "evil"], "a"],
    "vision_config__num_heads": whole(0, 7, HUGE),
    "vision_config__hidden_size": whole(0, HUGE),
    "vision_config__depth": whole(0, HUGE),
    "vision_config__patch_size": whole(0, 7, HUGE),
    "vision_config__temporal_patch_size": whole(0, 1, HUGE),
    "vision_config__spatial_merge_size": whole(0, 1, HUGE),
    "vision_config__window_size": whole(0, 8, HUGE),
    "vision_config__tokens_per_second": [*ODD, 0, -1, 1e9],
    "vision_config__fullatt_block_indexes": [None, "a", 5, ["a"], [-1], [2]],
    "vision_config__out_hidden_size": whole(0, 48),
    "image_token_id": whole(HUGE, 0),
    "video_token_id": whole(HUGE, 0),
    "text_config": ["a", 5, []],
    "vision_config": ["a", 5, []],
}


@pytest.mark.parametrize("place", MODEL)
def test_model_config(place: str, saved: Path, tmp_path: Path):
    plain, field = tiny.CONFIG.to_json(), place.rpartition("__")[2]
    for value in MODEL[place]:
        config = json.loads(plain)
        put(config, place, value)
        with pytest.raises(CheckpointError) as caught:
            read_config(json.dumps(config))
        message = str(caught.value)
        assert field in message and message.isprintable() and len(message) < 500, (value, message)
    tensors, _ = read_safetensors(saved / ADAPTER)
    write_safetensors(tmp_path / ADAPTER, tensors, {FORMAT: json.dumps(config)})
    assert ADAPTER in refused(tmp_path, field)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"connector__kind": "qformer", "connector__head_dim": 5}, "connector.head_dim is 5"),
        ({"connector__kind": "transformer", "connector__head_dim": 1}, "connector.head_dim is 1"),
        ({"connector__kind": "transformer", "connector__tanh_gelu": True}, "tanh_gelu belongs to connector.kind mlp"),
        ({"connector__kind": "none"}, "which needs connector.input_dim, 32, to equal connector.output_dim, 20"),
        ({"guidance__kind": "text"}, "give 0, because text guidance is not trained"),
        ({"guidance__kind": "hidden_states", "guidance__dialect": "kiwi"}, "which the dialect 'kiwi' does not have"),
        # 12 TB, were it built before its tensors are looked for
        ({"connector__kind": "qformer", "connector__hidden_dim": 65536, "connector__layers": 64}, "does not fit"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, Any], words: str, saved: Path, tmp_path: Path):
    config = json.loads(tiny.CONFIG.to_json())
    for place, value in changes.items():
        put(config, place, value)
    model = shutil.copytree(saved, tmp_path / "model")
    write_safetensors(model / ADAPTER, read_safetensors(saved / ADAPTER)[0], {FORMAT: json.dumps(config)})
    for read in (load, lambda path: load_connector(families.open(path))):
        with pytest.raises(CheckpointError, match=words):
            read(model)


def test_a_dialect_of_no_family(saved: Path, tmp_path: Path):
    config = json.loads(tiny.CONFIG.to_json())
    put(config, "guidance__dialect", "klingon")
    write_safetensors(tmp_path / ADAPTER, read_safetensors(saved / ADAPTER)[0], {FORMAT: json.dumps(config)})
    said = refused(tmp_path, "'klingon', which this version does not know; expected one of instructx, kiwi")
    assert ADAPTER in said


PARTS = {"transformer": DIT, "vae": VAE, "mllm": MLLM}
PLACES = [(part, place) for part, table in PARTS.items() for place in table]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("part", "place"), PLACES)
def test_configs_of_parts(part: str, place: str, every: bool, model: Path):
    path = model / part / "config.json"
    plain = path.read_text()
    values = PARTS[part][place]
    for value in values if every else values[-1:]:
        config = json.loads(plain)
        put(config, place, value)
        path.write_text(json.dumps(config))
        assert part in refused(model), value


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("text_config__pad_token_id", HUGE),
        pytest.param("text_config__vocab_size", -1, marks=pytest.mark.slow),
        pytest.param("model_type", "evil", marks=pytest.mark.slow),
    ],
)
def test_libraries_add_no_line_of_their_own(place: str, value: Any, model: Path):
    """In a process of its own: transformers writes to the stderr that it found when it was imported."""
    path = model / "mllm" / "config.json"
    config = json.loads(path.read_text())
    put(config, place, value)
    path.write_text(json.dumps(config))
    words = [sys.executable, "-m", "instructx_core", "info", "--plan", str(model)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("name", ["_attn_implementation", "attn_implementation"])
@pytest.mark.parametrize("value", ["flash_attention_2", {"": "evil"}])
def test_how_attention_is_computed_is_not_a_configs_to_say(name: str, value: Any, model: Path):
    path = model / "mllm" / "config.json"
    config = json.loads(path.read_text())
    for part in (config, config["text_config"], config["vision_config"]):
        part[name] = value
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    path.write_text(json.dumps(config))
    (model / "mllm" / "evil.py").write_text("raise SystemExit('ran')")
    assert load(model).guidance.mllm.config._attn_implementation == "sdpa"
    assert load_mllm_config(path).text_config.hidden_size == tiny.HIDDEN


def test_a_tokenizers_code_and_ids(model: Path):
    path = model / "mllm" / "tokenizer_config.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps(plain | {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}))
    (model / "mllm" / "evil.py").write_text("raise SystemExit('ran')")
    with contextlib.suppress(CheckpointError):
        load(model)
    path.write_text(json.dumps(plain))
    words = json.loads((model / "mllm" / "tokenizer.json").read_text())
    words["model"]["vocab"]["zebra"] = 10**6
    (model / "mllm" / "tokenizer.json").write_text(json.dumps(words))
    assert "has ids up to 1000000, but the MLLM's embedding table has only" in refused(model)


@pytest.mark.parametrize("value", [[1], "a", {}, None])
def test_settings_of_a_tokenizer(value: Any, model: Path):
    path = model / "mllm" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": value}))
    if value is None:  # as if it were not there
        load(model)
    else:
        assert "cannot be loaded" in refused(model, "mllm")


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "merges.txt"])
@pytest.mark.parametrize("kind", ["deep", "fifo", "zeros", "junk"])
def test_files_of_a_tokenizer(file: str, kind: str, model: Path):
    path = model / "mllm" / file
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"[" * 200_000 if kind == "deep" else b"\xff\xfe\0junk")
    if file == "merges.txt" and kind in ("deep", "junk"):  # beside a tokenizer.json it is not read
        load(model)
    else:
        refused(model, "mllm")


@pytest.mark.parametrize(("part", "name"), [
    ("transformer", "patch_embedding.weight"), ("transformer", "condition_embedder.text_embedder.linear_1.weight"),
    ("transformer", "blocks.0.attn1.to_q.weight"), ("vae", "post_quant_conv.weight"), ("vae", "encoder.conv_in.weight"),
    ("mllm", "embed_tokens.weight"), ("mllm", "layers.0.self_attn.q_proj.weight"), ("mllm", "patch_embed.proj.weight"),
])  # fmt: skip
@pytest.mark.parametrize(
    "shape", [(), pytest.param((0,), marks=pytest.mark.slow), pytest.param((3,), marks=pytest.mark.slow)]
)
def test_tensors_of_no_shape(part: str, name: str, shape: tuple[int, ...], model: Path):
    (path,) = (model / part).glob("*.safetensors")
    tensors, metadata = read_safetensors(path)
    (whole_name,) = [own for own in tensors if own.endswith(name)]
    write_safetensors(path, tensors | {whole_name: torch.zeros(shape)}, metadata)
    refused(model, part)
    (model / part / "config.json").unlink()
    refused(model, part)


def test_more_places_than_the_dit_has(tiny_components):
    denoiser = tiny_components.denoiser
    limit = denoiser.transformer.config.rope_max_seq_len
    frames = torch.zeros(1, tiny.CHANNELS, limit + 1, 2, 2)
    from instructx_core.context import Context

    with pytest.raises(InputError, match=f"{limit + 1} x 1 x 1 tokens"):
        denoiser(frames, torch.tensor(1.0), Context(torch.zeros(1, 3, tiny.TEXT_DIM)))


# --- results that are none


def spoiled(model: Path, part: str, change) -> Editor:
    (path,) = (model / part).glob("*.safetensors")
    tensors, metadata = read_safetensors(path)
    write_safetensors(path, {name: change(value) for name, value in tensors.items()}, metadata)
    return Editor.from_pretrained(model, device="cpu", dtype=torch.float32)


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("transformer", lambda value: torch.full_like(value, 1e38), "NaN or infinity while sampling"),
        ("mllm", lambda value: torch.full_like(value, 1e38), "NaN or infinity while reading"),
        ("vae", lambda value: torch.full_like(value, 1e38), "NaN or infinity"),
        ("vae", torch.zeros_like, "one colour everywhere"),
    ],
)
@pytest.mark.parametrize("windows", [False, True])
def test_a_result_that_is_none_is_never_saved(part: str, change, said: str, windows: bool, model: Path, tmp_path: Path):
    import av

    editor = spoiled(model, part, change)
    if not windows:
        with pytest.raises(CheckpointError, match=said):
            editor.edit(tiny.clip(), "make it blue")
        return
    with av.open(str(tmp_path / "in.mp4"), "w") as video:
        stream = video.add_stream("libx264", rate=8)
        stream.width = stream.height = 48
        stream.pix_fmt = "yuv420p"
        for frame in tiny.clip(9):
            video.mux(stream.encode(av.VideoFrame.from_ndarray((frame * 255).byte().numpy())))
        video.mux(stream.encode())
    from instructx_core.long_video import LongOptions, edit_video
    from instructx_core.windows import Span

    options = LongOptions(window=Span.parse("5f"))

    with pytest.raises(CheckpointError, match=said):
        edit_video(editor, tmp_path / "in.mp4", tmp_path / "out.mp4", "make it blue", options=options)
    assert not (tmp_path / "out.mp4").exists()


def test_a_flat_source_may_stay_flat(tiny_components, monkeypatch):
    editor = Editor(tiny_components)
    monkeypatch.setattr(editor, "decode", lambda latents: torch.full((len(latents), 1, 48, 48, 3), 0.5))
    editor.edit(torch.full((1, 48, 48, 3), 0.2), "make it grey")
    with pytest.raises(CheckpointError, match="one colour"):
        editor.edit(tiny.clip(), "make it grey")


def test_an_object_may_leave_a_plain_ground(tiny_components, monkeypatch):
    editor = Editor(tiny_components)
    monkeypatch.setattr(editor, "decode", lambda latents: torch.ones(len(latents), 1, 48, 48, 3))
    page = torch.ones(1, 48, 48, 3)
    page[:, 8:24, 8:24] = torch.tensor([0.9, 0.1, 0.1])
    assert editor.edit(page, "remove the red square").frames.min() > 0.99


@pytest.mark.parametrize("setting", ["steps", "shift", "guidance_scale", "seed"])
@pytest.mark.parametrize("value", ["a", [1], -1, math.nan, 10**400, True])
def test_settings_of_a_wrong_kind(setting: str, value: Any, tiny_editor):
    with pytest.raises(InputError, match=setting) as caught:
        tiny_editor.edit(tiny.clip(), "make it blue", **{setting: value})
    assert len(str(caught.value)) < 300


def test_a_config_of_python_is_checked_too():
    with pytest.raises(CheckpointError, match="guidance.lora_rank is -1; give an integer from 0"):
        dataclasses.replace(ModelConfig(), guidance=GuidanceConfig(lora_rank=-1)).checked()
