"""Record workflows/*.jpg, which ComfyUI's template browser shows.

    PYTHONPATH=tests python -m support.record_workflow_pictures [beginning of a name ...]

Runs each shipped workflow that needs no download in a real ComfyUI server and puts side by side what its nodes show:
before, a reference or a mask, after. Of a clip: first, middle and last frame, source above edit. A workflow that
needs weights is drawn as its steps (draw_chain.py).
Do it after every change of the bundled model or of a workflow.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from instructx_core.images import to_uint8
from instructx_core.source import load_source
from support import comfyui_server, draw_chain, workflow_files

SIDE, GAP = 224, 8  # pixels
BACKGROUND = (32, 32, 32)
LARGEST = 60_000  # bytes
SHOWN = ("PreviewImage", "SaveImage", "SaveVideo")


def shown(workflow, entry, base):
    """Frames as PIL pictures of every node that shows some, from before to after."""
    nodes = [node for node in workflow["nodes"] if node["type"] in SHOWN]
    nodes.sort(key=lambda node: (node["title"] != "Before", node["title"] == "After", node["title"]))
    found = []
    for node in nodes:
        items = entry["outputs"][str(node["id"])]["images"]
        paths = [base / item["type"] / item["subfolder"] / item["filename"] for item in items]
        frames = [frame for path in paths for frame in load_source(path).frames]
        found.append([Image.fromarray(to_uint8(frame).numpy()) for frame in frames])
    return found


def picture(rows):
    """One picture of all: clips below each other, still pictures side by side."""
    if all(len(row) == 1 for row in rows):
        rows = [[row[0] for row in rows]]
    else:
        rows = [row for row in rows if len(row) > 1]
        rows = [[row[index] for index in sorted({0, len(row) // 2, len(row) - 1})] for row in rows]
    width, height = rows[0][0].size
    size = (SIDE, round(SIDE * height / width))
    right, down = size[0] + GAP, size[1] + GAP
    whole = Image.new("RGB", (max(map(len, rows)) * right - GAP, len(rows) * down - GAP), BACKGROUND)
    for y, row in enumerate(rows):
        for x, frame in enumerate(row):
            whole.paste(frame.resize(size, Image.Resampling.LANCZOS), (x * right, y * down))
    return whole


def result_of(server, path, object_info):
    workflow = workflow_files.read(path)
    entry = server.run(workflow_files.to_api(workflow, object_info))
    assert comfyui_server.succeeded(entry), entry["status"]
    return picture(shown(workflow, entry, server.base))


def save(image, path):
    target = path.with_suffix(".jpg")
    image.save(target, quality=82, optimize=True)
    assert target.stat().st_size <= LARGEST, target
    print(f"wrote {target}", file=sys.stderr)


def wanted(paths, beginnings):
    return [path for path in paths if path.name.startswith(beginnings)]


def main():
    beginnings = tuple(sys.argv[1:]) or ("",)
    runnable = wanted(workflow_files.RUNNABLE, beginnings)
    if runnable:
        with tempfile.TemporaryDirectory() as base, comfyui_server.Server(Path(base)) as server:
            object_info = server.get("/object_info")
            for path in runnable:
                save(result_of(server, path, object_info), path)
    for path in wanted(workflow_files.NEED_WEIGHTS, beginnings):
        save(draw_chain.card(workflow_files.read(path)), path)
    for path in wanted(workflow_files.APPS, beginnings):  # a form of the template beside it
        plain = path.with_name(path.name.removesuffix(".app.json") + ".jpg")
        shutil.copyfile(plain, path.with_suffix(".jpg"))


if __name__ == "__main__":
    main()
