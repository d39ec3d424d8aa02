"""What a judge of `instructx bench` is shown, and by which prompts it is asked."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from instructx_core import main_memory
from instructx_core.errors import InputError
from instructx_core.evaluation.bench_run import BenchRun
from instructx_core.evaluation.benches import BENCHES, Columns
from instructx_core.evaluation.judges import Answer, RecordedJudge
from instructx_core.evaluation.sampled_frames import sampled_frames
from instructx_core.guidance.frames import sample_indices
from instructx_core.source import load_source
from support import benchmarks
from support.video_files import COUNT, can_tag_rotation, clip, make_video


@pytest.fixture
def run(tmp_path):
    """Two clips, each its own edit; the second has 40 frames."""
    (tmp_path / "data").mkdir()
    benchmarks.openve(tmp_path / "data")
    benchmarks.clip(tmp_path / "data" / "1.mp4", 1, frames=40)
    cases = BENCHES["openve"].cases(tmp_path / "data", Columns(), tmp_path)
    run = BenchRun(tmp_path / "run", BENCHES["openve"], cases, {"model": "m"})
    for case in cases:
        shutil.copy(case.source, run.edit_of(case))
    return run


class Attentive:
    """A judge that keeps what it is shown, by case."""

    name = "attentive"

    def __init__(self, question):
        self.seen = {}
        self.answer = Answer(json.dumps(dict.fromkeys(question.scores, 3)))

    def ask(self, key, number, words, shown):
        self.seen[key] = [one.frames for one in shown]
        return self.answer


class Small(Attentive):
    """A judge with too little memory for more than two frames."""

    def ask(self, key, number, words, shown):
        if len(shown[0].frames) > 2:
            raise torch.OutOfMemoryError("CUDA no")
        return super().ask(key, number, words, shown)


def judge_of(run):
    return Attentive(run.bench.questions(run.cases[0], {})[0])


def test_a_clip_too_long_for_memory_is_judged_by_the_same_frames(run, monkeypatch):
    long, judge = run.cases[1], judge_of(run)
    expected = load_source(long.source).frames[sample_indices(40, 4)]
    monkeypatch.setattr(main_memory, "free_main_memory", lambda: 10 * main_memory.EDIT_BYTES * benchmarks.SIZE**2)
    with pytest.raises(InputError, match="x 40 frames needs"):
        load_source(long.source)
    assert run.judge(judge, {}, frames=4) == 2
    for frames in judge.seen[long.key]:
        assert frames.dtype == torch.float32 and torch.equal(frames, expected)


def test_a_case_that_cannot_be_shown_stops_no_other(run, monkeypatch, said):
    (first, second), judge = run.cases, judge_of(run)
    run.edit_of(first).write_bytes(b"<!DOCTYPE html>")
    for count in (1, 0):
        assert run.judge(judge, {}, frames=1) == count and judge.seen.keys() == {second.key}
        assert f"1 of 2 cases could not be shown to attentive; the first: {first.key}: " in said.text
        said.clear()
    monkeypatch.setattr(main_memory, "free_main_memory", lambda: 8 * main_memory.EDIT_BYTES * benchmarks.SIZE**2)
    other = judge_of(run)
    other.name = "other"
    with pytest.raises(InputError, match="None of 2 cases could be shown to other; the first: "):
        run.judge(other, {}, frames=8)


def test_a_question_that_takes_too_much_memory_stops_no_other(run, said):
    short, long = run.cases
    benchmarks.clip(short.source, 0, frames=2)
    judge = Small(run.bench.questions(short, {})[0])
    assert run.judge(judge, {}, frames=3) == 1 and judge.seen.keys() == {short.key}
    assert f"{long.key}: The judge 'attentive' needs more memory than is free (OutOfMemoryError: CUDA no)" in said.text


def animation(path):
    first, *others = (Image.fromarray(frame) for frame in clip())
    first.save(path, save_all=True, append_images=others)
    return path


def deep_grey(path):
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100).save(path)
    return path


FILES = {
    "turned": lambda folder: make_video(folder / "a.mp4", rotation=(90, True)),
    "uneven": lambda folder: make_video(folder / "a.mkv", pts=[number**2 for number in range(COUNT)]),
    "animated": lambda folder: animation(folder / "a.gif"),
    "deep grey": lambda folder: deep_grey(folder / "a.png"),
}


@pytest.mark.parametrize("kind", [pytest.param("turned", marks=can_tag_rotation), "uneven", "animated", "deep grey"])
def test_sampled_frames_are_those_of_the_whole_file(kind, tmp_path):
    path = FILES[kind](tmp_path)
    whole = load_source(path).frames
    for count in (1, 4, 64):
        assert torch.equal(sampled_frames(path, count), whole[sample_indices(len(whole), count)])


def test_scores_by_two_sets_of_prompts_are_not_mixed(run):
    ours, theirs = {"video": "Judge."}, {"video": "Judge strictly."}
    judge = judge_of(run)
    log = run.judged(judge.name)
    with log.claim(run.cases[1].key):  # as another process does
        assert run.judge(judge, ours, frames=1) == 1
    with pytest.raises(InputError, match="attentive.jsonl' holds scores by other prompts; give the same, or move"):
        run.judge(judge, theirs, frames=1)
    (line,) = log.read().values()
    log.append({name: value for name, value in line.items() if name != "prompts"})  # as an older version wrote it
    assert run.judge(judge, theirs, frames=1) == 1


def test_scores_by_two_sets_of_prompts_that_start_together_are_not_mixed(run):
    """The judge that writes the first score goes on."""
    strict = judge_of(run)

    class Overtaken(Attentive):
        def ask(self, key, number, words, shown):
            assert run.judge(strict, {"video": "Judge strictly."}, frames=1) == 1
            return super().ask(key, number, words, shown)

    mild = Overtaken(run.bench.questions(run.cases[0], {})[0])
    with pytest.raises(InputError, match="attentive.jsonl' holds scores by other prompts"):
        run.judge(mild, {"video": "Judge."}, frames=1)
    assert run.judged("attentive").read().keys() == {run.cases[1].key}
    assert run.judge(strict, {"video": "Judge strictly."}, frames=1) == 1


def test_judges_of_one_file_name_are_not_mixed(run, tmp_path):
    run.judged("a_b").append({"key": run.cases[0].key, "judge": "a/b", "scores": {"overall": 4.0}})
    judge = RecordedJudge(benchmarks.record(tmp_path / "answers.jsonl", run.cases, run.bench))
    judge.name = "a_b"
    with pytest.raises(InputError, match=r"a_b.jsonl' holds the scores of 'a/b', not of 'a_b'; judge in another run"):
        run.judge(judge, {}, frames=1)
    judge.name = "a/b"
    assert run.judge(judge, {}, frames=1) == 1
