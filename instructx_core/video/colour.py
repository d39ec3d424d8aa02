"""Video colour: the matrix and range that convert a file's YUV to RGB and back.

- Tags are FFmpeg's numbers for ITU-T H.273 (matrix, primaries, transfer: 1 BT.709, 2 unspecified; range: 1 limited,
  2 full, 0 unspecified). They are kept as in the file, so that players treat the result like the source.
- Without a matrix tag, the guess is that of players: BT.709 for high definition, else BT.601.
- Only matrix and range are used in the conversion. Transfer and primaries are just copied: HDR (PQ, HLG) is edited as
  code values and written with the same tags, not tone-mapped.
- FFmpeg's fast chroma path is off by up to 6 / 255 on smooth pictures; the accurate one, used here, by 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.codeccontext import VideoCodecContext
    from av.video.reformatter import VideoReformatter

UNSPECIFIED = 2
LIMITED, FULL = 1, 2
# H.273 matrix -> swscale's number of the same matrix (BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020 twice)
_SWSCALE_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
# libswscale flags: bicubic, full chroma interpolation and input, accurate rounding
_ACCURATE = 0x4 | 0x2000 | 0x4000 | 0x40000


@dataclass(frozen=True)
class Colour:
    """The four colour tags of a video stream; the defaults are those of a file made from RGB."""

    matrix: int = 1
    range: int = LIMITED
    primaries: int = 1
    transfer: int = 1

    @property
    def ranges(self) -> tuple[int, int]:
        """The effective range (limited for an untagged file), and the range to state for the RGB side.

        FFmpeg ignores the latter, as RGB is full; but PyAV before 17 sets matrix and range only if the two differ.
        """
        return (FULL, LIMITED) if self.range == FULL else (LIMITED, FULL)

    def swscale_matrix(self, width: int, height: int) -> int:
        """The effective matrix for a picture of this size, as swscale's number."""
        guess = 1 if width >= 1280 or height > 576 else 5
        return _SWSCALE_MATRIX.get(self.matrix, guess)


def colour_of(frame: VideoFrame, context: VideoCodecContext) -> Colour:
    """The tags of a decoded frame. Matrix and range may change within a file; if missing, they are the stream's."""
    if frame.format.is_rgb:
        return Colour()  # RGB has no matrix; the output is tagged like a new file
    matrix = int(frame.colorspace) if int(frame.colorspace) != UNSPECIFIED else int(context.colorspace)
    full = frame.format.name.startswith("yuvj")  # the old way to mark full range
    limits = FULL if full else int(frame.color_range) or int(context.color_range)
    return Colour(matrix, limits, int(context.color_primaries), int(context.color_trc))


def frame_to_pixels(frame: VideoFrame, colour: Colour, width: int, height: int, scaler: VideoReformatter) -> Tensor:
    """Decoded frame of any pixel format and depth -> uint8 [height, width, 3], or 4 with alpha.

    Frames of another size are scaled. Alpha is straight, not premultiplied.
    """
    options = {}
    if not frame.format.is_rgb:
        matrix = colour.swscale_matrix(frame.width, frame.height)
        options = {
            "src_colorspace": matrix,
            "dst_colorspace": matrix,
            "src_color_range": colour.ranges[0],
            "dst_color_range": colour.ranges[1],
        }
    target = "rgba" if has_alpha(frame) else "rgb24"
    rgb = scaler.reformat(frame, width, height, target, interpolation=_ACCURATE, **options)
    return torch.from_numpy(rgb.to_ndarray())


def has_alpha(frame: VideoFrame) -> bool:
    """True if a frame's pixel format can hold alpha; a palette can."""
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def on_white(pixels: Tensor) -> Tensor:
    """uint8 [H, W, 4] with straight alpha -> [H, W, 3] composited on white, as for images."""
    colours, alpha = pixels[..., :3].float(), pixels[..., 3:].float() / 255
    return (colours * alpha + 255 * (1 - alpha)).round().to(torch.uint8)


def rgb_to_frame(pixels: Tensor, colour: Colour, pixel_format: str, scaler: VideoReformatter) -> VideoFrame:
    """uint8 [H, W, 3] -> a frame of a YUV pixel format with these tags."""
    from av import VideoFrame

    height, width = pixels.shape[:2]
    matrix = colour.swscale_matrix(width, height)
    frame = scaler.reformat(
        VideoFrame.from_ndarray(pixels.contiguous().numpy(), format="rgb24"),
        format=pixel_format,
        interpolation=_ACCURATE,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=colour.ranges[1],
        dst_color_range=colour.ranges[0],
    )
    frame.colorspace, frame.color_range = colour.matrix, colour.range
    return frame
