"""LoRA files of every key style: the weights they make, against arithmetic, diffusers and peft; what is refused."""

from __future__ import annotations

import copy
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from instructx_core.cli import main
from instructx_core.editor import Editor
from instructx_core.errors import CheckpointError, InputError
from instructx_core.weights.files import write_safetensors
from instructx_core.weights.loras import check_lora, load_lora
from instructx_core.weights.wan_keys import dit_to_diffusers, dit_to_original
from support import tiny

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

RANK, ALPHA = 3, 1.5
ATTENTION = [
    f"blocks.{block}.{kind}.{part}" for block in (0, 1) for kind in ("self_attn", "cross_attn") for part in "qkvo"
]
MLPS = [f"blocks.{block}.ffn.{layer}" for block in (0, 1) for layer in (0, 2)]
OTHERS = [
    "text_embedding.0",
    "text_embedding.2",
    "time_embedding.0",
    "time_projection.1",
    "head.head",
    "patch_embedding",
]
STYLES = {  # prefix, names, down, up
    "diffusers": ("transformer.", "diffusers", "lora_A.weight", "lora_B.weight"),
    "peft": ("", "diffusers", "lora_A.weight", "lora_B.weight"),
    "peft, wrapped": ("base_model.model.", "diffusers", "lora_A.default.weight", "lora_B.default.weight"),
    "kohya": ("lora_unet_", "original_", "lora_down.weight", "lora_up.weight"),
    "kohya, diffusers' names": ("lora_unet_", "diffusers_", "lora_down.weight", "lora_up.weight"),
    "kohya, Wan-Fun": ("lora_unet__", "original_", "lora_down.weight", "lora_up.weight"),
    "original": ("diffusion_model.", "original", "lora_A.weight", "lora_B.weight"),
    "original, up and down": ("diffusion_model.", "original", "lora_down.weight", "lora_up.weight"),
    "original, from ComfyUI": ("model.diffusion_model.", "original", "lora_down.weight", "lora_up.weight"),
    "DiffSynth": ("", "original", "lora_A.default.weight", "lora_B.default.weight"),
    "Kiwi-Edit's trainer": ("pipe.dit.", "original", "lora_A.default.weight", "lora_B.default.weight"),
}  # fmt: skip

LIGHTX2V = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m"}  # endings that its extractor writes

Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]  # original module -> (up, down)


@pytest.fixture
def dit() -> WanTransformer3DModel:
    return tiny.transformer()


def weights(dit: WanTransformer3DModel) -> dict[str, torch.Tensor]:
    """A copy of its weights under their original names."""
    return {name: value.clone() for name, value in dit_to_original(dit.state_dict()).items()}


def pairs(dit: WanTransformer3DModel, modules: list[str]) -> Pairs:
    generator = torch.Generator().manual_seed(3)
    own = weights(dit)
    made = {}
    for module in modules:
        out, *inner = own[f"{module}.weight"].shape
        up = torch.randn(out, RANK, *[1] * (len(inner) - 1), generator=generator)
        made[module] = (up, torch.randn(RANK, *inner, generator=generator))
    return made


def diffusers_name(module: str) -> str:
    (name,) = dit_to_diffusers({f"{module}.weight": 0})
    return name.removesuffix(".weight")


def styled(made: Pairs, style: str, alpha: float | None = ALPHA) -> dict[str, torch.Tensor]:
    prefix, names, down_key, up_key = STYLES[style]
    state = {}
    for module, (up, down) in made.items():
        name = diffusers_name(module) if names.startswith("diffusers") else module
        key = prefix + (name.replace(".", "_") if names.endswith("_") else name)
        state |= {f"{key}.{down_key}": down, f"{key}.{up_key}": up}
        if alpha is not None:
            state[f"{key}.alpha"] = torch.tensor(alpha)
    return state


def merged(own: dict[str, torch.Tensor], made: Pairs, factor: float) -> dict[str, torch.Tensor]:
    """W + factor * up @ down, written out."""
    changed = dict(own)
    for module, (up, down) in made.items():
        weight = own[f"{module}.weight"]
        changed[f"{module}.weight"] = weight + factor * (up.flatten(1) @ down.flatten(1)).view_as(weight)
    return changed


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= tolerance, name


