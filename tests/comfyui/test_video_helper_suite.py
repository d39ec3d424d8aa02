"""VideoHelperSuite's nodes inside of a loop, before and behind it.

Runs where VIDEO_HELPER_SUITE names a checkout of https://github.com/Kosinkadink/ComfyUI-VideoHelperSuite, and
VIDEO_HELPER_SUITE_NEEDS, if ComfyUI's Python lacks them, a folder with cv2 and imageio_ffmpeg.
"""

import os
from pathlib import Path

import pytest
import torch

from instructx_core.video import VideoReader
from support import comfyui_server
from support.comfyui_server import succeeded
from support.loops import COUNT, FRAMES, START, inverted, loop, made, moving, node, prepare, wait_for, whole
from support.video_files import make_video

CHECKOUT = os.environ.get("VIDEO_HELPER_SUITE")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHECKOUT, reason="VIDEO_HELPER_SUITE names no checkout")]
MERGED = {"merge_strategy": "match A", "scale_method": "nearest-exact", "crop": "disabled"}
LOADED = {"video": "clip.mp4", "force_rate": 0, "custom_width": 0, "custom_height": 0, "frame_load_cap": 0}
LOADED |= {"skip_first_frames": 0, "select_every_nth": 1}
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
            **MERGED,
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


def differences(one: Path, other: Path) -> list[torch.Tensor]:
    """Of two videos of the same length, frame by frame."""
    with VideoReader(one) as a, VideoReader(other) as b:
        return [x.int() - y.int() for (x, _), (y, _) in zip(a, b, strict=True)]


def test_masks_inside(server, tmp_path):
    nodes = {
        "3": node("ImageToMask", image=["2", FRAMES], channel="red"),
        "4": node("VHS_SplitMasks", mask=["3", 0], split_index=4),
        "5": node("VHS_MergeMasks", mask_A=["4", 0], mask_B=["4", 2], **MERGED),
        "6": node("VHS_SelectEveryNthMask", mask=["5", 0], select_every_nth=1, skip_first_masks=0),
        "7": node("MaskToImage", mask=["6", 0]),
    }
    entry = server.run(loop(nodes, ["7", 0]))
    assert succeeded(entry), entry["status"]
    red = whole(server, tmp_path / "whole.mp4", lambda frame: frame[..., :1].expand(frame.shape))
    assert made(server)[-1].read_bytes() == red


def test_a_list_is_one_batch_again(server, tmp_path):
    nodes = {
        "3": node("LoopSplit", image=["2", FRAMES]),
        "4": node("ImageInvert", image=["3", 0]),
        "5": node("VHS_Unbatch", batched=["4", 0]),
        "6": node("VHS_DuplicateImages", images=["5", 0], multiply_by=2),
        "7": node("VHS_SelectImages", image=["6", 0], indexes="0:12", err_if_missing=True, err_if_empty=True),
    }
    entry = server.run(loop(nodes, ["7", 0]))
    assert succeeded(entry), entry["status"]
    assert made(server)[-1].read_bytes() == whole(server, tmp_path / "whole.mp4", inverted)


def test_an_image_vae_in_batches_inside(server):
    """Each window in batches of 5 gives what stock nodes give of all frames in one, within 1 of 255 before coding."""
    nodes = {
        "3": node("VHS_VAEEncodeBatched", pixels=["2", FRAMES], vae=["20", 0], per_batch=5),
        "4": node("VHS_SplitLatents", latents=["3", 0], split_index=4),
        "5": node("VHS_MergeLatents", latents_A=["4", 0], latents_B=["4", 2], **MERGED),
        "6": node("VHS_SelectEveryNthLatent", latents=["5", 0], select_every_nth=1, skip_first_latents=0),
        "7": node("VHS_VAEDecodeBatched", samples=["6", 0], vae=["20", 0], per_batch=5),
        "20": node("LoopVAE", video=False),
    }
    stock = {
        "3": node("VAEEncode", pixels=["2", FRAMES], vae=["20", 0]),
        "7": node("VAEDecode", samples=["3", 0], vae=["20", 0]),
        "20": node("LoopVAE", video=False),
    }
    for prompt in (loop(nodes, ["7", 0]), loop(stock, ["7", 0], window=COUNT)):
        entry = server.run(prompt)
        assert succeeded(entry), entry["status"]
    assert max(int(frame.abs().max()) for frame in differences(*made(server)[-2:])) <= 2


