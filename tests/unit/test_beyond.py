"""Beyond the world: another renderer's pictures, photographs, sentences that ask for nothing; shapes, flicker, SSIM."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.evaluation import evaluate, list_photographs, measure_drawn, measure_outside, measure_photographs
from instructx_core.evaluation.drawn import KINDS, draw_pair
from instructx_core.evaluation.metrics import changed_share, flicker, quantize, shape_iou, ssim
from instructx_core.world import HELD_OUT_SEED, RICH, sample_subject, sample_triplet
from instructx_core.world.look_phrases import LOOK_PHRASES
from instructx_core.world.looks import LOOKS
from instructx_core.world.vocabulary import COLOURS, PHRASES
from support.world_inverter import Inverter, Result


class Sleeper(Inverter):
    """Leaves everything as it is."""

    def edit_batch(self, sources, instructions, **options):
        return [Result(source) for source in sources]


@pytest.mark.parametrize("kind", KINDS)
def test_drawn_pairs_differ_by_their_edit_alone(kind):
    for seed in range(6):
        pair, again = (draw_pair(seed, kind, 64) for _ in range(2))
        np.testing.assert_array_equal(pair.target, again.target)
        assert pair.source.shape == pair.target.shape == (1, 64, 64, 3)
        changed = np.abs(pair.source - pair.target).max(-1)
        if kind in ("recolor", "remove", "add", "replace"):
            assert 0.01 < (changed > 0.1).mean() < 0.2
            assert (changed == 0).mean() > 0.7
        if kind == "invert":
            np.testing.assert_array_equal(pair.target, 1 - pair.source)
        named = [word for word in pair.instruction.split() if word in COLOURS]
        assert len(named) == {"recolor": 2, "background": 0, "grayscale": 0, "invert": 0}.get(kind, 1)


def test_drawn_pictures_are_judged_by_kind():
    lines = {line.name: line for line in measure_drawn(Inverter(), 3, None)}
    assert lines["another renderer's pictures"].value == pytest.approx(1 / 7)
    assert lines["another renderer's pictures"].n == 21
    assert next(line for name, line in lines.items() if "worst" in name).value == 0


def test_only_a_picture_left_alone_counts():
    (line,) = measure_outside(Sleeper(), 5, None)
    assert (line.n, line.value) == (5, 1)
    (line,) = measure_outside(Inverter(), 5, None)
    assert line.value == 0
    source = torch.zeros(1, 10, 10, 3)
    barely = source.clone()
    barely[0, 0, 0] = 2 / 255
    assert changed_share(barely, source) == 0
    barely[0, 0, 0, 1] = 3 / 255
    assert changed_share(barely, source) == pytest.approx(0.01)


class Exact:
    """Gives photographs the look that the words mean."""

    def edit(self, source, instruction, steps=None):
        (kind,) = [kind for kind, phrases in (PHRASES | LOOK_PHRASES).items() if phrases[0] == instruction]
        return Result(torch.from_numpy(np.ascontiguousarray(LOOKS[kind](source[None].numpy()))))


def test_photographs_are_judged_at_full_size_against_the_exact_look(tmp_path, monkeypatch):
    monkeypatch.setattr("instructx_core.evaluation.beyond.PHOTOGRAPH_SIDE", 96)
    from PIL import Image

    with pytest.raises(InputError, match="no pictures"):
        list_photographs(tmp_path / "none")
    with pytest.raises(InputError, match="no pictures"):
        list_photographs(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).resize((600, 400)).save(tmp_path / "photo.png")
    lines = measure_photographs(Exact(), list_photographs(tmp_path), None)
    assert [line.value for line in lines] == pytest.approx([100, 100, 1, 1])
    assert lines[0].n == 8


def test_a_damaged_photograph_is_told_before_anything_is_measured(tmp_path):
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "below").mkdir()
    whole = (tmp_path / "a.jpg").read_bytes()
    for name, data in (("a.jpg", whole), ("below/z.JPEG", whole), ("._a.jpg", b"macOS")):
        (tmp_path / name).write_bytes(data)
    assert [path.name for path in list_photographs(tmp_path)] == ["a.jpg", "z.JPEG"]
    for data in (whole[: len(whole) // 2], b"", b"words"):
        (tmp_path / "below" / "z.JPEG").write_bytes(data)
        with pytest.raises(InputError, match=r"z\.JPEG"):
            list_photographs(tmp_path)


def test_structural_similarity():
    """Against scikit-image's structural_similarity(gaussian_weights, sigma 1.5, use_sample_covariance False)."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(40.0), indexing="ij")
    one = torch.stack([torch.sin(x / 3) * torch.cos(y / 5), torch.sin(x / 7), torch.cos(y / 4)], -1)[None] / 2 + 0.5
    noisy = (one + 0.1 * torch.sin(17 * x + 29 * y)[None, ..., None]).clamp(0, 1)
    assert ssim(one, one) == pytest.approx(1)
    assert ssim(one, noisy) == pytest.approx(0.7627217, abs=2e-3)


