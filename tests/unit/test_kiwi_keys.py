"""Kiwi-Edit's names: there and back is the identity, nothing is left behind, nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from instructx_core.errors import CheckpointError
from instructx_core.families.kiwi.keys import (
    MLLM,
    REFERENCE,
    SOURCE,
    adapter_to_own,
    is_adapter,
    split_trained,
)
from instructx_core.weights.files import read_shapes
from instructx_core.weights.native_keys import dit_to_native
from support.kiwi_model import published_adapter
from support.wan_models import dit_from_native

QUERIES = ("image_queries", "video_queries", "ref_queries")
CONNECTORS = tuple(f"{kind}.{layer}.{leaf}" for kind in ("connector", "ref_connector") for layer in (0, 2)
                   for leaf in ("weight", "bias"))  # fmt: skip
PUBLISHED = {
    MLLM: dict.fromkeys((*QUERIES, *CONNECTORS)),
    SOURCE: dict.fromkeys(("patch_embedding.weight", "patch_embedding.bias")),
    REFERENCE: dict.fromkeys(("patch_embedding.weight", "patch_embedding.bias")),
}
DIT = ("patch_embedding.weight", "condition_embedder.time_proj.bias", "blocks.1.attn2.to_out.0.weight",
       "blocks.1.norm2.bias", "blocks.0.scale_shift_table", "scale_shift_table", "proj_out.weight")  # fmt: skip


def own() -> dict[str, str]:
    """All of an `instructx.safetensors`, each name for its own value."""
    names = [name for part, state in PUBLISHED.items() for name in adapter_to_own(part, state)]
    assert len(names) == len(set(names)) == sum(map(len, PUBLISHED.values()))
    return {name: name for name in names}


@pytest.mark.parametrize("part", PUBLISHED)
def test_adapter_there_and_back(part: str):
    state = {name: name for name in PUBLISHED[part]}
    assert published_adapter(part, adapter_to_own(part, state)) == state
    assert set(published_adapter(part, own())) == set(state)


def test_adapter_names():
    renamed = adapter_to_own(MLLM, {name: name for name in PUBLISHED[MLLM]})
    assert renamed["queries.reference"] == "ref_queries"
    assert renamed["connector.linear_out.bias"] == "connector.2.bias"
    assert renamed["connector.reference.linear_in.weight"] == "ref_connector.0.weight"


def test_an_unknown_tensor_is_named():
    with pytest.raises(CheckpointError, match="1 of 3 tensors do not belong to Kiwi-Edit's ref_embedder: 'new'"):
        adapter_to_own(REFERENCE, PUBLISHED[REFERENCE] | {"new": None})


def test_it_is_told_apart_from_a_plain_mllm():
    assert is_adapter(PUBLISHED[MLLM])
    assert not is_adapter({"model.visual.patch_embed.proj.weight": None})
    assert not is_adapter(PUBLISHED[SOURCE])


def test_dit_there_and_back():
    transformer, adapter = {name: name for name in DIT}, own()
    native = dit_to_native(transformer, adapter)
    assert native["vae_condition.patch_embedding.weight"] == "denoiser.source_embedding.weight"
    assert native["ref_vae_condition.patch_embedding.bias"] == "denoiser.reference_embedding.bias"
    assert native["blocks.1.cross_attn.o.weight"] == "blocks.1.attn2.to_out.0.weight"
    assert len(native) == len(DIT) + 4
    back, embedders = dit_from_native(native)
    assert back == transformer and embedders == {name: name for name in adapter if name.startswith("denoiser.")}
    assert dit_to_native(back, embedders) == native


@pytest.mark.parametrize("spelling", ["connetor", "connector"])
def test_a_training_checkpoint_is_split(spelling: str):
    adapter = {f"mllm.{kind}_queries.q": f"queries.{name}" for kind, name in
               (("image", "image"), ("video", "video"), ("ref", "reference"))}  # fmt: skip
    for layer, ours in ((0, "linear_in"), (2, "linear_out")):
        for leaf in ("weight", "bias"):
            adapter[f"mllm.{spelling}.{layer}.{leaf}"] = f"connector.{ours}.{leaf}"
            adapter[f"mllm.ref_connector.{layer}.{leaf}"] = f"connector.reference.{ours}.{leaf}"
    for kind, ours in (("vae_condition", "source"), ("ref_vae_condition", "reference")):
        for leaf in ("weight", "bias"):
            adapter[f"{kind}.patch_embedding.{leaf}"] = f"denoiser.{ours}_embedding.{leaf}"
    lora = "mllm.model.model.layers.0.q_proj.lora_A.default.weight"
    state = {f"pipe.{name}": own for name, own in adapter.items()}
    state |= {"pipe.dit.blocks.0.self_attn.q.weight": "q", "blocks.0.norm3.bias": "norm", f"pipe.{lora}": "lora"}
    dit, found, rest = split_trained(state)
    assert dit == {"blocks.0.attn1.to_q.weight": "q", "blocks.0.norm2.bias": "norm"}
    assert found == {name: name for name in own()} and rest == {lora: "lora"}


def test_a_tensor_under_two_names_is_refused():
    state = {"mllm.connector.0.weight": 1, "mllm.connetor.0.weight": 2}
    with pytest.raises(CheckpointError, match="twice"):
        split_trained(state)


def test_the_published_names(kiwi: Path):
    """What the fixture holds is what the tables say, and the whole DiT has native names."""
    for part, names in PUBLISHED.items():
        assert read_shapes(kiwi / part / "diffusion_pytorch_model.safetensors").keys() == names.keys()
    transformer = read_shapes(kiwi / "transformer" / "diffusion_pytorch_model.safetensors")
    back, embedders = dit_from_native(dit_to_native(transformer, own()))
    assert back == transformer and len(embedders) == 4
