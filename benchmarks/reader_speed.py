"""How fast rows are read compared with how fast they are trained on, for each kind of listing.

    python benchmarks/reader_speed.py [--size 128] [--picture 512] [--batch 8] [--steps 10]

Pictures of `--picture` pixels (JPEG, noise on a gradient: hard to decode) and clips of 17 frames are resized to
`--size`, and the bundled model trains on them in batches. The ratio is that of the two speeds, measured separately:
from 1 on, the reader, which runs on its own thread next to the step, can keep up.
"""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructx_core.families.instructx.folder import BUNDLED
from instructx_core.training.config import DataConfig, TrainConfig
from instructx_core.training.data.feed import THREADS, Batches
from instructx_core.training.data.opening import open_table
from instructx_core.training.data.pixels import read_example
from instructx_core.training.data.sources import batch_size
from instructx_core.training.data.stream import RowStream
from instructx_core.training.data.tally import Tally
from instructx_core.training.editing import EditingTask
from instructx_core.training.trainer import Trainer

ROWS = 64
CLIP = 17  # frames


def pixels(side: int, seed: int) -> np.ndarray:
    ramp = np.linspace(0, 200, side)[None, :, None]
    return (ramp + np.random.default_rng(seed).integers(0, 55, (side, side, 3))).astype(np.uint8)


def jpeg(side: int, seed: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels(side, seed)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_csv(folder: Path, side: int) -> Path:
    for number in range(ROWS):
        for place, name in enumerate("ab"):
            (folder / f"{number}{name}.jpg").write_bytes(jpeg(side, 2 * number + place))
    lines = [f"{number}a.jpg,{number}b.jpg,make it blue\n" for number in range(ROWS)]
    (folder / "pairs.csv").write_text("source,target,instruction\n" + "".join(lines))
    return folder / "pairs.csv"


def write_parquet(folder: Path, side: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"source_img": jpeg(side, 2 * number), "target_img": jpeg(side, 2 * number + 1), "instruction": "make it blue"}
        for number in range(ROWS)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet", row_group_size=16)
    return folder / "a.parquet"


def write_tar(folder: Path, side: int) -> Path:
    with tarfile.open(folder / "a.tar", "w") as archive:
        for number in range(ROWS):
            members = {"1.jpg": jpeg(side, 2 * number), "2.jpg": jpeg(side, 2 * number + 1), "txt": b"make it blue"}
            for suffix, content in members.items():
                info = tarfile.TarInfo(f"{number:08d}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return folder / "a.tar"


def write_clips(folder: Path, side: int) -> Path:
    from instructx_core.video import VideoWriter

    for place, name in enumerate("ab"):
        frame = torch.from_numpy(pixels(side, place))
        with VideoWriter(folder / f"{name}.mp4", fps=24) as writer:
            for shift in range(CLIP):
                writer.write(frame.roll(shift, 1))
    lines = ["a.mp4,b.mp4,make it blue\n"] * ROWS
    (folder / "pairs.csv").write_text("source,target,instruction\n" + "".join(lines))
    return folder / "pairs.csv"


KINDS: dict[str, Callable[[Path, int], Path]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "tar": write_tar,
    "clips": write_clips,
}


def read_speed(data: DataConfig, stride: int, frame_multiple: int) -> float:
    """Examples read per second, with as many threads as a training run uses."""
    table = open_table(data)
    stream = RowStream(table, Tally(table.path, data.broken, table.total), 0)
    read = partial(read_example, data=data, stride=stride, frame_multiple=frame_multiple)
    batches = Batches(stream, read, partial(batch_size, data), THREADS[table.parts[0].shard.kinds == {True}])
    batches.take()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 5:
        count += len(batches.take())
    return count / (time.perf_counter() - start)


def step_speed(data: DataConfig, steps: int, output: str) -> float:
    """Examples trained per second on a batch that is already read, VAE included."""
    config = TrainConfig("editing", output, steps, {"model": str(BUNDLED)}, data=data)
    task = EditingTask(config)
    feed = next(iter(task.source.feeds.values()))
    batch = feed.take()
    feed.take = lambda: batch
    trainer = Trainer(config, task)
    trainer._one_step()
    start = time.perf_counter()
    for _ in range(steps):
        trainer._one_step()
    return steps * len(batch) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--picture", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    for kind, write in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            table = write(Path(folder), options.picture)
            data = DataConfig(
                table=str(table),
                sizes=((options.size, options.size),),
                lengths=(CLIP,),
                image_batch=options.batch,
                video_batch=2,
            )
            read, step = read_speed(data, 16, 4), step_speed(data, options.steps, str(Path(folder) / "run"))
            print(f"{kind:8} read {read:7.1f}/s, trained {step:6.1f}/s: {read / step:.1f}", flush=True)


if __name__ == "__main__":
    main()
