"""The benchmark's bookkeeping, with an editor whose results are known: it inverts whatever it is given."""

import json
from types import SimpleNamespace

import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.evaluation import evaluate
from instructx_core.world import EDIT_KINDS, GROUPS, HELD_OUT_SEED
from support.world_inverter import Inverter


def test_rates_per_group_and_together():
    report = evaluate(
        Inverter(), images=3, videos=2, groups=("invert", "recolor"), video_groups=("invert",), frames=(2, 3)
    )
    assert report.images.groups["invert"].success == 1 and report.images.groups["invert"].n == 3
    assert report.images.groups["recolor"].success == 0
    assert report.images.success(EDIT_KINDS) == (6, 0.5)
    assert report.images.worst(EDIT_KINDS)[0] == "recolor"
    assert report.videos.groups["invert"].n == 2
    assert report.images.vae_psnr == pytest.approx(40, abs=0.01)


def test_ablation_takes_single_edits_and_another_kind_of_neighbour():
    editor = Inverter()
    report = evaluate(editor, images=5, videos=0, groups=("invert", "background", "hybrid"))
    assert report.images.zeroed.success == report.images.shuffled.success == 0
    assert report.images.zeroed.n == 10
    zeroed, shuffled = (call["transform"] for call in editor.calls if call["transform"])
    context = torch.arange(10.0).view(10, 1, 1)
    assert not zeroed(context).any()
    kinds = torch.arange(10) % 2  # interleaved: invert, background, invert, ...
    assert (kinds[shuffled(context).flatten().long()] != kinds).all()


def test_references_are_batched_apart():
    editor = Inverter()
    evaluate(editor, images=2, videos=0, groups=("recolor", "reference_add"), steps=3)
    plain, with_reference = editor.calls
    assert plain["references"] is None and plain["steps"] == 3
    assert [len(references) for references in with_reference["references"]] == [1, 1]


def test_emergent_types_leave_the_video_total():
    report = evaluate(
        Inverter(), images=0, videos=2, video_groups=("invert", "recolor"), frames=(2,), held_out_video=("invert",)
    )
    names = {measure.name: measure for measure in report.measures()}
    assert names["single edits trained on video"].value == 0
    assert names["emergent on video (types left out of the video data)"].value == 1
    assert "1.00 (emergent)" in report.to_markdown()


def test_every_group_of_the_world_can_be_measured(monkeypatch):
    seeds = []
    import instructx_core.evaluation.world_benchmark as module

    original = module.sample_triplet

    def record(seed, group, **size):
        seeds.append((seed, size["frames"] > 1))
        return original(seed, group, **size)

    monkeypatch.setattr(module, "sample_triplet", record)
    report = evaluate(Inverter(), images=2, videos=1, frames=(2,))
    assert set(report.images.groups) == set(report.videos.groups) == set(GROUPS)
    assert min(seed for seed, _ in seeds) >= HELD_OUT_SEED
    assert {seed for seed, video in seeds if video}.isdisjoint(seed for seed, video in seeds if not video)


def test_report_reads_as_json_and_progress_adds_up():
    steps = []
    report = evaluate(
        Inverter(),
        images=2,
        videos=0,
        groups=("invert", "recolor"),
        progress=lambda done, total, what: steps.append((done, total)),
    )
    content = json.loads(report.to_json())
    assert content["images"]["groups"]["invert"]["success"] == 1
    assert content["summary"][0]["name"] == "VAE reconstruction, images"
    assert steps[-1] == (12, 12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": ("sharpen",)}, "groups: 'sharpen' is not a group"),
        ({"groups": ("late",)}, "groups: 'late' exists in clips only"),
        ({"groups": ("outside",)}, "groups: 'outside' is not a group"),
        ({"groups": ()}, "groups: there is nothing to measure"),
        ({"images": -1}, "images: -1 is negative"),
        ({"frames": (1,)}, r"frames: \[1\] are not video lengths"),
        ({"held_out_video": ("nothing",)}, "held_out_video: 'nothing' is not a group"),
        ({"images": 10**6}, "at most 500000 held-out samples"),
    ],
)
def test_bad_requests_are_named(options, words):
    with pytest.raises(InputError, match=words):
        evaluate(Inverter(), **({"images": 1, "videos": 1} | options))


@pytest.mark.parametrize("asked", [{"videos": 1}, {"images": 1, "groups": ("invert", "reference_add")}])
def test_what_a_model_of_pictures_cannot_edit_is_refused_at_once(asked):
    editor = Inverter()
    editor.guidance = SimpleNamespace(edits_pictures_alone=True)
    with pytest.raises(InputError, match="edits only pictures, without references"):
        evaluate(editor, **({"images": 0, "videos": 0} | asked))
    assert not editor.calls
