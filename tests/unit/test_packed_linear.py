"""Linear layers that stay packed: the same numbers as unpacked ones, in the bytes of their file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file

from instructx_core.weights.detect import find_form
from instructx_core.weights.dit import load_dit
from instructx_core.weights.packed_linear import PackedLinear, packed_layers, unpacked_layers
from instructx_core.weights.parts import Part
from instructx_core.weights.wan_keys import dit_to_original
from support.dit_forms import State, prefixed, shaken_dit
from support.quantise import FORMATS, quantised

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

DTYPE = torch.bfloat16


@pytest.fixture(scope="module")
def dit() -> WanTransformer3DModel:
    return shaken_dit()


def written(dit: WanTransformer3DModel, kind: str, path: Path) -> Path:
    """A file of a DiT in a format, fp8 with and without scales among them."""
    original = dit_to_original(dit.state_dict())
    if kind in FORMATS:
        stored, metadata, _ = quantised(prefixed(original), kind)
        save_file(stored, path, metadata)
        return path
    state: State = {}
    for name, value in original.items():
        is_matrix = name.startswith("blocks.") and name.endswith(".weight") and value.ndim == 2
        state[name] = value.to(torch.float8_e4m3fn) if is_matrix else value
        if is_matrix and kind == "fp8 scaled":
            state[name] = (value / 0.01).to(torch.float8_e4m3fn)
            state[name.replace(".weight", ".scale_weight")] = torch.tensor(0.01)
    if kind == "fp8 scaled":
        state["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file(state, path)
    return path


def forward(model: WanTransformer3DModel) -> torch.Tensor:
    generator, channels = torch.Generator().manual_seed(2), model.config.in_channels
    latents = torch.randn(1, channels, 1, 4, 4, generator=generator).to(DTYPE)
    text = torch.randn(1, 3, model.config.text_dim, generator=generator).to(DTYPE)
    with torch.no_grad():
        return model(latents, torch.tensor([500]), text, return_dict=False)[0]


@pytest.mark.parametrize("kind", ["fp8", "fp8 scaled", *FORMATS])
def test_a_packed_dit_is_the_unpacked_one_to_the_bit(kind: str, dit: WanTransformer3DModel, tmp_path: Path):
    form = find_form(written(dit, kind, tmp_path / "dit.safetensors"), Part.DIT)
    wide, packed = load_dit(form, DTYPE), load_dit(form, DTYPE, packed=True)
    layers = packed_layers(packed)
    assert set(layers) == {
        name for name, _ in wide.named_parameters()
        if name.startswith("blocks.") and name.endswith(".weight") and "norm" not in name
    }  # fmt: skip
    for name, layer in layers.items():
        assert torch.equal(layer.numbers(DTYPE), wide.get_parameter(name))
    assert torch.equal(forward(packed), forward(wide))
    packed.to(torch.float32).to(DTYPE)
    for name, layer in layers.items():  # bytes stay bytes
        assert torch.equal(layer.numbers(DTYPE), wide.get_parameter(name))


@pytest.mark.parametrize("kind", ["fp8 scaled", *FORMATS])
def test_its_weights_take_the_bytes_that_their_file_has(kind: str, dit: WanTransformer3DModel, tmp_path: Path):
    form = find_form(written(dit, kind, tmp_path / "dit.safetensors"), Part.DIT)
    for name, layer in packed_layers(load_dit(form, DTYPE, packed=True)).items():
        numbers = layer.out_features * layer.in_features
        assert layer.weight.nbytes == numbers // (2 if kind == "nvfp4" else 1), name
        scales = sum(own.nbytes for own in layer.as_stored()) - layer.weight.nbytes
        assert scales <= max(512, numbers / 4)  # tiles of 128 x 4 are filled up
        assert all(own.dtype == torch.int8 for own in layer.as_stored())


def test_layers_stay_packed_where_unpacking_fails(dit: WanTransformer3DModel, tmp_path: Path, monkeypatch):
    form = find_form(written(dit, "fp8 scaled", tmp_path / "dit.safetensors"), Part.DIT)
    model = load_dit(form, DTYPE, packed=True)
    before, calls = list(packed_layers(model)), iter(range(100))
    numbers = PackedLinear.numbers

    def fails(layer: PackedLinear, dtype: torch.dtype) -> torch.Tensor:
        if next(calls) == 3:
            raise MemoryError
        return numbers(layer, dtype)

    monkeypatch.setattr(PackedLinear, "numbers", fails)
    with pytest.raises(MemoryError), unpacked_layers(model, DTYPE):
        pass
    assert list(packed_layers(model)) == before


def test_a_lora_stands_beside_a_packed_weight(dit: WanTransformer3DModel, tmp_path: Path):
    form = find_form(written(dit, "int8 by rows", tmp_path / "dit.safetensors"), Part.DIT)
    model = load_dit(form, torch.float32, packed=True)
    layer = next(iter(packed_layers(model).values()))
    generator = torch.Generator().manual_seed(0)
    down, up = (torch.randn(size, generator=generator) for size in ((2, layer.in_features), (layer.out_features, 2)))
    inputs = torch.randn(3, layer.in_features, generator=generator)
    expected = torch.nn.functional.linear(inputs, layer.numbers(torch.float32) + up @ down, layer.bias)
    layer.add_pair(down, up)
    torch.testing.assert_close(layer(inputs), expected, atol=1e-4, rtol=1e-4)
    before = [name for name, _ in load_dit(form, torch.float32).named_parameters()]
    with unpacked_layers(model, torch.float32):
        assert not packed_layers(model) and [name for name, _ in model.named_parameters()] == before
    assert any(isinstance(own, PackedLinear) for own in model.modules())
