"""A LoRA of the DiT: trained alone, saved as diffusers and as ComfyUI name it, merged in the exported model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from instructx_core import InputError
from instructx_core.training.config import LAYERS, read_train_config
from instructx_core.training.dit_lora import COMFYUI, DIFFUSERS
from instructx_core.training.editing import EditingTask
from instructx_core.training.stages import train
from instructx_core.training.states import read_state, saved_states
from instructx_core.weights.files import read_safetensors
from instructx_core.weights.loras import load_lora
from support.opening import load
from support.training_runs import CONFIGS, read_editing, weights


@pytest.fixture(scope="module")
def trained(foundation: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model whose LoRA has had two steps; read-only."""
    output = tmp_path_factory.mktemp("lora") / "run"
    settings = {"rank": 4, "alpha": 8}
    train(read_editing(foundation, output, steps=2, train=["transformer_lora"], transformer_lora=settings))
    return output / "model"


def test_the_lora_alone_is_trained(foundation: Path, trained: Path) -> None:
    before, after = weights(foundation / "generator/model"), weights(trained)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("blocks.") and any(
        name.endswith(f"{layer}.weight") for layer in LAYERS)}  # fmt: skip
    (state,) = saved_states(trained.parent)
    assert all("lora_" in name for name in read_state(state).tensors["weights"])


@pytest.mark.parametrize("file", [DIFFUSERS, COMFYUI])
def test_both_files_are_what_was_merged(file: str, foundation: Path, trained: Path) -> None:
    transformer = load(foundation / "generator/model").denoiser.transformer
    load_lora(transformer, trained / file)
    wanted = load(trained).denoiser.transformer.state_dict()
    for name, value in transformer.state_dict().items():
        torch.testing.assert_close(value, wanted[name], atol=1e-6, rtol=1e-5)


def test_diffusers_reads_its_file_itself(foundation: Path, trained: Path) -> None:
    own = load(foundation / "generator/model").denoiser.transformer
    own.load_lora_adapter(read_safetensors(trained / DIFFUSERS)[0], prefix="transformer")
    merged = load(trained).denoiser.transformer
    latents, context = torch.randn(1, 16, 1, 4, 4), torch.randn(1, 8, own.config.text_dim)
    with torch.no_grad():
        first, second = (dit(latents, torch.tensor([500.0]), context, return_dict=False)[0] for dit in (own, merged))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


def test_comfyui_s_names_are_the_original_ones(trained: Path) -> None:
    names = read_safetensors(trained / COMFYUI)[0].keys()
    for layer in ("self_attn.q", "self_attn.o", "cross_attn.v", "ffn.0", "ffn.2"):
        wanted = {
            f"diffusion_model.blocks.0.{layer}.{part}" for part in ("lora_down.weight", "lora_up.weight", "alpha")
        }
        assert wanted <= names


def test_its_layers_and_size_are_the_config_s(foundation: Path, tmp_path: Path) -> None:
    settings = {"rank": 3, "targets": ["to_q", "ffn.net.2"]}
    config = read_editing(foundation, tmp_path / "run", train=["transformer_lora"], transformer_lora=settings)
    task = EditingTask(config)
    trained = {name: value.shape for name, value in task.module.named_parameters() if value.requires_grad}
    assert {name.split("blocks.0.")[1].split(".lora_")[0] for name in trained} == {
        "attn1.to_q", "attn2.to_q", "ffn.net.2"}  # fmt: skip
    assert all(shape[0 if ".lora_A." in name else 1] == 3 for name, shape in trained.items())


def test_a_config_of_both_is_refused_and_the_shipped_one_is_valid(foundation: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="both the whole transformer and a LoRA for it"):
        read_editing(foundation, tmp_path / "run", train=["transformer", "transformer_lora"])
    with pytest.raises(InputError, match=r"transformer_lora\.targets"):
        read_editing(foundation, tmp_path / "run", transformer_lora={"targets": ["proj_out"]})
    config = read_train_config(CONFIGS / "lora" / "kiwi-edit.yaml")
    assert config.train == ("transformer_lora",) and config.transformer_lora.rank == 32