def lora(tmp_path: Path, state: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    write_safetensors(tmp_path / "lora.safetensors", state, metadata)
    return tmp_path / "lora.safetensors"


# --- the weights that come out


@pytest.mark.parametrize("alpha", [ALPHA, None])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_the_same_arithmetic(style: str, alpha: float | None, dit, tmp_path: Path):
    own, made = weights(dit), pairs(dit, ATTENTION + MLPS + OTHERS)
    load_lora(dit, lora(tmp_path, styled(made, style, alpha)), 0.6)
    assert_same(weights(dit), merged(own, made, 0.6 * (1 if alpha is None else alpha / RANK)))


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_what_peft_writes_beside_its_own_file(rank_stabilised: bool, dit, tmp_path: Path):
    """Saved by peft itself, from a DiT with original names, which are those of its patterns too."""
    from peft import LoraConfig, get_peft_model

    kinds = {"self_attn": dit.blocks[0].attn1, "cross_attn": dit.blocks[0].attn2}
    layers = {kind: {"q": copy.deepcopy(own.to_q), "k": copy.deepcopy(own.to_k)} for kind, own in kinds.items()}
    block = torch.nn.ModuleDict({kind: torch.nn.ModuleDict(own) for kind, own in layers.items()})
    original = torch.nn.ModuleDict({"blocks": torch.nn.ModuleList([block])})
    torch.manual_seed(4)
    trained = get_peft_model(
        original,
        LoraConfig(
            r=RANK,
            lora_alpha=2 * RANK,
            alpha_pattern={"^blocks.0.self_attn.k": 1, "cross_attn.q": 7},
            target_modules=["q", "k"],
            use_rslora=rank_stabilised,
            init_lora_weights=False,
        ),
    )
    trained.save_pretrained(tmp_path)
    own = weights(dit)
    load_lora(dit, tmp_path / "adapter_model.safetensors")
    assert_same(weights(dit), own | trained.merge_and_unload().state_dict())


def test_peft_s_file_without_its_settings_is_warned_about(dit, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    own, made = weights(dit), pairs(dit, ATTENTION)
    with caplog.at_level(logging.WARNING):
        load_lora(dit, lora(tmp_path, styled(made, "peft, wrapped", None)))
    said = "its rank; rename it to adapter_model.safetensors and put peft's adapter_config.json beside it."
    assert f"its alpha is not known and taken to be {said}" in caplog.text
    assert_same(weights(dit), merged(own, made, 1.0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "adapter_config.json' cannot be read"),
        ("[]", "adapter_config.json' is not a JSON object"),
        ('{"lora_alpha": "16"}', "adapter_config.json' says in its settings that 'lora_alpha' is '16'"),
    ],
)
def test_damaged_settings_beside_peft_s_file_are_named(text: str, message: str, dit, tmp_path: Path):
    path = lora(tmp_path, styled(pairs(dit, MLPS), "peft, wrapped", None)).rename(
        tmp_path / "adapter_model.safetensors"
    )
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        check_lora(path)


def test_an_alpha_may_be_a_whole_number(dit, tmp_path: Path):
    own, made = weights(dit), pairs(dit, ATTENTION)
    load_lora(dit, lora(tmp_path, styled(made, next(iter(STYLES)), 2)))
    assert_same(weights(dit), merged(own, made, 2 / RANK))


@pytest.mark.parametrize("style", ["diffusers", "kohya", "original", "original, up and down"])
def test_against_diffusers_own_converter_and_peft(style: str, dit, tmp_path: Path):
    """On what diffusers converts: attention and feed-forward, each block, no differences."""
    from diffusers.loaders import WanLoraLoaderMixin

    state = styled(pairs(dit, ATTENTION + MLPS), style, None if style == "diffusers" else ALPHA)
    load_lora(dit, lora(tmp_path, state), -0.7)
    theirs = tiny.transformer()
    theirs.load_lora_adapter(WanLoraLoaderMixin.lora_state_dict(dict(state)), adapter_name="own")
    theirs.set_adapters(["own"], [-0.7])
    theirs.fuse_lora(adapter_names=["own"])
    theirs.unload_lora()
    assert_same(weights(dit), weights(theirs))


@pytest.mark.filterwarnings("ignore:.*have invalid shape")  # peft of its own biases
@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_settings_that_diffusers_writes(rank_stabilised: bool, dit, tmp_path: Path):
    """An adapter that peft trained and diffusers saved: its alphas stand in the metadata alone."""
    from peft import LoraConfig

    trained = tiny.transformer()
    torch.manual_seed(4)
    trained.add_adapter(
        LoraConfig(
            r=RANK,
            lora_alpha=7,
            alpha_pattern={"blocks.0.attn1.to_q": 2},
            target_modules=["to_q", "ffn.net.2"],
            lora_bias=True,
            use_rslora=rank_stabilised,
            init_lora_weights=False,
        )
    )
    trained.save_lora_adapter(tmp_path)
    load_lora(dit, tmp_path / "pytorch_lora_weights.safetensors")
    trained.fuse_lora()
    trained.unload_lora()
    assert_same(weights(dit), weights(trained))
    assert not torch.equal(dit.blocks[0].attn1.to_q.weight, tiny.transformer().blocks[0].attn1.to_q.weight)


def test_differences_of_a_distillation(dit, tmp_path: Path):
    """LightX2V's form: pairs without alpha, and differences of norms, biases, modulations and whole weights."""
    own, made = weights(dit), pairs(dit, ATTENTION)
    changed = ["blocks.0.norm3.weight", "blocks.1.self_attn.norm_k.weight", "patch_embedding.weight"]
    changed += ["head.head.weight", "blocks.0.norm3.bias", "blocks.0.self_attn.q.bias", "head.head.bias"]
    changed += ["blocks.1.modulation", "head.modulation"]
    generator = torch.Generator().manual_seed(5)
    added = {name: torch.randn(own[name].shape, generator=generator) for name in changed}
    state = styled(made, "original, up and down", None)
    for name, value in added.items():
        module, _, leaf = name.rpartition(".")
        state[f"diffusion_model.{module}.{LIGHTX2V[leaf]}"] = value
    load_lora(dit, lora(tmp_path, state), 0.5)
    expected = merged(own, made, 0.5)
    assert_same(weights(dit), expected | {name: expected[name] + 0.5 * value for name, value in added.items()})


def test_several_add_up_and_the_opposite_takes_away(dit, tmp_path: Path):
    own = weights(dit)
    first = lora(tmp_path, styled(pairs(dit, ATTENTION), "kohya"))
    for strength in (0.8, -0.3, -0.5):
        load_lora(dit, first, strength)
    assert_same(weights(dit), own)


def test_weights_keep_their_dtype(dit, tmp_path: Path):
    half = tiny.transformer().to(torch.bfloat16)
    made = {module: (up.half(), down.half()) for module, (up, down) in pairs(dit, MLPS).items()}
    path = lora(tmp_path, styled(made, "kohya"))
    own = weights(half)
    load_lora(half, path)
    exact = merged({name: value.float() for name, value in own.items()},
                   {name: (up.float(), down.float()) for name, (up, down) in made.items()}, ALPHA / RANK)  # fmt: skip
    assert all(torch.equal(value, exact[name].bfloat16()) for name, value in weights(half).items())


def test_what_has_no_place_is_named(dit, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    own, made = weights(dit), pairs(dit, ATTENTION)
    stranger = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(2, 2), "extra": torch.ones(1)}
    with caplog.at_level(logging.WARNING):
        load_lora(dit, lora(tmp_path, styled(made, "kohya") | stranger))
    assert_same(weights(dit), merged(own, made, ALPHA / RANK))
    assert "2 of 50 tensors do not belong to this DiT" in caplog.text
    assert all(key in caplog.text for key in stranger)


# --- what is refused, with the DiT as it was


Q = "diffusion_model.blocks.0.self_attn.q"
WIDE = {f"{Q}.lora_A.weight": torch.ones(RANK, 5120), f"{Q}.lora_B.weight": torch.ones(5120, RANK)}
DEEP = {"diffusion_model.blocks.39.ffn.0.lora_A.weight": torch.ones(RANK, 24)}
HALF = {Q.replace("blocks.0", "blocks.1").replace(".q", ".norm_q.lora_A.weight"): torch.ones(RANK, 24)}
BROKEN = {  # what is added to a LoRA for attention, and what is said of it
    "another width": (
        WIDE,
        r"another model: it changes blocks.0.attn1.to_q.weight .*\(5120, 5120\), which has the shape \(24, 24\) here",
    ),
    "more blocks": (DEEP, "changes block 39, but this DiT has blocks 0 to 1"),
    "half a pair": (HALF, r"no complete pair of matrices for blocks\.1\.attn1\.norm_q\.weight"),
    "two ranks": ({f"{Q}.lora_A.weight": torch.ones(RANK + 1, 24)}, "another model"),
    "no bias there": ({f"{Q}.norm.diff_b".replace("q.norm", "norm_q"): torch.ones(24)}, "which does not exist here"),
    "NaN": ({f"{Q}.alpha": torch.tensor(math.nan)}, "NaN or infinity in 1 tensors"),
    "DoRA": ({f"{Q}.dora_scale": torch.ones(24, 1)}, r"is a DoRA .*self_attn\.q\.dora_scale"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_refused(case: str, dit, tmp_path: Path):
    own = weights(dit)
    more, message = BROKEN[case]
    with pytest.raises(CheckpointError, match=message) as raised:
        load_lora(dit, lora(tmp_path, styled(pairs(dit, ATTENTION), "original") | more))
    assert str(tmp_path / "lora.safetensors") in str(raised.value)
    assert all(torch.equal(value, own[name]) for name, value in weights(dit).items())


def test_a_sum_too_large_for_float16_leaves_the_dit_unchanged(dit, tmp_path: Path):
    half = dit.to(torch.float16)
    own, fits, overflows = weights(half), 100 * torch.ones(24, RANK), 1000 * torch.ones(24, RANK)
    made = {ATTENTION[0]: (fits, fits.T), ATTENTION[-1]: (overflows, overflows.T)}
    path = lora(tmp_path, styled(made, "original", None))
    with pytest.raises(CheckpointError, match=r"blocks\.1\.attn2\.to_out\.0\.weight .* at strength 1; .*smaller"):
        load_lora(half, path)
    assert all(torch.equal(value, own[name]) for name, value in weights(half).items())
    load_lora(half, path, 0.01)  # 300 and 30,000
    expected = merged({name: value.float() for name, value in own.items()}, made, 0.01)
    assert all(torch.equal(value, expected[name].half()) for name, value in weights(half).items())


def test_other_files_are_refused(dit, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"is not a LoRA: none of its 1 tensors \(blocks\.0\.norm\.weight\)"):
        load_lora(dit, lora(tmp_path, {"blocks.0.norm.weight": torch.ones(2)}))
    with pytest.raises(CheckpointError, match=r"No tensor of .* belongs to this DiT \(unet\.up\.lora_A\.weight\)"):
        load_lora(dit, lora(tmp_path, {"unet.up.lora_A.weight": torch.ones(2, 2)}))


def test_pickles_and_damaged_settings_are_refused(dit, tmp_path: Path):
    (tmp_path / "lora.safetensors").write_bytes(b"PK\x03\x04" + bytes(50))
    with pytest.raises(CheckpointError, match="a PyTorch pickle"):
        load_lora(dit, tmp_path / "lora.safetensors")
    path = lora(tmp_path, styled(pairs(dit, MLPS), "peft", None), {"lora_adapter_metadata": "{"})
    with pytest.raises(CheckpointError, match="damaged settings"):
        load_lora(dit, path)


@pytest.mark.parametrize("strength", [math.nan, math.inf, 1e38, 10**400, "1", None, True])
def test_a_strength_that_is_no_number(strength: object, dit, tmp_path: Path):
    path = lora(tmp_path, styled(pairs(dit, MLPS), "peft"))
    with pytest.raises(InputError, match="strength of .*lora.safetensors' is .*give a number"):
        load_lora(dit, path, strength)


def test_a_quantised_dit_says_so(dit, tmp_path: Path):
    path = lora(tmp_path, styled(pairs(dit, MLPS), "peft"))
    packed = torch.nn.Parameter(torch.zeros(7, dtype=torch.uint8), requires_grad=False)
    dit.blocks[0].ffn.net[2].weight = packed
    with pytest.raises(InputError, match=r"quantised \(blocks\.0\.ffn\.net\.2\.weight\)"):
        load_lora(dit, path)


# --- the front doors


def test_edit_takes_loras(saved: Path, tmp_path: Path):
    """The command line's edit is the library's, and a LoRA moves it."""
    import numpy as np
    from PIL import Image

    path = lora(tmp_path, styled(pairs(tiny.transformer(), ATTENTION + MLPS), "original"))
    picture = (tiny.clip()[0] * 255).round().byte().numpy()
    Image.fromarray(picture).save(tmp_path / "in.png")
    words = ["edit", str(tmp_path / "in.png"), "make it blue", "--model", str(saved), "--device", "cpu", "-o"]
    arguments = {"plain": [], "with": ["--lora", f"{path}:0.75", "--lora", f"{path}:-0.5"]}
    for name, loras in arguments.items():
        assert main([*words, str(tmp_path / f"{name}.png"), *loras]) == 0
    editor = Editor.from_pretrained(saved, device="cpu", loras=[(path, 0.25)])
    expected = editor.edit(tmp_path / "in.png", "make it blue").frames[0]
    found = {name: np.asarray(Image.open(tmp_path / f"{name}.png")) for name in arguments}
    assert np.abs(found["with"] / 255 - expected.numpy()).max() <= 1.01 / 255
    assert np.abs(found["with"].astype(int) - found["plain"].astype(int)).max() > 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{}:much", "'much' in '{}:much' is not a number"),
        ("{}:nan", "strength of '{}' is nan"),
        ("missing.safetensors:2", "there is no file 'missing.safetensors'"),
    ],
)
def test_bad_loras_on_the_command_line(given: str, message: str, tmp_path: Path, capsys):
    """One line, before a model is looked for: there is none in that folder."""
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "in.png")
    path = lora(tmp_path, {"blocks.0.ffn.0.diff_b": torch.ones(2)})
    words = [
        "edit",
        str(tmp_path / "in.png"),
        "words",
        "-o",
        str(tmp_path / "out.png"),
        "--model",
        str(tmp_path / "no"),
    ]
    try:
        code = main([*words, "--lora", given.format(path)])
    except SystemExit as stop:  # argparse's own
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert message.format(path) in captured.err and captured.err.count("\n") == 1
