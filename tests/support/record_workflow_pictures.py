"""Record workflows/*.jpg, which ComfyUI's template browser shows.

    PYTHONPATH=tests python -m support.record_workflow_pictures [beginning of a name ...]

Runs each shipped workflow that needs no download in a real ComfyUI server and puts side by side what its nodes show:
before, a reference or a mask, after. Of a clip: first, middle and last frame, source above edit. Of a workflow that
needs weights it takes a picture of the graph in the real front end.
Do it after every change of the bundled model or of a workflow.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from instructx_core.images import to_uint8
from instructx_core.source import load_source
from support import comfyui_server, front_end, workflow_files

SIDE, GAP = 224, 8  # pixels
BACKGROUND = (32, 32, 32)
LARGEST = 60_000  # bytes
SHOWN = ("PreviewImage", "SaveImage", "SaveVideo")
MARGIN = 40  # pixels around a graph


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


def graph_of(page, path):
    """The graph as the front end draws it, without the window around it."""
    front_end.load(page, workflow_files.read(path))
    page.wait_for_timeout(3000)
    page.keyboard.press("Escape")  # the template browser may come later than a busy machine's front end is waited for
    page.wait_for_timeout(1500)
    whole = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    box = page.evaluate(
        """() => {
            const ds = window.app.canvas.ds, nodes = window.app.graph.nodes;
            const at = window.app.canvas.canvas.getBoundingClientRect();
            const edge = (axis, far) => nodes.map(n => n.pos[axis] + (far ? n.size[axis] : 0));
            const x = v => at.left + (v + ds.offset[0]) * ds.scale, y = v => at.top + (v + ds.offset[1]) * ds.scale;
            return [x(Math.min(...edge(0))), y(Math.min(...edge(1)) - 30),
                    x(Math.max(...edge(0, true))), y(Math.max(...edge(1, true)))];
        }"""
    )
    left, top, right, bottom = box
    cut = whole.crop((int(left) - MARGIN, int(top) - MARGIN, int(right) + MARGIN, int(bottom) + MARGIN))
    cut.thumbnail((3 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS)
    return cut


def save(image, path):
    target = path.with_suffix(".jpg")
    image.save(target, quality=82, optimize=True)
    assert target.stat().st_size <= LARGEST, target
    print(f"wrote {target}", file=sys.stderr)


def main():
    wanted = tuple(sys.argv[1:]) or ("",)
    with tempfile.TemporaryDirectory() as base, comfyui_server.Server(Path(base)) as server:
        object_info = server.get("/object_info")
        for path in workflow_files.RUNNABLE:
            if path.name.startswith(wanted):
                save(result_of(server, path, object_info), path)
        graphs = [path for path in workflow_files.NEED_WEIGHTS if path.name.startswith(wanted)]
        if graphs:
            with front_end.page(server.url) as page:
                page.wait_for_timeout(2500)
                page.keyboard.press("Escape")  # a fresh installation opens with the template browser over the canvas
                page.wait_for_timeout(1500)
                for path in graphs:
                    save(graph_of(page, path), path)
    for path in workflow_files.APPS:  # a form of the template beside it
        if path.name.startswith(wanted):
            plain = path.with_name(path.name.removesuffix(".app.json") + ".jpg")
            shutil.copyfile(plain, path.with_suffix(".jpg"))


if __name__ == "__main__":
    main()
