"""Stills that look like videos or like other stills, and pictures that are damaged, are named for what they are."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin, TiffImagePlugin

from instructx_core import cli, images, still_kinds
from instructx_core.errors import InputError
from instructx_core.images import read_image
from instructx_core.source import is_video_file, load_references, load_source
from instructx_core.video import VideoReader
from support.places import SUPPORT

PICTURES = SUPPORT / "pictures"
NEITHER = "neither an image nor a video that can be read"


@pytest.fixture
def no_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where pi-heif is not installed."""
    images.register_heif()
    monkeypatch.setattr(images, "register_heif", lambda: False)
    monkeypatch.setattr(still_kinds, "register_heif", lambda: False)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)


def refused(path: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["edit", str(path), "make it gray", "-o", str(output)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("instructx: "), error
    assert not output.exists()
    return error


# --- HEIC, AVIF and other stills in containers of videos


@pytest.mark.parametrize(("name", "size"), [("one.heic", (64, 96)), ("tiles.heic", (128, 128))])
def test_heic_is_read_whole(name: str, size: tuple[int, int]) -> None:
    source = load_source(PICTURES / name)
    assert source.frames.shape == (1, *size, 3) and not source.is_video
    expected = torch.tensor([[[0, 0, 60], [255, 0, 60]], [[0, 255, 60], [255, 255, 60]]]) / 255
    assert (source.frames[0][:: size[0] - 1, :: size[1] - 1] - expected).abs().max() < 0.05
    assert not is_video_file(PICTURES / name)


@pytest.mark.parametrize("name", ["one.heic", "tiles.heic"])
@pytest.mark.parametrize("suffix", ["png", "mp4"])
def test_heic_is_refused_as_such_without_the_extra(
    no_heif: None, name: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{name}.jpg"  # its content says what it is
    path.write_bytes((PICTURES / name).read_bytes())
    error = refused(path, tmp_path / f"o.{suffix}", capsys)
    assert "it is a HEIC image" in error and "convert it to PNG or JPEG" in error and "pip install pi-heif" in error
    for read in (load_references, VideoReader):
        with pytest.raises(InputError, match="HEIC"):
            read(path)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"msf1", b"hevc", b"avif", b"avis", b"crx ", b"jxl "])
def test_damaged_stills_of_the_mp4_family_are_no_videos(brand: bytes, tmp_path: Path) -> None:
    whole = (PICTURES / "one.heic").read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(whole[:8] + brand + whole[12:16] + brand + whole[20:60])
    with pytest.raises(InputError, match=f"HEIC|AVIF|camera raw|{NEITHER}"):
        load_source(path)


def test_camera_raws_are_not_read_as_their_previews(tmp_path: Path) -> None:
    for name, tag, value in (("a.dng", 50706, b"\1\4\0\0"), ("b.tif", 254, 1)):
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[tag] = value
        tags.tagtype[tag] = 1 if isinstance(value, bytes) else 4
        Image.new("RGB", (16, 16)).save(tmp_path / name, format="TIFF", tiffinfo=tags)
        with pytest.raises(InputError, match="camera raw"):
            load_source(tmp_path / name)


# --- what is no picture, and what is damaged


def contents() -> dict[str, bytes]:
    buffer = {}
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "ICO"):
        stream = io.BytesIO()
        picture.save(stream, format=kind)
        buffer[kind] = stream.getvalue()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", buffer["PNG"])
    return {
        "png begun": buffer["PNG"][:20],
        "png signature": buffer["PNG"][:8],
        "jpeg begun": buffer["JPEG"][:10],
        "jpeg half": buffer["JPEG"][: len(buffer["JPEG"]) // 2],
        "webp half": buffer["WEBP"][: len(buffer["WEBP"]) // 2],
        "gif begun": buffer["GIF"][:9],
        "tiff begun": buffer["TIFF"][:30],
        "bmp begun": buffer["BMP"][:20],
        "html": b"<!DOCTYPE html><html><body>404</body></html>",
        "text": b"not a picture " * 40,
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n" + bytes(300),
        "zip": archive.getvalue(),
        "random": np.random.default_rng(1).bytes(5000),
        "zeros": bytes(5000),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "psd": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x40\0\0\0\x40\0\x08\0\3" + bytes(200),
        "jpeg xl": b"\xff\x0a" + bytes(100),
        "one byte": b"x",
    }


@pytest.mark.parametrize("suffix", ["png", "mp4"])
@pytest.mark.parametrize("kind", contents())
def test_what_cannot_be_read_says_so(
    kind: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "in.png"
    path.write_bytes(contents()[kind])
    error = refused(path, tmp_path / f"o.{suffix}", capsys)
    if kind == "jpeg half":  # its head is whole
        assert ("damaged and cannot be decoded" if suffix == "png" else "the result is an image") in error
    else:
        assert f"{path}: it is {NEITHER}" in error or "it is a JPEG XL image" in error, error


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def test_text_bombs_behind_the_pixels_are_a_damaged_picture(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, format="PNG")
    whole = stream.getvalue()
    text = b"a\0\1\0\0\0" + zlib.compress(b"x" * 10**6)
    (tmp_path / "a.png").write_bytes(whole[:-12] + _chunk(b"iTXt", text) * 100 + whole[-12:])
    with pytest.raises(InputError, match="damaged and cannot be decoded"):
        load_source(tmp_path / "a.png")


def test_a_ppm_above_its_largest_value_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_text("P3 2 1 8\n1 2 3 9 5 6\n")
    with pytest.raises(InputError, match="damaged and cannot be decoded"):
        load_source(tmp_path / "a.ppm")


@pytest.mark.parametrize("count", [2, 2**31 - 1])
def test_an_apng_whose_frames_do_not_follow_ends_where_it_ends(
    count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, format="PNG")
    whole = stream.getvalue()
    head = 8 + 25
    control = _chunk(b"acTL", count.to_bytes(4, "big") + bytes(4))
    first = _chunk(b"fcTL", bytes(4) + (8).to_bytes(4, "big") * 2 + bytes(8) + b"\0\1\0\x0a\0\0")
    (tmp_path / "a.png").write_bytes(whole[:head] + control + first + whole[head:])
    with VideoReader(tmp_path / "a.png") as reader:
        assert [frame[0, 0].tolist() for frame, _ in reader] == [[255, 0, 0]]
    assert "ends early, after 1 of" in caplog.text


@pytest.mark.parametrize("position", [0.02, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF", "JPEG2000"])
def test_broken_bytes_end_in_one_sentence(kind: str, position: float, tmp_path: Path) -> None:
    stream = io.BytesIO()
    frames = [Image.fromarray(np.full((40, 40, 3), 60 * index, np.uint8)) for index in range(4)]
    more = {"save_all": True, "append_images": frames[1:]} if kind != "JPEG2000" else {}
    frames[0].save(stream, format=kind, **more)
    content = bytearray(stream.getvalue())
    rng = np.random.default_rng(int(position * 100))
    for change in range(12):
        broken = content.copy()
        start = int(len(content) * position)
        broken[start : start + 6] = rng.bytes(6)
        path = tmp_path / f"{change}.bin"
        path.write_bytes(broken)
        try:
            load_source(path)
        except InputError as error:
            assert str(path) in str(error)


def test_closed_pictures_are_refused() -> None:
    picture = Image.new("RGB", (4, 4))
    picture.close()
    with pytest.raises(InputError, match="photo: it is damaged and cannot be decoded"):
        load_source(picture, name="photo")


# --- floats beyond white


def test_highlights_are_clipped_with_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.full((4, 5), 0.5, np.float32)
    values[0, 0], values[1, 1] = 4.25, -0.5
    Image.fromarray(values).save(tmp_path / "a.tif")
    pixels = read_image(tmp_path / "a.tif")
    assert pixels[0, 0, 0] == 1 and pixels[1, 1, 0] == 0 and pixels[2, 2, 0] == 0.5
    assert "2 of its pixels lie outside [0, 1] (from -0.5 to 4.25) and are clipped" in caplog.text


def test_a_float_picture_of_another_scale_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), 200, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"most of its values lie outside \[0, 1\] \(from 200 to 200\)"):
        load_source(tmp_path / "a.tif")
    Image.fromarray(np.full((4, 5), np.nan, np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(InputError, match="it holds nan at index"):
        load_source(tmp_path / "b.tif")


def test_a_refused_float_picture_tells_both_ends(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 5), -0.25, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"outside \[0, 1\] \(from -0.25 to -0.25\)"):
        load_source(tmp_path / "a.tif")


def test_png_text_of_any_kind_is_ignored(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "\x1b[2J" * 10)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png", pnginfo=info)
    assert load_source(tmp_path / "a.png").frames.shape == (1, 4, 4, 3)


def test_negative_whole_numbers_are_named(tmp_path: Path) -> None:
    values = np.full((4, 5), 100, np.int32)
    values[2, 3] = -7
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="it has the value -7; give integers from 0 to 65535"):
        load_source(tmp_path / "a.tif")


def test_whole_numbers_beyond_16_bits_are_refused(tmp_path: Path) -> None:
    Image.new("I", (9, 9), 70_000).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="it has the value 70000; give integers from 0 to 65535"):
        load_source(tmp_path / "a.tif")
    Image.new("I", (9, 9), 65_535).save(tmp_path / "b.tif")
    assert load_source(tmp_path / "b.tif").frames.min() == 1
