"""The templates of loops around foreign models, run in a real server with tiny random weights of the same layout."""

import shutil

import pytest

from instructx_core.video import VideoReader
from support import comfyui_server, workflow_files
from support.comfyui_server import files, succeeded
from support.places import SUPPORT

pytestmark = pytest.mark.slow
COUNT = 21  # frames: windows of 9 that share 5, and a last one that is drawn back
# What stands in the place of a node whose layout alone is large, and which of its inputs stay.
STAND_INS = {
    "CLIPLoader": ("TinyText", {"width": 4096}, ()),
    "SAM3_VideoTrack": ("TinyTrack", {}, ("images",)),
}
GONE = {"CheckpointLoaderSimple"}
CLIP = {"example": "random: recolor", "width": 96, "height": 64}


@pytest.fixture(scope="module")
def server(bundled, tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    (base / "custom_nodes").mkdir()
    shutil.copyfile(SUPPORT / "tiny_weights_nodes.py", base / "custom_nodes" / "tiny_weights_nodes.py")
    with comfyui_server.Server(base) as started:
        yield started


def ran(server, title, changes, stand_ins=STAND_INS):
    """The frames that a template made; `changes` to settings by the kind of a node."""
    prompt = workflow_files.to_api(workflow_files.read(workflow_files.named(title)), server.get("/object_info"))
    prompt = {number: node for number, node in prompt.items() if node["class_type"] not in GONE}
    for node in prompt.values():
        if node["class_type"] in stand_ins:
            kind, inputs, kept = stand_ins[node["class_type"]]
            node |= {"class_type": kind, "inputs": inputs | {name: node["inputs"][name] for name in kept}}
        node["inputs"] |= changes.get(node["class_type"], {})
    text = next(number for number, node in prompt.items() if node["class_type"] == "TinyText")
    for node in prompt.values():
        if node["class_type"] == "CLIPTextEncode" and node["inputs"]["clip"][0] not in prompt:
            node["inputs"]["clip"] = [text, 0]  # SAM3's
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    after = next(file for file in files(entry, server.base) if "source" not in file.name and file.suffix == ".mp4")
    with VideoReader(after) as reader:
        return [frame for frame, _ in reader]


@pytest.mark.parametrize("title", ["Bernini over a long video", "Inpaint a long video"])
def test_wan(server, title):
    small = {"InstructXWindowOpen": {"window": 9}, "ImageScaleToTotalPixels": {"megapixels": 0.01}}
    small["InstructXExampleInput"] = CLIP | {"frames": COUNT}
    made = ran(server, title, small)
    assert len(made) == COUNT
    assert all(frame.float().std() > 3 for frame in made)


def test_qwen(server):
    stand_ins = {"CLIPLoader": ("TinyText", {"width": 64}, ()), "UNETLoader": ("TinyQwen", {}, ())}
    # each edit is of a megapixel, whatever its source
    changes = {"InstructXExampleInput": CLIP | {"frames": 2}, "InstructXWindowOpen": {"window": 1}}
    changes["KSampler"] = {"steps": 1}
    made = ran(server, "Edit frames like the first one", changes, stand_ins)
    assert len(made) == 2
    assert all(frame.float().std() > 1 for frame in made)
