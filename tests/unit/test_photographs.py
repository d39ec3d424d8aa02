"""Photographs of one's own as grounds of the world: any kind of file, no crash on what is none, listed in the card."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from instructx_core.errors import InputError
from instructx_core.photographs import usable_photographs
from instructx_core.training.card import CARD, write_card
from instructx_core.training.config import DataConfig, TrainConfig
from instructx_core.training.data.pool import describe_origin
from instructx_core.training.data.world import check_world
from instructx_core.world import Variety, sample_triplet
from instructx_core.world.grounds import _photograph, sample_ground


def test_photographs_are_cut_out_of_a_folder(tmp_path):
    with pytest.raises(InputError, match="photographs"):
        sample_triplet(1, "tone", variety=Variety(natural=1.0, photographs=str(tmp_path / "none")))
    pixels = np.zeros((50, 70, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = 250, np.linspace(60, 190, 70)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    variety = Variety(natural=1.0, photographs=str(tmp_path))
    grounds = [sample_ground(np.random.default_rng(s), 1, 32, 32, variety.photographs) for s in range(12)]
    cut = [g for g in grounds if g[..., 0].mean() > g[..., 2].mean() + 0.3]
    assert 2 <= len(cut) <= 10


def test_photographs_are_read_as_any_source_is(tmp_path):
    """Upright, on white, deep grey at its depth, in subfolders, under any of the suffixes."""
    green = Image.new("RGB", (40, 60), (20, 230, 20))
    green.paste((20, 20, 230), (0, 0, 40, 30))  # blue above green
    turned = Image.Exif()
    turned[0x0112] = 6
    deep = np.full((50, 50), 30000, np.uint16)
    for name, save, mean in (
        ("turned/upright.jpg", lambda p: green.rotate(90, expand=True).save(p, exif=turned, quality=95), None),
        ("clear/a.png", lambda p: Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(p), (1, 1, 1)),
        ("deep/a.png", lambda p: Image.fromarray(deep).save(p), (0.46, 0.46, 0.46)),
        ("grey/a.JPG", lambda p: Image.new("L", (50, 50), 100).save(p, "JPEG"), (0.39, 0.39, 0.39)),
        ("print/a.tif", lambda p: Image.new("CMYK", (50, 50), (0, 0, 0, 0)).save(p), (1, 1, 1)),
        ("below/here/too.bmp", lambda p: Image.new("RGB", (50, 50), (0, 128, 255)).save(p), (0, 0.5, 1)),
        ("strip/a.png", lambda p: Image.new("RGB", (1, 900), (255, 0, 0)).save(p), (1, 0, 0)),
        ("dot/a.webp", lambda p: Image.new("RGB", (1, 1), (255, 0, 0)).save(p), None),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        save(path)
        for seed in range(8):
            crop = _photograph(np.random.default_rng(seed), 49, 33, str(tmp_path / name.split("/")[0]))
            assert crop.shape == (49, 33, 3) and crop.dtype == np.float32
            if mean is not None:
                np.testing.assert_allclose(crop.mean((0, 1)), mean, atol=0.02)
    tops = [_photograph(np.random.default_rng(s), 49, 33, str(tmp_path / "turned"))[[0, -1]].mean(1) for s in range(20)]
    assert all(top[2] >= bottom[2] - 0.02 for top, bottom in tops)  # blue is above


def test_what_may_not_be_read_is_passed_over_and_named(tmp_path, caplog, monkeypatch):
    for name in ("closed.png", "open.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    own, system = open, os.open

    def guarded(function):
        def opened(path, *given, **named):
            if str(path).endswith("closed.png"):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *given, **named)

        return opened

    monkeypatch.setattr("builtins.open", guarded(own))
    monkeypatch.setattr(os, "open", guarded(system))
    assert usable_photographs(str(tmp_path)) == (tmp_path / "open.png",)
    (said,) = caplog.messages
    assert "closed.png" in said and "Permission denied" in said


def test_what_is_no_photograph_is_passed_over_and_named(tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "words.png").write_text("hello")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "._photo.jpg").write_bytes(b"macOS")
    with pytest.raises(InputError, match="are damaged"):
        _photograph(np.random.default_rng(0), 32, 32, str(tmp_path))
    for name in ("cut.jpg", "empty.jpg", "words.png"):
        assert sum(name in line for line in caplog.messages) == 1, name
    assert not any("._photo" in line or "folder.jpg" in line for line in caplog.messages)
    (tmp_path / "more").mkdir()
    Image.new("RGB", (50, 50), (255, 0, 0)).save(tmp_path / "more" / "z.png")
    usable_photographs.cache_clear()
    for seed in range(8):
        assert _photograph(np.random.default_rng(seed), 32, 32, str(tmp_path))[..., 0].min() == 1
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.png").write_text("no")
    for folder, words in (("none", "none of its 1"), ("missing", "no pictures"), ("a\0b", "no pictures")):
        with pytest.raises(InputError, match=words):
            _photograph(np.random.default_rng(0), 32, 32, str(tmp_path / folder))


def test_a_crop_never_leaves_its_photograph(tmp_path):
    """Sides whose quotients round upwards."""
    for number, (width, height, of) in enumerate(((25, 20, 7), (41, 20, 28), (35, 20, 29))):
        folder = tmp_path / str(number)
        folder.mkdir()
        Image.new("RGB", (of, 300), (255, 255, 255)).save(folder / "a.png")
        for seed in range(20):
            crop = _photograph(np.random.default_rng(seed), height, width, str(folder))
            assert crop.shape == (height, width, 3) and crop.min() == 1


def test_a_config_with_photographs_is_checked_before_anything_is_drawn(tmp_path):
    folder = str(tmp_path)
    for wrong in ({}, {"world": "plain"}, {"world": "rich", "table": "pairs.csv"}):
        with pytest.raises(InputError, match=r"data\.photographs"):
            DataConfig(photographs=folder, **wrong)
    data = DataConfig(world="rich", photographs=folder, videos=0)
    with pytest.raises(InputError, match="no pictures"):
        check_world(data, 8, 4)
    Image.new("RGB", (50, 50)).save(tmp_path / "a.png")
    check_world(data, 8, 4)


def test_a_pool_is_of_the_photographs_that_were_there(tmp_path):
    codec, data = (
        SimpleNamespace(vae=torch.nn.Linear(1, 1).requires_grad_(False)),
        DataConfig(world="rich", photographs=str(tmp_path)),
    )
    Image.new("RGB", (50, 50)).save(tmp_path / "a.png")
    before = describe_origin(data, codec, 13, 16)
    assert describe_origin(data, codec, 13, 16) == before
    Image.new("RGB", (50, 50)).save(tmp_path / "b.png")
    usable_photographs.cache_clear()  # another run
    assert describe_origin(data, codec, 13, 16)["pictures"] != before["pictures"]
    assert "pictures" not in describe_origin(DataConfig(world="rich"), codec, 13, 16)


def test_the_card_lists_the_photographs(tmp_path):
    (tmp_path / "photos/below").mkdir(parents=True)
    for name in ("b.jpg", "below/a.png"):
        Image.new("RGB", (50, 50)).save(tmp_path / "photos" / name)
    data = DataConfig(world="rich", photographs=str(tmp_path / "photos"))
    config = TrainConfig(task="editing", output="out", steps=1, start={"model": "m"}, data=data)
    write_card(tmp_path, config, 1, {"loss": 1.0})
    card = (tmp_path / CARD).read_text(encoding="utf-8")
    assert "\n- `b.jpg`\n- `below/a.png`\n" in card
    shutil.rmtree(tmp_path / "photos")  # while a run that has read it goes on
    write_card(tmp_path, config, 1, {"loss": 1.0})
    assert (tmp_path / CARD).read_text(encoding="utf-8") == card
    write_card(tmp_path, TrainConfig(task="editing", output="out", steps=1, start={"model": "m"}), 1, {"loss": 1.0})
    assert "Photographs" not in (tmp_path / CARD).read_text(encoding="utf-8")


def test_clips_see_a_photograph_through_a_moving_camera(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=95)
    moved = 0
    for seed in range(16):
        clip = sample_ground(np.random.default_rng(seed), 9, 48, 64, str(tmp_path))
        assert clip.shape in ((1, 48, 64, 3), (9, 48, 64, 3)) and clip.dtype == np.float32
        if len(clip) > 1:
            steps = np.abs(np.diff(clip, axis=0)).mean((1, 2, 3))
            assert steps.min() > 0 and steps.max() < 4 * steps.min() + 0.01
            moved += 1
    assert moved >= 4
