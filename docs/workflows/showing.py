"""Shared by the templates: an example on the left, source and result side by side on the right, and note texts."""

from __future__ import annotations

import json
from pathlib import Path

from .description import Box, Column, Node, Text

FIRST, BOX, LOOK, NARROW, SMALL = 290, 340, 300, 290, 225  # widths of columns; Nodes 2.0 draws none below 225 pixels
SIDE = 256  # pixels of the example pictures
HEIGHT, LOWER = 380, 340  # heights of nodes that show a picture, in the first row and below it
PLAYING = 480  # height of a node that plays a square clip, in Nodes 2.0
UNDER = 50  # pixels by which a column starts lower, so that a link between first sockets is visible above its titles
EXAMPLES = Path(__file__).resolve().parents[2] / "instructx_core" / "assets" / "examples.json"
TOLD = {told["key"]: told for told in json.loads(EXAMPLES.read_text(encoding="utf-8"))}
SENTENCES = {key: told["instruction"] for key, told in TOLD.items()}

OWN_PICTURE = Text(
    "Your own: swap the example on the left (*InstructX Example Input*) for a **Load Image**.",
    "用自己的图片：把左边的示例（*InstructX Example Input*）换成 **Load Image**。",
)
OWN_VIDEO = Text(
    "Your own: swap the example on the left (*InstructX Example Input*) for a **Load Video**.",
    "用自己的视频：把左边的示例（*InstructX Example Input*）换成 **Load Video**。",
)
TINY = Text(
    "The bundled **InstructX Tiny** (24 MB, CPU) changes a photograph's light and style, and coloured shapes. For the"
    " things in a photograph choose Kiwi-Edit in the box's *model_name*.",
    "自带的 **InstructX Tiny**（24 MB，CPU 可用）能改照片的光线和风格，也能编辑彩色图形。"
    "要改照片里的物体，请在盒子的 *model_name* 里选择 Kiwi-Edit。",
)


def note(title: Text, *parts: Text) -> Text:
    """A note's heading and paragraphs in both languages."""
    return Text(
        "\n\n".join([f"## {title.en}", *(part.en for part in parts)]),
        "\n\n".join([f"## {title.zh}", *(part.zh for part in parts)]),
    )


def example(key: str, title: str = "Something to edit") -> Node:
    """A bundled picture or clip to edit; its instruction is in SENTENCES."""
    if key not in TOLD:
        raise SystemExit(f"there is no example {key!r} in {EXAMPLES}")
    return Node("InstructXExampleInput", title, {"example": TOLD[key]["name"]})


def look(title: str, height: int = HEIGHT) -> Node:
    return Node("PreviewImage", title, {}, height)


def saved(name: str, height: int = HEIGHT) -> Node:
    return Node("SaveImage", "After", {"filename_prefix": f"InstructX/{name}"}, height)


def saved_clip(name: str, title: str = "After", height: int = HEIGHT) -> Node:
    """A node that shows a clip; ComfyUI has none that does so without saving it."""
    return Node("SaveVideo", title, {"filename_prefix": f"InstructX/{name}"}, height, PLAYING)


def pictures(name: str, width: int = LOOK) -> tuple[Column, Column]:
    """Before and after in separate columns; the edit's link to the second is visible above the first."""
    return before(look("Before", HEIGHT - 20), width), Column({"after": saved(name)}, width=width)


def clips(name: str, width: int = LOOK) -> tuple[Column, Column]:
    shown = saved_clip(f"{name}-source", "Before", HEIGHT - 20)
    return before(shown, width), Column({"after": saved_clip(name)}, width=width)


def before(node: Node, width: int = LOOK) -> Column:
    return Column({"before": node}, width=width, top=UNDER)


def below(nodes: dict[str, Node | Box], name: str, width: int = LOOK) -> tuple[Column, Column]:
    """Like `pictures`, with `before` below the last nodes, which makes a graph with many columns narrower."""
    return (
        Column(nodes | {"before": look("Before", LOWER)}, width=width),
        Column({"after": saved(name, LOWER)}, width=LOOK, beside="before"),
    )


def clips_below(nodes: dict[str, Node | Box], name: str, width: int = LOOK) -> tuple[Column, Column]:
    shown = saved_clip(f"{name}-source", "Before", LOWER)
    return (
        Column(nodes | {"before": shown}, width=width),
        Column({"after": saved_clip(name, height=LOWER)}, width=LOOK, beside="before"),
    )


def weights(name: str, url: str, directory: str) -> tuple[dict[str, str], ...]:
    """A file for `properties.models`, from an address in ComfyUI's own templates."""
    return ({"name": name, "url": url, "directory": directory},)
