"""Experts that are real models: their questions and pixels, and each class run with random weights."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from instructx_core.errors import CheckpointError, InputError
from instructx_core.evaluation.judges import Answer, RefusedQuestion
from instructx_core.synthesis import World
from instructx_core.synthesis.config import ExpertChoice
from instructx_core.synthesis.experts import ExpertFailed, Subject
from instructx_core.synthesis.models import check_experts, load_experts
from instructx_core.synthesis.models.animators import drawn_poses, faces_of
from instructx_core.synthesis.models.asked import AskedDescriber, AskedRater, filled, some_frames
from instructx_core.synthesis.models.motion import BlockFlow
from instructx_core.synthesis.models.pipelines import at_size
from instructx_core.synthesis.models.scenes import ContentScenes

FRAMES = torch.zeros(9, 16, 16, 3, dtype=torch.uint8)
CAT = Subject("cat", "grey cat", "A grey cat on a sofa.")


class Scripted:
    """Says what it is told to, in turn, and notes what it was asked."""

    name = "scripted"

    def __init__(self, *answers: object) -> None:
        self.answers = [one if isinstance(one, str) else json.dumps(one) for one in answers]
        self.asked: list[tuple[str, list]] = []

    def ask(self, key, number, words, shown):
        self.asked.append((words, shown))
        return Answer(self.answers.pop(0))


def test_a_describer_reads_answers():
    cat = {"category": "cat", "simple": "grey cat", "detailed": "A grey cat on a sofa.", "person": False}
    judge = Scripted(
        {"subjects": [cat, cat | {"person": True}, cat]},
        "```json\n" + json.dumps({"caption": " A cat. "}) + "\n```",
        cat,
        {"request": "paint it blue", "thing": ""},
        {"request": "make the cat red", "thing": "grey cat"},
        {"request": "remove the cat"},
        {"simple": "a", "understanding": "b", "reasoning": "c"},
    )
    describer = AskedDescriber(judge, {"caption": "Only {this}"})
    subjects = describer.subjects(FRAMES, 2)
    assert subjects == [CAT, Subject(CAT.category, CAT.simple, CAT.detailed, person=True)]
    assert "up to 2 separate" in judge.asked[0][0]
    assert describer.caption(FRAMES) == "A cat."
    assert judge.asked[1][0] == "Only {this}"
    assert describer.alternative(FRAMES, CAT) == CAT
    assert describer.restyle(FRAMES, "style").subject is None
    assert describer.restyle(FRAMES, "colour").subject.simple == "grey cat"
    assert describer.instruct("remove", FRAMES, FRAMES, CAT, None) == "remove the cat"
    assert "the grey cat was removed" in judge.asked[5][0]
    assert [one.title for one in judge.asked[5][1]] == ["Before", "After"]
    assert describer.recaption(FRAMES, "x", CAT, None).all == ("a", "b", "c")


def test_unreadable_answers_are_asked_again_and_then_drop_the_clip():
    judge = Scripted("well ...", {"caption": "yes"}, "no", "no")
    describer = AskedDescriber(judge, {})
    assert describer.caption(FRAMES) == "yes"
    assert judge.asked[1][0].endswith("Answer with the JSON object alone.")
    with pytest.raises(ExpertFailed, match="no readable answer to caption"):
        describer.caption(FRAMES)
    for odd in ({"subjects": "cat"}, {"subjects": ["cat"]}, {"subjects": [{"category": "cat"}]}):
        with pytest.raises(ExpertFailed):
            AskedDescriber(Scripted(odd), {}).subjects(FRAMES, 1)


def test_what_a_model_says_is_plain_text():
    odd = {"caption": "a cat\u2028 on\x00 a\ud800 sofa\n", "request": "make \x85it red", "thing": "the\ncat"}
    assert AskedDescriber(Scripted(json.dumps(odd)), {}).caption(FRAMES) == "a cat on a? sofa"
    restyle = AskedDescriber(Scripted(json.dumps(odd)), {}).restyle(FRAMES, "colour")
    assert (restyle.sentence, restyle.subject.simple) == ("make it red", "the cat")
    assert filled("{a} and {b} and {c}", {"a": "{b}", "b": 1}) == "{b} and 1 and {c}"


def test_a_rater_reads_numbers():
    scores = {"follow": 9, "preserve": 8.5, "quality": 0}
    judge = Scripted("nine", scores, "a", {"follow": 11, "preserve": 1, "quality": 1})
    rater = AskedRater(judge, {})
    assert rater.rate(FRAMES, FRAMES, "remove {it}", FRAMES[0]) == scores
    assert 'asked: "remove {it}"' in judge.asked[0][0] and len(judge.asked[0][1]) == 3
    with pytest.raises(ExpertFailed, match="rating"):
        rater.rate(FRAMES, FRAMES, "x", None)


class Refusing(Scripted):
    """Refuses the questions whose script is None."""

    def ask(self, key, number, words, shown):
        if self.answers[0] == "null":
            raise RefusedQuestion(f"status 400: {self.answers.pop(0)}")
        return super().ask(key, number, words, shown)


@pytest.mark.parametrize("asked", ["describer", "rater"])
def test_a_refused_question_drops_its_clip(asked):
    """A content filter that dislikes one clip must not end the run, and that again each time it is resumed."""

    def ask(judge):
        if asked == "describer":
            return AskedDescriber(judge, {}).caption
        return lambda frames: AskedRater(judge, {}).rate(frames, frames, "x", None)

    answer = {"caption": "yes"} if asked == "describer" else {"follow": 9, "preserve": 8, "quality": 7}
    call = ask(Refusing(None, None, answer, None, None, None, answer))
    for refused in (True, True, False, True, True, True, False):
        if refused:
            with pytest.raises(ExpertFailed, match="question refused"):
                call(FRAMES)
        else:
            call(FRAMES)


def test_a_judge_that_refuses_the_first_questions_ends_the_run():
    describer = AskedDescriber(Refusing(None, None, None), {})
    for _ in range(2):
        with pytest.raises(ExpertFailed):
            describer.caption(FRAMES)
    with pytest.raises(RefusedQuestion, match="400"):
        describer.caption(FRAMES)


def test_refused_questions_do_not_end_a_run_that_was_answered_before():
    """Each of many processes counts by itself, and so does each start."""
    describer = AskedDescriber(Refusing(*[None] * 4), {}, lambda: True)
    for _ in range(4):
        with pytest.raises(ExpertFailed, match="question refused"):
            describer.caption(FRAMES)


def test_a_few_frames_are_shown():
    frames = torch.arange(9, dtype=torch.uint8).view(9, 1, 1, 1).expand(9, 2, 2, 3)
    assert (some_frames(frames)[:, 0, 0, 0] * 255).round().tolist() == [0, 3, 5, 8]
    assert len(some_frames(frames[:1])) == 1


def test_block_matching_finds_a_shift():
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8))
    frames = torch.stack([noise.roll((2 * t, -3 * t), (0, 1)) for t in range(3)])
    flow = BlockFlow().flow(frames)
    assert flow.shape == (2, 8, 12, 2)
    inner = flow[:, 1:-1, 1:-1]
    assert torch.equal(inner, torch.tensor([2.0, -3.0]).expand_as(inner))
    assert not BlockFlow().flow(noise.expand(3, -1, -1, -1)).any()


def test_cuts_are_found():
    pytest.importorskip("scenedetect", reason="PYSCENEDETECT IS NOT INSTALLED: pip install scenedetect")
    world = World(2, 30, 64)
    clips = [world.read(key).frames for key in world.keys()]
    assert ContentScenes().scenes(torch.cat([clips[0], 255 - clips[0]])) == [(0, 30), (30, 60)]
    assert ContentScenes().scenes(clips[0]) == [(0, 30)]


def test_poses_are_drawn_and_sizes_come_back():
    poses = torch.tensor([[[10.0, 20.0, 0.9], [30.0, 5.0, 0.1]]])
    drawn = drawn_poses(poses, 40, 48)
    assert drawn[0, 10, 20].tolist() == [255] * 3 and drawn[0, 30, 5].tolist() == [0] * 3
    assert at_size(drawn, 20, 24).shape == (1, 20, 24, 3)


def test_faces_are_cut_out():
    frames = torch.zeros(3, 40, 48, 3, dtype=torch.uint8)
    frames[:, 10:16, 20:28] = 200
    head = [[13.0, 24.0, 0.9], [11.0, 21.0, 0.9], [11.0, 27.0, 0.9], [0.0, 0.0, 0.1], [0.0, 0.0, 0.1]]
    lost, outside = (
        [[13.0, 24.0, 0.9]] + [[0.0, 0.0, 0.1]] * 4,
        [[-90.0, -90.0, 0.9], [-80.0, -90.0, 0.9]] + head[3:] * 2,
    )
    frames[2] = 200  # nothing of it is shown
    faces = faces_of(frames, torch.tensor([head, lost, outside[:5]]), SimpleNamespace(motion_encoder_size=16))
    assert faces.shape == (3, 16, 16, 3)
    assert faces[0, 8, 8].tolist() == [200] * 3 and faces[0, 0, 0].tolist() == [0] * 3
    assert not faces[1:].any()


@pytest.mark.parametrize(
    ("role", "choice", "words"),
    [
        ("detect", {"kind": "yolo", "model": "x"}, "unknown kind 'yolo'; give detector"),
        ("detect", {"kind": "detector"}, "needs a model; give its folder"),
        ("judge", {"kind": "service", "url": "http://x"}, "needs a model; give its name"),
        ("judge", {"kind": "service", "model": "x"}, "kind: service requires url, other kinds do not"),
        ("judge", {"kind": "mllm", "model": "x", "url": "http://x"}, "kind: service requires url, other kinds do not"),
        ("erase", {"kind": "inpainting", "model": "x", "settings": {"stepz": 3}}, "no setting '?stepz"),
    ],
)
def test_experts_are_refused_before_anything_is_loaded(role, choice, words):
    with pytest.raises(InputError, match=words):
        check_experts({role: ExpertChoice(**choice)})


def test_a_folder_that_is_none(tmp_path):
    choice = ExpertChoice("detector", str(tmp_path / "none"))
    with pytest.raises(InputError, match="is not a folder"):
        load_experts({"detect": choice}, "cpu")


@pytest.mark.slow
def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be opened"):
        load_experts({"detect": ExpertChoice("detector", str(tmp_path))}, "cpu")


def test_vitpose_without_scipy_is_refused_before_it_is_loaded(tmp_path, monkeypatch):
    """Its processor would fail at the first clip, with a NameError."""
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(InputError, match=r"experts.pose: vitpose needs scipy; run `pip install scipy`"):
        load_experts({"pose": ExpertChoice("vitpose", str(tmp_path))}, "cpu")


@pytest.mark.slow
def test_owlv2_without_scipy_is_refused(tmp_path, monkeypatch):
    from support import tiny_experts as tiny

    folder = tiny.save_detector(tmp_path / "owl")
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(InputError, match=r"experts.detect: OWLv2 needs scipy; run `pip install scipy`"):
        load_experts({"detect": ExpertChoice("detector", str(folder))}, "cpu")


def loaded(folder, **kinds):
    """Tiny experts of random weights, from folders."""
    choices = {
        role: ExpertChoice(kind, str(save(folder / save.__name__)), settings=settings)
        for role, (kind, save, settings) in kinds.items()
    }
    return load_experts(choices, "cpu")


def noise_clip() -> tuple[torch.Tensor, torch.Tensor]:
    clip = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (4, 44, 60, 3), dtype=np.uint8))
    mask = torch.zeros(4, 44, 60, dtype=torch.bool)
    mask[:, 10:20, 10:30] = True
    return clip, mask


@pytest.mark.slow
def test_sam2_and_vace_of_random_weights_run(tmp_path):
    from support import tiny_experts as tiny

    inpainting = {"steps": 2, "grow": 2}
    experts = loaded(
        tmp_path,
        segment=("sam2", tiny.save_tracker, {}),
        erase=("inpainting", tiny.save_vace, inpainting),
        animate=("vace", tiny.save_vace, {"steps": 2}),
    )
    assert experts.erase.pipeline is experts.animate.pipeline
    clip, mask = noise_clip()
    tracked = experts.segment.track(clip, (10, 10, 40, 30))
    assert tracked.shape == clip.shape[:3] and tracked.dtype == torch.bool
    filled = experts.erase.fill(clip, mask, "")
    assert filled.shape == clip.shape and filled.dtype == torch.uint8
    assert torch.equal(filled[:, 24:], clip[:, 24:]) and not torch.equal(filled[:, 10:20, 10:30], clip[:, 10:20, 10:30])
    assert experts.animate.animate(clip[0], clip, torch.rand(4, 5, 3)).shape == clip.shape
    assert experts.animate.animate(clip[0], clip, None).shape == clip.shape


@pytest.mark.slow
def test_owlv2_and_vitpose_of_random_weights_run(tmp_path):
    pytest.importorskip("scipy", reason="transformers' processors of both need scipy")
    from support import tiny_experts as tiny

    experts = loaded(
        tmp_path, detect=("detector", tiny.save_detector, {"threshold": 0.0}), pose=("vitpose", tiny.save_poser, {})
    )
    clip, mask = noise_clip()
    boxes = experts.detect.find(clip[0], "low")
    assert boxes and all(0 <= one.score <= 1 for one in boxes)
    assert [one.score for one in boxes] == sorted((one.score for one in boxes), reverse=True)
    assert experts.pose.poses(clip, mask).shape == (4, 5, 3)
