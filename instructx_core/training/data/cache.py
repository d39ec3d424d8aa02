"""Make a pool in chunks, with one or more processes, so that a killed run resumes at the next chunk.

The pool is built in a hidden folder. A chunk is finished once its note exists, which is written last; when every chunk
has a note, the folder is renamed. So a pool under its final name is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ...atomic import remove_empty, replace_folder
from ...bounded import UnreadableError, is_dir, read_json
from ...errors import InputError, InstructXError
from ...hidden import hidden
from ...latents import LatentCodec
from ...run_lock import only_run
from ...words import quoted_path
from ..config import DataConfig
from .encoding import TENSORS, Encoded, encode_examples
from .example import Example
from .opening import open_table
from .pixels import read_example
from .pool import ORIGIN, Bucket, describe_origin, read_pool, write_bucket
from .rows import RowError
from .table import Broken, Table
from .tally import Tally
from .world import check_world, world_examples

ENCODED_TOGETHER = 32  # frames
CHUNK = 1024  # world examples per chunk; tables are split by shard
MOST_CHUNKS = 1024  # per table
FILE_BYTES = 256 << 20
BROKEN_ROWS = "broken-rows.txt"


@dataclass
class Met:
    """The number of rows read from a chunk, and why some are broken."""

    rows: int = 0
    broken: list[str] = field(default_factory=list)


class Maker:
    """Encodes the chunks of one data set.

    Attributes:
        chunks: number of chunks.
    """

    def __init__(self, data: DataConfig, codec: LatentCodec, shown_frames: int, stride: int) -> None:
        """
        Args:
            shown_frames: frames of a clip that the MLLM sees.
            stride: pixels spanned by one DiT patch.

        Raises:
            InputError: the model does not support this data, or the table cannot be used.
        """
        self.data, self.codec, self.shown_frames, self.stride = data, codec.eval(), shown_frames, stride
        self.table: Table | None = None
        self.is_quiet = False  # hides the progress bar
        if data.table is None:
            check_world(data, stride, codec.frame_multiple)
            self.chunks = -(-(data.images + data.videos) // CHUNK)
        else:
            self.table = open_table(data)
            self.chunks = min(len(self.table.parts), MOST_CHUNKS)

    def origin(self) -> dict[str, Any]:
        return describe_origin(self.data, self.codec, self.shown_frames, self.stride)

    def make(self, folder: Path, chunk: int) -> None:
        """Encode a chunk into `folder`, unless it is already there.

        Raises:
            InputError: too many broken rows, or the disk is full.
        """
        note = folder / f"chunk-{chunk:06d}.json"
        if note.exists() and _is_whole(note):
            return
        for path in folder.glob(f"*-{chunk:06d}-*.safetensors"):  # left by a killed run
            path.unlink()
        met = Met()
        bar = tqdm(self._examples(chunk, met), f"encoding, part {chunk + 1} of {self.chunks}", disable=self.is_quiet)
        files = write_encoded(folder, chunk, self._encoded(bar))
        partial = hidden(note, "partial")
        with writing(partial):
            partial.write_text(json.dumps({"files": files, "rows": met.rows, "broken": met.broken}))
            os.replace(partial, note)

    def _examples(self, chunk: int, met: Met) -> Iterator[Example]:
        if self.table is None:
            count = self.data.images + self.data.videos
            yield from world_examples(self.data, range(chunk * CHUNK, min(count, (chunk + 1) * CHUNK)))
            return
        tally = Tally(self.table.path, self.data.broken, None if self.chunks > 1 else self.table.total)
        for shard in range(chunk, len(self.table.parts), self.chunks):
            for _, row in self.table.rows(shard):
                if row is None:
                    continue
                met.rows += 1
                words = row.words if isinstance(row, Broken) else ""
                if not isinstance(row, Broken):
                    try:
                        yield read_example(row, self.data, self.stride, self.codec.frame_multiple)
                        tally.good()
                        continue
                    except RowError as error:
                        words = f"{row.place}: {error}"
                met.broken.append(words)
                tally.skip(words)

    def _encoded(self, examples: Iterable[Example]) -> Iterator[tuple[str, Encoded]]:
        """Batches of examples of one shape, each with its shape as a string."""
        waiting: dict[tuple[int, ...], list[Example]] = {}
        for example in examples:
            held = waiting.setdefault(example.shape, [])
            held.append(example)
            if len(held) * len(example.source) >= ENCODED_TOGETHER:
                yield self._batch(waiting.pop(example.shape))
        for held in waiting.values():
            yield self._batch(held)

    def _batch(self, examples: list[Example]) -> tuple[str, Encoded]:
        return "-".join(map(str, examples[0].shape)), encode_examples(examples, self.codec, self.shown_frames)


def write_encoded(folder: Path, chunk: int, batches: Iterable[tuple[str, Encoded]]) -> list[str]:
    """Write a chunk's examples to files of bounded size, one shape per file, and return the file names."""
    held: dict[str, list[Encoded]] = {}
    names: list[str] = []

    def write(shape: str) -> None:
        number = sum(name.startswith(f"{shape}-{chunk:06d}-") for name in names)
        names.append(f"{shape}-{chunk:06d}-{number:04d}.safetensors")
        write_bucket(folder / names[-1], held.pop(shape))

    for shape, batch in batches:
        held.setdefault(shape, []).append(batch)
        if sum(getattr(each, name).nbytes for each in held[shape] for name in TENSORS) >= FILE_BYTES:
            write(shape)
    for shape in list(held):
        write(shape)
    return names


