"""Each private part of a library that `compat` uses is there and does what it says, on real classes; no others are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
import torch

from instructx_core import Editor, compat
from instructx_core.speed.options import step_caching
from support import hub_server, tiny
from support.places import ROOT
from support.text_encoder import text_encoder
from support.weight_forms import write_gguf

WORDS = "make the red circle blue"
IMPORTED = {"_MAG_CACHE_LEADER_BLOCK_HOOK", "http_get", "load_gguf_checkpoint", "GGUFParameter"}
PUBLIC = {"_asdict", "_replace", "_fields", "_parameters", "_modules", "_buffers"}  # documented by Python or torch


def test_step_caches():
    from diffusers.hooks import FirstBlockCacheConfig

    transformer = tiny.transformer()
    assert compat.cache_config(transformer) is None
    config = FirstBlockCacheConfig()
    transformer.enable_cache(config)
    assert compat.cache_config(transformer) is config
    compat.empty_step_cache(transformer)


def test_ratios_of_a_calibrating_mag_cache():
    from diffusers.hooks import MagCacheConfig

    editor, steps = Editor(tiny.components()), 3
    editor.denoiser.transformer.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=steps + 1))
    editor.edit(tiny.clip(1), WORDS, steps=steps)
    with step_caching(editor.denoiser.transformer):
        ratios = compat.mag_cache_ratios(editor.denoiser.transformer.blocks[0])
    assert len(ratios) == steps and ratios[0] == 1


def test_attention_backend():
    transformer = tiny.transformer()
    assert compat.attention_backend(transformer.blocks[0].attn2.processor) is None
    transformer.set_attention_backend("native")
    assert compat.attention_backend(transformer.blocks[0].attn2.processor) == "native"


def test_padding_of_the_vae_s_convolutions():
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

    assert compat.spatial_padding(WanCausalConv3d(2, 2, (3, 5, 3), padding=(1, 2, 1))) == (2, 1)


def test_changes_are_counted():
    weight = torch.zeros(2)
    before = compat.count_of_changes(weight)
    weight.add_(1)
    assert compat.count_of_changes(weight) > before
    with torch.inference_mode():
        assert compat.count_of_changes(torch.zeros(2)) == 0


def test_bfloat16_on_a_cpu():
    capability = torch.backends.cpu.get_cpu_capability()
    if capability not in ("AVX2", "AVX512"):
        pytest.skip(f"what {capability} has is known to oneDNN alone")
    assert compat.has_fast_bfloat16_on_cpu() == (capability == "AVX512")


def test_storages_are_told_apart():
    whole = torch.empty(4, device="meta")
    ids = [compat.storage_identity(tensor.untyped_storage()) for tensor in (whole, whole[:2], torch.empty_like(whole))]
    assert ids[0] == ids[1] != ids[2]


def test_what_is_kept_in_float32():
    kept = compat.kept_in_float32(tiny.transformer(), torch.bfloat16)
    assert kept >= {"time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"}  # and rope in newer ones
    assert compat.kept_in_float32(tiny.vae(), torch.bfloat16) == frozenset()
    encoder = text_encoder(16)
    assert compat.kept_in_float32(encoder, torch.bfloat16) == frozenset()
    assert compat.kept_in_float32(encoder, torch.float16) == {"wo"}


def test_gguf(tmp_path: Path):
    state = {"blocks.0.ffn.0.weight": torch.randn(32, 32), "blocks.0.ffn.0.bias": torch.randn(32)}
    values = write_gguf(state, tmp_path / "weights", "Q8_0")
    read = compat.load_gguf(tmp_path / "weights")
    for name, value in values.items():
        torch.testing.assert_close(compat.unpack_gguf(read[name]).float(), value, atol=1e-3, rtol=1e-3)
    assert read["blocks.0.ffn.0.weight"].dtype == torch.uint8


def test_a_download_goes_on_where_it_stopped(tmp_path: Path):
    content = bytes(range(256)) * 100
    (tmp_path / "model.bin").write_bytes(content)
    with hub_server.serving() as hub:
        hub.add("owner/name", tmp_path)
        file = BytesIO(content[:1000])
        file.seek(1000)
        url = f"{hub.url}/owner/name/resolve/{hub_server.COMMIT}/model.bin"
        compat.download_into(url, file, begun=1000, headers={}, size=len(content), name="model.bin")
        assert file.getvalue() == content and hub.contents()[-1].start == 1000


def test_nothing_private_is_used_elsewhere():
    """Private attributes that this project defines itself are its own; all others stand in `compat`."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "instructx_core").rglob("*.py")}
    own = {name for tree in trees.values() for name in defined(tree)}
    odd = {
        f"{path.relative_to(ROOT)}: {name}"
        for path, tree in trees.items()
        if path.name != "compat.py"
        for name in used(tree)
        if name not in own | PUBLIC and (name in IMPORTED or name.startswith("_"))
    }
    assert not odd


def defined(tree: ast.AST) -> Iterator[str]:
    """Names of functions, classes, and attributes or variables that are assigned."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def used(tree: ast.AST) -> Iterator[str]:
    """Names of attributes that are read, and of what is imported; dunder names are Python's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name for name in names if not name.startswith("__"))
