"""LoRA files of other kinds (LoKr, LoHa, mixed ones) and in wrapped names: merged as written out, or refused by name.

ComfyUI's own merge is compared in `comfyui/checks/check_loras.py`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from instructx_core.cli import main
from instructx_core.errors import CheckpointError
from instructx_core.weights.files import write_safetensors
from instructx_core.weights.loras import check_lora, load_lora
from instructx_core.weights.wan_keys import dit_to_original
from support import tiny

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

State = dict[str, torch.Tensor]
MODULES = ["blocks.0.self_attn.q", "blocks.1.ffn.0", "blocks.1.cross_attn.o", "patch_embedding"]


@pytest.fixture
def dit() -> WanTransformer3DModel:
    return tiny.transformer()


def weights(dit: WanTransformer3DModel) -> State:
    return {name: value.clone() for name, value in dit_to_original(dit.state_dict()).items()}


def lora(tmp_path: Path, state: State, metadata: dict[str, str] | None = None) -> Path:
    write_safetensors(tmp_path / "lora.safetensors", state, metadata)
    return tmp_path / "lora.safetensors"


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape) / math.prod(shape) ** 0.25


# for a weight's shape: a module's tensors, and what they add, written out without the library's own functions
def lokr(shape: tuple[int, ...]) -> tuple[State, torch.Tensor]:
    out, inner, *kernel = shape
    w1, w2 = drawn(2, 4), drawn(out // 2, inner // 4, *kernel)
    added = torch.einsum("ab,cd...->acbd...", w1, w2).reshape(shape)
    return {"lokr_w1": w1, "lokr_w2": w2, "alpha": torch.tensor(4.0)}, added  # alpha does not count


def lokr_of_products(shape: tuple[int, ...]) -> tuple[State, torch.Tensor]:
    out, inner = shape[0], shape[1]
    one_a, one_b = drawn(4, 3), drawn(3, 2)
    two_a, two_b = drawn(out // 4, 3), drawn(3, math.prod(shape[1:]) // 2)
    second = (two_a @ two_b).reshape(out // 4, inner // 2, *shape[2:])
    added = 5 / 3 * torch.einsum("ab,cd...->acbd...", one_a @ one_b, second).reshape(shape)
    return {"lokr_w1_a": one_a, "lokr_w1_b": one_b, "lokr_w2_a": two_a, "lokr_w2_b": two_b,
            "alpha": torch.tensor(5.0)}, added  # fmt: skip


def lokr_half_and_half(shape: tuple[int, ...]) -> tuple[State, torch.Tensor]:
    w1, a, b = drawn(2, 2), drawn(shape[0] // 2, 3), drawn(3, math.prod(shape[1:]) // 2)
    second = (a @ b).reshape(shape[0] // 2, shape[1] // 2, *shape[2:])
    added = torch.einsum("ab,cd...->acbd...", w1, second).reshape(shape)
    return {"lokr_w1": w1, "lokr_w2_a": a, "lokr_w2_b": b}, added  # no alpha: it is the rank


def lokr_tucker(shape: tuple[int, ...]) -> tuple[State, torch.Tensor]:
    out, inner, *kernel = shape
    w1, core, a, b = drawn(2, 2), drawn(3, 5, *kernel), drawn(3, out // 2), drawn(5, inner // 2)
    second = torch.einsum("ij...,io,jc->oc...", core, a, b)
    added = 2 / 5 * torch.einsum("ab,cd...->acbd...", w1, second).reshape(shape)
    return {"lokr_w1": w1, "lokr_t2": core, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": torch.tensor(2.0)}, added


def loha(shape: tuple[int, ...]) -> tuple[State, torch.Tensor]:
    inner = math.prod(shape[1:])
    a1, b1, a2, b2 = drawn(shape[0], 3), drawn(3, inner), drawn(shape[0], 3), drawn(3, inner)
    added = (1.5 / 3 * (a1 @ b1) * (a2 @ b2)).reshape(shape)
    return {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2, "alpha": torch.tensor(1.5)}, added


def loha_tucker(shape: tuple[int, ...]) -> tuple[State, torch.Tensor]:
    out, inner, *kernel = shape
    sides, halves = {}, []
    for half in "12":
        core, a, b = drawn(3, 3, *kernel), drawn(3, out), drawn(3, inner)
        sides |= {f"hada_t{half}": core, f"hada_w{half}_a": a, f"hada_w{half}_b": b}
        halves.append(torch.einsum("ij...,io,jc->oc...", core, a, b))
    return sides | {"alpha": torch.tensor(6.0)}, 2 * halves[0] * halves[1]


def pair(shape: tuple[int, ...]) -> tuple[State, torch.Tensor]:
    up, down = drawn(shape[0], 3, *[1] * (len(shape) - 2)), drawn(3, *shape[1:])
    added = 2 / 3 * (up.flatten(1) @ down.flatten(1)).reshape(shape)
    return {"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(2.0)}, added


def difference(shape: tuple[int, ...]) -> tuple[State, torch.Tensor]:
    added = drawn(*shape)
    return {"diff": added}, added


KINDS = [lokr, lokr_of_products, lokr_half_and_half, lokr_tucker, loha, loha_tucker, pair, difference]
KEYS: dict[str, Callable[[str], str]] = {
    "LyCORIS": lambda module: f"lycoris_{module.replace('.', '_')}",
    "kohya": lambda module: f"lora_unet_{module.replace('.', '_')}",
    "peft": lambda module: f"base_model.model.{module}",
    "ComfyUI": lambda module: f"diffusion_model.{module}",
}


def assert_merged(dit: WanTransformer3DModel, own: State, added: State, strength: float = 1.0) -> None:
    for name, value in weights(dit).items():
        expected = own[name] + strength * added[name] if name in added else own[name]
        torch.testing.assert_close(value, expected, atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("style", ["LyCORIS", "ComfyUI"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_merged(kind, style: str, dit, tmp_path: Path):
    own, state, added = weights(dit), {}, {}
    for module in MODULES:
        tensors, added[f"{module}.weight"] = kind(tuple(own[f"{module}.weight"].shape))
        state |= {f"{KEYS[style](module)}.{part}": value for part, value in tensors.items()}
    load_lora(dit, lora(tmp_path, state), 0.6)
    assert_merged(dit, own, added, 0.6)


def test_kinds_mixed_in_one_file(dit, tmp_path: Path):
    own, state, added = weights(dit), {}, {}
    modules = [name.removesuffix(".weight") for name in own if name.endswith(("_attn.q.weight", "_attn.v.weight"))]
    for number, module in enumerate(modules):
        tensors, added[f"{module}.weight"] = KINDS[number % len(KINDS)](tuple(own[f"{module}.weight"].shape))
        style = list(KEYS.values())[number % len(KEYS)]
        state |= {f"{style(module)}.{part}": value for part, value in tensors.items()}
    load_lora(dit, lora(tmp_path, state))
    assert len(added) == 8
    assert_merged(dit, own, added)


# --- names within wrappers

WRAPPED: dict[str, Callable[[str], str]] = {
    "as it is": lambda module: module,
    "compiled": lambda module: f"_orig_mod.{module}",
    "compiled, peft": lambda module: f"base_model.model._orig_mod.{module}",
    "compiled within": lambda module: module.replace("blocks.0.", "blocks.0._orig_mod."),
    "in parallel": lambda module: f"module.{module}",
    "a model's": lambda module: f"model.{module}",
    "a net's": lambda module: f"net.{module}",
    "a stranger's": lambda module: f"student.generator.{module}",
    "SimpleTuner": lambda module: f"transformer.base_model.model.{module}",
    "checkpointed": lambda module: module.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module."),
    "kohya, compiled": lambda module: f"lora_unet__orig_mod_{module.replace('.', '_')}",
    "kohya, compiled within": lambda module: f"lora_unet_{module.replace('.', '_').replace('s_0_', 's_0__orig_mod_')}",
    "kohya and dots": lambda module: f"lora_unet_{module.replace('blocks.', 'blocks_')}",
    "dots, then kohya": lambda module: f"diffusion_model.{module.replace('self_attn.', 'self_attn_')}",
}


@pytest.mark.parametrize("names", ["original", "diffusers"])
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_names_within_wrappers(wrapper: str, names: str, dit, tmp_path: Path):
    own, state, added = weights(dit), {}, {}
    spelled = dict(zip(weights(dit), dit.state_dict(), strict=True))
    for module in ["blocks.0.self_attn.q", "blocks.0.self_attn.k", "blocks.0.ffn.2", "head.head"]:
        weight = f"{module}.weight"
        tensors, added[weight] = pair(tuple(own[weight].shape))
        written = module if names == "original" else spelled[weight].removesuffix(".weight")
        state |= {f"{WRAPPED[wrapper](written)}.{part}": value for part, value in tensors.items()}
    load_lora(dit, lora(tmp_path, state))
    assert_merged(dit, own, added)


def test_an_adapters_name_is_any(dit, tmp_path: Path):
    own = weights(dit)
    state = {f"blocks.0.self_attn.q.lora_{side}.my_style.weight": torch.randn(24, 24) for side in "AB"}
    load_lora(dit, lora(tmp_path, state))
    added = state["blocks.0.self_attn.q.lora_B.my_style.weight"] @ state["blocks.0.self_attn.q.lora_A.my_style.weight"]
    assert_merged(dit, own, {"blocks.0.self_attn.q.weight": added})


def test_another_models_patch_embedding_has_no_place(dit, tmp_path: Path):
    """Picture encoders have layers of the same names, behind other words."""
    own, (tensors, added) = weights(dit), pair((24, 24))
    state = {f"diffusion_model.blocks.0.self_attn.q.{part}": value for part, value in tensors.items()}
    stranger = {f"image_encoder.embeddings.patch_embedding.{part}": value for part, value in pair((9, 9))[0].items()}
    load_lora(dit, lora(tmp_path, state | stranger))
    assert_merged(dit, own, {"blocks.0.self_attn.q.weight": added})


# --- refused

Q = "diffusion_model.blocks.0.self_attn.q"
REFUSED: dict[str, tuple[State, str]] = {
    "DoRA": ({f"{Q}.dora_scale": torch.ones(24, 1)}, "is a DoRA"),
    "DoRA of peft": ({f"{Q}.lora_magnitude_vector.default.weight": torch.ones(24)}, "is a DoRA"),
    "three matrices": ({f"{Q}.lora_mid.weight": torch.ones(3, 3)}, "is a LoCon of three matrices"),
    "OFT": ({f"{Q}.oft_blocks": torch.ones(2, 12, 12)}, "is an OFT or BOFT"),
    "OFT of peft": ({f"{Q}.oft_R.default.weight": torch.ones(2, 12)}, "OFT or BOFT"),
    "BOFT": ({f"{Q}.boft_R": torch.ones(1, 2, 12, 12)}, "OFT or BOFT"),
    "IA3": ({f"{Q}.ia3_l": torch.ones(24)}, r"is an \(IA\)\^3"),
    "IA3 of LyCORIS": ({f"{Q}.weight": torch.ones(24), f"{Q}.on_input": torch.ones(1)}, r"\(IA\)\^3"),
    "GLoRA": ({f"{Q}.{part}.weight": torch.ones(3, 24) for part in ("a1", "a2", "b1", "b2")}, "GLoRA"),
    "VeRA": ({f"{Q}.vera_lambda_b": torch.ones(24)}, "VeRA"),
    "set": ({f"{Q}.set_weight": torch.ones(24, 24)}, "is a LoRA that replaces weights"),
    "a kind of tomorrow": ({f"{Q}.novel_w1": torch.ones(2)}, "holds .*novel_w1, a kind of change|'.*novel_w1'"),
    "a whole weight": ({f"{Q}.weight": torch.ones(24, 24)}, "a kind of change that is not supported"),
    "half a LoKr": ({f"{Q}.lokr_w1": torch.ones(2, 2)}, "no complete LoKr"),
    "half of products": ({f"{Q}.lokr_w1": torch.ones(2, 2), f"{Q}.lokr_w2_a": torch.ones(9, 2)}, "no complete LoKr"),
    "half a LoHa": ({f"{Q}.hada_w1_a": torch.ones(24, 2), f"{Q}.hada_w1_b": torch.ones(2, 24)}, "no complete LoHa"),
    "one core of a LoHa": ({f"{Q}.{part}": value for part, value in loha_tucker((24, 24))[0].items()
                            if part != "hada_t1"}, "no complete LoHa"),
    "an alpha alone": ({f"{Q}.alpha": torch.tensor(1.0)}, "no complete pair"),
    "a bias alone": ({f"{Q}.lora_B.bias": torch.ones(24)}, "no complete pair"),
    "two adapters": ({f"{Q}.lora_{side}.{name}.weight": torch.ones(24, 24) for side in "AB" for name in ("a", "b")},
                     "holds two tensors"),
    "rank 0": ({f"{Q}.lora_A.weight": torch.ones(0, 24), f"{Q}.lora_B.weight": torch.ones(24, 0)}, "rank 0"),
    "numbers": ({f"{Q}.lokr_w1": torch.tensor(2.0), f"{Q}.lokr_w2": torch.tensor(2.0)}, "expected a matrix"),
    "LoKr of another width": ({f"{Q}.lokr_w1": torch.ones(2, 2), f"{Q}.lokr_w2": torch.ones(64, 64)}, "another model"),
    "LoHa of two widths": ({f"{Q}.hada_w{half}_{side}": torch.ones(width, width) for half, width in ((1, 24), (2, 8))
                            for side in "ab"}, "do not fit together"),
    "a LoHa of two ranks": ({f"{Q}.{part}": value[:2] if part == "hada_w1_b" else value
                             for part, value in loha((24, 24))[0].items()}, "do not fit together"),
    "alpha in a row": ({f"{Q}.{part}": value.repeat(3) if part == "alpha" else value
                        for part, value in pair((24, 24))[0].items()}, "alpha .* has 3 values"),
    "alpha of NaN": ({f"{Q}.{part}": value * (math.nan if part == "alpha" else 1)
                      for part, value in lokr_tucker((24, 24))[0].items()}, "NaN or infinity"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, dit, tmp_path: Path):
    """Alone, and beside a module that is whole; the DiT stays as it was."""
    state, message = REFUSED[case]
    own = weights(dit)
    whole = {f"diffusion_model.blocks.1.self_attn.k.{part}": value for part, value in pair((24, 24))[0].items()}
    for held in (state, state | whole):
        with pytest.raises(CheckpointError) as raised:
            load_lora(dit, lora(tmp_path, held))
        assert str(raised.value).isprintable() and len(str(raised.value)) < 700
    with pytest.raises(CheckpointError, match=message):
        load_lora(dit, lora(tmp_path, state | whole))
    assert all(torch.equal(value, own[name]) for name, value in weights(dit).items())


@pytest.mark.parametrize("case", ["DoRA", "OFT", "half a LoKr", "half a LoHa", "an alpha alone"])
def test_seen_before_a_model_is_loaded(case: str, tmp_path: Path):
    state, message = REFUSED[case]
    with pytest.raises(CheckpointError, match=message):
        check_lora(lora(tmp_path, state))


@pytest.mark.parametrize("kind", [lokr, lokr_of_products, loha, pair, difference])
def test_a_lora_of_zeros_changes_nothing(kind, dit, tmp_path: Path):
    tensors, _ = kind((24, 24))
    first = next(part for part in tensors if part != "alpha")
    state = {f"{Q}.{part}": torch.zeros_like(value) if part == first else value for part, value in tensors.items()}
    with pytest.raises(CheckpointError, match="changes nothing"):
        load_lora(dit, lora(tmp_path, state))


# --- settings in the metadata

PEFT = {f"transformer.blocks.0.attn1.to_q.lora_{side}.weight": torch.ones(24, 24) for side in "AB"}
METADATA = "lora_adapter_metadata"


@pytest.mark.parametrize(
    "settings",
    [
        "[" * 100_000,
        "null",
        "[]",
        "5",
        '"text"',
        *(json.dumps({"transformer.lora_alpha": value}) for value in (None, "8", [8], {}, True, math.nan, 10**400)),
        '{"transformer.lora_alpha": 1e400}',
        *(json.dumps({"transformer.lora_alpha": 8, "transformer.alpha_pattern": value})
          for value in ([1], "a", 5, {"to_q": None}, {"to_q": "1"}, {"(a+)+$": 1}, {"to_q(": 1}, {"": 1},
                        {"^(([a-z])+.)+[A-Z]([a-z])+$": 4}, {"to_q": 1e999}, {"x\x1b[2J": 1})),
        *(json.dumps({"transformer.lora_alpha": 8, "transformer.use_rslora": value}) for value in ("a", [1], 2)),
    ],
)  # fmt: skip
def test_settings_that_are_none(settings: str, dit, tmp_path: Path):
    own, start = weights(dit), time.monotonic()
    path = lora(tmp_path, PEFT, {METADATA: settings})
    for read in (check_lora, lambda path: load_lora(dit, path)):
        with pytest.raises(CheckpointError) as raised:
            read(path)
        assert str(raised.value).isprintable() and len(str(raised.value)) < 700
    assert time.monotonic() - start < 5
    assert all(torch.equal(value, own[name]) for name, value in weights(dit).items())


@pytest.mark.parametrize(
    ("patterns", "alpha"),
    [({}, 8), ({"to_q": 2}, 2), ({"attn1.to_q": 2}, 2), ({"blocks.0.attn1.to_q": 2}, 2),
     ({"^blocks.0.attn1.to_q$": 2}, 2), ({r"blocks\.0\.attn1\.to_q": 2}, 2),
     ({"^attn1.to_q": 2}, 8), ({"o_q": 2}, 8), ({"blocks.1.attn1.to_q": 2}, 8),
     (None, 8)],
)  # fmt: skip
def test_patterns_of_alpha_name_modules(patterns: dict | None, alpha: float, dit, tmp_path: Path):
    own = weights(dit)
    settings = json.dumps({"transformer.lora_alpha": 8, "transformer.alpha_pattern": patterns})
    load_lora(dit, lora(tmp_path, PEFT, {METADATA: settings}))
    assert_merged(dit, own, {"blocks.0.self_attn.q.weight": torch.full((24, 24), 24 * alpha / 24)})


@pytest.mark.parametrize(
    "name", ["\x1b[31m\x1b]0;pwn\x07\nline", "x" * 1_000_000, "blocks.0." * 100_000, "_" * 100_000]
)
@pytest.mark.parametrize("ending", [".lora_A.weight", ".oft_blocks"])
def test_names_are_shown_escaped_and_cut(name: str, ending: str, dit, tmp_path: Path, capsys):
    from PIL import Image

    start = time.monotonic()
    path = lora(tmp_path, {name + ending: torch.ones(2, 2)})
    with pytest.raises(CheckpointError) as raised:
        load_lora(dit, path)
    assert str(raised.value).isprintable() and len(str(raised.value)) < 1000
    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    words = ["edit", str(tmp_path / "in.png"), "x", "-o", str(tmp_path / "o.png"), "--model", str(tmp_path / "no")]
    assert main([*words, "--lora", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said[:-1].isprintable() and len(said) < 1000
    assert time.monotonic() - start < 10
