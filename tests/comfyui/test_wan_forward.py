"""Wan weights under the original names compute in a real ComfyUI what they do here."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import torch

from instructx_core.weights.detect import find_form
from instructx_core.weights.dit import load_dit
from instructx_core.weights.files import read_safetensors, write_safetensors
from instructx_core.weights.parts import Part
from instructx_core.weights.wan_keys import dit_to_original, vae_to_original
from support import comfyui
from support.dit_forms import FILES, forward_inputs, shaken_dit
from support.places import SUPPORT
from support.wan_models import DITS, WAN21, WAN22, build_dit, build_vae


def perturbed(model):
    """The model with no weight left at one or zero, so that swapped norms or biases show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@torch.inference_mode()
def test_same_forward_in_comfyui(tmp_path):
    folder, python = comfyui.find()
    expected = {}
    for name, config in DITS.items():
        if not config.get("cross_attn_norm", True):  # the native loader has no such model
            continue
        model = perturbed(build_dit(config))
        inputs = {
            "x": torch.randn(1, model.config.in_channels, 2, 8, 6),
            "timestep": torch.tensor([731.0]),
            "context": torch.randn(1, 512, 4096),
        }
        if model.config.image_dim:
            inputs["image"] = torch.randn(1, 257, 1280)
        velocity = model(inputs["x"], inputs["timestep"], inputs["context"], inputs.get("image")).sample
        write_case(tmp_path / f"{name}.safetensors", dit_to_original(model.state_dict()), inputs, {"kind": "dit"})
        expected[name] = {"velocity": velocity}
    for name, config in {"vae21": WAN21, "vae22": WAN22}.items():
        model = perturbed(build_vae(config))
        shrink = model.config.scale_factor_spatial
        inputs = {
            "pixels": torch.rand(1, 3, 9, 4 * shrink, 3 * shrink) * 2 - 1,
            "latents": torch.randn(1, model.config.z_dim, 3, 4, 3),
        }
        sizes = {"dim": 8, "z_dim": model.config.z_dim, "temperal_downsample": [False, True, True]}
        if name == "vae22":
            sizes["dec_dim"] = 16
        metadata = {"kind": name, "sizes": json.dumps(sizes)}
        write_case(tmp_path / f"{name}.safetensors", vae_to_original(model.state_dict()), inputs, metadata)
        mean = model.encode(inputs["pixels"]).latent_dist.mean
        # ComfyUI's VAE leaves the clamp to [-1, 1] to its caller.
        expected[name] = {"latents": mean, "frames": model.decode(inputs["latents"]).sample}

    script = SUPPORT / "comfyui_wan_forward.py"
    run = subprocess.run([python, script, folder, tmp_path], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    for name, outputs in expected.items():
        got, _ = read_safetensors(tmp_path / f"{name}.out.safetensors")
        for key, value in outputs.items():
            found = got[key].clamp(-1, 1) if key == "frames" else got[key]
            assert found.shape == value.shape
            assert (found - value).abs().max() < 1e-4 * value.abs().max(), (name, key)


def write_case(path, weights, inputs, metadata):
    tensors = {f"weights.{name}": tensor for name, tensor in weights.items()}
    write_safetensors(path, tensors | {f"input.{name}": tensor for name, tensor in inputs.items()}, metadata)


@torch.no_grad()
def test_scaled_files_compute_what_they_do_in_comfyui(tmp_path: Path):
    folder, python = comfyui.find()
    original = dit_to_original(shaken_dit().state_dict())
    inputs = forward_inputs()
    given = dict(zip(("input.x", "input.timestep", "input.context"), inputs.values(), strict=True))
    forms = ["fp8", "fp8 scaled, old spelling", "fp8 scaled, new spelling"]
    cases = tmp_path / "cases"
    cases.mkdir()
    for form in forms:
        weights = {f"weights.{name}": value for name, value in FILES[form](original).items()}
        write_safetensors(cases / f"{form}.safetensors", weights | given, {"kind": "dit"})
    script = SUPPORT / "comfyui_wan_forward.py"
    run = subprocess.run([python, script, folder, cases], capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr[-2000:]
    for form in forms:
        write_safetensors(tmp_path / form, FILES[form](original))
        expected = load_dit(find_form(tmp_path / form, Part.DIT), torch.float32)(**inputs).sample
        found = read_safetensors(cases / f"{form}.out.safetensors")[0]["velocity"]
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max(), form
