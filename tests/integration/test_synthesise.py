"""`instructx synthesise`: shards that training reads as they lie, plans and pages."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from instructx_core.errors import InputError, NoRoom
from instructx_core.synthesis import Experts
from instructx_core.synthesis.config import SynthesisConfig, read_synthesis_config
from instructx_core.synthesis.manifest import read_manifest
from instructx_core.synthesis.media import write_media
from instructx_core.synthesis.one_clip import make_pairs, open_clips, open_experts
from instructx_core.synthesis.plan import plan_lines, shared_out
from instructx_core.synthesis.preview import write_preview
from instructx_core.synthesis.run import RunSummary, read_summary, synthesise
from instructx_core.synthesis.shards import SUFFIXES, write_shard
from instructx_core.synthesis.thumbnails import AS_IT_IS, thumbnail
from instructx_core.training.config import DataConfig
from instructx_core.training.data.opening import open_table
from instructx_core.training.data.pixels import read_example
from instructx_core.training.data.rows import Row
from instructx_core.training.data.table import Table
from support.commands import called, refusal
from support.shards import check_sums, small_synthesis, stored

FORMS = ("parquet", "webdataset")


def candidates(settings: SynthesisConfig) -> dict:
    """All candidates by their keys, made anew."""
    clips = open_clips(settings)
    experts = open_experts(settings, clips)
    return {one.key: one for key in clips.keys() for one in make_pairs(settings, clips, key, experts)}


def kinds(table: Table) -> set[bool]:
    """Whether there are videos, and pictures, by the names of the files."""
    return {kind for part in table.parts for kind in part.shard.kinds}


def trained_on(folder: Path, frames: int) -> list:
    data = DataConfig(table=str(folder), sizes=((64, 64),), lengths=(frames,))
    table = open_table(data)
    assert (frames > 1) in kinds(table)
    rows = [row for shard in range(len(table.parts)) for _, row in table.rows(shard)]
    assert all(isinstance(row, Row) for row in rows), rows
    return [(row, read_example(row, data, 16, 4)) for row in rows]


@pytest.mark.parametrize("form", ["parquet", "webdataset", "records"])
def test_training_reads_pictures_exactly(tmp_path, form):
    settings = small_synthesis(
        tmp_path / "out", recipe="advanced_edit" if form == "records" else "add_remove", form=form
    )
    made = synthesise(settings)
    truth = candidates(settings)
    assert made.pairs == made.kept == len(truth) == 9
    check_sums(tmp_path / "out")
    read = trained_on(tmp_path / "out" / "kept", 1)
    assert len(read) == 9
    left = list(truth.values())
    for row, example in read:
        source, target = ((frames * 255).round().to(torch.uint8) for frames in (example.source, example.target))
        same = [
            one
            for one in left
            if row.instruction in one.instructions
            and torch.equal(source, one.source)
            and torch.equal(target, one.target)
            and (form == "records" or bool(row.references) == (one.reference is not None))
        ]
        left.remove(same[0])
    assert not left
    if form != "records":
        rows = {row["key"]: row for row in stored(tmp_path / "out", form)}
        assert {key: row["instruction"] for key, row in rows.items()} == {
            key: one.instructions[0] for key, one in truth.items()
        }
        assert all(rows[key]["fit"] == pytest.approx(one.scores["fit"]) for key, one in truth.items())


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_training_reads_clips(tmp_path, form):
    settings = small_synthesis(tmp_path / "out", 1, frames=5, form=form)
    synthesise(settings)
    truth = list(candidates(settings).values())
    read = trained_on(tmp_path / "out" / "kept", 5)
    assert Counter(row.instruction for row, _ in read) == Counter(one.instructions[0] for one in truth)
    for row, example in read:
        assert example.is_video
        near = min(
            (one.source / 255 - example.source).abs().mean() + (one.target / 255 - example.target).abs().mean()
            for one in truth
            if one.instructions[0] == row.instruction
        )
        assert near < 0.04  # H.264


@pytest.mark.parametrize(("form", "recipe"), [*((f, "add_remove") for f in FORMS), ("records", "advanced_edit")])
def test_filters_of_training_know_the_scores(tmp_path, form, recipe):
    synthesise(small_synthesis(tmp_path / "out", form=form, recipe=recipe))
    wanted = {"task": ("remove",), "quality": 9.0, "follow": (8.0, 10.0), "preserve": 8.0}
    data = DataConfig(table=str(tmp_path / "out/kept"), filters=wanted)
    table = open_table(data)
    rows = [row for shard in range(len(table.parts)) for _, row in table.rows(shard) if row is not None]
    assert len(rows) == 3


def test_kept_and_dropped_add_up(tmp_path):
    settings = small_synthesis(tmp_path / "out", count=5, frames=2, recipe="swap_dynamic")
    made = synthesise(settings)
    truth = candidates(settings).values()
    assert made.pairs == len(truth) == 10
    assert 0 < made.kept < 10
    assert made.dropped == Counter(f"{one.task}: {one.reason}" for one in truth if one.reason)
    check_sums(tmp_path / "out")
    rows = stored(tmp_path / "out", "parquet")
    assert Counter(row["reason"] for row in rows) == Counter(one.reason for one in truth)


def test_a_broken_clip_is_dropped_and_counted(tmp_path):
    from PIL import Image

    folder = tmp_path / "clips/inner"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 64), "red").save(folder / "a b.png")
    (folder / "broken.png").write_bytes(b"no picture")
    settings = replace(small_synthesis(tmp_path / "out"), world=None, clips=str(tmp_path / "clips"))

    class Nothing:
        def subjects(self, frames, most):
            return []

    with pytest.raises(InputError, match="needs experts for judge, detect, segment, erase, redraw"):
        synthesise(settings, Experts(describe=Nothing()))
    made = synthesise(settings, Experts(Nothing(), *[object()] * 5))
    assert made.dropped == {
        "any: unreadable": 1,
        "remove: no subject": 1,
        "add: no subject": 1,
        "reference_add: no subject": 1,
    }
    assert made.kept == 0
    assert not (tmp_path / "out/kept").exists()


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "still.png"])
def test_a_shortage_of_memory_drops_nothing(tmp_path, name, monkeypatch):
    """Films of 20 frames of 32 x 32, with scenes of 5: 6 bytes for each pixel of a film and 10 for each of a scene."""
    from PIL import Image

    from instructx_core import main_memory
    from instructx_core.synthesis.config import ExpertChoice
    from support.video_files import clip, make_video

    (tmp_path / "clips").mkdir()
    if name == "still.png":
        Image.new("RGB", (64, 64), "red").save(tmp_path / "clips" / name)
    else:
        make_video(tmp_path / "clips" / name, clip(20, 32, 32))
    fields = {"world": None, "clips": str(tmp_path / "clips"), "frames": 5, "film": 20}
    settings = replace(small_synthesis(tmp_path / "out"), **fields, experts={"cuts": ExpertChoice("scenedetect")})

    class Nothing:
        def subjects(self, frames, most):
            return []

        def scenes(self, frames):
            return [(0, len(frames))]

    def made() -> dict[str, int]:
        return dict(synthesise(settings, Experts(Nothing(), *[object()] * 5, cuts=Nothing())).dropped)

    needed = 64 * 64 * 16 if name == "still.png" else 32 * 32 * (6 * 20 + 10 * 5)
    monkeypatch.setattr(main_memory, "free_main_memory", lambda: int(0.9 * needed / main_memory.USABLE))
    advice = "free memory, scale .*, and run again, or give a new output and lower film or frames"
    why = f"{name}: .* of memory, but only .* are available; scale it down"
    with pytest.raises(NoRoom, match=rf"short for 1 of 1 clips \('{name}'\), .*; {advice}; the first: .*{why}\.$"):
        made()
    assert not list((tmp_path / "out/pending").iterdir()) and not (tmp_path / "out/dropped").exists()
    monkeypatch.setattr(main_memory, "free_main_memory", lambda: int(1.4 * needed / main_memory.USABLE))
    assert made() == {"remove: no subject": 1, "add: no subject": 1, "reference_add: no subject": 1}


def test_clips_that_do_not_fit_into_memory_stop_no_others(tmp_path, monkeypatch):
    from instructx_core import main_memory
    from support.video_files import clip, make_video

    folder, out = tmp_path / "clips", tmp_path / "out"
    (folder / "b").mkdir(parents=True)
    large = {"b/film.mp4", "d.mp4"}
    for name in ("a.mp4", "c.mp4", "e.mp4", *large):
        make_video(folder / name, clip(4, 64, 64) if name in large else clip(4, 32, 32))
    settings = replace(small_synthesis(out, references=False), world=None, clips=str(folder), frames=4)
    seen: list[int] = []

    class Nothing:
        def subjects(self, frames, most):
            return []

    def made() -> RunSummary:
        return synthesise(settings, Experts(Nothing(), *[object()] * 4), lambda board: seen.append(board.done))

    monkeypatch.setattr(main_memory, "free_main_memory", lambda: int(64 * 64 * 4 * 16 * 0.9 / main_memory.USABLE))
    for finished in ([1, 2, 3], []):  # the same again: nothing is left but these
        seen.clear()
        with pytest.raises(NoRoom, match=r"for 2 of 5 clips \('b/film.mp4', 'd.mp4'\).* and lower frames; the first: "):
            made()
        assert seen == finished
        assert [len(entry["clips"]) for entry in read_manifest(out)] == [2, 1]
        assert not list((out / "pending").iterdir())
    (folder / "d.mp4").unlink()
    with pytest.raises(NoRoom, match=r"for 1 of 4 clips \('b/film.mp4'\), all others are finished"):
        made()
    monkeypatch.setattr(main_memory, "free_main_memory", lambda: 10**9)
    assert made().dropped == {"remove: no subject": 4, "add: no subject": 4}
    check_sums(out)
    clips = [clip for entry in read_manifest(out) for clip in entry["clips"]]
    assert [clip[:2] for clip in clips] == ["a-", "c-", "e-", "b-"]


def test_the_preview_of_records_shows_pairs_that_could_not_be_made(tmp_path):
    class Nothing:
        def caption(self, frames):
            return ""

        def subjects(self, frames, most):
            return []

    settings = small_synthesis(tmp_path / "out", recipe="advanced_edit", form="records")
    assert synthesise(settings, Experts(Nothing(), *[object()] * 5)).pairs == 9
    page = write_preview(tmp_path / "out", "records", tmp_path / "page.html").read_text()
    assert "dropped: 9 of 9" in page and page.count("<img") == 9  # only sources


def test_plan_from_given_and_measured_rates():
    measured = RunSummary(10, 25, {}, {"erase": 20.0, "judge": 5.0})
    lines = plan_lines(3600, 2, {"judge": 1.0, "pose": 3.0}, measured)
    assert lines == [
        "3600 clips on 2 cards: 3.00 hours, 6.00 card hours",
        "  pose: 3.000 s a clip (given), 3.00 card hours, 50%",
        "  erase: 2.000 s a clip (measured), 2.00 card hours, 33%",
        "  judge: 1.000 s a clip (given), 1.00 card hours, 17%",
        "  about 9000 pairs kept, estimated from 10 clips",
    ]
    assert plan_lines(10, 1, {}, RunSummary(0, 0, {}, {})) == []


def test_a_plan_shares_cards_out_to_models():
    models = [["erase", "animate"], ["judge"], ["detect"]]
    rates = {"erase": 6.0, "animate": 3.0, "judge": 2.0, "detect": 0.5}
    lines = plan_lines(3600, 6, rates, RunSummary(0, 0, {}, {}), models)
    assert "  on Ray with copies: erase/animate 4, judge 1, detect 1: 2.25 hours, erase/animate is the slowest" in lines
    assert not any("Ray" in line for line in plan_lines(3600, 2, rates, RunSummary(0, 0, {}, {}), models))
    assert shared_out({"a": 4.0, "b": 1.0}, 6) == {"a": 5, "b": 1}


def test_the_command(tmp_path, capsys):
    file = tmp_path / "pairs.yaml"
    plain = {"recipe": "swap_dynamic", "output": str(tmp_path / "out"), "world": {"count": 4}, "shard": 2}
    file.write_text(yaml.safe_dump(plain))
    assert "no rates are known" in refusal(capsys, "synthesise", file, "--plan", 1000)
    assert "has no shards yet" in refusal(capsys, "synthesise", file, "--preview")
    code, said = called(capsys, "synthesise", file)
    made = read_summary(tmp_path / "out")
    assert code == 0
    assert f"4 clips, 8 pairs: {made.kept} kept" in said and said.rstrip().endswith(str(tmp_path / "out"))
    code, said = called(capsys, "synthesise", file, "--plan", 1000)
    assert code == 0 and "1000 clips on 1 card:" in said and "judge:" in said
    code, said = called(capsys, "synthesise", file, "--preview")
    page = (tmp_path / "out/preview.html").read_text()
    assert code == 0 and f"kept: {made.kept} of {made.kept}" in page
    assert f"dropped: {8 - made.kept} of {8 - made.kept}" in page and "static background" in page
    shown = 3 * made.kept + 8 - made.kept  # source, target and mask of what was kept; sources of the others
    assert page.count("<video") == shown and page.count("<img") == made.kept // 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipe": "dance"}, "recipe"),
        ({"world": None}, "needs clips (a folder) or world"),
        ({"clips": "x"}, "not both"),
        ({"form": "records"}, "advanced_edit"),
        ({"bounds": {"fit": [1, 0]}}, "lower one first"),
        ({"bounds": {"beauty": [0, 1]}}, "beauty"),
        ({"world": {"count": 0}}, "count"),
        ({"world": {"count": 2, "size": 33}}, "even"),
        ({"subjectz": 2}, "subjectz"),
    ],
)
def test_a_config_is_refused_in_one_sentence(tmp_path, change, words, capsys):
    file = tmp_path / "pairs.yaml"
    plain = {"recipe": "add_remove", "output": str(tmp_path / "out"), "world": {"count": 2}} | change
    file.write_text(json.dumps({name: value for name, value in plain.items() if value is not None}))
    assert words in refusal(capsys, "synthesise", file)
    with pytest.raises(InputError, match=re.escape(words)):
        read_synthesis_config(file)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_training_finds_clips_and_pictures_of_one_shard(tmp_path, form):
    """A clip comes first: the pictures behind it are not lost."""
    rows, folders = [], []
    for place in ("clips", "pictures"):
        settings = small_synthesis(tmp_path / place, 1, frames=5 if place == "clips" else 1, references=False)
        for one in candidates(settings).values():
            one = replace(one, key=f"{place}-{one.task}")
            media = write_media(one, tmp_path)
            about = {"key": one.key, "clip": place, "task": one.task, "caption": "", "reason": "", "about": {}}
            rows.append(about | {"instructions": list(one.instructions), "scores": dict(one.scores)} | media)
            folders.append(tmp_path)
    write_shard(form, tmp_path / f"mixed/00000{SUFFIXES[form]}", rows, folders)
    data = DataConfig(table=str(tmp_path / "mixed"), sizes=((64, 64),), lengths=(5,))
    table = open_table(data)
    assert kinds(table) == {True, False}
    read = [row for shard in range(len(table.parts)) for _, row in table.rows(shard)]
    assert Counter(read_example(row, data, 16, 4).is_video for row in read) == {True: 2, False: 2}


class Halves:
    """A film's scenes: its first frame, and the two halves of the others."""

    def scenes(self, frames):
        half = (len(frames) + 1) // 2
        return [(0, 1), (1, half), (half, len(frames))]


