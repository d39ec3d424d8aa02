"""What templates share: something to edit on the left, source and result beside each other on the right, and words."""

from __future__ import annotations

from .description import Column, Node, Text

FIRST, BOX, LOOK, NARROW, SMALL = 330, 360, 330, 300, 210  # widths of columns
SIDE = 256  # pixels of the example pictures
WIDE = 448  # pixels of the example clips, which Nodes 2.0 shows no higher than 190 pixels
HEIGHT = 400  # of what shows a picture

OWN_PICTURE = Text(
    "Your own: replace *InstructX Example Input* by **Load Image**.",
    "用自己的图片：把 *InstructX Example Input* 换成 **Load Image**。",
)
OWN_VIDEO = Text(
    "Your own: replace *InstructX Example Input* by **Load Video**.",
    "用自己的视频：把 *InstructX Example Input* 换成 **Load Video**。",
)
TINY = Text(
    "The bundled **InstructX Tiny** (24 MB, CPU) knows coloured shapes only. For photographs choose Kiwi-Edit in the"
    " box's *model_name*.",
    "自带的 **InstructX Tiny**（24 MB，CPU 可用）只认识彩色图形。编辑照片请在盒子的 *model_name* 里选择 Kiwi-Edit。",
)


def note(title: Text, *parts: Text) -> Text:
    """A note's heading and paragraphs in both languages."""
    return Text(
        "\n\n".join([f"## {title.en}", *(part.en for part in parts)]),
        "\n\n".join([f"## {title.zh}", *(part.zh for part in parts)]),
    )


def example(group: str, seed: int = 0, frames: int = 1, width: int = SIDE, height: int = SIDE) -> Node:
    """A picture or a clip that nobody has to look for."""
    settings = {"example": group, "seed": seed, "frames": frames, "width": width, "height": height}
    return Node("InstructXExampleInput", "Something to edit", settings)


def shipped(file: str) -> Node:
    """A file of the pack."""
    return Node("InstructXExampleInput", "Something to edit", {"example": f"shipped {file}"})


def look(title: str, height: int = HEIGHT) -> Node:
    return Node("PreviewImage", title, {}, height)


def saved(name: str, title: str = "After") -> Node:
    return Node("SaveImage", title, {"filename_prefix": f"InstructX/{name}"}, HEIGHT)


def picture(title: str, width: int = LOOK) -> Column:
    """A picture to look at, in a column of its own that a graph knows by the first word of the title."""
    return Column({title.split(maxsplit=1)[0].lower(): look(title)}, width=width)


def saved_picture(name: str, width: int = LOOK) -> Column:
    return Column({"after": saved(name)}, width=width)


def clip(title: str, prefix: str, width: int = LOOK) -> Column:
    """A clip to look at; ComfyUI has no node that shows one without saving it."""
    shows = Node("SaveVideo", title, {"filename_prefix": f"InstructX/{prefix}"}, HEIGHT)
    return Column({title.split(maxsplit=1)[0].lower(): shows}, width=width)


def weights(name: str, url: str, directory: str) -> tuple[dict[str, str], ...]:
    """A file for `properties.models`, from an address in ComfyUI's own templates."""
    return ({"name": name, "url": url, "directory": directory},)
