"""Headers that claim more than their file holds, nest too deep or belong to no file: refused in seconds, in a line."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from instructx_core.errors import CheckpointError, InputError
from instructx_core.families.instructx.folder import FORMAT
from instructx_core.model_info import describe
from instructx_core.speed.mag_ratios import MAG_RATIOS, read_ratios
from instructx_core.weights.detect import find_form
from instructx_core.weights.dit import load_dit
from instructx_core.weights.files import read_header, read_safetensors, write_safetensors
from instructx_core.weights.marks import ADAPTER
from instructx_core.weights.parts import Part
from instructx_core.weights.wan_keys import dit_to_original
from support.opening import load
from support.weight_forms import write_gguf

STRING, ARRAY = 8, 9


def refusal(call: Callable[[], object]) -> str:
    start = time.monotonic()
    with pytest.raises((CheckpointError, InputError)) as caught:
        call()
    assert time.monotonic() - start < 10
    message = str(caught.value)
    assert message.isprintable() and len(message) < 1000
    return message


def gguf(*parts: bytes, tensors: int = 0, fields: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, fields) + b"".join(parts)


def text(value: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if claimed is None else claimed) + value


def array(kind: int, count: int) -> bytes:
    return struct.pack("<IIQ", ARRAY, kind, count)


HOSTILE = {
    "array of 10^12": gguf(text(b"a"), array(0, 10**12), fields=1),
    "strings of 10^12": gguf(text(b"a"), array(STRING, 10**12), fields=1),
    "arrays of 2^63 arrays": gguf(text(b"a"), array(ARRAY, 2**63), fields=1),
    "arrays in arrays": gguf(text(b"a"), array(ARRAY, 1), *[struct.pack("<IQ", ARRAY, 1)] * 5000, fields=1),
    "10^15 settings": gguf(fields=10**15),
    "10^15 tensors": gguf(tensors=10**15),
    "a key of 10^12": gguf(text(b"a", 10**12), fields=1),
    "a text of 2^64 - 1": gguf(text(b"a"), struct.pack("<I", STRING), text(b"b", 2**64 - 1), fields=1),
    "a type of 99": gguf(text(b"a"), struct.pack("<I", 99), fields=1),
    "a tensor of 10^9 dimensions": gguf(text(b"a"), struct.pack("<I", 10**9), tensors=1),
    "a tensor beyond the file": gguf(text(b"a"), struct.pack("<IQIQ", 1, 10**12, 0, 0), tensors=1),
    "the other byte order": b"GGUF" + struct.pack(">IQQ", 3, 10**15, 0),
    "3 million entries": gguf(text(b"a"), array(0, 3_000_000), bytes(3_000_000), fields=1),
    "a million empty strings": gguf(text(b"a"), array(STRING, 3_000_000), bytes(24_000_000), fields=1),
    "cut": b"GGUF\3\0",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_gguf_counts_are_compared_with_the_file(kind: str, tmp_path: Path):
    pytest.importorskip("gguf", reason="THE PACKAGE gguf IS MISSING: GGUF weights were not tried")
    (tmp_path / "a.gguf").write_bytes(HOSTILE[kind])
    assert "GGUF file that is truncated or damaged" in refusal(lambda: find_form(tmp_path / "a.gguf", Part.DIT))
    refusal(lambda: describe(tmp_path / "a.gguf"))


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_gguf_shapes_beside_the_stored_ones(kind: str, saved: Path, tmp_path: Path):
    """ComfyUI-GGUF's `comfy.gguf.orig_shape.*`: five dimensions in two, and matrices in rows of other blocks."""
    library = pytest.importorskip("gguf", reason="THE PACKAGE gguf IS MISSING: GGUF weights were not tried")
    torch.manual_seed(0)
    import diffusers

    dit = diffusers.WanTransformer3DModel(
        num_attention_heads=1, attention_head_dim=128, in_channels=16, out_channels=16, text_dim=64, freq_dim=32,
        ffn_dim=96, num_layers=1,
    )  # fmt: skip
    original = dit_to_original(dit.state_dict())
    packed = "blocks.0.self_attn.q.weight"  # a linear layer, which stays packed where it has its own shape

    def write(path: Path, shape: tuple[int, ...] | None = None) -> None:
        writer = library.GGUFWriter(str(path), "wan")
        for name, value in original.items():
            flat = value.reshape(len(value), -1) if name == "patch_embedding.weight" else value
            flat = flat.reshape(-1, 256) if name == packed else flat
            packing = library.GGMLQuantizationType[kind if value.ndim > 1 and flat.shape[-1] % 32 == 0 else "F32"]
            writer.add_tensor(name, library.quants.quantize(flat.numpy(), packing), raw_dtype=packing)
            if name in ("patch_embedding.weight", packed):
                writer.add_array(f"comfy.gguf.orig_shape.{name}", list(shape or value.shape))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write(tmp_path / "a.gguf")
    loaded = load_dit(find_form(tmp_path / "a.gguf", Part.DIT), torch.float32)
    off = 0.01 if kind == "Q8_0" else 1e-3
    for name in ("patch_embedding.weight", "blocks.0.attn1.to_q.weight"):
        torch.testing.assert_close(loaded.state_dict()[name].float(), dit.state_dict()[name], atol=off, rtol=off)
    inputs = (torch.randn(1, 16, 1, 4, 4), torch.tensor([500.0]), torch.randn(1, 3, 64))
    torch.testing.assert_close(
        loaded(*inputs, return_dict=False)[0], dit.eval()(*inputs, return_dict=False)[0], atol=0.05, rtol=0.05
    )
    write(tmp_path / "b.gguf", (7, 7))
    assert "has the shape (7, 7), but holds" in refusal(lambda: find_form(tmp_path / "b.gguf", Part.DIT))


def safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


def test_a_million_tensors_are_refused_at_once(tmp_path: Path):
    entry = json.dumps({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]})
    names = (f'"t{number:07}":{entry}' for number in range(1_000_000))
    (tmp_path / "a.safetensors").write_bytes(safetensors(("{" + ",".join(names) + "}").encode()))
    start = time.monotonic()
    assert "has a header of 66000001 bytes, more than" in refusal(lambda: find_form(tmp_path / "a.safetensors"))
    assert time.monotonic() - start < 2


def test_too_many_tensors_in_a_small_header(tmp_path: Path):
    names = (f'"{number}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for number in range(100_001))
    (tmp_path / "a.safetensors").write_bytes(safetensors(("{" + ",".join(names) + "}").encode()))
    message = refusal(lambda: find_form(tmp_path / "a.safetensors"))
    assert "lists 100001 tensors, more than 100000" in message and "header of" not in message


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' + b"[" * 200_000,
        b'{"__metadata__":' + b'{"a":' * 200_000,
        b'{"a":{"dtype":"F32","shape":' + b"[" * 500 + b"]" * 500 + b',"data_offsets":[0,0]}}',
        b'{"a":1}',
        b'{"a":{"dtype":"F32","shape":[0],"data_offsets":null}}',
        b'{"a":{"dtype":"F32","shape":[0],"data_offsets":["0","0"]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,0]}}',
        b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,' + b"9" * 4300 + b"]}}",
        b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,true]}}',
        b'{"__metadata__":[1]}',
        b'{"__metadata__":{"a":1}}',
        b'{"a":{"dtype":"\\u001b[2J","shape":[0],"data_offsets":[0,0]}}',
        b"{\xff}",
    ],
)
def test_headers_that_are_none(header: bytes, tmp_path: Path):
    (tmp_path / "a.safetensors").write_bytes(safetensors(header))
    refusal(lambda: read_header(tmp_path / "a.safetensors"))


def test_a_pipe_is_no_weight_file(tmp_path: Path):
    os.mkfifo(tmp_path / "a.safetensors")
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    for name in ("a.safetensors", "zero.safetensors"):
        for read in (find_form, describe, read_safetensors):
            refusal(lambda name=name, read=read: read(tmp_path / name))
    refusal(lambda: find_form(tmp_path))


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 3000 + "a", "a" * 300 + ".safetensors"])
def test_names_that_no_system_takes(name: str, saved: Path):
    for read in (find_form, describe, load):
        refusal(lambda read=read: read(Path(name)))
    from instructx_core.families.overrides import Overrides

    for part in ("transformer", "vae", "mllm"):
        refusal(lambda part=part: load(saved, base=Overrides(**{part: Path(name)})))


@pytest.mark.parametrize(
    "content", ["null", "[]", "{}", "[" * 200_000, *(json.dumps({"weight_map": value}) for value in (
        None, [], {}, 5, "a", {"a": None}, {"a": ["b"]}, {"a": "../x.safetensors"}, {"a": "/etc/passwd"}, {"a": ""}))]
)  # fmt: skip
@pytest.mark.parametrize("part", ["transformer", "mllm"])
def test_lists_of_shards(content: str, part: str, model: Path):
    stem = "model" if part == "mllm" else "diffusion_pytorch_model"
    (model / part / f"{stem}.safetensors.index.json").write_text(content)
    assert "not a valid shard index" in refusal(lambda: load(model))


@pytest.mark.parametrize("file", ["transformer/config.json", "vae/config.json", "mllm/config.json"])
@pytest.mark.parametrize("content", ["[" * 200_000, "null", "5", "\ud800", "fifo"])
def test_configs_that_are_none(file: str, content: str, model: Path):
    (model / file).unlink()
    if content == "fifo":
        os.mkfifo(model / file)
    else:
        (model / file).write_bytes(content.encode("utf-8", "surrogatepass"))
    refusal(lambda: load(model))


@pytest.mark.parametrize("content", ["[" * 200_000, "null", "{", "5"])
def test_model_configs_that_are_none(content: str, model: Path):
    tensors, _ = read_safetensors(model / ADAPTER)
    write_safetensors(model / ADAPTER, tensors, {FORMAT: content})
    refusal(lambda: load(model))


@pytest.mark.parametrize("content", ["[" * 200_000, "null", "[1, 2]", '{"ratios": "ab"}', '{"ratios": [1, 1e999]}'])
def test_ratios_that_are_none(content: str, tmp_path: Path):
    (tmp_path / MAG_RATIOS).write_text(content)
    refusal(lambda: read_ratios(tmp_path))


def test_gguf_files_of_ordinary_converters_are_read(tmp_path: Path, saved: Path):
    state = {"patch_embedding.weight": torch.ones(4, 4, 1, 2, 2)[:, :, 0], "b": torch.ones(64, 64)}
    write_gguf(state, tmp_path / "a.gguf", "Q8_0")
    assert "it holds 'b', 'patch_embedding.weight'" in refusal(lambda: find_form(tmp_path / "a.gguf"))
