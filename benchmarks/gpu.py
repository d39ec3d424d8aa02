"""GPU use at published sizes, compared with the plan: peak of each phase, seconds per step, attention, compiled blocks.

    export PYTHONPATH=.:tests:benchmarks
    python -m gpu --out gpu.json                      # at most 8 minutes on one GPU
    python -m gpu --tiny --device cpu --out gpu.json  # the same code in seconds, on models of a few million numbers

Weights are random and created on the device. Results are written after each measurement, so that an interrupted run
keeps them; measurements for which no time is left are listed in "skipped". On a CPU a peak counts the bytes of live
tensors.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import torch

from instructx_core import Editor
from instructx_core.errors import InputError
from instructx_core.families.components import Components
from instructx_core.memory.choice import Memory
from instructx_core.memory.live import LiveMemory
from instructx_core.memory.measure import measure_phases
from instructx_core.memory.phases import Job
from instructx_core.memory.placement import place, store_in_fp8
from instructx_core.memory.plan import Plan, resident
from instructx_core.memory.sizes import sizes_of
from instructx_core.sampling import GuidanceTerm, initial_noise, sample
from instructx_core.speed.options import ATTENTION, speed_up

GIB = 2**30
WORDS = "make it red"
STEPS = 4
TOKENS = 512  # of the context, as for a clip
FIVE, ONE = Job(832, 480, 49), Job(832, 480, 81)
SMALL = Job(64, 64, 5)


class Results:
    """The results so far, kept on disk."""

    def __init__(self, path: Path, budget: float, about: dict[str, object]) -> None:
        self.path, self.end, self.content = path, time.monotonic() + budget, about | {"skipped": []}

    def add(self, name: str, seconds: float, measure: Callable[[], object]) -> None:
        """Measure unless fewer than the estimated `seconds` are left; an error is recorded as the result."""
        if time.monotonic() + seconds > self.end:
            self.content["skipped"].append(name)
        else:
            start = time.monotonic()
            try:
                found = measure()
            except (InputError, RuntimeError, ImportError) as error:  # out of memory, missing package: go on
                found = {"error": str(error).splitlines()[0][:300]}
            self.content[name] = {"took": round(time.monotonic() - start, 1), "found": found}
        self.path.write_text(json.dumps(self.content, indent=1) + "\n")
        free()


def five(tiny: bool, device: torch.device) -> Components:
    """Kiwi-Edit 5B with random weights, on a device, or without weights on "meta"."""
    from kiwi_layout import PUBLISHED, components

    from support import kiwi_model

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return kiwi_model.components() if tiny else components(PUBLISHED)
    finally:
        torch.set_default_dtype(before)


def small_dit(tiny: bool, device: torch.device) -> torch.nn.Module:
    """The bare DiT of Wan2.1 1.3B."""
    from diffusers import WanTransformer3DModel

    sizes = {"num_attention_heads": 1, "ffn_dim": 64, "num_layers": 2} if tiny else {}
    sizes = sizes or {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
    with device:
        return WanTransformer3DModel(**sizes).to(torch.bfloat16).eval().requires_grad_(False)


def planned(model: Components, job: Job, memory: Memory) -> dict[str, float]:
    """The GiB that the plan predicts for each phase."""
    sizes = sizes_of(model)
    return {
        phase.name: (resident(sizes, memory, phase.part) + phase.working) / GIB for phase in measure_phases(model, job)
    }


def phases(model: Components, memory: Memory, job: Job, device: torch.device, fp8: bool = False) -> dict[str, object]:
    """Peaks of an edit's phases in GiB and seconds per step; the weights may be on the CPU or on the device."""
    if fp8:
        store_in_fp8(model)
    editor = Editor(place(model, Plan(memory, tiled=False), device), device)
    frames = torch.rand(job.frames, job.height, job.width, 3, generator=torch.Generator().manual_seed(0))
    peaks: dict[str, float] = {}
    with peak(peaks, "MLLM reads", device):
        context = editor.context([WORDS], [frames], [()], job.frames > 1)
    with peak(peaks, "VAE encodes", device):
        source = editor.encode(frames[None])
    marks: list[float] = []

    def mark(*_: object) -> None:
        settle(device)
        marks.append(time.perf_counter())

    terms = [GuidanceTerm(1.0, context, editor.denoiser.conditions(source))]
    with peak(peaks, "DiT step", device):
        mark()
        latents = sample(editor.denoiser, initial_noise(source.shape, 0).to(device), terms, STEPS, 5.0, mark)
    with peak(peaks, "VAE decodes", device):
        editor.decode(latents)
    taken = [later - earlier for earlier, later in pairwise(marks)]
    return {"peak": peaks, "seconds_a_step": statistics.median(taken[1:]), "first_step": taken[0]}


