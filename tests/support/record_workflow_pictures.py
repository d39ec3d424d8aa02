"""Record workflows/*.jpg, which ComfyUI's template browser shows.

    PYTHONPATH=tests python -m support.record_workflow_pictures [NAME ...]

Runs each shipped workflow that needs no download in a real ComfyUI server and puts side by side what went in, what its
previews show (a reference, a mask, a first edit) and what it saved. Of a clip: first, middle and last frame, source
above edit.
Do it after every change of the bundled model or of a workflow.
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

from instructx_core.images import to_uint8
from instructx_core.source import load_source
from support import comfyui_server, workflow_files

SIDE, GAP = 224, 8  # pixels
BACKGROUND = (32, 32, 32)
LARGEST = 40_000  # bytes
INPUT = "what went in"  # the id of a further preview in the prompt


def shown(prompt, entry, base):
    """Frames as PIL pictures: of the input, of every preview, of what was saved."""
    order = sorted(prompt, key=lambda number: (number != INPUT, prompt[number]["class_type"] != "PreviewImage"))
    found = []
    for number in order:
        if prompt[number]["class_type"] in ("PreviewImage", "SaveImage", "SaveVideo"):
            items = entry["outputs"][number]["images"]
            paths = [base / item["type"] / item["subfolder"] / item["filename"] for item in items]
            frames = [frame for path in paths for frame in load_source(path).frames]
            found.append([Image.fromarray(to_uint8(frame).numpy()) for frame in frames])
    return found


def picture(rows):
    """One picture of all: clips below each other, still pictures side by side."""
    if all(len(row) == 1 for row in rows):
        rows = [[row[0] for row in rows]]
    else:
        rows = [[row[index] for index in sorted({0, len(row) // 2, len(row) - 1})] for row in rows]
    step = SIDE + GAP
    whole = Image.new("RGB", (max(map(len, rows)) * step - GAP, len(rows) * step - GAP), BACKGROUND)
    for y, row in enumerate(rows):
        for x, frame in enumerate(row):
            whole.paste(frame.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (x * step, y * step))
    return whole


def record(server, path, object_info):
    prompt = workflow_files.to_api(workflow_files.read(path), object_info)
    example = next(number for number, node in prompt.items() if node["class_type"] == "InstructXExampleInput")
    prompt[INPUT] = {"class_type": "PreviewImage", "inputs": {"images": [example, 0]}}
    entry = server.run(prompt)
    assert comfyui_server.succeeded(entry), entry["status"]
    target = path.with_suffix(".jpg")
    picture(shown(prompt, entry, server.base)).save(target, quality=85, optimize=True)
    assert target.stat().st_size <= LARGEST, target
    print(f"wrote {target}", file=sys.stderr)


def main():
    wanted = sys.argv[1:] or [path.stem for path in workflow_files.RUNNABLE]
    with tempfile.TemporaryDirectory() as base, comfyui_server.Server(Path(base)) as server:
        object_info = server.get("/object_info")
        for name in wanted:
            record(server, workflow_files.FOLDER / f"{name}.json", object_info)


if __name__ == "__main__":
    main()