@pytest.mark.parametrize("group", ["add", "replace", "reference_swap", "reference_add"])
def test_a_shape_is_right_where_it_is_the_targets(group):
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 6):
        sample = sample_triplet(seed, group, height=48, width=48, variety=RICH)
        subject = sample_subject(seed, group, height=48, width=48, variety=RICH)
        source, target, behind = (torch.from_numpy(f) for f in (sample.source, sample.target, subject.behind))
        mask = torch.from_numpy(subject.mask)
        assert shape_iou(target, target, behind, mask) > 0.8
        assert shape_iou(behind, target, behind, mask) == 0
        half = target.clone()
        half[:, : int(mask.nonzero()[:, 1].float().mean())] = behind[:, : int(mask.nonzero()[:, 1].float().mean())]
        assert 0.2 < shape_iou(half, target, behind, mask) < 0.75
        assert (source - behind).abs().max() > 0.1 or group.endswith("add")


def test_a_neighbour_of_its_colour_is_no_part_of_a_shape():
    """Of a target in 8 bits it is nearer to the object's colour than to what is behind it."""
    behind, mask = torch.full((1, 16, 16, 3), 0.7), torch.zeros(1, 16, 16, dtype=torch.bool)
    behind[:, 2:14, 8:], mask[:, 4:12, 2:8] = torch.tensor([0.9, 0.3, 0.21]), True
    target = quantize(torch.where(mask[..., None], torch.tensor([0.9, 0.3, 0.21]), behind))
    assert shape_iou(target, target, behind, mask) == 1
    assert shape_iou(quantize(behind), target, behind, mask) == 0


def test_no_new_object_has_no_shape():
    assert sample_subject(3, "remove") is None


def test_flicker_is_of_unedited_pixels():
    source = torch.rand(1, 8, 8, 3, generator=torch.Generator().manual_seed(0)).repeat(4, 1, 1, 1)
    target = source.clone()
    target[:, :4] = torch.rand(4, 4, 8, 3)
    output = target.clone()
    assert flicker(output, source, target) == (0, 0)
    output[1, 4:] += 0.02
    own, exact = flicker(output, source, target)
    assert own == pytest.approx(0.02 * 2 / 3, abs=1e-4) and exact == 0


def test_the_report_has_frames_shapes_and_what_lies_beyond():
    report = evaluate(
        Sleeper(), images=2, videos=2, groups=("add", "tone"), video_groups=("add", "late"), frames=(3,), variety=RICH
    )
    assert report.images.groups["add"].shape == 0
    assert report.images.groups["tone"].shape is None and report.images.groups["tone"].psnr > 5
    report = replace(report, beyond=tuple(measure_outside(Sleeper(), 2, None)))
    names = [measure.name for measure in report.measures()]
    assert "whole frames against the target, images" in names
    assert "add, videos, of the right shape" in names
    assert names[-1] == "sentences out of its world that leave the picture alone"
    assert json.loads(report.to_json())["images"]["groups"]["add"]["psnr"] > 5
    assert "| frame dB" in report.to_markdown().replace("images frame dB", "frame dB")
