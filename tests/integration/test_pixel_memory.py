"""What large inputs take of main memory: little per pixel, and what would not fit is refused from its header."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from instructx_core import cli, fit, images, main_memory
from instructx_core.compositing import restore_edit
from instructx_core.config import Detail
from instructx_core.errors import InputError
from instructx_core.fit import plan_fit
from instructx_core.images import read_image
from instructx_core.main_memory import free_main_memory
from instructx_core.source import load_references, load_source
from instructx_core.video import VideoReader
from instructx_core.words import in_bytes
from support.places import SUPPORT
from support.video_files import make_video

GB = 10**9
COMMAND, LIBRARY = 16, 40  # bytes per pixel of the source


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 100 MB left."""
    monkeypatch.setattr(main_memory, "free_main_memory", lambda: 10**8)


def blocks(height: int, width: int) -> np.ndarray:
    """A picture that compresses fast: uint8 [height, width, 3]."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 50, width // 50, 3), dtype=np.uint8)
    return coarse.repeat(50, 0).repeat(50, 1)


def gif_bomb(path: Path, side: int, frames: int) -> Path:
    """A GIF whose frames cover one pixel of a large screen."""
    head = b"GIF89a" + side.to_bytes(2, "little") * 2 + b"\x80\0\0" + bytes(3) + b"\xff" * 3
    frame = b"\x21\xf9\x04\0\x0a\0\0\0" + b"\x2c" + bytes(4) + b"\1\0\1\0\0" + b"\2\2\x44\1\0"
    path.write_bytes(head + frame * frames + b";")
    return path


def png_bomb(path: Path, side: int) -> Path:
    """A black 1-bit PNG of side x side."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = side.to_bytes(4, "big")
    packer = zlib.compressobj()
    data = b"".join(packer.compress(bytes(1 + (side + 7) // 8)) for _ in range(side)) + packer.flush()
    head = chunk(b"IHDR", size + size + b"\1\0\0\0\0")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b""))
    return path


# --- measured


def peaks(source: Path, output: Path) -> dict[str, float]:
    script = SUPPORT / "peak_memory.py"
    done = subprocess.run([sys.executable, script, source, output], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' counters of memory")
def test_a_photo_takes_few_bytes_per_pixel(bundled: Path, tmp_path: Path) -> None:
    Image.fromarray(blocks(2000, 3000)).save(tmp_path / "in.jpg")
    found = peaks(tmp_path / "in.jpg", tmp_path / "out.png")
    assert found["command"] <= COMMAND and found["library"] <= LIBRARY, found


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_photo_of_24_megapixels_takes_few_bytes_per_pixel(suffix: str, bundled: Path, tmp_path: Path) -> None:
    Image.fromarray(blocks(4000, 6000)).save(tmp_path / f"in.{suffix}")
    found = peaks(tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}")
    assert found["command"] <= COMMAND and found["library"] <= LIBRARY, found


@pytest.mark.slow
def test_a_clip_takes_few_bytes_per_pixel(bundled: Path, tmp_path: Path) -> None:
    picture = blocks(1100, 2000)[:1080, :1920]
    make_video(tmp_path / "in.mp4", [np.roll(picture, 9 * index, 1) for index in range(40)])
    found = peaks(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert found["command"] <= COMMAND and found["library"] <= LIBRARY, found


# --- in strips, to the last bit what it is in one piece


@pytest.mark.parametrize("strip", [300, 5000])
@pytest.mark.parametrize("size", [(90, 131), (30, 21), (17, 200), (131, 1), (1, 60)])
def test_strips_change_no_bit(strip: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    source = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    placed = plan_fit(2, size, 16, 4, 48 * 48)
    decoded = torch.rand(placed.padded_frames, *placed.canvas, 3, generator=torch.Generator().manual_seed(1))

    def results() -> list[torch.Tensor]:
        fitted = placed.apply(source)
        edits = [restore_edit(placed, source, fitted, decoded, *way) for way in itertools.product((0, 0.3), Detail)]
        return [fitted, *edits, *map(images.to_uint8, edits)]

    whole = results()
    monkeypatch.setattr(images, "STRIP", strip)
    assert all(torch.equal(*pair) for pair in zip(whole, results(), strict=True))
    assert torch.equal(placed.apply(source.float() / 255), whole[0])
    for expected, way in zip(whole[5:], itertools.product((0, 0.3), Detail), strict=True):
        assert torch.equal(restore_edit(placed, source, whole[0], decoded, *way, torch.uint8), expected)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "1"])
def test_pictures_in_strips_change_no_bit(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.fromarray(blocks(150, 200))
    if mode in ("LA", "RGBA"):
        picture = picture.convert("RGBA")
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture = picture.convert("I").convert("I;16") if mode == "I;16" else picture.convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture.save(path)
    whole = read_image(path)
    monkeypatch.setattr(images, "STRIP", 700)
    assert torch.equal(read_image(path), whole)


def test_a_single_column_is_resized_as_any_other() -> None:
    column = torch.rand(1, 200, 1, 3)
    assert torch.equal(fit.resize(column, (60, 1)), fit.resize(column.expand(-1, -1, 4, -1), (60, 4))[:, :, :1])


# --- refused from the header


def test_what_is_free_is_known() -> None:
    free = free_main_memory()
    assert free is not None and 2**20 < free < 2**50
    assert [in_bytes(count) for count in (5, 1500, 58.3e9, 5.832e15)] == ["5 bytes", "1.5 kB", "58 GB", "5,832 TB"]


def test_the_processs_own_limit_counts(tmp_path: Path) -> None:
    code = (
        "import resource; from instructx_core.main_memory import free_main_memory;"
        "resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9)); print(free_main_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert 10**8 < int(done.stdout) < 10**9


def test_bombs_are_refused_before_they_are_decoded(
    little: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = make_video(tmp_path / "a.mp4", [np.zeros((1088, 1920, 3), np.uint8)] * 5)
    stills = [Image.new("RGB", (3000, 3000)) for _ in range(3)]
    stills[0].save(tmp_path / "a.png", save_all=True, append_images=[stills[1].point(lambda _: 9), stills[2]])
    stills[0].save(tmp_path / "a.tif")
    stills[0].save(tmp_path / "a.webp")
    clip = "scale it down, or edit it in windows (--window)"
    for path, size, advice, suffix in (
        (gif_bomb(tmp_path / "a.gif", 9000, 60), "9000 x 9000 pixels", "scale it down", "mp4"),
        (gif_bomb(tmp_path / "b.gif", 900, 60), "900 x 900 x 60 frames", clip, "mp4"),
        (png_bomb(tmp_path / "b.png", 9400), "9400 x 9400 pixels", "scale it down", "png"),
        (tmp_path / "a.png", "3000 x 3000 pixels", "scale it down", "mp4"),
        (tmp_path / "a.tif", "3000 x 3000 pixels", "scale it down", "png"),
        (tmp_path / "a.webp", "3000 x 3000 pixels", "scale it down", "png"),
        (video, "1920 x 1088 x 5 frames", clip, "mp4"),
    ):
        code = cli.main(["edit", str(path), "make it gray", "-o", str(tmp_path / f"o.{suffix}")])
        error = capsys.readouterr().err
        assert code == 2 and error.count("\n") == 1, error
        assert f"{path.name}: {size}" in error and f"of memory, but only 90 MB are available; {advice}." in error, error
    assert not list(tmp_path.glob("o.*"))


def test_a_gif_that_would_take_58_gb_is_refused_on_any_small_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = gif_bomb(tmp_path / "a.gif", 9000, 60)
    assert path.stat().st_size < 2000
    monkeypatch.setattr(main_memory, "free_main_memory", lambda: 20 * GB)
    with pytest.raises(InputError, match="9000 x 9000 x 60 frames needs 78 GB of memory, but only 18 GB are available"):
        load_source(path)


def test_a_refusal_states_the_memory_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_memory, "free_main_memory", lambda: GB)
    with pytest.raises(InputError, match="9500 x 6250 pixels needs 950 MB of memory, but only 900 MB are available;"):
        main_memory.check_room("a.png", 9500, 6250)


def test_references_and_arrays_count_too(little: None, tmp_path: Path) -> None:
    picture = png_bomb(tmp_path / "a.png", 9400)
    with pytest.raises(InputError, match="scale it down"):
        load_references(picture)
    with pytest.raises(InputError, match="scale it down"):
        load_references(Image.new("L", (3000, 3000)))
    for huge in (
        np.lib.stride_tricks.as_strided(np.zeros(3, np.uint8), (10**9, 10**9, 3), (0, 0, 1)),
        torch.zeros(1, 1, 1, 3).expand(10**4, 10**4, 10**4, 3),
        torch.zeros(1, 1, 1, dtype=torch.uint8).expand(10**6, 10**6, 3),
    ):
        with pytest.raises(InputError, match="photo: .* needs .* of memory"):
            load_source(huge, name="photo")


def test_a_video_that_does_not_say_its_length_is_stopped_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "a.mkv", [np.zeros((480, 640, 3), np.uint8)] * 30)
    with VideoReader(path) as reader:
        assert reader.info.frames is None
    assert len(load_source(path).pixels) == 30
    monkeypatch.setattr(main_memory, "free_main_memory", lambda: 10**8)
    with pytest.raises(InputError, match="640 x 480 x .* frames needs"):
        load_source(path)
