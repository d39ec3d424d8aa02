"""Test that the memory of a training run does not grow with the number of rows: peaks of runs on few and on many rows.

    python benchmarks/reader_memory.py [--rows 1000 100000] [--kinds csv json parquet tar] [--steps 10]

The bundled model trains on small pictures, whose names or bytes are in listings of every kind. Exits with 1 if the
highest peak is more than 1.05 times that of the first number of rows.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
MOST = 1.05
SIDE = 16


def picture(colour: str) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), colour).save(buffer, "PNG")
    return buffer.getvalue()


def put_pictures(folder: Path) -> None:
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        (folder / name).write_bytes(picture(colour))


def write_csv(folder: Path, rows: int) -> Path:
    put_pictures(folder)
    with (folder / "pairs.csv").open("w") as file:
        file.write("source,target,instruction\n")
        file.writelines(f"a.png,b.png,make it blue {number}\n" for number in range(rows))
    return folder / "pairs.csv"


def write_json(folder: Path, rows: int) -> Path:
    put_pictures(folder)
    entries = [
        {"source_path": "a.png", "edited_path": "b.png", "instruction": f"make it blue {number}"}
        for number in range(rows)
    ]
    (folder / "list.json").write_text(json.dumps(entries))
    return folder / "list.json"


def write_parquet(folder: Path, rows: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, target = ({"bytes": picture(colour), "path": None} for colour in ("red", "blue"))
    with pq.ParquetWriter(
        folder / "train.parquet",
        pa.Table.from_pylist([{"source_img": source, "target_img": target, "instruction": "x"}]).schema,
    ) as writer:
        for start in range(0, rows, 500):
            names = [f"make it blue {number}" for number in range(start, min(rows, start + 500))]
            batch = [{"source_img": source, "target_img": target, "instruction": name} for name in names]
            writer.write_table(pa.Table.from_pylist(batch, writer.schema))
    return folder / "train.parquet"


def write_tar(folder: Path, rows: int) -> Path:
    members = {"1.jpg": picture("red"), "2.jpg": picture("blue"), "txt": b"make it blue"}
    for start in range(0, rows, 1000):
        with tarfile.open(folder / f"{start:08d}.tar", "w") as archive:
            for number in range(start, min(rows, start + 1000)):
                for suffix, content in members.items():
                    info = tarfile.TarInfo(f"{number:08d}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return folder


KINDS: dict[str, Callable[[Path, int], Path]] = {
    "csv": write_csv,
    "json": write_json,
    "parquet": write_parquet,
    "tar": write_tar,
}


def train(table: str, output: str, steps: int) -> None:
    from instructx_core.families.instructx.folder import BUNDLED
    from instructx_core.training.config import DataConfig, TrainConfig
    from instructx_core.training.stages import train

    data = DataConfig(table=table, image_batch=8, sizes=((32, 32),), video_probability=0.0)
    train(TrainConfig("editing", output, steps, {"model": str(BUNDLED)}, train=("connector",), data=data))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def measure(kind: str, rows: int, steps: int) -> float:
    """Peak resident memory of a run, in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "set").mkdir()
        table = KINDS[kind](Path(folder) / "set", rows)
        command = [sys.executable, __file__, "--train", str(table), str(Path(folder) / "run"), "--steps", str(steps)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        return int(done.stdout.split()[-1]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train(*options.train, options.steps)
        return 0
    worst = 0.0
    for kind in options.kinds:
        peaks = [measure(kind, rows, options.steps) for rows in options.rows]
        ratio = max(peaks) / peaks[0]
        worst = max(worst, ratio)
        told = ", ".join(f"{rows:,} rows {peak:.0f} MB" for rows, peak in zip(options.rows, peaks, strict=True))
        print(f"{kind:8} {told}: {ratio:.3f}", flush=True)
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
