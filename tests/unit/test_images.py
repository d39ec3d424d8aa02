"""Every kind of picture in, the same upright sRGB floats out."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms

from instructx_core.errors import InputError
from instructx_core.images import IMAGE_SUFFIXES, check_range, read_image, to_uint8, write_image

HEIGHT, WIDTH = 5, 7


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def pixels_of(value: object) -> np.ndarray:
    """Read, and check what holds for every picture; as uint8."""
    image = read_image(value)
    assert image.dtype == torch.float32 and image.ndim == 3 and image.shape[2] == 3
    assert image.min() >= 0 and image.max() <= 1
    return to_uint8(image).numpy()


def test_png_is_exact_as_file_text_path_and_object(rgb: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    for value in (path, str(path), Image.open(path), Image.fromarray(rgb)):
        assert np.array_equal(pixels_of(value), rgb)


def test_grey_palette_one_bit_and_cmyk(rgb: np.ndarray) -> None:
    picture = Image.fromarray(rgb)
    grey = np.asarray(picture.convert("L"))
    assert np.array_equal(pixels_of(picture.convert("L")), np.repeat(grey[..., None], 3, 2))
    palette = picture.quantize(16)
    assert np.array_equal(pixels_of(palette), np.asarray(palette.convert("RGB")))
    assert set(np.unique(pixels_of(picture.convert("1")))) <= {0, 255}
    assert np.abs(pixels_of(picture.convert("CMYK")).astype(int) - rgb).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_put_on_white(mode: str, tmp_path: Path) -> None:
    picture = Image.new("RGBA", (4, 2), (0, 0, 0, 255))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    if mode == "P":  # a palette in which one entry is transparent
        picture = Image.new("P", (4, 2), 1)
        picture.putpalette([9, 9, 9, 0, 0, 0])
        picture.putpixel((0, 0), 0)
        picture.save(tmp_path / "a.png", transparency=0)
    else:
        picture.convert(mode).save(tmp_path / "a.png")
    pixels = pixels_of(tmp_path / "a.png")
    assert (pixels[0, 0] == 255).all() and (pixels[1] == 0).all() and (pixels[0, 1:] == 0).all()


def test_half_transparent_is_mixed_with_white() -> None:
    assert pixels_of(Image.new("RGBA", (1, 1), (0, 100, 255, 128)))[0, 0].tolist() == pytest.approx(
        [127, 177, 255], abs=1
    )


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(suffix: str, tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}")
    assert torch.allclose(image[..., 0], torch.tensor([[0, 257, 32896, 65535]]) / 65535)
    assert torch.equal(image[..., 0], image[..., 2])


def test_16_bit_grey_that_is_transparent_or_inverted(tmp_path: Path) -> None:
    values = np.array([[0, 16384, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=16384)
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 1]
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={262: 0})  # white is zero
    assert torch.allclose(read_image(tmp_path / "a.tif")[0, :, 0], 1 - torch.tensor([0, 16384, 65535]) / 65535)


def test_float_tiff_must_lie_in_the_unit_range(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.25, 1.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 1].tolist() == [0, 0.25, 1]
    Image.fromarray(np.array([[0.0, np.nan]], dtype=np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(InputError, match=r"b\.tif: it holds nan at index \[0, 1\]"):
        read_image(tmp_path / "b.tif")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, rgb: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(tmp_path / "a.png", exif=exif)
    upright = {
        1: rgb,
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb, -1),
        7: rgb.transpose(1, 0, 2)[::-1, ::-1],
        8: np.rot90(rgb, 1),
    }[orientation]
    assert np.array_equal(pixels_of(tmp_path / "a.png"), upright)


def test_another_colour_profile_is_converted_to_srgb(rgb: np.ndarray, tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(rgb)
    picture.save(tmp_path / "srgb.png", icc_profile=srgb)
    picture.save(tmp_path / "wrong.png", icc_profile=lab)  # of another colour space than the pixels
    picture.save(tmp_path / "broken.png", icc_profile=b"not a profile")
    picture.save(tmp_path / "swapped.png", icc_profile=swapped_profile())
    for name in ("srgb", "wrong", "broken"):
        assert np.array_equal(pixels_of(tmp_path / f"{name}.png"), rgb)
    swapped = pixels_of(tmp_path / "swapped.png").astype(int)
    assert np.abs(swapped - rgb[..., [1, 0, 2]]).max() <= 2


def swapped_profile() -> bytes:
    """sRGB with the primaries of red and green exchanged: a profile whose effect is plain to see."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")
    return swapped.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))  # its name, else it counts as sRGB


def test_linear_srgb_is_not_taken_for_srgb(tmp_path: Path) -> None:
    linear = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for entry in range(132, 132 + 12 * int.from_bytes(linear[128:132], "big"), 12):
        if linear[entry : entry + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            at = int.from_bytes(linear[entry + 4 : entry + 8], "big")
            linear[at : at + 12] = b"curv" + bytes(8)  # an empty curve: the identity
    Image.new("RGB", (2, 2), (0, 55, 128)).save(tmp_path / "a.png", icc_profile=bytes(linear))
    assert pixels_of(tmp_path / "a.png")[0, 0].tolist() == pytest.approx([0, 128, 188], abs=2)


def test_of_an_animation_the_first_frame_counts(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixels_of(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def test_files_that_are_no_pictures_are_told_apart(tmp_path: Path, rgb: np.ndarray) -> None:
    encoded = io.BytesIO()
    Image.fromarray(rgb).resize((200, 200)).save(encoded, "PNG")
    contents = {"text.png": b"hello", "empty.png": b"", "cut.png": encoded.getvalue()[:2000]}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    for name, problem in (
        ("text.png", "not an image"),
        ("empty.png", "empty"),
        ("cut.png", "damaged"),
        ("missing.png", "does not exist"),
        ("", "folder"),
    ):
        with pytest.raises(InputError, match=problem):
            read_image(tmp_path / name)
    with pytest.raises(InputError, match="empty"):
        read_image("")


def test_a_picture_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.new("L", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="too large"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_written_pictures_come_back(suffix: str, tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 32).view(1, 32, 1).expand(24, -1, 3).contiguous()
    write_image(ramp, tmp_path / f"a{suffix.upper()}")
    assert (read_image(tmp_path / f"a{suffix.upper()}") - ramp).abs().max() < 0.03
    assert [file.name for file in tmp_path.iterdir()] == [f"a{suffix.upper()}"]


def test_a_picture_that_the_format_cannot_hold_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot hold a picture of 20000 x 1"):
        write_image(torch.zeros(1, 20000, 3), tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []


@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))))
def test_8_bit_round_trip_is_exact(rgb: np.ndarray) -> None:
    assert np.array_equal(pixels_of(Image.fromarray(rgb)), rgb)


def test_floats_are_rounded_to_the_nearest() -> None:
    assert to_uint8(torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.2, -1])).tolist() == [0, 0, 1, 255, 255, 0]


@given(st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.01, 1.01, 255.0]), st.integers(0, 5))
def test_a_number_out_of_range_is_named_with_its_place(value: float, place: int) -> None:
    values = torch.full((2, 3), 0.5)
    values.view(-1)[place] = value
    with pytest.raises(InputError, match=rf"photo: it holds .* at index \[{place // 3}, {place % 3}\]"):
        check_range(values, "photo")
    assert check_range(torch.tensor([-1e-5, 1 + 1e-5]), "photo").tolist() == [0, 1]
