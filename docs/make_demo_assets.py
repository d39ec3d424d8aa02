"""Draw the assets in instructx_core/assets/: demo.png and demo.mp4 for `instructx demo`, and a pan over a photograph.

Deliberately independent of the training generator: the demo shows the model on files that the generator did not draw,
at sizes that it was not trained at. Shapes are drawn by Pillow at four times the size and averaged down; the background
is a diagonal gradient with smoothed noise.

    python docs/make_demo_assets.py
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ASSETS = Path(__file__).resolve().parent.parent / "instructx_core" / "assets"
OVERSAMPLING = 4
Shape = tuple[str, str, float, float, float]  # kind, colour, centre x, centre y, radius, in pixels

COLORS = {
    "red": (217, 31, 31),
    "green": (31, 179, 51),
    "blue": (31, 64, 230),
    "yellow": (242, 224, 38),
    "orange": (245, 133, 26),
}
TEAL = (51, 115, 115)
NAVY = (31, 36, 82)


def ground(height: int, width: int, color: tuple[int, int, int], seed: int) -> Image.Image:
    """A background of `color`: a gradient of about +-0.08 from corner to corner and faint, smooth mottling."""
    down, right = np.mgrid[0:height, 0:width]
    slope = (down / height + right / width - 1) * 0.08 * 255
    noise = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    mottling = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2)), dtype=np.float64)
    tone = slope + (mottling - mottling.mean()) / mottling.std() * 2.5
    return Image.fromarray(np.clip(np.array(color) + tone[..., None], 0, 255).astype(np.uint8))


def outline(kind: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Corner points of a square or of an upright five-pointed star."""
    if kind == "square":
        side = 0.85 * radius
        return [(x - side, y - side), (x + side, y - side), (x + side, y + side), (x - side, y + side)]
    reach = [radius if corner % 2 == 0 else 0.45 * radius for corner in range(10)]
    return [(x + r * math.sin(i * math.pi / 5), y - r * math.cos(i * math.pi / 5)) for i, r in enumerate(reach)]


def draw(background: Image.Image, shapes: list[Shape]) -> Image.Image:
    """Draw the shapes over the background, anti-aliased."""
    canvas = background.copy()
    large = (background.width * OVERSAMPLING, background.height * OVERSAMPLING)
    for kind, color, x, y, radius in shapes:
        mask = Image.new("L", large)
        pen = ImageDraw.Draw(mask)
        x, y, radius = x * OVERSAMPLING, y * OVERSAMPLING, radius * OVERSAMPLING
        if kind == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        else:
            pen.polygon(outline(kind, x, y, radius), fill=255)
        canvas.paste(COLORS[color], mask=mask.resize(background.size, Image.Resampling.BOX))
    return canvas


def picture() -> Image.Image:
    """240 x 320: a red circle, a yellow star and a blue square on teal."""
    shapes: list[Shape] = [
        ("circle", "red", 76, 84, 40),
        ("star", "yellow", 236, 76, 42),
        ("square", "blue", 168, 178, 38),
    ]
    return draw(ground(240, 320, TEAL, seed=1), shapes)


def clip(length: int = 33) -> list[Image.Image]:
    """160 x 160: a green square drifts to the right above an orange circle that drifts to the left, on navy."""
    background = ground(160, 160, NAVY, seed=2)
    frames = []
    for index in range(length):
        t = index / (length - 1)
        square: Shape = ("square", "green", 42 + 62 * t, 46 + 6 * t, 25)
        circle: Shape = ("circle", "orange", 116 - 66 * t, 114 - 4 * t, 24)
        frames.append(draw(background, [square, circle]))
    return frames


def pan(photograph: Path, length: int = 25, size: tuple[int, int] = (448, 256)) -> list[Image.Image]:
    """A camera pan over a photograph, from its lower left to its upper right."""
    whole = Image.open(photograph).convert("RGB")
    room = (whole.width - size[0], whole.height - size[1])
    frames = []
    for index in range(length):
        t = (1 - math.cos(math.pi * index / (length - 1))) / 2
        left, top = room[0] * t, room[1] * (0.8 - 0.6 * t)
        move = (1, 0, left, 0, 1, top)
        frames.append(whole.transform(size, Image.Transform.AFFINE, move, Image.Resampling.BICUBIC))
    return frames


def write_video(frames: list[Image.Image], path: Path, fps: int = 25, crf: int = 16) -> None:
    """Encode H.264, 4:2:0, tagged as BT.709 in limited range."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "veryslow"})
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 1
        for image in frames:
            # Pillow's RGB is untagged, so the conversion needs the matrix that the stream declares
            frame = av.VideoFrame.from_image(image).reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def main() -> None:
    ASSETS.mkdir(parents=True, exist_ok=True)
    picture().save(ASSETS / "demo.png", optimize=True)
    write_video(clip(), ASSETS / "demo.mp4")
    write_video(pan(ASSETS / "coffee.jpg"), ASSETS / "coffee.mp4", fps=12, crf=24)


if __name__ == "__main__":
    main()
