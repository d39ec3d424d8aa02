"""A template that needs weights as a picture: what it edits, its steps with the sentence, and what is to be fetched.

Nothing in it is a result: nobody has run these chains here with their weights.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from instructx_core.examples import examples
from instructx_core.images import to_uint8
from instructx_core.source import load_source
from instructx_core.world import HELD_OUT_SEED, PLAIN, RICH, sample_triplet
from support import workflow_files

if TYPE_CHECKING:
    from instructx_core.examples import NamedExample

SIZE, EDGE = (672, 378), 24  # pixels
PICTURE = 300  # the room for what is edited
BACKGROUND, TEXT, FAINT = (32, 32, 32), (240, 240, 240), (170, 170, 170)
STEP, EDIT, FETCH = (66, 66, 72), (38, 84, 150), (232, 176, 88)
SHOWN = ("PreviewImage", "SaveImage", "SaveVideo", "PreviewAny")
LINE = 34  # letters of a step's text in a line

Step = tuple[str, str]  # a node's title, and the sentence that it is given


def card(workflow: dict[str, Any]) -> Image.Image:
    whole = Image.new("RGB", SIZE, BACKGROUND)
    pen = ImageDraw.Draw(whole)
    _put(whole, _sources(workflow))
    left = EDGE + PICTURE + 44
    taken = [_height(step) for step in _steps(workflow)]
    top = max(EDGE, (SIZE[1] - 70 - sum(taken) - 22 * (len(taken) - 1)) // 2)
    pen.polygon(_arrow(EDGE + PICTURE + 12, SIZE[1] // 2 - 20), fill=FAINT)
    for number, (step, height) in enumerate(zip(_steps(workflow), taken, strict=True)):
        if number:
            pen.polygon([(left + 130, top - 17), (left + 150, top - 17), (left + 140, top - 6)], fill=FAINT)
        _step(pen, step, (left, top, SIZE[0] - EDGE, top + height))
        top += height + 22
    names = ["to download:", *to_fetch(workflow)]
    for number, name in enumerate(reversed(names)):
        shown = name
        while pen.textlength(shown, _font(12)) > SIZE[0] - left - EDGE:
            name = name[:-1]
            shown = f"{name}…"
        pen.text((left, SIZE[1] - EDGE - 15 * (number + 1)), shown, FETCH, _font(12))
    return whole


def _sources(workflow: dict[str, Any]) -> list[Image.Image]:
    """First frames of what the graph begins with, in the order of its nodes."""
    nodes = [node for node in workflow["nodes"] if node["type"] == "InstructXExampleInput"]
    return [_frame(examples()[node["widgets_values"][0]]) for node in nodes]


def _frame(example: NamedExample) -> Image.Image:
    if example.file:
        return Image.fromarray(to_uint8(load_source(example.file).frames[0]).numpy())
    own = example.drawn
    variety = RICH if own.rich else PLAIN
    triplet = sample_triplet(
        HELD_OUT_SEED + own.seed, own.group, frames=own.frames, height=own.height, width=own.width, variety=variety
    )
    return Image.fromarray((triplet.source[0] * 255).round().astype("uint8"))


def _put(whole: Image.Image, pictures: list[Image.Image]) -> None:
    """Below each other, in the middle of their room."""
    room = (SIZE[1] - 2 * EDGE) // len(pictures) - 4
    for picture in pictures:
        scale = min(PICTURE / picture.width, room / picture.height)
        size = (round(picture.width * scale), round(picture.height * scale))
        at = EDGE + (room + 8) * pictures.index(picture) + (room - size[1]) // 2
        whole.paste(picture.resize(size, Image.Resampling.LANCZOS), (EDGE + (PICTURE - size[0]) // 2, at))


def _steps(workflow: dict[str, Any]) -> list[Step]:
    """From left to right: what takes something and gives something, boxes with what is typed in them."""
    names = workflow_files.read(workflow_files.GOLDEN)
    nodes = [node for node in workflow["nodes"] if node["type"] not in (*SHOWN, *workflow_files.FRONT_END_ONLY)]
    nodes = [node for node in nodes if any(socket["link"] is not None for socket in node["inputs"])]
    nodes.sort(key=lambda node: node["pos"])
    return [(node.get("title") or names[node["type"]]["display_name"], _typed(node)) for node in nodes]


def _typed(node: dict[str, Any]) -> str:
    widgets = [socket for socket in node["inputs"] if "widget" in socket]
    for socket, value in zip(widgets, node["widgets_values"], strict=False):
        if socket["name"] in ("instruction", "text", "prompt") and socket["link"] is None:
            return value if socket["name"] == "instruction" else str(value).rpartition("\n")[2]
    return ""


def to_fetch(workflow: dict[str, Any]) -> list[str]:
    """Files and folders that the graph names and that come neither with ComfyUI nor with the pack, sorted."""
    known = workflow_files.read(workflow_files.GOLDEN)  # as recorded: its menus offer what comes with them
    found = set()
    for node in workflow_files.to_api(workflow, known).values():
        for name, (kind, *options) in workflow_files.inputs_of(known[node["class_type"]]["input"]).items():
            offered = kind if isinstance(kind, list) else options[0]["options"] if kind == "COMBO" else None
            chosen = node["inputs"].get(name)
            if offered is not None and isinstance(chosen, str) and chosen not in offered:
                found.add(chosen.rpartition("/")[2])
    return sorted(found)


def _lines(step: Step) -> list[str]:
    return [row for line in step[1].splitlines() for row in textwrap.wrap(line, LINE)]


def _height(step: Step) -> int:
    return 36 + 20 * len(_lines(step))


def _step(pen: ImageDraw.ImageDraw, step: Step, box: tuple[int, int, int, int]) -> None:
    pen.rounded_rectangle(box, 8, EDIT if step[1] else STEP)
    pen.text((box[0] + 14, box[1] + 9), step[0], TEXT, _font(16))
    for number, line in enumerate(_lines(step)):
        pen.text((box[0] + 14, box[1] + 31 + 20 * number), line, (205, 222, 250), _font(15))


def _arrow(x: int, y: int) -> list[tuple[int, int]]:
    return [(x, y - 10), (x, y + 10), (x + 16, y)]


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