def _is_whole(note: Path) -> bool:
    """True if all files of a chunk exist: a process that outlived its killed run may have deleted some."""
    return all((note.parent / name).exists() for name in read_json(note)["files"])


def open_pool(folder: Path, data: DataConfig, codec: LatentCodec, shown_frames: int, stride: int) -> list[Bucket]:
    """Open the pool in `folder`, making it first if it does not exist.

    Raises:
        CheckpointError, InputError: as `read_pool` and `make_pool`; also if another run is making it.
    """
    if not is_dir(folder):
        made = [parent for parent in folder.absolute().parents if not parent.exists()]  # created for the lock
        try:
            with only_run(folder):
                if not is_dir(folder):
                    make_pool(folder, Maker(data, codec, shown_frames, stride))
        except BaseException:
            remove_empty(made)
            raise
    return read_pool(folder, describe_origin(data, codec, shown_frames, stride))


def make_pool(
    folder: Path, maker: Maker, share: tuple[int, int] = (0, 1), barrier: Callable[[], None] = lambda: None
) -> None:
    """Make a pool, or resume making it; every process of a run calls this.

    Args:
        share: this process's index, and the number of processes.
        barrier: waits for all processes.

    Raises:
        InputError: an unfinished pool of other data is in the way, too many rows are broken, or the disk is full.
    """
    with making(folder, maker.origin(), share[0] == 0, barrier) as partial:
        for chunk in range(share[0], maker.chunks, share[1]):
            maker.make(partial, chunk)
        barrier()
        if share[0] == 0:
            finish(partial, folder, maker.data)
    barrier()


def make_pool_with(folder: Path, maker: Maker, processes: int, again: Callable[[], Maker]) -> None:
    """Like `make_pool`, with worker processes started here.

    Args:
        again: builds the `Maker` in each worker; must be picklable.

    Raises:
        InputError: as `make_pool`, or a worker was killed.
    """
    with making(folder, maker.origin(), True, lambda: None) as partial:
        if processes == 1:
            for chunk in range(maker.chunks):
                maker.make(partial, chunk)
        else:
            threads = max(1, torch.get_num_threads() // processes)
            with ProcessPoolExecutor(processes, get_context("spawn"), _start, (again, threads)) as pool:
                futures = [pool.submit(_make, partial, chunk) for chunk in range(maker.chunks)]
                try:
                    for future in tqdm(as_completed(futures), "encoding, parts", len(futures)):
                        future.result()
                except BrokenProcessPool as error:
                    raise InputError(
                        f"A worker process encoding {quoted_path(folder)} was killed, perhaps because memory ran out; "
                        "run the same command again with fewer --processes (finished parts are kept)."
                    ) from error
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
        finish(partial, folder, maker.data)


_maker: Maker | None = None  # of this worker process


def _start(again: Callable[[], Maker], threads: int) -> None:
    global _maker
    torch.set_num_threads(threads)
    _maker = again()
    _maker.is_quiet = True


def _make(partial: Path, chunk: int) -> None:
    assert _maker is not None
    try:
        _maker.make(partial, chunk)
    except InstructXError as error:
        raise InputError(str(error)) from None  # which can be pickled for the parent


@contextmanager
def making(folder: Path, origin: dict[str, Any], is_main: bool, barrier: Callable[[], None]) -> Iterator[Path]:
    """Create the hidden folder that becomes `folder`; after an error, remove it unless a chunk is finished."""
    partial = hidden(folder, "partial")
    made = [parent for parent in partial.parents if not parent.exists()]
    if is_main:
        with writing(partial):
            partial.mkdir(parents=True, exist_ok=True)
            _claim(partial, origin)
    barrier()
    try:
        yield partial
    except BaseException:
        if is_main and is_dir(partial) and not any(partial.glob("chunk-*.json")):
            shutil.rmtree(partial, ignore_errors=True)
            for parent in made:
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()
        raise


def _claim(partial: Path, origin: dict[str, Any]) -> None:
    """Record what a pool is made from; raise InputError if an unfinished one was made from something else."""
    path = partial / ORIGIN
    if not path.exists():
        path.write_text(json.dumps(origin, indent=1))
        return
    try:
        found = read_json(path)
    except UnreadableError:
        found = None
    if found != origin:
        raise InputError(
            f"{quoted_path(partial)} holds an unfinished pool of other data; delete it, or choose another folder."
        )


def finish(partial: Path, folder: Path, data: DataConfig) -> None:
    """Rename a pool with all its chunks to its final name.

    Raises:
        InputError: too many rows are broken in total, or files vanished; the pool stays unfinished.
    """
    paths = sorted(partial.glob("chunk-*.json"))
    if not all(map(_is_whole, paths)):
        raise InputError(
            f"Parts of {quoted_path(partial)} vanished while the pool was being made; run the same command again."
        )
    notes = [read_json(path) for path in paths]
    rows, broken = sum(note["rows"] for note in notes), [words for note in notes for words in note["broken"]]
    tally = Tally(Path(data.table or "the world"), data.broken, rows)
    tally.seen = rows - len(broken)
    for words in broken:
        tally.skip(words)
    with writing(partial):
        if broken:
            (partial / BROKEN_ROWS).write_text("".join(f"{line}\n" for line in broken), errors="backslashreplace")
        replace_folder(partial, folder)
        for path in folder.glob("chunk-*.json"):
            path.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"The pool {quoted_path(path)} could not be written ({error.strerror}); free up space."
        ) from error
