"""`instructx cache`: made by several processes, resumable after a kill, and the same as what a run would make."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
import torch

from instructx_core import InputError, cli
from instructx_core.latents import LatentCodec
from instructx_core.run_lock import only_run
from instructx_core.training.config import DataConfig, read_train_config
from instructx_core.training.data import cache as making
from instructx_core.training.data.encoding import TENSORS
from instructx_core.training.data.pool import Bucket, read_buckets
from instructx_core.training.stages import train
from instructx_core.weights.files import read_safetensors, write_safetensors
from support import public_sets, tiny
from support.training_runs import SMALL_DATA, editing_config, environment, scalars, write_config


def config(foundation: Path, folder: Path, **data: Any) -> Path:
    plain = editing_config(foundation, folder / "run", steps=2)
    plain["data"] = {**SMALL_DATA, "video_probability": 0.5, **data}
    return write_config(folder / "c.yaml", **plain)


def everything(folder: Path) -> dict[str, tuple[list[torch.Tensor], list[str]]]:
    found = {}
    for bucket in read_buckets(folder.glob("*.safetensors"), "it"):
        taken = bucket.take(list(range(len(bucket))))
        key = f"{bucket.is_video}-{tuple(taken.source.shape[1:])}-{tuple(taken.references.shape[1:])}"
        found[key] = ([getattr(taken, name) for name in TENSORS], taken.names)
    return found


def assert_equal(first: Path, second: Path) -> None:
    one, two = everything(first), everything(second)
    assert one.keys() == two.keys()
    for key, (tensors, names) in one.items():
        assert names == two[key][1]
        for a, b in zip(tensors, two[key][0], strict=True):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)  # batches of other sizes round in other ways


def test_the_world_in_parts_is_the_world(foundation: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(making, "CHUNK", 3)
    assert cli.main(["cache", str(config(foundation, tmp_path)), str(tmp_path / "made/pool")]) == 0
    names = sorted(path.name for path in (tmp_path / "made/pool").iterdir())
    assert not [name for name in names if name.startswith(("chunk", "."))] and "origin.json" in names
    assert len(names) > 4
    assert_equal(tmp_path / "made/pool", foundation / "pool")
    assert cli.main(["cache", str(config(foundation, tmp_path)), str(tmp_path / "made/pool")]) == 0  # it is there


def test_a_pool_of_one_file_a_shape_is_read_as_before(foundation: Path, tmp_path: Path) -> None:
    """Pools that earlier versions made: the same examples in the same order."""
    pool = shutil.copytree(foundation / "pool", tmp_path / "pool")
    for path in sorted(pool.glob("*.safetensors")):
        path.rename(pool / f"{'-'.join(path.stem.split('-')[:5])}.safetensors")
    assert_equal(pool, foundation / "pool")
    data = {**SMALL_DATA, "video_probability": 0.5}
    for name, folder in (("old", pool), ("new", foundation / "pool")):
        plain = editing_config(foundation, tmp_path / name, steps=2, data={**data, "pool": str(folder)})
        train(read_train_config(write_config(tmp_path / f"{name}.yaml", **plain)))
    assert scalars(tmp_path / "old", "loss") == scalars(tmp_path / "new", "loss")


def test_examples_are_read_by_index(foundation: Path) -> None:
    for bucket in read_buckets((foundation / "pool").glob("*.safetensors"), "it"):
        assert isinstance(bucket, Bucket)
        every = bucket.take(list(range(len(bucket))))
        some = bucket.take([len(bucket) - 1, 0, 0])
        assert some.names == [every.names[-1], every.names[0], every.names[0]]
        for name in TENSORS:
            assert torch.equal(getattr(some, name), getattr(every, name)[[-1, 0, 0]])


def test_examples_of_one_shape_lie_in_several_files(foundation: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(making, "FILE_BYTES", 1)
    monkeypatch.setattr(making, "ENCODED_TOGETHER", 2)
    assert cli.main(["cache", str(config(foundation, tmp_path)), str(tmp_path / "pool")]) == 0
    assert any(path.stem.endswith("-0001") for path in (tmp_path / "pool").iterdir())
    assert_equal(tmp_path / "pool", foundation / "pool")


def test_a_table_is_cached_and_trained_on(foundation: Path, tmp_path: Path) -> None:
    table = public_sets.make("x2edit", tmp_path / "set")
    (table / "broken.tar").write_bytes(b"\0" * 257 + b"ustar" + b"\0" * 1000)
    path = config(foundation, tmp_path, table=str(table), pool=str(tmp_path / "pool"), broken=0.2)
    assert cli.main(["cache", str(path), str(tmp_path / "pool")]) == 0
    shutil.rmtree(table)  # no more needed
    train(read_train_config(path))
    assert sum(map(len, read_buckets((tmp_path / "pool").glob("*.safetensors"), "it"))) == 10


def test_broken_rows_of_a_cache_are_listed_and_too_many_refused(foundation: Path, tmp_path: Path, capsys) -> None:
    table = public_sets.make("own", tmp_path / "set")
    (tmp_path / "set/3.png").unlink()
    path = config(foundation, tmp_path, table=str(table))
    assert cli.main(["cache", str(path), str(tmp_path / "pool")]) == 2
    assert "there is no file" in capsys.readouterr().err.splitlines()[-1]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["c.yaml", "set"]
    assert cli.main(["cache", str(path), str(tmp_path / "pool"), "--set", "data.broken=0.2"]) == 0
    assert "3.png" in (tmp_path / "pool/broken-rows.txt").read_text()


def test_what_cannot_be_cached(foundation: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("x")
    path = config(foundation, tmp_path)
    for config_path, output, words in (
        (path, tmp_path / "file", "is a file"),
        (path, tmp_path / "file/pool", "could not be written"),
        (foundation / "language.yaml", tmp_path / "pool", "no latents"),
    ):
        assert cli.main(["cache", str(config_path), str(output)]) == 2
        assert words in capsys.readouterr().err.splitlines()[-1]
    (tmp_path / ".pool.partial").mkdir()
    (tmp_path / ".pool.partial/origin.json").write_text("{}")
    assert cli.main(["cache", str(path), str(tmp_path / "pool")]) == 2
    assert "unfinished pool of other data" in capsys.readouterr().err.splitlines()[-1]


def start(path: Path, output: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "instructx_core", "cache", str(path), str(output), *options]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment(), start_new_session=True)


def test_a_stopped_cache_goes_on_with_the_next_part(foundation: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(making, "CHUNK", 3)
    path, make = config(foundation, tmp_path), making.Maker.make
    made: list[int] = []

    def stopped(self: making.Maker, folder: Path, chunk: int) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(chunk)
        make(self, folder, chunk)

    monkeypatch.setattr(making.Maker, "make", stopped)
    assert cli.main(["cache", str(path), str(tmp_path / "pool")]) == 130
    assert "finished parts are kept" in capsys.readouterr().err
    partial = tmp_path / ".pool.partial"
    kept = {file.name: file.stat().st_mtime_ns for file in partial.glob("*.safetensors")}
    (partial / "0-1-32-32-0-000002-0000.safetensors").write_bytes(b"half of one")  # of the third part
    monkeypatch.setattr(making.Maker, "make", make)
    assert len(kept) >= 2 and not (tmp_path / "pool").exists()
    assert cli.main(["cache", str(path), str(tmp_path / "pool")]) == 0
    assert {name: (tmp_path / "pool" / name).stat().st_mtime_ns for name in kept} == kept
    assert not partial.exists()
    assert_equal(tmp_path / "pool", foundation / "pool")


def test_a_pool_that_another_run_is_making_is_left_to_it(tmp_path: Path) -> None:
    """Two stages that share a data.pool, started at once; each would delete what the other has just written."""
    folder, data = tmp_path / "pool", DataConfig(images=1, videos=0, sizes=((32, 32),))
    with only_run(folder), pytest.raises(InputError, match="pool: another run is writing there"):
        making.open_pool(folder, data, LatentCodec(tiny.vae()), 1, 16)
    assert not list(tmp_path.iterdir())


def test_a_killed_process_is_told_in_one_sentence(foundation: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    class Killed(ThreadPoolExecutor):
        def submit(self, *_: Any) -> Future[None]:
            future: Future[None] = Future()
            future.set_exception(BrokenProcessPool("terminated abruptly"))
            return future

    monkeypatch.setattr(making, "ProcessPoolExecutor", lambda processes, *_: Killed(processes))
    command = ["cache", str(config(foundation, tmp_path)), str(tmp_path / "pool"), "--processes", "2"]
    assert cli.main(command) == 2
    assert "run the same command again with fewer --processes" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_killed_cache_goes_on(processes: str, foundation: Path, tmp_path: Path) -> None:
    """Killed once its first parts are there, these are kept as they are; the rest is what one call would make."""
    public_sets.put(tmp_path / "set/a.png", 0, False)
    public_sets.put(tmp_path / "set/b.png", 0, True)
    lines = "".join(f"a.png,b.png,number {number}\n" for number in range(700))
    (tmp_path / "set/pairs.csv").write_text("source,target,instruction\n" + lines)
    path = config(foundation, tmp_path, table=str(tmp_path / "set"))
    process = start(path, tmp_path / "pool", "--processes", processes)
    partial, deadline = tmp_path / ".pool.partial", time.monotonic() + 120
    while not list(partial.glob("chunk-*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kept = {file: file.stat().st_mtime_ns for note in partial.glob("chunk-*.json")
            for file in (partial / name for name in json.loads(note.read_text())["files"])}  # fmt: skip
    assert kept and not (tmp_path / "pool").exists()
    assert start(path, tmp_path / "pool", "--processes", processes).wait() == 0
    assert not partial.exists()
    for file, when in kept.items():
        assert (tmp_path / "pool" / file.name).stat().st_mtime_ns == when
    names = [name for _, held in everything(tmp_path / "pool").values() for name in held]
    assert sorted(names) == sorted(f"line {number} of 'pairs.csv'" for number in range(2, 702))


@pytest.mark.slow
def test_two_ranks_make_one_cache(foundation: Path, tmp_path: Path) -> None:
    table = public_sets.make("x2edit", tmp_path / "set")
    path = config(foundation, tmp_path, table=str(table))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "instructx_core", "cache", str(path), str(tmp_path / "pool")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert cli.main(["cache", str(path), str(tmp_path / "alone")]) == 0
    assert_equal(tmp_path / "pool", tmp_path / "alone")


def test_damaged_files_of_a_pool_are_named(foundation: Path, tmp_path: Path, capsys) -> None:
    pool = shutil.copytree(foundation / "pool", tmp_path / "pool")
    path = max(pool.glob("*.safetensors"))
    tensors, metadata = read_safetensors(path)
    write_safetensors(path, {**tensors, "shown": tensors["shown"][:1].repeat(9, 1, 1, 1, 1)}, metadata)
    assert cli.main(["train", str(config(foundation, tmp_path, pool=str(pool)))]) == 2
    assert path.name in capsys.readouterr().err.splitlines()[-1]


POOL_PEAK = """
import resource, sys
from pathlib import Path
import torch
from instructx_core.training.data.pool import read_buckets
buckets = read_buckets(Path(sys.argv[1]).glob("*.safetensors"), "it")
generator = torch.Generator().manual_seed(0)
for _ in range(100):
    for bucket in buckets:
        bucket.take(torch.randint(len(bucket), (8,), generator=generator).tolist())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pool(foundation: Path, tmp_path: Path) -> None:
    """1,000 and 100,000 examples of the bundled model's size at 64 pixels, drawn at random from all over."""
    peaks = []
    count, shape = 1000, (16, 1, 8, 8)
    tensors = {"source": torch.rand(count, *shape).half(), "target": torch.rand(count, *shape).half(),
               "references": torch.zeros(count, 0).half(), "reference_images": torch.zeros(count, 0).byte(),
               "shown": torch.randint(255, (count, 1, 64, 64, 3), dtype=torch.uint8)}  # fmt: skip
    texts = json.dumps([f"make it blue {number}" for number in range(count)])
    metadata = {"is_video": "0", "frames": "1", "instructions": texts, "captions": texts, "names": texts}
    (tmp_path / "pool").mkdir()
    write_safetensors(tmp_path / "pool/0-1-64-64-0-000000-0000.safetensors", tensors, metadata)
    for files in (1, 100):
        for number in range(1, files):  # the same bytes under many names would be one in memory
            shutil.copy(tmp_path / "pool/0-1-64-64-0-000000-0000.safetensors",
                        tmp_path / f"pool/0-1-64-64-0-{number:06d}-0000.safetensors")  # fmt: skip
        command = [sys.executable, "-c", POOL_PEAK, str(tmp_path / "pool")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr[-2000:]
        peaks.append(int(done.stdout))
    assert peaks[1] <= 1.05 * peaks[0], peaks
