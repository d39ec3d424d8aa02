"""Where a stage's batches come from: their sizes, what a table is found to have, and what is held out."""

from __future__ import annotations

import tarfile
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image

from instructx_core.errors import InputError
from instructx_core.latents import LatentCodec
from instructx_core.training.config import DataConfig, TrainConfig
from instructx_core.training.data import sources
from instructx_core.training.data.example import Example
from instructx_core.training.data.opening import open_table
from instructx_core.training.data.pixels import read_example
from instructx_core.training.data.pool import Bucket
from instructx_core.training.data.rows import Row, is_video
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


@pytest.mark.parametrize("kind", [False, True])
def test_a_kind_that_is_not_drawn_is_hardly_looked_for(kind: bool, folder: Path, monkeypatch) -> None:
    """A third of the rows are of the other kind and broken; they refuse neither the run nor its --check."""
    good, broken = (("a.mp4", "a.mp4"), ("a.png", "wide.png")) if kind else (("a.png", "b.png"), ("a.mp4", "cut.mp4"))
    Image.new("RGB", (128, 64)).save(folder / "wide.png")
    table = rows((*good, 40), (*broken, 20), (broken[0], broken[0], 3))
    data = config(public_sets.write_csv(folder / "both.csv", table), video_probability=float(kind))
    tried: list[str] = []

    def read(row: Row, *given: Any) -> Example:
        tried.append(Path(str(row.target)).name)
        return read_example(row, *given)

    monkeypatch.setattr(sources, "read_example", read)
    assert set(stream_source(data, folder).feeds) == {kind}
    assert len(list(sources.table_examples(open_table(data), data, 16, 4))) == 40
    assert tried.count(broken[1]) == sources.TRIED[not kind]


def test_intact_rows_of_a_kind_that_is_not_drawn_are_shown(folder: Path) -> None:
    """Pictures stay the first, as what is measured on some of a table is measured on them."""
    path = public_sets.write_csv(folder / "both.csv", rows(("a.mp4", "a.mp4", 9), ("a.png", "b.png", 9)))
    for probability in (0.0, 1.0):
        source = stream_source(config(path, video_probability=probability), folder)
        first, clips = source.some(None, 8), source.some(True, 1)
        assert first is not None and not first.is_video and clips is not None and clips.frames == 5


def test_a_state_goes_on_where_a_kind_that_is_not_drawn_is_not_found_any_more(folder: Path) -> None:
    """An earlier version looked for it to the end of the table."""
    table = rows(("a.png", "b.png", 60), ("a.mp4", "cut.mp4", 2), ("a.mp4", "a.mp4", 40))
    for number, row in enumerate(table):
        row["instruction"] = str(number)
    path = public_sets.write_csv(folder / "both.csv", table)
    before = stream_source(config(path, image_batch=8), folder)
    after = stream_source(config(path, image_batch=8, video_probability=0.0), folder)
    for _ in range(3):
        before.draw(torch.Generator(), False)
    position = before.position()
    assert set(position) > {"images", "videos"} and set(after.feeds) == {False}
    after.go_to(position)
    assert after.draw(torch.Generator(), False).names == before.draw(torch.Generator(), False).names


def test_only_a_kind_that_names_do_not_tell_is_looked_for_in_few_rows(folder: Path, monkeypatch) -> None:
    """Three blocks of a table: pictures whose names may be clips', or a clip at the end of each."""
    monkeypatch.setattr(sources, "LOOKED_AT", 30)
    opened: list[Path] = []
    monkeypatch.setattr(sources, "is_video", lambda media: opened.append(media) or is_video(media))
    Image.new("RGB", (64, 64)).save(folder / "a.gif")
    for name, groups, kinds in (
        ("gif", [("a.gif", "a.gif", 768)], {False}),
        ("told", [("a.png", "b.png", 255), ("a.mp4", "a.mp4", 1)] * 3, {False, True}),
    ):
        data = config(public_sets.write_csv(folder / f"{name}.csv", rows(*groups)))
        read = partial(read_example, data=data, stride=16, frame_multiple=4)
        assert set(first_examples(open_table(data), data, read)) == kinds
        assert name == "told" or 30 <= len(opened) <= 50


def test_clips_behind_many_pictures_in_an_archive_are_found(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(sources, "LOOKED_AT", 4)
    with tarfile.open(folder / "pairs.tar", "w") as archive:
        for number in range(21):
            kind, name = ("mp4", "a.mp4") if number == 20 else ("png", "a.png")
            for media in ("source", "target"):
                public_sets.add(archive, f"{number}.{media}.{kind}", (folder / name).read_bytes())
            public_sets.add(archive, f"{number}.json", b'{"instruction": "x"}')
    data = config(folder / "pairs.tar")
    read = partial(read_example, data=data, stride=16, frame_multiple=4)
    assert set(first_examples(open_table(data), data, read)) == {False, True}


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
