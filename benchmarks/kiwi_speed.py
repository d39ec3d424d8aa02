"""Time and memory of an edit with Kiwi-Edit's layout, as ratios to its authors' own pipeline.

Both run on the same random weights (`kiwi_layout.py`), source, words and seed, on one CPU thread.
- Whole edits alternate, timed by phase, and the difference between their latents is given; then single steps alternate.
- Time is the thread's CPU time, which hardly depends on other load; every turn gives one ratio, and the median counts.
  bfloat16, which most CPUs only emulate, is timed only for single steps.
- Memory is measured in one process each: the bytes of live tensors in a phase, including its inputs, as a GPU would
  have to hold them, plus the weights on the device: all of them for the authors, for this library according to
  `--memory`. Also the peak of the process itself, minus what the imports take.

    python benchmarks/kiwi_speed.py --authors KIWI_EDIT
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import kiwi_authors
from kiwi_layout import SMALL, make_layout
from kiwi_memory import DECODES, ENCODES, GIB, PHASES, READS, STEP, print_table

from instructx_core import Editor
from instructx_core.context import Context
from instructx_core.memory.choice import Memory
from instructx_core.memory.live import LiveMemory
from instructx_core.memory.plan import CHOICES, resident
from instructx_core.memory.sizes import sizes_of
from instructx_core.sampling import initial_noise
from instructx_core.speed.run_cache import RunCache

INSTRUCTION = "Make the background a quiet street at night."
SEED = 0


@dataclass(frozen=True)
class Job:
    """The edit that both make, and the model."""

    authors: Path  # a checkout of their code
    folder: Path  # the model
    frames: int
    side: int
    steps: int

    @cached_property
    def clip(self) -> torch.Tensor:
        """Smooth random frames [T, H, W, 3], uint8."""
        coarse = torch.rand(1, 3, self.frames, 8, 8, generator=torch.Generator().manual_seed(SEED))
        size = (self.frames, self.side, self.side)
        fine = torch.nn.functional.interpolate(coarse, size, mode="trilinear", align_corners=True)
        return (fine[0].permute(1, 2, 3, 0) * 255).round().to(torch.uint8).contiguous()

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (1, 48, 1 + (self.frames - 1) // 4, self.side // 16, self.side // 16)

    @property
    def tokens(self) -> int:
        return self.latent_shape[2] * (self.side // 32) ** 2


@dataclass
class Watch:
    """Record what calls of some functions take: CPU seconds, and bytes of tensors if `live` counts them."""

    live: LiveMemory | None = None
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    most: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def over(self, phase: str, owner: Any, name: str) -> None:
        """Watch `owner.name`, in place."""
        function = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if self.live is not None:
                before, self.live.peak = self.live.now, self.live.now
            start = process_time()
            result = function(*args, **kwargs)
            self.seconds[phase].append(process_time() - start)
            if self.live is not None:
                given = _bytes_of([*args, *kwargs.values()])
                self.most[phase] = max(self.most[phase], given + self.live.peak - before)
            return result

        setattr(owner, name, watched)


def _bytes_of(values: Iterable[Any]) -> int:
    """Bytes of the tensors among some arguments, and in the fields of dataclasses among them."""
    total = 0
    for value in values:
        if isinstance(value, torch.Tensor):
            total += value.nbytes
        elif hasattr(value, "__dataclass_fields__"):
            total += _bytes_of(vars(value).values())
    return total


class Ours:
    """This library's editor."""

    def __init__(self, job: Job, dtype: torch.dtype, watch: Watch, compile: bool = False) -> None:
        self.job = job
        self.editor = Editor.from_pretrained(job.folder, device="cpu", dtype=dtype, compile=compile)
        watch.over(READS, self.editor.guidance, "forward")
        watch.over(ENCODES, self.editor.codec, "encode")
        watch.over(STEP, self.editor.denoiser, "forward")
        watch.over(DECODES, self.editor.codec, "decode")

    @property
    def modules(self) -> list[nn.Module]:
        """Everything with weights."""
        return [self.editor.guidance, self.editor.connector, self.editor.denoiser, self.editor.codec]

    def edit(self) -> torch.Tensor:
        """The normalised latents of a whole edit."""
        side = self.job.side
        options = {"steps": self.job.steps, "seed": SEED, "height": side, "width": side}
        return self.editor.edit(self.job.clip, INSTRUCTION, **options).latents

    @torch.no_grad()
    def step(self, latents: torch.Tensor, context: torch.Tensor, source: torch.Tensor) -> Callable[[], torch.Tensor]:
        """A function that runs one sampling step of an edit."""
        denoiser = self.editor.denoiser
        conditions, cache = denoiser.conditions(source), RunCache(denoiser.transformer)

        @torch.no_grad()
        def one() -> torch.Tensor:
            with cache.lent():
                return denoiser(latents, torch.tensor(1.0), Context(context), conditions)

        return one


