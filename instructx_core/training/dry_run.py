"""`instructx train --check`: what a run would train, hold in memory and read, without loading weights or training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice

from ..errors import InputError
from ..families.meta_model import outline
from ..words import quoted
from .config import DataConfig, ExampleWords, TrainConfig, TwoStreamTrainConfig
from .data.example import Example
from .data.opening import open_table
from .data.sources import table_examples
from .data.world import check_world, world_examples
from .editing import check_dit, choose_trained
from .footprint import MicroBatch, measure_footprint, parts_of, shapes
from .gradients import check_gradient
from .start import open_start
from .steps import micro_batches, wanted_and_batch

EXAMPLES = 10
GIB = 2**30


def describe_run(config: TrainConfig, processes: int = 1) -> str:
    """Describe a run on `processes` processes.

    Raises:
        InputError: a stage that makes its own model or trains nothing, a batch that cannot be split evenly, or an
            unreadable example.
        CheckpointError: the start model is missing or, as far as headers tell, does not fit.
    """
    if "model" not in config.start:
        raise InputError(
            "--check is for stages that start from a whole model (start: {model: FOLDER}); this one creates new parts, "
            "so try it with --set steps=2."
        )
    micro = {is_video: micro_batches(config, is_video, processes) for is_video in (False, True)}
    import torch

    components = outline(open_start(config.start["model"]), torch.float32)
    if isinstance(config, TwoStreamTrainConfig):
        from .two_stream import check_two_stream, choose_two_stream

        check_two_stream(components, config)
        choose_two_stream(components, config)
    else:
        check_dit(components.config, config)
        choose_trained(components, config)
        check_gradient(components, config)
    stride = components.codec.stride * components.denoiser.patch
    tables = config.tables()
    for data in tables:
        if data.table is None:
            check_world(data, stride, components.codec.frame_multiple)
    lines = [f"{config.task} stage, {config.steps} steps, optimizer {config.optimizer}; nothing is trained.", ""]
    lines += _parts(parts_of(components))
    found = measure_footprint(components, config)
    lines += ["", f"memory, GiB{'':21}{'one process':>12}{f'each of {processes}, sharded':>22}"]
    for name in ("weights", "gradients", "optimizer", "average"):
        held = getattr(found, name)
        lines.append(f"  {name:<30}{held / GIB:12.2f}{held / processes / GIB:22.2f}")
    if not found.activations:
        lines.append("  activations: not measured for a two-stream stage")
    for kind, size in found.activations.items():
        lines.append(f"  {f'activations, {kind} (measured)':<30}{size / GIB:12.2f}{size / GIB:22.2f}")
    lines.append(f"  {'peak':<30}{found.total() / GIB:12.2f}{found.total(processes) / GIB:22.2f}")
    lines += ["", *_plan(config, processes, micro)]
    lines += ["", *(line for data in tables for line in _table(data)), "examples:"]
    read = (islice(_examples(data, config.words, stride, components.codec.frame_multiple), EXAMPLES) for data in tables)
    for example in chain.from_iterable(read):
        frames, height, width = example.source.shape[:3]
        size = f"{width} x {height}" + (f" x {frames}" if example.is_video else "")
        words = quoted(example.instruction or example.caption)
        lines.append(f"  {example.name}: {size}, {len(example.references)} references, {words}")
    return "\n".join(lines)


def _parts(parts: dict) -> list[str]:
    lines = [f"{'part':<18}{'parameters':>14}{'trained':>14}"]
    sums = [0, 0]
    for name, parameters in parts.items():
        whole = sum(parameter.numel() for parameter in parameters)
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        sums = [sums[0] + whole, sums[1] + trained]
        lines.append(f"{name:<18}{whole:>14,}{trained:>14,}")
    return [*lines, f"{'total':<18}{sums[0]:>14,}{sums[1]:>14,}"]


def _plan(config: TrainConfig, processes: int, micro: dict[bool, int]) -> list[str]:
    lines = []
    for kind, shape in shapes(config).items():
        is_video = kind == "videos"
        share = config.data.video_probability if is_video else 1 - config.data.video_probability
        asked, most = wanted_and_batch(config.data, is_video)
        lines.append(
            f"a step on {kind} ({share:.0%} of the steps): {processes} processes x {micro[is_video]} micro-batches x "
            f"{_shape(shape)} = {processes * micro[is_video] * shape.batch} examples"
            + (f", up to {processes * micro[is_video] * most} of shorter clips" if most > shape.batch else "")
            + (f" (asked for: {asked})" if asked else "")
        )
    return lines


def _shape(shape: MicroBatch) -> str:
    size = f"{shape.width} x {shape.height}" + (f" x {shape.frames} frames" if shape.frames > 1 else "")
    return f"{shape.batch} of at most {size}"


def _table(data: DataConfig) -> list[str]:
    """Describe `data.table` in a line, if there is one."""
    if data.table is None:
        return []
    table = open_table(data)
    rows = "an unknown number of rows" if table.total is None else f"{table.total:,} rows"
    return [f"table: {', '.join(table.layouts)}; {rows} in {len(table.parts):,} shards"]


def _examples(data: DataConfig, words: ExampleWords, stride: int, frame_multiple: int) -> Iterator[Example]:
    """The first examples of a data set, read as in training."""
    if data.table is not None:
        return table_examples(open_table(data), data, stride, frame_multiple, words)
    half = EXAMPLES // 2
    return world_examples(replace(data, images=min(data.images, half), videos=min(data.videos, EXAMPLES - half)))
