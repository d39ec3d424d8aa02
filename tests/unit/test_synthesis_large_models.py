"""Experts of one published size (SAM 3, Wan Animate, FLUX Kontext, Qwen-Image-Edit, RAFT), run with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from instructx_core.errors import CheckpointError, InputError
from instructx_core.synthesis.config import ExpertChoice
from instructx_core.synthesis.experts import ExpertFailed, Experts
from instructx_core.synthesis.models import load_experts

pytestmark = pytest.mark.slow
CLIP = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (4, 44, 60, 3), dtype=np.uint8))


def expert(role: str, kind: str, folder: Path, **settings: float) -> object:
    experts: Experts = load_experts({role: ExpertChoice(kind, str(folder), settings=settings)}, "cpu")
    return getattr(experts, role)


def test_sam3_follows_a_box(tmp_path):
    from support import tiny_large_experts as tiny

    mask = expert("segment", "sam3", tiny.save_sam3(tmp_path / "sam3")).track(CLIP, (10, 10, 40, 30))
    assert mask.shape == CLIP.shape[:3] and mask.dtype == torch.bool


def test_wan_animate_follows_poses(tmp_path):
    from support import tiny_large_experts as tiny

    animate = expert("animate", "wan-animate", tiny.save_wan_animate(tmp_path / "animate"), steps=1)
    poses = torch.rand(4, 17, 3) * torch.tensor([44, 60, 1.0])
    made = animate.animate(CLIP[0], CLIP, poses)
    assert made.shape == CLIP.shape and made.dtype == torch.uint8
    assert not torch.equal(made, animate.animate(CLIP[0], CLIP, poses.flip(1)))
    with pytest.raises(ExpertFailed, match="no poses"):
        animate.animate(CLIP[0], CLIP, None)


def test_kontext_edits_a_picture(tmp_path):
    from support import tiny_large_experts as tiny

    redraw = expert("redraw", "picture-edit", tiny.save_kontext(tmp_path / "kontext"), steps=1)
    made = redraw.edit(CLIP[0], "make it low")
    assert made.shape == CLIP[0].shape and made.dtype == torch.uint8
    mask = torch.zeros(44, 60, dtype=torch.bool)
    mask[20:23, 30:32] = True  # smaller than what the pipeline has a size for
    assert redraw.portray(CLIP[0], mask, "cat").ndim == 3


def test_qwen_image_edit_edits_a_picture(tmp_path):
    pytest.importorskip("torchvision", reason="transformers' processor of Qwen2.5-VL needs torchvision")
    from support import tiny_large_experts as tiny

    redraw = expert("redraw", "picture-edit", tiny.save_qwen_edit(tmp_path / "qwen"), steps=1)
    assert redraw.further == {"negative_prompt": " "}  # else it is not guided
    assert redraw.edit(CLIP[0], "make it low").shape == CLIP[0].shape


def test_raft_says_how_pixels_move(tmp_path):
    optical_flow = pytest.importorskip("torchvision", reason="RAFT is torchvision's").models.optical_flow
    from safetensors.torch import save_file

    with pytest.raises(CheckpointError, match="0 .safetensors files"):
        expert("flow", "raft", tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "raft.safetensors")
    with pytest.raises(CheckpointError, match="does not hold torchvision's RAFT weights"):
        expert("flow", "raft", tmp_path)
    save_file(optical_flow.raft_small(weights=None).state_dict(), tmp_path / "raft.safetensors")
    flow = expert("flow", "raft", tmp_path).flow(CLIP)
    assert flow.shape == (3, 16, 16, 2) and flow.isfinite().all()


def test_without_torchvision_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models.optical_flow", None)
    with pytest.raises(InputError, match="raft needs torchvision"):
        expert("flow", "raft", tmp_path)
