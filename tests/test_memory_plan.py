"""The estimate against what the libraries' own code holds, at real sizes on fake tensors and on the bundled model."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tiny
import torch
from live_memory import LiveMemory
from torch._subclasses.fake_tensor import FakeTensorMode

from instructx_core import InputError, cli
from instructx_core.checkpoints.loading import load_model
from instructx_core.checkpoints.outline import outline
from instructx_core.config import DenoiserConfig, ModelConfig
from instructx_core.denoiser import Conditions, Denoiser
from instructx_core.memory.choice import Memory, parse_memory
from instructx_core.memory.estimate import Job, Part, dit_working, estimate, kept_working
from instructx_core.memory.plan import CHOICES, make_plan, peak, resident, usable
from instructx_core.memory.sizes import MLLMSizes, ModelSizes, Weights, dit_sizes, sizes_of, vae_sizes
from instructx_core.memory.vae_estimate import decoding_bytes, encoding_bytes

if TYPE_CHECKING:
    from instructx_core import Editor

GIB = 2**30
QUERIES = 512

# Configs of Wan-AI/Wan2.1-T2V-14B-Diffusers and Wan-AI/Wan2.2-TI2V-5B-Diffusers on the hub, two layers of each DiT
WAN_14B = {"num_attention_heads": 40, "in_channels": 16, "out_channels": 16, "ffn_dim": 13824, "num_layers": 2}
WAN_5B = {"num_attention_heads": 24, "in_channels": 48, "out_channels": 48, "ffn_dim": 14336, "num_layers": 2}
VAE_21: dict[str, object] = {}
VAE_22 = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12, "out_channels": 12,
    "patch_size": 2, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
}  # fmt: skip


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=str)
def dtype(request: pytest.FixtureRequest):
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


# --- the estimate


@pytest.mark.parametrize("config", [WAN_14B, WAN_5B], ids=["14B", "5B"])
@pytest.mark.parametrize("guided", [False, True])
def test_dit_step_of_published_sizes(config: dict, guided: bool, dtype: torch.dtype):
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    job = Job(832, 480, 81, guided)
    with FakeTensorMode(), torch.no_grad():
        model = WanTransformer3DModel(**config)
        vae = vae_sizes(AutoencoderKLWan(**(VAE_21 if config is WAN_14B else VAE_22)))
        batch, side = 1 + guided, vae.stride
        latents = torch.empty(batch, config["in_channels"], 21, 480 // side, 832 // side)
        context = torch.empty(batch, QUERIES, 4096)
        with LiveMemory(model) as live:
            model(latents, torch.full((batch,), 500.0), context, return_dict=False)
    assert dit_working(dit_sizes(model), vae, job) == pytest.approx(live.peak, rel=0.05)


@pytest.mark.parametrize("guided", [False, True])
def test_what_a_run_keeps(guided: bool, dtype: torch.dtype):
    from diffusers import WanTransformer3DModel

    with FakeTensorMode(), torch.no_grad():
        denoiser = Denoiser(WanTransformer3DModel(**WAN_5B), DenoiserConfig())
        latents = torch.empty(1 + guided, WAN_5B["in_channels"], 1, 4, 4)
        context = torch.empty(1 + guided, QUERIES, 4096)
        with LiveMemory(denoiser) as live:
            prepared = denoiser.prepare(Conditions(context), 1)
            denoiser(latents, torch.tensor(0.5), prepared)
            gc.collect()
    kept = live.now - context.nbytes
    assert kept_working(dit_sizes(denoiser.transformer), QUERIES, guided) == pytest.approx(kept, rel=0.01)


@pytest.mark.parametrize("config", [VAE_21, VAE_22], ids=["2.1", "2.2"])
@pytest.mark.parametrize("what", ["encode", "decode"])
def test_vae_of_published_sizes(config: dict, what: str, dtype: torch.dtype):
    from diffusers import AutoencoderKLWan

    frames, height, width = 9, 480, 832  # the third chunk is as full as any later one
    with FakeTensorMode(), torch.no_grad():
        vae = AutoencoderKLWan(**config)
        sizes = vae_sizes(vae)
        live = LiveMemory(vae)
        if what == "encode":
            clip = torch.empty(1, 3, frames, height, width)
            with live:
                vae.encode(clip)
            estimated = encoding_bytes(sizes, width, height, frames)
        else:
            latents = torch.empty(1, sizes.channels, 3, height // sizes.stride, width // sizes.stride)
            with live:
                vae.decode(latents)
            estimated = decoding_bytes(sizes, width, height, frames)
    assert estimated == pytest.approx(live.peak, rel=0.1)


@pytest.mark.parametrize(("frames", "side"), [(1, 128), (9, 128)])
@torch.no_grad()
def test_every_phase_of_the_bundled_model(bundled_editor: Editor, frames: int, side: int):
    editor = bundled_editor
    parts = (editor.guidance, editor.connector, editor.denoiser, editor.codec)
    clip = torch.rand(frames, side, side, 3)
    inputs = editor.guidance.prepare(["make it red"], [clip], is_video=frames > 1)
    with LiveMemory(*parts) as reading:
        context = editor.guidance(inputs)
    with LiveMemory(*parts) as encoding:
        latents = editor.encode(clip[None])
    conditions = Conditions(editor.connector(context), latents)
    with LiveMemory(*parts) as step:
        prepared = editor.denoiser.prepare(conditions, latents.shape[2])
        for _ in range(2):
            editor.denoiser(torch.randn_like(latents), torch.tensor(0.5), prepared)
    with LiveMemory(*parts) as decoding:
        editor.decode(latents)
    phases = estimate(sizes_of(editor.components), Job(side, side, frames))
    measured = (reading, encoding, step, decoding)
    ratios = {phase.name: phase.working / live.peak for phase, live in zip(phases, measured, strict=True)}
    assert all(0.8 < ratio < 1.3 for ratio in ratios.values()), ratios


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["saved", "kiwi"])
def test_an_outline_has_the_sizes_of_the_model(layout: str, dtype: torch.dtype, request: pytest.FixtureRequest):
    """A model's weights are counted without them; buffers and LoRA included."""
    folder = request.getfixturevalue(layout)
    assert sizes_of(outline(folder, dtype)) == sizes_of(load_model(folder, dtype=dtype))


