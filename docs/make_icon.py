"""Draw docs/images/icon.png and docs/images/banner.png: a shape before and after an edit.

python docs/make_icon.py
"""

from pathlib import Path

from PIL import Image, ImageDraw

FOLDER = Path(__file__).resolve().parent / "images"
GROUND, BEFORE, AFTER, ARROW = "#1d2733", "#e5484d", "#3b82f6", "#f4f5f7"
SCALE = 4  # drawn larger and scaled down, for smooth edges


def main() -> None:
    draw((400, 400), 62, FOLDER / "icon.png")
    draw((1344, 576), 150, FOLDER / "banner.png")  # 21:9, as the registry requires


def draw(size: tuple[int, int], radius: int, path: Path) -> None:
    """Draw a red circle, an arrow and a blue circle in a row, centred in a picture of (width, height)."""
    width, height = (SCALE * side for side in size)
    radius = SCALE * radius
    image = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(image)
    middle, apart = (
        height // 2,
        min(2 * radius, width * 2 // 5 - radius),
    )  # leaves a tenth of the width free on each side
    left, right = width // 2 - apart, width // 2 + apart
    for x, colour in ((left, BEFORE), (right, AFTER)):
        pen.ellipse((x - radius, middle - radius, x + radius, middle + radius), fill=colour)
    tip, shaft = radius // 3, radius // 9
    centre = width // 2
    pen.rectangle((centre - tip, middle - shaft, centre, middle + shaft), fill=ARROW)
    pen.polygon([(centre, middle - tip), (centre, middle + tip), (centre + tip, middle)], fill=ARROW)
    image.resize(size, Image.Resampling.LANCZOS).save(path, optimize=True)


if __name__ == "__main__":
    main()
