"""VideoHelperSuite's nodes inside of a loop, before and behind it.

Runs where VIDEO_HELPER_SUITE names a checkout of https://github.com/Kosinkadink/ComfyUI-VideoHelperSuite, and
VIDEO_HELPER_SUITE_NEEDS, if ComfyUI's Python lacks them, a folder with cv2 and imageio_ffmpeg.
"""

import os
from pathlib import Path

import pytest

from support import comfyui_server
from support.comfyui_server import succeeded
from support.loops import COUNT, FRAMES, inverted, loop, made, moving, node, prepare, whole
from support.video_files import make_video

CHECKOUT = os.environ.get("VIDEO_HELPER_SUITE")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHECKOUT, reason="VIDEO_HELPER_SUITE names no checkout")]
COMBINED = {"frame_rate": 8, "loop_count": 0, "pingpong": False, "save_output": True}


@pytest.fixture(scope="module")
def server(bundled, tmp_path_factory):
    base = prepare(tmp_path_factory.mktemp("comfyui"))
    (base / "custom_nodes" / "VideoHelperSuite").symlink_to(CHECKOUT, target_is_directory=True)
    make_video(base / "input" / "clip.mp4", moving(COUNT))
    needs = os.environ.get("VIDEO_HELPER_SUITE_NEEDS")
    with comfyui_server.Server(base, {"PYTHONPATH": needs} if needs else {}) as started:
        yield started


def test_inside(server, tmp_path):
    """Split, merge and select give what they give of the whole video; Video Combine writes a file for each window."""
    nodes = {
        "3": node("VHS_SplitImages", images=["2", FRAMES], split_index=4),
        "4": node("ImageInvert", image=["3", 0]),
        "5": node("ImageInvert", image=["3", 2]),
        "6": node(
            "VHS_MergeImages",
            images_A=["4", 0],
            images_B=["5", 0],
            merge_strategy="match A",
            scale_method="nearest-exact",
            crop="disabled",
        ),
        "7": node("VHS_SelectEveryNthImage", images=["6", 0], select_every_nth=1, skip_first_images=0),
        "10": node("VHS_VideoCombine", images=["7", 0], filename_prefix="inside", format="image/gif", **COMBINED),
        "11": node("VHS_GetImageCount", images=["2", FRAMES]),
        "12": node("PreviewAny", source=["11", 0]),
    }
    entry = server.run(loop(nodes, ["7", 0]))
    assert succeeded(entry), entry["status"]
    assert made(server)[-1].read_bytes() == whole(server, tmp_path / "whole.mp4", inverted)
    assert len(list((server.base / "output").glob("inside*.gif"))) == 5, "one for each window"


def test_in_front_and_behind(server):
    prompt = loop({"3": node("ImageInvert", image=["2", FRAMES])}, ["3", 0])
    loaded = {"force_rate": 0, "custom_width": 0, "custom_height": 0, "frame_load_cap": 0, "skip_first_frames": 0}
    prompt |= {
        "30": node("VHS_LoadVideo", video="clip.mp4", select_every_nth=1, **loaded),
        "1": node("CreateVideo", images=["30", 0], fps=25.0),
        "31": node("GetVideoComponents", video=["8", 0]),
        "32": node("VHS_VideoCombine", images=["31", 0], filename_prefix="behind", format="image/webp", **COMBINED),
    }
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    assert len(list(Path(server.base / "output").glob("behind*.webp"))) == 1