def bare(dit: torch.nn.Module, job: Job, stride: tuple[int, int], device: torch.device, context: int) -> float:
    """Seconds of a forward of diffusers' unmodified DiT, for clips of the job's length and size.

    Args:
        stride: of the VAE, in time and in space.
        context: width of the tokens for cross-attention.
    """
    channels, dtype = dit.config.in_channels, torch.bfloat16
    size = (1, channels, 1 + (job.frames - 1) // stride[0], job.height // stride[1], job.width // stride[1])
    latents = torch.randn(size, device=device, dtype=dtype)
    text = torch.randn(1, TOKENS, context, device=device, dtype=dtype)
    taken = []
    with torch.no_grad():
        for _ in range(STEPS):
            settle(device)
            start = time.perf_counter()
            dit(latents, torch.tensor([500], device=device), text, return_dict=False)
            settle(device)
            taken.append(time.perf_counter() - start)
    return statistics.median(taken[1:])


@contextmanager
def peak(peaks: dict[str, float], name: str, device: torch.device) -> Iterator[None]:
    """Record the peak allocation within the block, in GiB; on a CPU, only of tensors created within it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield
        settle(device)
        peaks[name] = torch.cuda.max_memory_allocated(device) / GIB
        return
    with LiveMemory() as live:
        yield
    peaks[name] = live.peak / GIB


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the JSON to write")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--budget", type=float, default=450, help="seconds after which no new measurement starts")
    given = parser.parse_args()
    device, tiny = torch.device(given.device), given.tiny
    on_gpu = device.type == "cuda"
    job, long = (SMALL, SMALL) if tiny else (FIVE, ONE)
    about = {
        "card": torch.cuda.get_device_name(device) if on_gpu else platform.processor() or platform.machine(),
        "memory": torch.cuda.get_device_properties(device).total_memory / GIB if on_gpu else None,
        "torch": torch.__version__, "tiny": tiny, "5B": asdict(job), "1.3B": asdict(long), "steps": STEPS,
    }  # fmt: skip
    results = Results(given.out, given.budget, about)
    host, meta = torch.device("cpu"), torch.device("meta")
    if not tiny:
        results.add("plan", 20, lambda: {way.value: planned(five(tiny, meta), job, way)
                                         for way in (Memory.FULL, Memory.GROUP)})  # fmt: skip
    results.add("full", 60, lambda: phases(five(tiny, device), Memory.FULL, job, device))
    results.add("fp8", 60, lambda: phases(five(tiny, device), Memory.FULL, job, device, fp8=True))

    def by_group() -> object:
        model = five(tiny, device)
        for module in (model.guidance, model.connector, model.denoiser, model.codec):
            module.to(host)  # created on the device first, which is faster
        return phases(model, Memory.GROUP, job, device)

    results.add("group", 90, by_group)

    def bare_five() -> float:
        model = five(tiny, device)
        dit, codec = model.denoiser.transformer, model.codec
        width = dit.config.num_attention_heads * dit.config.attention_head_dim  # Kiwi-Edit's context has this width
        return bare(dit, job, (codec.temporal_stride, codec.stride), device, width)

    results.add("bare 5B", 40, bare_five)
    results.add("bare 1.3B", 40, lambda: bare(small_dit(tiny, device), long, (4, 8), device, 4096))
    for attention in ATTENTION:
        if attention == "sdpa":
            continue

        def other(attention: str = attention) -> float:
            dit = small_dit(tiny, device)
            speed_up(dit, attention, False, None)
            return bare(dit, long, (4, 8), device, 4096)

        results.add(f"1.3B, {attention}", 30, other)

    def compiled() -> float:
        dit = small_dit(tiny, device)
        speed_up(dit, "sdpa", True, None)
        return bare(dit, long, (4, 8), device, 4096)

    results.add("1.3B, compiled", 90, compiled)
    print(given.out.read_text())


if __name__ == "__main__":
    main()
