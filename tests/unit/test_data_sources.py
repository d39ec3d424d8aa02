"""Where a stage's batches come from: their sizes, what a table is found to have, and what is held out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.latents import LatentCodec
from instructx_core.training.config import DataConfig, TrainConfig
from instructx_core.training.data import sources
from instructx_core.training.data.opening import open_table
from instructx_core.training.data.pixels import read_example
from instructx_core.training.data.pool import Bucket
from instructx_core.training.data.sources import PoolSource, StreamSource, batch_size, first_examples
from instructx_core.training.dry_run import _plan
from instructx_core.video import VideoWriter
from support import public_sets
from support.public_sets import config


class NoCodec:
    """In the place of a VAE; all latents are zero."""

    frame_multiple = 4
    mean = torch.zeros(1)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(frames), 4, 1, 2, 2)


def check_length(text: str) -> None:
    if len(text) > 100:
        raise InputError(f"The instruction has {len(text)} tokens; give at most 100.")


def stream_source(data: DataConfig, folder: Path, **changes: Any) -> StreamSource:
    training = TrainConfig("editing", str(folder / "run"), 1, {"model": "y"}, data=data, **changes)
    return StreamSource(training, cast(LatentCodec, NoCodec()), 2, 16, (0, 1), check_length)


def rows(*groups: tuple[str, str, int]) -> list[dict[str, str]]:
    """Groups of equal rows: source, target, how many."""
    return [
        {"source": source, "target": target, "instruction": "x"}
        for source, target, count in groups
        for _ in range(count)
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures a.png and b.png, and clips a.mp4 of five frames and cut.mp4 of three."""
    public_sets.long_csv(tmp_path, 0)
    public_sets.put_clip(tmp_path / "a.mp4", 0, False)
    with VideoWriter(tmp_path / "cut.mp4", fps=8) as writer:
        for _ in range(3):
            writer.write(torch.zeros(64, 64, 3, dtype=torch.uint8))
    return tmp_path


# --- sizes


def test_a_batch_of_clips_is_never_larger_than_video_batch() -> None:
    paper = DataConfig(lengths=(81,), video_batch=1)
    assert [batch_size(paper, True, frames) for frames in (17, 49, 81)] == [1, 1, 1]
    several = DataConfig(lengths=(5, 9, 17, 33), video_batch=8)
    assert [batch_size(several, True, frames) for frames in (1, 5, 9, 17, 33)] == [8, 8, 4, 2, 1]


def test_check_says_how_many_clips_of_several_lengths_a_step_has() -> None:
    data = DataConfig(lengths=(5, 33), video_batch=8, step_videos=32)
    images, videos = _plan(TrainConfig("editing", "x", 1, {"model": "y"}, data=data), 2, {False: 1, True: 2})
    assert "x 33 frames = 4 examples, up to 32 of shorter clips (asked for: 32)" in videos
    assert "shorter" not in images


# --- first rows


def test_a_kind_whose_first_rows_are_broken_is_still_drawn(folder: Path) -> None:
    table = rows(("a.png", "b.png", 60), ("a.mp4", "cut.mp4", 2), ("a.mp4", "a.mp4", 40))
    source = stream_source(config(public_sets.write_csv(folder / "both.csv", table)), folder)
    assert set(source.feeds) == {False, True}
    pictures, clips = source.some(False, 8), source.some(True, 1)
    assert pictures is not None and len(pictures) == 8 and clips is not None and clips.frames == 5


def test_a_kind_whose_rows_are_all_broken_is_refused_if_it_is_drawn(folder: Path) -> None:
    path = public_sets.write_csv(folder / "both.csv", rows(("a.png", "b.png", 60), ("a.mp4", "cut.mp4", 2)))
    with pytest.raises(InputError, match=r"None of the 2 videos in '.*both.csv' can be used.*Line 62 .* in length"):
        stream_source(config(path), folder)
    assert set(stream_source(config(path, video_probability=0.0), folder).feeds) == {False}


def test_a_filter_may_leave_out_the_beginning_of_a_table(folder: Path) -> None:
    table = [{**row, "task": "a"} for row in rows(("a.png", "b.png", 10_002))]
    table[-1]["task"] = "b"
    data = config(public_sets.write_csv(folder / "tasks.csv", table), filters={"task": ("b",)})
    assert set(stream_source(data, folder).feeds) == {False}
    assert [example.name for example in sources.table_examples(open_table(data), data, 16, 4)] == [
        "line 10003 of 'tasks.csv'"
    ]


def test_clips_behind_many_pictures_in_parquet_files_are_found(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(sources, "LOOKED_AT", 4)
    for name, media in (("1", "a.png"), ("2", "a.mp4")):
        table = [{"src_video": media, "tgt_video": media, "prompt": "x"}] * 12
        public_sets.write_parquet(folder / f"{name}.parquet", table, ())
    data = config(folder)
    (folder / "pairs.csv").unlink()
    found = first_examples(open_table(data), data, partial(read_example, data=data, stride=16, frame_multiple=4))
    assert set(found) == {False, True}


def test_a_text_that_is_too_long_for_the_model_is_a_broken_row(folder: Path) -> None:
    """Also in a state of a version that did not know it."""
    table = rows(("a.png", "b.png", 40))
    table[20]["instruction"] = "long " * 100
    data = config(public_sets.write_csv(folder / "long.csv", table), image_batch=13)
    source, resumed = (stream_source(data, folder) for _ in range(2))
    names = [name for _ in range(4) for name in source.draw(torch.Generator(), False).names]
    assert len(set(names[:39])) == 39 and "line 22 of 'long.csv'" not in names
    (line,) = (folder / "run/broken-rows.txt").read_text().splitlines()
    assert line == "Line 22 of 'long.csv': The instruction has 499 tokens; give at most 100"
    position = source.position()
    position["images"]["waiting"].append([0, 20])
    resumed.go_to(position)
    assert resumed.draw(torch.Generator(), False).names == source.draw(torch.Generator(), False).names


# --- held-out rows


def test_validation_on_rows_that_a_run_has_trained_on_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also by the states that follow."""
    data = config(public_sets.write_csv(folder / "pairs.csv", rows(("a.png", "b.png", 100))))
    before = stream_source(data, folder)
    before.draw(torch.Generator(), False)
    position = before.position()
    for validation in (6, 8):
        after = stream_source(data, folder, validate_every=1, validation=validation)
        caplog.clear()
        after.go_to(position)
        assert f"{validation} examples are held out for validation, but the run began with 0" in caplog.text
        position = after.position()
    caplog.clear()
    older = {name: value for name, value in position.items() if name != "held_out"}
    stream_source(data, folder, validate_every=1).go_to(older)
    stream_source(data, folder).go_to(position)
    assert "held out" not in caplog.text


def test_a_pool_s_validation_on_examples_that_a_run_has_trained_on_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class FullBucket:
        """A hundred pictures."""

        is_video = False

        def __len__(self) -> int:
            return 100

        def lacking(self, words: str) -> int:
            return 0

    def pool_source(**changes: Any) -> PoolSource:
        return PoolSource(cast(list[Bucket], [FullBucket()]), TrainConfig("editing", "x", 1, {"model": "y"}, **changes))

    fewer, more = (pool_source(validate_every=1, validation=count) for count in (5, 8))
    fewer.go_to(more.position())
    fewer.go_to({})  # an older state
    assert not caplog.text
    more.go_to(fewer.position())
    assert "8 examples are held out for validation, but the run began with 5" in caplog.text