@pytest.mark.parametrize("bundled_vae", [False, True], ids=["ComfyUI's", "bundled"])
def test_a_video_vae_in_one_batch_inside(server, bundled_vae):
    """Gives what stock nodes give inside, though VAE Decode Batched makes a batch of one clip of it."""
    if bundled_vae:
        loader, vae = node("InstructXLoadModel", model_name="InstructX Tiny (bundled)", precision="float32"), ["20", 1]
    else:
        loader, vae = node("LoopVAE", video=True), ["20", 0]
    batched = {
        "3": node("VHS_VAEEncodeBatched", pixels=["2", FRAMES], vae=vae, per_batch=16),
        "4": node("VHS_VAEDecodeBatched", samples=["3", 0], vae=vae, per_batch=16),
    }
    stock = {
        "3": node("VAEEncode", pixels=["2", FRAMES], vae=vae),
        "4": node("VAEDecode", samples=["3", 0], vae=vae),
    }
    for nodes in (batched, stock):
        entry = server.run(loop({"20": loader, **nodes}, ["4", 0], window=9))
        assert succeeded(entry), entry["status"]
    ours, theirs = made(server)[-2:]
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_control_video_read_by_window(server, tmp_path):
    """Load Video inside: each window reads its own part of another file."""
    nodes = {
        "3": node("VHS_LoadVideo", **(LOADED | {"skip_first_frames": ["2", START], "frame_load_cap": 12})),
        "4": node("ImageInvert", image=["3", 0]),
    }
    entry = server.run(loop(nodes, ["4", 0], overlap=3))
    assert succeeded(entry), entry["status"]
    whole(server, tmp_path / "whole.mp4", inverted)
    offsets = [float(frame.float().mean()) for frame in differences(made(server)[-1], tmp_path / "whole.mp4")]
    assert max(offsets) - min(offsets) < 0.5, "a frame later is a level brighter; two decoders differ alike everywhere"


def test_in_front_and_behind(server):
    prompt = loop({"3": node("ImageInvert", image=["2", FRAMES])}, ["3", 0])
    prompt |= {
        "30": node("VHS_LoadVideo", **LOADED),
        "1": node("CreateVideo", images=["30", 0], fps=25.0),
        "31": node("GetVideoComponents", video=["8", 0]),
        "32": node("VHS_VideoCombine", images=["31", 0], filename_prefix="behind", format="image/webp", **COMBINED),
    }
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    assert len(list(Path(server.base / "output").glob("behind*.webp"))) == 1


def test_a_meta_batch_around_a_loop(server):
    """Each batch of frames is a video of its own for the loop; the prompt is queued again for the next."""
    prompt = loop({"3": node("ImageInvert", image=["2", FRAMES])}, ["3", 0])
    batched = {"meta_batch": ["29", 0]}
    settings = {"format": "video/h264-mp4", "pix_fmt": "yuv420p", "crf": 10, "save_metadata": False}
    prompt |= {
        "29": node("VHS_BatchManager", frames_per_batch=20),
        "30": node("VHS_LoadVideo", **LOADED, **batched),
        "1": node("CreateVideo", images=["30", 0], fps=25.0),
        "31": node("GetVideoComponents", video=["8", 0]),
        "32": node(
            "VHS_VideoCombine",
            images=["31", 0],
            filename_prefix="batches",
            trim_to_audio=False,
            **COMBINED,
            **settings,
            **batched,
        ),
    }
    before = len(made(server))
    assert succeeded(server.run(prompt))
    wait_for(lambda: not any(server.get("/queue").values()))
    assert len(made(server)) == before + 3
    (file,) = (server.base / "output").glob("batches*.mp4")
    with VideoReader(file) as ours, VideoReader(server.base / "input" / "clip.mp4") as source:
        offsets = [float((255 - x.float() - y.float()).mean()) for (x, _), (y, _) in zip(ours, source, strict=True)]
    assert len(offsets) == COUNT and max(offsets) - min(offsets) < 1
