"""A checkpoint read in parts is the one that is read as a whole; the MLLM's reading can be watched and ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from instructx_core import families
from instructx_core.config import DenoiserConfig, ReferenceInjection, SourceInjection
from instructx_core.errors import CheckpointError
from instructx_core.families.components import Components
from instructx_core.families.instructx.folder import save_checkpoint
from instructx_core.families.overrides import Overrides
from instructx_core.families.part_loaders import load_connector, load_embeddings, load_guidance_part
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.marks import ADAPTER
from support import tiny
from support.folders import linked
from support.opening import load


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def split(folder: Path) -> None:
    """Save the MLLM in `folder` again, in shards."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    qwen = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    qwen.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1


@pytest.mark.parametrize("in_shards", [False, True])
@pytest.mark.parametrize("watched", [False, True])
def test_guidance_is_that_of_the_whole(in_shards: bool, watched: bool, model: Path, tiny_components: Components):
    if in_shards:
        split(model / "mllm")
    read: list[int] = []
    guidance = load_guidance_part(families.open(model), torch.float32, read.append if watched else None)
    assert same(guidance, tiny_components.guidance)
    weights = [read_safetensors(path)[0] for path in (model / "mllm").glob("*.safetensors")]
    assert sum(read) == (sum(value.nbytes for part in weights for value in part.values()) if watched else 0)


def test_a_bare_mllm_is_a_base_too(saved: Path, tiny_components: Components):
    guidance = load_guidance_part(families.open(saved, Overrides(mllm=saved / "mllm")), torch.float32)
    assert same(guidance, tiny_components.guidance)


def test_what_watches_the_reading_can_end_it(saved: Path):
    class Cancelled(Exception):
        pass

    read: list[int] = []

    def cancel(count: int) -> None:
        read.append(count)
        if len(read) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        load_guidance_part(families.open(saved), torch.float32, cancel)
    assert len(read) == 3


def test_a_watched_reading_finds_what_is_missing(model: Path):
    path = model / "mllm" / "model.safetensors"
    state, metadata = read_safetensors(path)
    name = sorted(state)[len(state) // 2]
    del state[name]
    write_safetensors(path, state, metadata)
    with pytest.raises(CheckpointError, match=f"missing.*{name}"):
        load_guidance_part(families.open(model), torch.float32, lambda _count: None)


def test_an_adapter_of_another_mllm(saved: Path, tmp_path: Path, tiny_components: Components):
    queries = replace(tiny.CONFIG.guidance, image_queries=tiny.CONFIG.guidance.image_queries + 1)
    other = tmp_path / "other"
    save_checkpoint(tiny_components, other)
    state, _ = read_safetensors(other / ADAPTER)
    write_safetensors(other / ADAPTER, state, {"instructx-1": replace(tiny.CONFIG, guidance=queries).to_json()})
    with pytest.raises(CheckpointError, match=r"queries\.image.*choose the base"):
        load_guidance_part(families.open(other, Overrides(mllm=saved)), torch.float32)


def test_connector(saved: Path, tiny_components: Components):
    assert same(load_connector(families.open(saved)), tiny_components.connector)


def test_integers_are_refused(model: Path):
    """As when the whole model is loaded: copied into floats, they would be no weights."""
    state, metadata = read_safetensors(model / ADAPTER)
    write_safetensors(model / ADAPTER, {name: value.int() for name, value in state.items()}, metadata)
    said = r"instructx\.safetensors' holds '.*' as torch\.int32, expected floats"
    with pytest.raises(CheckpointError, match=said):
        load_connector(families.open(model))
    with pytest.raises(CheckpointError, match=said):
        load_guidance_part(families.open(model), torch.float32)


def test_embeddings(saved: Path, tmp_path: Path):
    assert load_embeddings(families.open(saved)) == (None, None)
    both = DenoiserConfig(SourceInjection.EMBEDDING, reference=ReferenceInjection.EMBEDDING)
    own = tiny.components(replace(tiny.CONFIG, denoiser=both))
    tiny.shake(own.denoiser.reference_embedding, 0.3)
    save_checkpoint(own, tmp_path / "embeddings")
    modules = (own.denoiser.source_embedding, own.denoiser.reference_embedding)
    for gained, module in zip(load_embeddings(families.open(tmp_path / "embeddings")), modules, strict=True):
        assert torch.equal(gained.weight, module.weight)
        assert torch.equal(gained.bias, module.bias)


# --- Kiwi-Edit's published folder


def test_parts_of_a_published_folder(kiwi: Path):
    whole, read = load(kiwi), []
    guidance = load_guidance_part(families.open(kiwi), torch.float32, read.append)
    assert type(guidance) is type(whole.guidance)
    assert same(guidance, whole.guidance)
    assert sum(read) > 400_000
    assert same(load_connector(families.open(kiwi)), whole.connector)
    modules = (whole.denoiser.source_embedding, whole.denoiser.reference_embedding)
    for gained, module in zip(load_embeddings(families.open(kiwi)), modules, strict=True):
        assert torch.equal(gained.weight, module.weight)
        assert torch.equal(gained.bias, module.bias)


def test_a_published_folder_with_nan_is_refused(kiwi: Path, tmp_path: Path):
    folder = linked(kiwi, tmp_path / "model")
    path = folder / "ref_embedder" / "diffusion_pytorch_model.safetensors"
    state, _ = read_safetensors(path)
    path.unlink()
    write_safetensors(path, state | {"patch_embedding.bias": torch.full((48,), torch.nan)})
    with pytest.raises(CheckpointError, match="NaN or infinity in 1 tensors"):
        load_embeddings(families.open(folder))
