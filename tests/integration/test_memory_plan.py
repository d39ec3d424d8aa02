"""What a plan measures against what the libraries' own code holds, at real sizes and on the bundled model; the plan."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from instructx_core import InputError, cli, families
from instructx_core.config import ConnectorConfig, ModelConfig
from instructx_core.connectors import make_connector
from instructx_core.context import Context
from instructx_core.denoiser import Denoiser
from instructx_core.families.components import Components
from instructx_core.families.instructx.folder import BUNDLED
from instructx_core.guidance.encoder import MLLMGuidance
from instructx_core.latents import LatentCodec
from instructx_core.memory.choice import Memory, parse_memory
from instructx_core.memory.decide import decide
from instructx_core.memory.describe import describe_plan
from instructx_core.memory.live import LiveMemory
from instructx_core.memory.measure import decoding_bytes, encoding_bytes, measure_phases, step_bytes
from instructx_core.memory.phases import Job, Part, Phase
from instructx_core.memory.placement import place
from instructx_core.memory.plan import CHOICES, Plan, free_bytes, make_plan, peak, resident, usable
from instructx_core.memory.sizes import ModelSizes, Weights, sizes_of
from instructx_core.speed.run_cache import RunCache
from support import tiny
from support.opening import load, outlined
from support.paper_size import QWEN_3B, ROPE, VISION

if TYPE_CHECKING:
    from instructx_core import Editor

GIB = 2**30
QUERIES = 512

# Configs of Wan-AI/Wan2.1-T2V-14B-Diffusers and Wan-AI/Wan2.2-TI2V-5B-Diffusers on the hub, some layers of each DiT
WAN_14B = {"num_attention_heads": 40, "in_channels": 16, "out_channels": 16, "ffn_dim": 13824}
WAN_5B = {"num_attention_heads": 24, "in_channels": 48, "out_channels": 48, "ffn_dim": 14336}
VAE_21: dict[str, object] = {}
VAE_22 = {
    "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12, "out_channels": 12,
    "patch_size": 2, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48, "latents_std": [1.0] * 48,
}  # fmt: skip


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=str)
def dtype(request: pytest.FixtureRequest) -> Iterator[torch.dtype]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(request.param)
    yield request.param
    torch.set_default_dtype(before)


def without_weights(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return make()


def shallow_qwen() -> nn.Module:
    """Qwen2.5-VL-3B with one layer of each kind: as long a guidance."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {**QWEN_3B, "num_hidden_layers": 1, "rope_scaling": ROPE, "rope_theta": 1e6}
    config = Qwen2_5_VLConfig(text_config=text, vision_config={**VISION, "depth": 1})
    return Qwen2_5_VLForConditionalGeneration(config)


# --- what is measured, against another way: fake tensors of a CPU, with its own flash attention


