"""Where a stage's batches come from: encoded examples on disk, or a stream of rows encoded in each step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sized
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch

from ...errors import InputError
from ...latents import LatentCodec
from ...words import one_line, quoted_path
from ..config import DataConfig, ExampleWords, TrainConfig
from .encoding import Encoded, encode_examples
from .example import Example
from .feed import THREADS, Batches, ReadAhead
from .opening import open_table
from .pixels import read_example
from .pool import Bucket
from .rows import Address, Row, RowError, Shard, is_video
from .stream import RowStream
from .table import Broken, Table
from .tally import Tally
from .tars import TarShard

logger = logging.getLogger(__name__)

NAMES = {False: "images", True: "videos"}
TRIED = {False: 10, True: 2}  # of each kind read before a run; more until one is intact
LOOKED_AT = 10_000  # rows searched for them; more until one is intact
SHOWN = {False: 8, True: 1}  # of them kept for samples
SPREAD = 8  # shards that held-out rows come from
BROKEN_ROWS = "broken-rows.txt"
HELD_OUT = "held_out"  # in a position: how many examples the run has held out from its beginning
DAMAGED = "The training state's position in the data is damaged; start over in another output folder."


class ExampleSource(Protocol):
    """Supplies the batches of an editing stage."""

    def draw(self, generator: torch.Generator, is_video: bool) -> Encoded:
        """A micro-batch of images or of videos; of the other kind if there are none."""

    def held_out(self) -> Iterator[Encoded]:
        """Batches of examples that are never drawn."""

    def some(self, is_video: bool | None, count: int) -> Encoded | None:
        """About `count` examples of one shape, always the same; None if there are none of that kind."""

    def position(self) -> dict[str, Any]:
        """The state for `go_to`, as plain numbers."""

    def go_to(self, position: dict[str, Any]) -> None:
        """Continue from the position of a source with the same config."""


def batch_size(data: DataConfig, is_video: bool, frames: int) -> int:
    """Examples per batch: clips longer than the shortest of `lengths` come in smaller batches, of the same cost."""
    if not is_video:
        return data.image_batch
    return min(data.video_batch, max(1, round(data.video_batch * min(data.lengths) / frames)))


class PoolSource:
    """Draws at random from buckets of encoded examples.

    Raises:
        InputError: examples lack the text that the stage reads.
    """

    def __init__(self, buckets: list[Bucket], config: TrainConfig) -> None:
        if count := sum(bucket.lacking(config.words) for bucket in buckets):
            raise InputError(
                f"{count} encoded examples have no {config.words}, which a stage of kind {config.task} reads; use data "
                "in which each has one, and another data.pool."
            )
        self.data, self.buckets = config.data, buckets
        self.training, self.validation = split_examples(buckets, config.validation if config.validate_every else 0)
        self.never_drawn = sum(len(examples) for _, examples in self.validation)
        _warn_of_no_validation(config, self.validation)

    def draw(self, generator: torch.Generator, is_video: bool) -> Encoded:
        bucket, examples = draw_bucket(self.training, is_video, generator)
        size = batch_size(self.data, bucket.is_video, bucket.frames)
        return bucket.take(examples[torch.randint(len(examples), (size,), generator=generator)].tolist())

    def held_out(self) -> Iterator[Encoded]:
        for bucket, examples in self.validation:
            for chosen in examples.split(batch_size(self.data, bucket.is_video, bucket.frames)):
                yield bucket.take(chosen.tolist())

    def some(self, is_video: bool | None, count: int) -> Encoded | None:
        if is_video is None:
            bucket = self.buckets[0]
        elif of_kind := [bucket for bucket in self.buckets if bucket.is_video == is_video]:
            bucket = max(of_kind, key=len)
        else:
            return None
        return bucket.take(list(range(min(count, len(bucket)))))

    def position(self) -> dict[str, Any]:
        return {HELD_OUT: self.never_drawn}

    def go_to(self, position: dict[str, Any]) -> None:
        """Only compare the examples that are held out: draws depend on the generator alone."""
        self.never_drawn = least_held_out(self.never_drawn, position)


def least_held_out(now: int, position: dict[str, Any]) -> int:
    """How many examples have been held out for the whole run; warn if they are more now, and so were trained on.

    Raises:
        InputError: the position is damaged.
    """
    before = position.get(HELD_OUT, now)  # older positions lack it
    if not isinstance(before, int):
        raise InputError(DAMAGED)
    if before < now:
        logger.warning(
            "%d examples are held out for validation, but the run began with %d: it has trained on the others, so "
            "validation looks better than it is.",
            now,
            before,
        )
    return min(before, now)


def _warn_of_no_validation(config: TrainConfig, held_out: Sized) -> None:
    if config.validate_every and not held_out:
        logger.warning(
            "validate_every has no effect: too few examples to hold any out, at most a tenth of each size is."
        )


Examples = tuple[Bucket, torch.Tensor]  # a bucket, and int64 [N]: indices of its examples


def split_examples(buckets: list[Bucket], held_out: int) -> tuple[list[Examples], list[Examples]]:
    """Split into training and `held_out` validation examples, these evenly from all buckets, at most a tenth each."""
    total = sum(map(len, buckets))
    training, validation = [], []
    for bucket in buckets:
        order = torch.randperm(len(bucket), generator=torch.Generator().manual_seed(0))
        count = min(len(bucket) // 10, round(held_out * len(bucket) / total))
        training.append((bucket, order[count:].sort().values))
        if count:
            validation.append((bucket, order[:count].sort().values))
    return training, validation


def draw_bucket(buckets: list[Examples], is_video: bool, generator: torch.Generator) -> Examples:
    """Draw a bucket of images or of videos, weighted by size; of the other kind if there are none."""
    fitting = [entry for entry in buckets if entry[0].is_video == is_video] or buckets
    shares = torch.tensor([float(len(examples)) for _, examples in fitting])
    return fitting[int(torch.multinomial(shares, 1, generator=generator))]


class StreamSource:
    """Draws a table's rows in the order of its picture and video streams; the VAE runs in each step."""

    def __init__(
        self,
        config: TrainConfig,
        codec: LatentCodec,
        shown_frames: int,
        stride: int,
        share: tuple[int, int],
        check_length: Callable[[str], None],
    ) -> None:
        """Open the table and read its first rows.

        Args:
            shown_frames: frames of a clip that the MLLM sees.
            stride: pixels spanned by one DiT patch.
            share: this process's index, and the number of processes.
            check_length: raises InputError for a text that is too long for the model; called by several threads.

        Raises:
            InputError: the table cannot be used, or too many of its first rows are broken.
        """
        self.data, self.share = config.data, share
        self.table = open_table(config.data)

        def read(row: Row) -> Example:
            try:
                check_length(getattr(row, config.words))
            except InputError as error:
                raise RowError(one_line(error).rstrip(".")) from error
            return read_example(row, config.data, stride, codec.frame_multiple, config.words)

        self.read = read
        self.encode = partial(encode_examples, codec=codec, shown_frames=shown_frames)
        first = first_examples(self.table, config.data, self.read)
        self.first = {
            kind: self.encode([one for one in examples if one.shape == examples[0].shape][: SHOWN[kind]])
            for kind, examples in first.items()
        }
        self.held = held_out_rows(self.table, config.validation if config.validate_every else 0)
        self.never_drawn = sum(self.held.values())
        _warn_of_no_validation(config, self.held)
        self.tallies = {
            kind: Tally(self.table.path, config.data.broken, self.table.total, share[1]) for kind in self.first
        }
        listed: dict[int, bool | None] = {}
        number = "" if share[1] == 1 else f"-{share[0] + 1}-of-{share[1]}"
        self.list_file = Path(config.output) / BROKEN_ROWS.replace(".", f"{number}.")
        self.feeds = {
            kind: ReadAhead(
                Batches(
                    RowStream(self.table, tally, config.seed, share, self._is_trained_on, kind, listed),
                    self.read,
                    partial(batch_size, config.data),
                    THREADS[kind],
                )
            )
            for kind, tally in self.tallies.items()
        }
        self._validation: list[Encoded] | None = None

    def _is_trained_on(self, address: Address) -> bool:
        return address.row >= self.held.get(address.shard, 0)

    def draw(self, generator: torch.Generator, is_video: bool) -> Encoded:
        for tally in self.tallies.values():
            tally.list_in(self.list_file)
        feed = self.feeds.get(is_video) or next(iter(self.feeds.values()))
        return self.encode(feed.take())

    def held_out(self) -> Iterator[Encoded]:
        if self._validation is None:
            self._validation = list(self._encode_held_out())
        yield from self._validation

    def _encode_held_out(self) -> Iterator[Encoded]:
        by_shape: dict[tuple[int, ...], list[Example]] = {}
        for shard, count in sorted(self.held.items()):
            for _, row in islice(self.table.rows(shard), count):
                if isinstance(row, Row):
                    try:
                        example = self.read(row)
                    except RowError as error:
                        logger.warning("%s: %s. It is left out of validation.", row.place, error)
                        continue
                    by_shape.setdefault(example.shape, []).append(example)
        for examples in by_shape.values():
            size = batch_size(self.data, examples[0].is_video, len(examples[0].source))
            for start in range(0, len(examples), size):
                yield self.encode(examples[start : start + size])

    def some(self, is_video: bool | None, count: int) -> Encoded | None:
        return next(iter(self.first.values())) if is_video is None else self.first.get(is_video)

    def position(self) -> dict[str, Any]:
        feeds = {NAMES[kind]: feed.position() for kind, feed in self.feeds.items()}
        return {"processes": self.share[1], HELD_OUT: self.never_drawn, **feeds}

    def go_to(self, position: dict[str, Any]) -> None:
        """Continue from `position`. Raises InputError if the table has changed.

        A position from a different number of processes is ignored: the table is read from its beginning.
        """
        self.never_drawn = least_held_out(self.never_drawn, position)
        names = {kind: NAMES[kind] for kind in self.feeds}
        # an older version, or another `video_probability`, may have found some of a kind that is not drawn
        unused = {NAMES[kind] for kind in NAMES if kind not in names and not is_drawn(self.data, kind)}
        others = set(position) - {"processes", HELD_OUT} - unused
        if position.get("processes") != self.share[1] or set(names.values()) != others:
            logger.warning(
                "The training state is from %s processes or other data; %s is read from its beginning.",
                position.get("processes", "other"),
                quoted_path(self.table.path),
            )
            return
        try:
            for kind, name in names.items():
                self.feeds[kind].go_to(position[name])
        except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(DAMAGED) from error


