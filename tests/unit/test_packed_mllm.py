"""A Qwen2.5-VL that bitsandbytes has packed into 4 or 8 bits, with queries and LoRA on it; on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from instructx_core import Editor
from instructx_core.convert import convert
from instructx_core.families.overrides import Overrides
from instructx_core.weights.detect import find_form
from instructx_core.weights.mllm import load_mllm
from instructx_core.weights.parts import Part
from support import tiny
from support.opening import load

REASON = "THE PACKAGE bitsandbytes IS MISSING: packed MLLMs were not tried"


@pytest.fixture(scope="module", params=["4", "8"])
def packed(request: pytest.FixtureRequest, tmp_path_factory) -> Path:
    """A tiny Qwen2.5-VL as transformers packs and saves it, its tokenizer beside it."""
    pytest.importorskip("bitsandbytes", reason=REASON)
    from transformers import BitsAndBytesConfig, Qwen2_5_VLForConditionalGeneration

    folder = tmp_path_factory.mktemp("packed")
    tiny.mllm().save_pretrained(folder / "plain")
    how = BitsAndBytesConfig(**{f"load_in_{request.param}bit": True})
    options = {"quantization_config": how, "device_map": "cpu", "dtype": torch.float32}
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "plain", **options)
    model.save_pretrained(folder / "qwen")
    tiny.tokenizer().save_pretrained(folder / "qwen")
    return folder / "qwen"


@torch.no_grad()
def test_it_thinks_as_transformers_own(packed: Path):
    from transformers import Qwen2_5_VLForConditionalGeneration

    ours, _ = load_mllm(find_form(packed, Part.MLLM), packed, torch.float32)
    theirs = Qwen2_5_VLForConditionalGeneration.from_pretrained(packed, dtype=torch.float32)
    words = torch.tensor([[5, 6, 7]])
    one, other = (m.model.language_model(input_ids=words, use_cache=False).last_hidden_state for m in (ours, theirs))
    assert torch.equal(one, other)
    kept = ours.model.language_model.layers[0].mlp.up_proj.weight
    assert kept.dtype in (torch.uint8, torch.int8)


def test_it_edits_with_queries_and_lora(packed: Path, saved: Path, tmp_path: Path):
    plain, editor = (Editor.from_pretrained(saved, device="cpu", mllm=mllm) for mllm in (None, packed))
    layer = editor.guidance.mllm.model.language_model.layers[0].self_attn.q_proj
    assert layer.base_layer.weight.dtype in (torch.uint8, torch.int8) and "default" in layer.lora_A
    expected, found = (model.edit(tiny.clip(1), "make it snow", steps=1).context for model in (plain, editor))
    assert 0 < (found - expected).std() < 0.6 * expected.std()  # 4 bits round the random tiny model by 0.36
    convert(saved, tmp_path / "own", Overrides(mllm=packed))
    again = Editor(load(tmp_path / "own")).edit(tiny.clip(1), "make it snow", steps=1).context
    torch.testing.assert_close(again, found, atol=1e-5, rtol=1e-5)
