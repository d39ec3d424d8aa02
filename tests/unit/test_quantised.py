"""ComfyUI's quantised files: numbers of comfy-kitchen's own making, whole models, and files that say nonsense."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from instructx_core.errors import CheckpointError
from instructx_core.weights.detect import find_form
from instructx_core.weights.dit import load_dit
from instructx_core.weights.packing import Format, Packing
from instructx_core.weights.parts import Part
from instructx_core.weights.quantised import beside, check_readable, widened, without_filling
from instructx_core.weights.stored import Stored
from instructx_core.weights.values import form_tensors, value
from instructx_core.weights.wan_keys import dit_to_original
from support.dit_forms import State, prefixed, shaken_dit
from support.golden_runs import GOLDEN
from support.quantise import FORMATS, packed, quantised

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

KITCHEN = GOLDEN / "kitchen.safetensors"  # see support/record_kitchen.py


@pytest.fixture(scope="module")
def dit() -> WanTransformer3DModel:
    return shaken_dit()


@pytest.fixture(scope="module")
def original(dit: WanTransformer3DModel) -> State:
    return dit_to_original(dit.state_dict())


def recorded(case: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What is read, and comfy-kitchen's own values."""
    held = {
        name.partition(".")[2]: tensor for name, tensor in load_file(KITCHEN).items() if name.startswith(f"{case}.")
    }
    said, usual = json.loads(bytes(held["comfy_quant"].tolist())), 256 if case.startswith("w4") else 0
    packing = Packing(Format(said["format"]), said.get("convrot_groupsize", usual))
    state = {f"layer.{name}": tensor for name, tensor in held.items()}
    read = widened(held["weight"], beside("layer.weight", state), packing)
    return without_filling(read, held["expected"].shape), held["expected"]


@pytest.mark.parametrize("case", ["int8_tensorwise", "int8_by_rows", "nvfp4", "mxfp8", "fp8"])
def test_values_are_comfy_kitchens_to_the_bit(case: str):
    found, expected = recorded(case)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("case", ["int8_convrot", "w4a4", "w4a8"])
def test_turned_values_are_comfy_kitchens(case: str):
    """Up to the order in which a machine sums a product."""
    if case.startswith("w4"):
        pytest.importorskip("comfy_kitchen", reason="THE PACKAGE comfy-kitchen IS MISSING: w4 weights were not tried")
    found, expected = recorded(case)
    assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("in_metadata", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_whole_dit(kind: str, in_metadata: bool, original: State, tmp_path: Path):
    stored, metadata, exact = quantised(prefixed(original), kind, in_metadata)
    path = tmp_path / "dit.safetensors"
    save_file(stored, path, metadata)
    form = find_form(path, Part.DIT)
    assert form.is_scaled and sum(form.dtypes.values()) == sum(tensor.numel() for tensor in original.values())
    read = dit_to_original(load_dit(form, torch.float32).state_dict())
    assert read.keys() == original.keys()
    for name, expected in exact.items():
        found = read[name.removeprefix("model.diffusion_model.")]
        assert torch.allclose(found, expected, rtol=0, atol=1e-6 * float(expected.abs().max())), name
    written = form_tensors(form)["model.diffusion_model.blocks.0.ffn.0.weight"]  # as `convert` writes it
    assert written.dtype == "BF16" and torch.equal(value(written), read["blocks.0.ffn.0.weight"].bfloat16())


@pytest.mark.parametrize("kind", ["nvfp4", "mxfp8"])
def test_rows_and_columns_that_are_filled_up(kind: str):
    weight = torch.randn(40, 72, generator=torch.Generator().manual_seed(0))
    held, exact = packed(weight, kind)
    state = {f"layer.{name}": tensor for name, tensor in held.items()}
    packing = Packing(Format(kind))
    rows, columns = packing.shape(tuple(held["weight"].shape), rows=40)
    assert rows == 40 and columns == (80 if kind == "nvfp4" else 96)
    assert torch.equal(
        without_filling(widened(held["weight"], beside("layer.weight", state), packing), (40, 72)), exact
    )


def test_a_scale_of_the_inputs_columns_goes_into_the_weight():
    held, exact = packed(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)), "nvfp4")
    scale = torch.linspace(0.5, 2, 32)
    state = {f"layer.{name}": tensor for name, tensor in held.items()} | {"layer.pre_quant_scale": scale}
    found = widened(held["weight"], beside("layer.weight", state), Packing(Format.NVFP4))
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(x @ found.T, (x * scale) @ exact.T)


def test_4_bit_weights_without_their_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "comfy_kitchen.tensor", None)
    said = "holds 4-bit weights, .* `pip install comfy-kitchen`, or give the bf16, fp16 or fp8 file"
    with pytest.raises(CheckpointError, match=f"^the file {said}"):
        recorded("w4a4")
    held = {
        "a.weight": Stored("I8", (8, 256), packing=Packing(Format.W4A4, 256)),
        "a.weight_scale": Stored("F32", (8,)),
    }
    with pytest.raises(CheckpointError, match=f"^'{tmp_path}' {said}"):
        check_readable(held, tmp_path)


LAYER = "blocks.0.ffn.0"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda state: state.pop(f"{LAYER}.weight_scale_2"), "weight_scale_2 is missing"),
        (lambda state: state.update({f"{LAYER}.weight_scale": torch.ones(3)}), "its scales do not fit"),
        (lambda state: state.update({f"{LAYER}.comfy_quant": torch.tensor(list(b"{"))}), "damaged description"),
        (lambda state: state.update({f"{LAYER}.comfy_quant": torch.tensor(list(b"[[[[1]]]]"))}), "damaged description"),
        (
            lambda state: state.update({f"{LAYER}.comfy_quant": torch.zeros(9999, dtype=torch.uint8)}),
            "damaged description",
        ),
        (lambda state: state.update({f"{LAYER}.comfy_quant": torch.tensor(list(b'{"format": "q9"}'))}), "'q9'"),
        (
            lambda state: state.update({f"{LAYER}.comfy_quant": torch.tensor(list(b"{}"))}),
            r"does not say in which format 'blocks\.0\.ffn\.0' is quantised",
        ),
        (lambda state: state.pop(f"{LAYER}.comfy_quant"), "does not say in which format"),
        (
            lambda state: state.update({"blocks.0.norm3.pre_quant_scale": torch.ones(3)}),
            "pre_quant_scale but no weight_scale",
        ),
    ],
)
def test_files_that_do_not_add_up(harm, said: str, original: State, tmp_path: Path):
    stored, _, _ = quantised(original, "nvfp4")
    harm(stored)
    stored = {name: tensor.to(torch.uint8) if "comfy_quant" in name else tensor for name, tensor in stored.items()}
    path = tmp_path / "dit.safetensors"
    save_file(stored, path)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_dit(find_form(path, Part.DIT), torch.float32)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("size", [0, -4, 3, 8, True, "16", 2**20])
def test_rotations_that_are_none(size, original: State, tmp_path: Path):
    stored, _, _ = quantised(original, "int8")
    said = json.dumps({"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": size}).encode()
    stored[f"{LAYER}.comfy_quant"] = torch.tensor(list(said), dtype=torch.uint8)
    save_file(stored, tmp_path / "dit.safetensors")
    with pytest.raises(CheckpointError, match="damaged description"):
        find_form(tmp_path / "dit.safetensors", Part.DIT)