def is_drawn(data: DataConfig, kind: bool) -> bool:
    """Whether a run draws videos (True) or pictures (False), if there are any."""
    return data.video_probability > 0 if kind else data.video_probability < 1


def _drawn_first(data: DataConfig) -> list[bool]:
    """Both kinds, pictures before videos among those that are drawn."""
    return sorted(NAMES, key=lambda kind: not is_drawn(data, kind))


def first_examples(table: Table, data: DataConfig, read: Callable[[Row], Example]) -> dict[bool, list[Example]]:
    """The first intact examples of each kind in the table, pictures first.

    A kind that is not drawn refuses no run: few of its rows are tried, unless the other kind is missing.

    Raises:
        InputError: too many of the rows tried are broken, or all of a kind that is to be drawn, or there are none.
    """
    found: dict[bool, list[Example]] = {}
    summary = ""
    for kind in _drawn_first(data):
        most, is_needed = TRIED[kind], is_drawn(data, kind) or not found
        tally = Tally(table.path, data.broken if is_needed else 1, table.total)
        examples: list[Example] = []
        broken: list[str] = []
        for looked_at, row in enumerate(_rows_of(table, kind, tally)):
            if looked_at and looked_at % LOOKED_AT == 0:
                if examples or not is_needed:
                    break
                logger.info("%s: no usable %s in %d rows, still looking", table.path, NAMES[kind], looked_at)
            if row is None:
                continue
            try:
                examples.append(read(row))
                tally.good()
            except RowError as error:
                broken.append(f"{row.place}: {error}")
                tally.skip(broken[-1])
            if (examples or not is_needed) and len(examples) + len(broken) >= most:
                break
        summary = summary or tally.summary()
        if examples:
            found[kind] = examples
        elif is_needed and broken:
            raise InputError(
                f"None of the {len(broken)} {NAMES[kind]} in {quoted_path(table.path)} can be used; mend or remove "
                f"these rows: {'; '.join(one_line(words, 200) for words in broken[:3])}."
            )
        elif is_needed:
            logger.info("%s: no %s found", table.path, NAMES[kind])
    if not found:
        raise InputError(summary or f"No row of {quoted_path(table.path)} is an edit that passes data.filters.")
    return dict(sorted(found.items()))


