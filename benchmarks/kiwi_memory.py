"""Memory of an edit at Kiwi-Edit's published sizes, compared with that of its authors' pipeline.

Both run on PyTorch's meta device, whose tensors have a size but no content: no weights and no GPU are needed. Counted
are the bytes of live tensors in a phase, including its inputs, and the weights on the device: all of them for the
authors, for this library according to `--memory`. The MLLM's activations depend on its input: for both, the plan's
measurement is used; the authors hold more (the hidden states of all layers, and keys and values).

    python benchmarks/kiwi_memory.py --authors KIWI_EDIT
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kiwi_authors import import_authors
from kiwi_layout import CHANNELS, PUBLISHED, components

from instructx_core.context import Context
from instructx_core.families.components import Components
from instructx_core.memory.live import LiveMemory
from instructx_core.memory.measure import reading_bytes
from instructx_core.memory.phases import Job, Part
from instructx_core.memory.plan import CHOICES, resident
from instructx_core.memory.sizes import sizes_of
from instructx_core.speed.run_cache import RunCache

GIB = 1024**3
PHASES = {"MLLM reads": Part.MLLM, "VAE encodes": Part.VAE, "DiT step": Part.DIT, "VAE decodes": Part.VAE}
READS, ENCODES, STEP, DECODES = PHASES


def alive(modules: list[nn.Module], compute: Callable[..., object], *inputs: torch.Tensor) -> int:
    """Bytes of the inputs plus the peak of all other live tensors except the weights."""
    with mock.patch("torch.nn.functional.scaled_dot_product_attention", fused), LiveMemory(*modules) as live:
        compute(*inputs)
    return sum(tensor.nbytes for tensor in inputs) + live.peak


def fused(query: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    """Attention without a score matrix, as in GPU kernels; the meta device would allocate one."""
    return torch.empty_like(query)


def of_ours(model: Components, job: Job, context: torch.Tensor) -> dict[str, int]:
    """Working memory of the phases of this library's edit."""
    denoiser, codec = model.denoiser, model.codec
    latents = torch.empty(latent_shape(job))

    def step(noisy: torch.Tensor, source: torch.Tensor, context: torch.Tensor) -> None:
        with RunCache(denoiser.transformer).lent():
            denoiser(noisy, torch.tensor(0.5), Context(context), denoiser.conditions(source))

    return {
        ENCODES: alive([codec], codec.encode, torch.empty(1, job.frames, job.height, job.width, 3)),
        STEP: alive([denoiser], step, latents, torch.empty_like(latents), context),
        DECODES: alive([codec], codec.decode, latents),
    }


def of_theirs(model: Components, job: Job, context: torch.Tensor, checkout: Path) -> dict[str, int]:
    """Working memory of the phases of the authors' edit; the DiT is the same class for both."""
    dtype = context.dtype
    modules = import_authors(checkout, dtype, PUBLISHED.vae_decoder)
    vae = modules["wan_video_vae"].VAE(latents_mean=[0.0] * CHANNELS, latents_std=[1.0] * CHANNELS).to(dtype)
    embedder = modules["conditional_embedder"].ConditionalEmbedder(CHANNELS, PUBLISHED.width).to(dtype)
    transformer = model.denoiser.transformer
    sigma = torch.tensor(0.5)  # theirs is looked up by value, which meta tensors lack
    pipeline = SimpleNamespace(transformer=transformer, source_embedder=embedder, _scheduler_get_sigma=lambda *_: sigma)
    forward = modules["pipeline_kiwi_edit"].KiwiEditPipeline._model_forward
    latents = torch.empty(latent_shape(job), dtype=dtype)

    def step(noisy: torch.Tensor, source: torch.Tensor, context: torch.Tensor) -> None:
        forward(pipeline, noisy, torch.empty(1, dtype=dtype), context, source)

    return {
        ENCODES: alive([vae], vae.encode, torch.empty(1, 3, job.frames, job.height, job.width)),
        STEP: alive([transformer, embedder], step, latents, torch.empty_like(latents), context),
        DECODES: alive([vae], vae.decode, latents),
    }


def latent_shape(job: Job) -> tuple[int, ...]:
    return (1, CHANNELS, 1 + (job.frames - 1) // 4, job.height // 16, job.width // 16)


@torch.no_grad()
def compare(job: Job, dtype: torch.dtype, checkout: Path) -> None:
    """Print the table of phases for one dtype."""
    with torch.device("meta"):
        model = components(PUBLISHED)
        for module in (model.guidance, model.connector, model.denoiser, model.codec.vae):
            module.to(dtype)
        for module in model.codec.vae.modules():
            vars(module).pop("forward", None)  # set by `skip_empty_taps`, which reads weights
        context = torch.empty(1, 512, PUBLISHED.width, dtype=dtype)
        ours, theirs = of_ours(model, job, context), of_theirs(model, job, context, checkout)
    sizes = sizes_of(model)
    ours[READS] = theirs[READS] = reading_bytes(model.guidance, job)
    everything = resident(sizes, CHOICES[0], Part.DIT)
    columns = {"theirs": {phase: everything + theirs[phase] for phase in PHASES}}
    for memory in CHOICES:
        columns[memory.value] = {phase: resident(sizes, memory, part) + ours[phase] for phase, part in PHASES.items()}
    print_table(f"GiB, {dtype}", columns)


def print_table(title: str, columns: dict[str, dict[str, int]]) -> None:
    """Print the GiB of each phase for each way, and the ratio of each peak to that of the first way."""
    print(f"\n{title:<28}" + "".join(f"{name:>12}" for name in columns))
    for phase in PHASES:
        print(f"{phase:<28}" + "".join(f"{column[phase] / GIB:>12.2f}" for column in columns.values()))
    peaks = [max(column.values()) for column in columns.values()]
    print(f"{'peak, ratio to theirs':<28}" + "".join(f"{peak / peaks[0]:>12.2f}" for peak in peaks), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", type=Path, required=True, help="a checkout of showlab/Kiwi-Edit")
    given = parser.parse_args()
    job = Job(width=832, height=480, frames=81)
    for dtype in (torch.bfloat16, torch.float32):
        compare(job, dtype, given.authors)


if __name__ == "__main__":
    main()