class Authors:
    """The authors' pipeline."""

    def __init__(self, job: Job, dtype: torch.dtype, watch: Watch) -> None:
        from PIL import Image

        self.job, self.dtype = job, dtype
        self.pipeline = kiwi_authors.load_authors(job.authors, job.folder, dtype, SMALL.vae_decoder)
        self.frames = [Image.fromarray(frame.numpy()) for frame in job.clip]
        watch.over(READS, self.pipeline.mllm_encoder.qwen_model, "forward")
        watch.over(ENCODES, self.pipeline.vae, "encode")
        watch.over(STEP, self.pipeline, "_model_forward")
        watch.over(DECODES, self.pipeline.vae, "decode")

    @property
    def modules(self) -> list[nn.Module]:
        return [part for part in self.pipeline.components.values() if isinstance(part, nn.Module)]

    def edit(self) -> torch.Tensor:
        return kiwi_authors.edit(self.pipeline, self.frames, INSTRUCTION, self.job.steps, SEED)[0]

    def step(self, latents: torch.Tensor, context: torch.Tensor, source: torch.Tensor) -> Callable[[], torch.Tensor]:
        latents, context, source = (tensor.to(self.dtype) for tensor in (latents, context, source))
        sigmas = torch.tensor([1.0, 0.5])
        first = (sigmas[:1] * 1000).to(self.dtype)
        return torch.no_grad()(
            lambda: self.pipeline._model_forward(latents, first, context, source, None, sigmas, sigmas * 1000)
        )


def in_turns(
    ways: dict[str, Callable[[], torch.Tensor]], turns: int
) -> tuple[dict[str, list[float]], dict[str, torch.Tensor]]:
    """CPU seconds of each way, once per turn in alternating order, and each way's last result."""
    seconds, results = defaultdict(list), {}
    for turn in range(turns):
        for name in list(ways) if turn % 2 == 0 else reversed(ways):
            start = process_time()
            results[name] = ways[name]().float()
            seconds[name].append(process_time() - start)
    return seconds, results


def apart(one: torch.Tensor, other: torch.Tensor) -> str:
    """The largest absolute difference, as text."""
    return f"{(one - other).abs().max():.1e}"


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median over turns of the ratio of two ways' times."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def time_edits(job: Job, turns: int) -> None:
    """Time whole edits in float32 and compare their latents."""
    watches = Watch(), Watch()
    ours, theirs = Ours(job, torch.float32, watches[0]), Authors(job, torch.float32, watches[1])
    whole, latents = in_turns({"theirs": theirs.edit, "ours": ours.edit}, turns)
    print(f"\nlatents after {job.steps} steps in float32 differ by {apart(latents['ours'], latents['theirs'])} at most")
    print(f"\n{'float32, CPU seconds':<24}{'ours':>8}{'theirs':>8}{'ratio':>8}")
    rows = {phase: (watches[0].seconds[phase], watches[1].seconds[phase]) for phase in PHASES}
    rows |= {f"whole edit, {job.steps} steps": (whole["ours"], whole["theirs"])}
    for name, (own, other) in rows.items():
        print(f"{name:<24}{statistics.median(own):>8.1f}{statistics.median(other):>8.1f}{ratio(own, other):>8.2f}")