def table_examples(
    table: Table, data: DataConfig, stride: int, frame_multiple: int, words: ExampleWords | None = None
) -> Iterator[Example]:
    """A table's examples, pictures first, to look at; of a kind that is not drawn only if the other is missing.

    Raises:
        InputError: too many rows are broken.
    """
    is_found = False
    for kind in _drawn_first(data):
        if is_found and not is_drawn(data, kind):
            break
        tally = Tally(table.path, data.broken, table.total)
        is_found = False
        for looked_at, row in enumerate(_rows_of(table, kind, tally)):
            if is_found and looked_at >= LOOKED_AT:
                break
            if row is None:
                continue
            try:
                yield read_example(row, data, stride, frame_multiple, words)
                tally.good()
                is_found = True
            except RowError as error:
                tally.skip(f"{row.place}: {error}")


def _rows_of(table: Table, kind: bool, tally: Tally) -> Iterator[Row | None]:
    """The rows of one kind, and None for each that is of the other, left out or broken; these are only tallied.

    Only shards that may hold this kind are read. Where names do not tell (all Parquet files, names such as a.gif), some
    `LOOKED_AT` rows of the other kind are read, the first of every shard.
    """
    shards = [shard for shard, part in enumerate(table.parts) if kind in part.shard.kinds]
    most = -(-LOOKED_AT // max(1, len(shards)))
    for shard in shards:
        others = 0
        for _, row in table.rows(shard):
            wanted: Row | None = None
            if isinstance(row, Broken):
                tally.skip(row.words)
            elif row is not None:
                try:
                    is_wanted = is_video(row.source) == kind
                except InputError as error:
                    tally.skip(f"{row.place}: {one_line(error).rstrip('.')}")
                else:
                    if is_wanted:
                        wanted = row
                    else:
                        tally.good()
                        others += 1
            yield wanted
            if others == most and not table.parts[shard].shard.told:
                break


def held_out_rows(table: Table, count: int) -> dict[int, int]:
    """Shard -> how many of its first rows are held out for validation; at most a tenth of the table."""
    if not count:
        return {}
    shards = torch.randperm(len(table.parts), generator=torch.Generator().manual_seed(0))[:SPREAD].tolist()
    total = table.total
    if total is None:  # archives: estimated from the chosen ones
        total = sum(_size(table.parts[shard].shard) for shard in shards) * len(table.parts) // len(shards)
    count = min(count, total // 10)
    shards = shards[:count]
    return {shard: count // len(shards) + (place < count % len(shards)) for place, shard in enumerate(shards)}


def _size(shard: Shard) -> int:
    return shard.count() if isinstance(shard, TarShard) else shard.size or 0