def test_scenes_of_a_film_are_clips(tmp_path):
    from instructx_core.synthesis.config import ExpertChoice
    from support.video_files import make_video

    (tmp_path / "clips").mkdir()
    film = torch.arange(21, dtype=torch.uint8)[:, None, None, None].mul(10).expand(21, 32, 32, 3)
    make_video(tmp_path / "clips/film.mp4", film.numpy())
    seen: list[int] = []

    class Nothing:
        def subjects(self, frames, most):
            seen.append(len(frames))
            return []

    cuts = {"cuts": ExpertChoice("scenedetect")}
    fields = {"world": None, "clips": str(tmp_path / "clips"), "frames": 5, "least_frames": 2, "experts": cuts}
    made = synthesise(
        replace(small_synthesis(tmp_path / "out", references=False), **fields, film=20),
        Experts(Nothing(), *[object()] * 5, cuts=Halves()),
    )
    assert seen == [5, 5]
    assert made.dropped == {"any: too short": 1, "remove: no subject": 2, "add: no subject": 2}


def test_large_media_are_small_on_a_page(tmp_path):
    from instructx_core.images import read_pixels, write_image
    from instructx_core.video import VideoReader
    from support.video_files import make_video

    noise = torch.randint(0, 255, (3, 401, 700, 3), dtype=torch.uint8)
    write_image(noise[0], tmp_path / "large.png")
    make_video(tmp_path / "large.mp4", noise[:, :400].numpy())
    for name in ("large.png", "large.mp4"):
        data = (tmp_path / name).read_bytes()
        assert len(data) > AS_IT_IS
        (tmp_path / f"small-{name}").write_bytes(thumbnail(data))
        assert thumbnail(small := thumbnail(data)) == small or len(small) > AS_IT_IS
        with pytest.raises(InputError, match="cannot be read|neither an image nor a video"):
            thumbnail(data[: len(data) // 2])
    assert read_pixels(tmp_path / "small-large.png").shape == (183, 320, 3)
    with VideoReader(tmp_path / "small-large.mp4") as reader:
        assert (reader.info.width, reader.info.height, len(list(reader))) == (320, 182, 3)