def time_steps(job: Job, dtype: torch.dtype, turns: int) -> None:
    """Time single steps, eager and compiled."""
    ours, compiled = (Ours(job, dtype, Watch(), compile) for compile in (False, True))
    theirs = Authors(job, dtype, Watch())
    context = torch.randn(1, 512, ours.editor.config.connector.output_dim, generator=torch.Generator().manual_seed(1))
    given = initial_noise(job.latent_shape, 2), context, initial_noise(job.latent_shape, 3)
    ways = {"theirs": theirs.step(*given), "ours": ours.step(*given), "compiled": compiled.step(*given)}
    ways["compiled"]()  # compiles
    seconds, velocities = in_turns(ways, turns)
    took = f"theirs {statistics.median(seconds['theirs']):.1f} s"
    for name in ("ours", "compiled"):
        share, difference = ratio(seconds[name], seconds["theirs"]), apart(velocities[name], velocities["theirs"])
        print(f"DiT step, {dtype}, {name:<9} ratio {share:.2f} ({took}; velocities differ by {difference})", flush=True)


def measure_memory(job: Job, is_ours: bool, dtype: torch.dtype) -> tuple[dict[str, dict[str, int]], float]:
    """Bytes of every phase for each way of keeping weights, and this process's peak beyond the imports [GiB]."""
    torch.set_num_threads(1)
    import diffusers.models  # noqa: F401
    import transformers.models.qwen2_5_vl  # noqa: F401

    start, watch = _process_bytes("VmRSS"), Watch()
    model = Ours(job, dtype, watch) if is_ours else Authors(job, dtype, watch)
    watch.live = LiveMemory(*model.modules)
    with watch.live:
        model.edit()
    took = (_process_bytes("VmHWM") - start) / GIB
    if not is_ours:  # all their weights are loaded all the time
        weights = sum(tensor.nbytes for part in model.modules for tensor in part.parameters())
        return {"theirs": {phase: weights + watch.most[phase] for phase in PHASES}}, took
    sizes = sizes_of(model.editor.components)

    def there(memory: Memory) -> dict[str, int]:
        return {phase: resident(sizes, memory, part) + watch.most[phase] for phase, part in PHASES.items()}

    return {memory.value: there(memory) for memory in CHOICES}, took


def _process_bytes(field_name: str) -> int:
    """Resident bytes of this process now (VmRSS) or at its peak (VmHWM)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field_name].split()[0]) * 1024


def compare_memory(job: Job, dtype: torch.dtype) -> None:
    """Print the memory of all phases as a table, and the processes' peaks."""
    took, columns = {}, {}
    for name, is_ours in (("theirs", False), ("ours", True)):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            found, took[name] = pool.submit(measure_memory, job, is_ours, dtype).result()
        columns |= found
    print_table(f"GiB alive, {dtype}", columns)
    share = took["ours"] / took["theirs"]
    print(f"the process, load and edit: {took['ours']:.2f} / {took['theirs']:.2f} GiB, ratio {share:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", type=Path, required=True, help="a checkout of showlab/Kiwi-Edit")
    parser.add_argument("--frames", type=int, default=9, help="1 + a multiple of 4 (default: %(default)s)")
    parser.add_argument("--side", type=int, default=832, help="pixels, a multiple of 32 (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2, help="sampling steps of a whole edit (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each measurement (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        job = Job(given.authors, Path(folder) / "model", given.frames, given.side, given.steps)
        make_layout(job.folder)
        print(f"{job.frames} frames at {job.side} x {job.side}: {job.tokens} DiT tokens; PyTorch {torch.__version__}")
        time_edits(job, given.turns)
        compare_memory(job, torch.float32)
        print()
        for dtype in (torch.float32, torch.bfloat16):
            time_steps(job, dtype, given.turns)


if __name__ == "__main__":
    main()