# --- the plan


def model_14b() -> ModelSizes:
    """Wan2.1-14B in bfloat16 with Qwen2.5-VL-3B: bytes rounded, as such a model has them."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    with torch.device("meta"):
        dit, vae = dit_sizes(WanTransformer3DModel(**WAN_14B)), vae_sizes(AutoencoderKLWan())
    block = 350_000_000 * 2
    weights = Weights(40 * block + 600_000_000, block, 600_000_000, 200_000_000)
    mllm = MLLMSizes(Weights(7_500_000_000, layer=622_000_000), 2048, 11008, 1280, 3420)
    return ModelSizes(
        ModelConfig(), mllm, replace(dit, weights=weights, layers=40, item=2), replace(vae, item=2), 50_000_000
    )


@pytest.mark.parametrize(
    ("vram", "expected", "tiled"),
    [(80, "full", False), (40, "model", False), (24, "group", False), (12, "group", False), (4, "sequential", True)],
)
def test_auto_takes_the_fastest_that_fits(vram: float, expected: str, tiled: bool):
    sizes, job = model_14b(), Job(832, 480, 81)
    plan = make_plan(sizes, job, Memory.AUTO, int(vram * GIB))
    assert (plan.memory.value, plan.tiled) == (expected, tiled)
    faster = CHOICES[: CHOICES.index(plan.memory)]
    phases = estimate(sizes, job, plan.tiled)
    assert all(peak(sizes, phases, choice) > usable(int(vram * GIB)) for choice in faster)


def test_what_was_asked_for_is_kept_and_a_cpu_has_nothing_to_gain():
    sizes, job = model_14b(), Job(832, 480, 81)
    assert make_plan(sizes, job, Memory.GROUP, 80 * GIB).memory is Memory.GROUP
    assert make_plan(sizes, job, Memory.AUTO, None).memory is Memory.FULL
    assert not make_plan(sizes, job, Memory.SEQUENTIAL, None).tiled
    with pytest.raises(InputError, match="memory is 'half'.*auto, full, model, group, sequential"):
        parse_memory("half")


def test_each_choice_keeps_less_on_the_device():
    sizes = model_14b()
    for part in Part:
        kept = [resident(sizes, choice, part) for choice in CHOICES]
        assert kept[0] == max(kept) and kept[-1] == min(kept)


def test_tiles_bound_what_the_vae_computes_with():
    sizes = model_14b()
    small, large = (estimate(sizes, Job(side, side, 1), tiled=True)[3].working for side in (1024, 2048))
    assert large < 1.6 * small
    assert estimate(sizes, Job(2048, 2048, 1))[3].working > 3 * estimate(sizes, Job(1024, 1024, 1))[3].working


# --- instructx info --plan


def test_info_prints_the_plan(kiwi: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("instructx_core.checkpoints.loading.load_model", lambda *_: pytest.fail("weights were loaded"))
    words = ["info", "--plan", "--width", "832", "--height", "480", "--frames", "81", "--vram", "24", str(kiwi)]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    for phase in estimate(model_14b(), Job(832, 480, 81)):
        assert phase.name in text
    assert "Kiwi-Edit, 832 x 480" in text and "81 frames" in text and 'memory="full"' in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vram", "24"], "--plan"),
        (["--plan", "--width", "64"], "both or neither"),
        (["--plan", "nowhere"], "nowhere"),
    ],
)
def test_info_refuses(words: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["info", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_tiny_model_has_a_plan_too(tiny_components):
    assert make_plan(sizes_of(tiny_components), Job(tiny.WIDTH, tiny.WIDTH, 5), Memory.AUTO, GIB).memory is Memory.FULL