@pytest.mark.parametrize(("sizes", "guided"), [(WAN_14B, False), (WAN_5B, True)], ids=["14B", "5B"])
def test_dit_step_of_published_sizes(sizes: dict, guided: bool, dtype: torch.dtype):
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    layers, job = 5, Job(832, 480, 81, guided)
    config = ModelConfig(connector=ConnectorConfig(output_dim=4096))

    def denoiser() -> Denoiser:
        return Denoiser(WanTransformer3DModel(num_layers=layers, **sizes), config.denoiser)

    codec = without_weights(lambda: LatentCodec(AutoencoderKLWan(**(VAE_21 if sizes is WAN_14B else VAE_22))))
    connector = without_weights(lambda: make_connector(config.connector))
    guidance = without_weights(lambda: MLLMGuidance(shallow_qwen(), None, config.guidance))
    measured = step_bytes(Components(config, guidance, connector, without_weights(denoiser), codec), job)
    with FakeTensorMode(), torch.no_grad():
        model = denoiser()
        shape = (1 + guided, codec.channels, 21, 480 // codec.stride, 832 // codec.stride)
        with LiveMemory(model) as live:
            context = Context(torch.empty(1 + guided, config.guidance.video_queries, 4096))
            conditions = model.conditions(torch.empty(1, *shape[1:], dtype=torch.float32))
            latents, cache = torch.empty(shape, dtype=torch.float32), RunCache(model.transformer)
            for _ in range(2):
                with cache.lent():
                    model(latents, torch.tensor(0.5), context, conditions)
    assert measured == pytest.approx(live.peak, rel=0.02)


@pytest.mark.parametrize(
    ("config", "what", "frames"),
    [(VAE_21, "encode", 13), (VAE_22, "decode", 13), (VAE_22, "encode", 1), (VAE_21, "decode", 1)],
)
def test_vae_of_published_sizes(config: dict, what: str, frames: int, dtype: torch.dtype):
    from diffusers import AutoencoderKLWan

    job = Job(416, 240, frames)
    codec = without_weights(lambda: LatentCodec(AutoencoderKLWan(**config)))
    measured = {"encode": encoding_bytes, "decode": decoding_bytes}[what](codec, job)
    with FakeTensorMode(), torch.no_grad():
        codec = LatentCodec(AutoencoderKLWan(**config))
        for module in codec.vae.modules():
            vars(module).pop("forward", None)  # of `skip_empty_taps`, which looks at the weights
        latent = (1, codec.channels, 1 + (frames - 1) // 4, 240 // codec.stride, 416 // codec.stride)
        with LiveMemory(codec) as live:
            if what == "encode":
                codec.encode(torch.empty(1, frames, 240, 416, 3, dtype=torch.float32))
            else:
                # as `LatentCodec.decode`, but for its look at the numbers, which fake tensors do not have
                raw = codec.denormalise(torch.empty(latent, dtype=torch.float32)).to(codec.vae.dtype)
                (codec.vae.decode(raw, return_dict=False)[0].float() / 2 + 0.5).clamp(0, 1)
    assert measured == pytest.approx(live.peak, rel=0.03)


def test_tiles_as_they_are_cut():
    """Against the libraries' whole tiled run, which takes too long to measure at the sizes of real clips."""
    from diffusers import AutoencoderKLWan

    sizes = {"base_dim": 8, "decoder_base_dim": 8, "num_res_blocks": 1}
    codec = without_weights(lambda: LatentCodec(AutoencoderKLWan(**VAE_22 | sizes)))
    for module in codec.vae.modules():
        vars(module).pop("forward", None)
    codec.vae.enable_tiling()
    latents = torch.empty(1, codec.channels, 2, 384 // codec.stride, 768 // codec.stride, device="meta")
    with LiveMemory(codec) as decoding:
        codec.decode(latents)
    with LiveMemory(codec) as encoding:
        codec.encode(torch.empty(1, 5, 384, 768, 3, device="meta"))
    codec.vae.disable_tiling()
    job = Job(768, 384, 5)
    assert decoding_bytes(codec, job, tiled=True) == pytest.approx(decoding.peak, rel=0.25)
    assert encoding_bytes(codec, job, tiled=True) == pytest.approx(encoding.peak, rel=0.25)


@pytest.mark.parametrize(("frames", "side"), [(1, 128), (9, 128)])
@torch.no_grad()
def test_every_phase_of_the_bundled_model(bundled_editor: Editor, frames: int, side: int):
    """On real tensors."""
    editor = bundled_editor
    parts = (editor.guidance, editor.connector, editor.denoiser, editor.codec)
    clip = torch.rand(frames, side, side, 3)
    inputs = editor.guidance.prepare(["make it red"], [clip], is_video=frames > 1)
    with LiveMemory(*parts) as reading:
        context = editor.guidance(inputs)
    with LiveMemory(*parts) as encoding:
        latents = editor.encode(clip[None].clone())
    with LiveMemory(*parts) as step:
        context = editor.connector(context)
        conditions, cache = editor.denoiser.conditions(latents.clone()), RunCache(editor.denoiser.transformer)
        noisy = torch.randn_like(latents)
        for _ in range(2):
            with cache.lent():
                editor.denoiser(noisy, torch.tensor(0.5), context, conditions)
    with LiveMemory(*parts) as decoding:
        editor.decode(latents)
    phases = measure_phases(outlined(BUNDLED, torch.float32), Job(side, side, frames))
    measured = (reading, encoding, step, decoding)
    ratios = {phase.name: phase.working / live.peak for phase, live in zip(phases, measured, strict=True)}
    # the MLLM reads fewer words here than are counted; `skip_empty_taps` copies frames that are not counted
    assert all(0.9 < ratio < 1.3 for ratio in ratios.values()), ratios


class RealTensors(TorchDispatchMode):
    """`largest`: numbers of the largest tensor made that is not on the meta device."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        real = (one for one in tree_leaves(result) if isinstance(one, torch.Tensor) and not one.is_meta)
        self.largest = max(self.largest, *(one.numel() for one in real), 0)
        return result


def test_nothing_of_a_clip_is_made_while_a_step_is_measured(saved: Path):
    """Rotary frequencies of a long clip at full size would take gigabytes."""
    components, job = outlined(saved), Job(1024, 1024, 33)
    with RealTensors() as real:
        step_bytes(components, job)
    assert real.largest < 10_000


def test_a_packed_dit_is_measured_unpacked():
    components = outlined(BUNDLED, torch.bfloat16)
    plain = step_bytes(components, Job(64, 64, 1))
    for module in components.denoiser.transformer.modules():
        if isinstance(module, nn.Linear):
            packed = torch.empty(module.weight.numel() // 2, dtype=torch.uint8, device="meta")
            module.weight = nn.Parameter(packed, requires_grad=False)
    assert step_bytes(components, Job(64, 64, 1)) == plain


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", ["saved", "kiwi"])
def test_an_outline_has_the_sizes_of_the_model(layout: str, dtype: torch.dtype, request: pytest.FixtureRequest):
    """A model's weights are counted without them; buffers and LoRA included."""
    folder = request.getfixturevalue(layout)
    assert sizes_of(outlined(folder, dtype)) == sizes_of(load(folder, dtype=dtype))


# --- the plan


def model_14b() -> ModelSizes:
    """Wan2.1-14B in bfloat16 with Qwen2.5-VL-3B: bytes rounded, as such a model has them."""
    block = 350_000_000 * 2
    dit = Weights(40 * block + 600_000_000, block, 600_000_000, 200_000_000)
    mllm = Weights(7_500_000_000, layer=622_000_000)
    return ModelSizes(mllm, dit, Weights(250_000_000, layer=20_000_000), added=50_000_000)


def phases_14b(tiled: bool) -> tuple[Phase, ...]:
    """Of 81 frames at 832 x 480, rounded."""
    encodes, decodes = (1.5, 1.6) if tiled else (3.3, 4.2)
    numbers = (("MLLM reads", Part.MLLM, 0.6), ("VAE encodes", Part.VAE, encodes), ("DiT step", Part.DIT, 3.9))
    return tuple(Phase(*rest, int(gib * GIB)) for *rest, gib in (*numbers, ("VAE decodes", Part.VAE, decodes)))


@pytest.mark.parametrize(
    ("vram", "expected", "tiled"),
    [(80, "full", False), (40, "model", False), (24, "group", False), (12, "group", False), (4, "sequential", True)],
)
def test_auto_takes_the_fastest_that_fits(vram: float, expected: str, tiled: bool):
    sizes = model_14b()
    plan = make_plan(sizes, phases_14b, CHOICES, int(vram * GIB))
    assert (plan.memory.value, plan.tiled) == (expected, tiled)
    faster = CHOICES[: CHOICES.index(plan.memory)]
    assert all(peak(sizes, phases_14b(plan.tiled), choice) > usable(int(vram * GIB)) for choice in faster)


def test_what_was_asked_for_is_kept():
    assert make_plan(model_14b(), phases_14b, (Memory.GROUP,), 80 * GIB).memory is Memory.GROUP
    with pytest.raises(InputError, match="memory is 'half'.*auto, full, model, group, sequential"):
        parse_memory("half")


def test_each_choice_keeps_less_on_the_device():
    sizes = model_14b()
    for part in Part:
        kept = [resident(sizes, choice, part) for choice in CHOICES]
        assert kept[0] == max(kept) and kept[-1] == min(kept)


def test_tiles_bound_what_the_vae_computes_with():
    from diffusers import AutoencoderKLWan

    codec = without_weights(lambda: LatentCodec(AutoencoderKLWan()))
    small, large = (decoding_bytes(codec, Job(side, side, 1), tiled=True) for side in (1024, 2048))
    assert large < 1.6 * small
    assert decoding_bytes(codec, Job(2048, 2048, 1)) > 3 * decoding_bytes(codec, Job(1024, 1024, 1))


def test_what_pytorch_keeps_of_others_is_free(monkeypatch: pytest.MonkeyPatch):
    for name, size in (("mem_get_info", (3, 80)), ("memory_reserved", 20), ("memory_allocated", 5)):
        monkeypatch.setattr(torch.cuda, name, lambda _device, size=size: size)
    assert free_bytes(torch.device("cuda")) == 3 + 20 - 5


def test_a_model_that_is_gone_makes_room(saved: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("instructx_core.memory.decide.SMALL", 0)
    gone = place(tiny.components(), Plan(Memory.MODEL, tiled=False), torch.device("cpu"))
    weights = weakref.ref(gone.denoiser.transformer.proj_out.weight)
    del gone
    decide(families.open(saved), torch.device("cpu"), torch.float32)
    assert weights() is None


# --- instructx info --plan


def test_a_gpu_that_has_nothing_free(saved: Path):
    assert "0 GiB free" in describe_plan(saved, vram=1e-10)


def test_info_prints_the_plan(kiwi: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("instructx_core.editor.load_model", lambda *_: pytest.fail("weights were loaded"))
    words = ["info", "--plan", "--width", "832", "--height", "480", "--frames", "81", "--vram", "24", str(kiwi)]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    for words in ("MLLM reads", "VAE encodes", "DiT step", "VAE decodes", "most at once", "main memory"):
        assert words in text
    assert "Kiwi-Edit, 832 x 480" in text and "81 frames" in text and 'bfloat16, memory="full"' in text


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
