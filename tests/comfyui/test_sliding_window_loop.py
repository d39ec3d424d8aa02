"""A loop against InstructX Sliding Window, in a real ComfyUI server on a CPU: its nodes inside, or what they make anew
for each window."""

from __future__ import annotations

import json

import pytest
import torch

from instructx_core.video import VideoReader
from support import comfyui_server
from support.comfyui_server import cached, succeeded
from support.loops import FLOW, FRAMES, HELD, SEED, TAIL, error, loop, moving, node, prepare
from support.video_files import make_video

pytestmark = pytest.mark.slow
WORDS = "make it grayscale"
SAMPLED = {"steps": 2, "cfg": 0.0, "shift": 0.0, "sampler_name": "euler", "scheduler": "instructx", "denoise": 1.0}
MADE_OF = {"model": ["20", 0], "vae": ["20", 1]}
MLLM = {"mllm": ["20", 2], "connector": ["20", 3]}


@pytest.fixture(scope="module")
def server(bundled, tmp_path_factory):
    base = prepare(tmp_path_factory.mktemp("comfyui"))
    make_video(base / "input" / "clip.mp4", split(25), audio=["aac"])
    make_video(base / "input" / "short.mp4", split(9))
    with comfyui_server.Server(base) as started:
        yield started


def split(count):
    """Frames with a dark and a bright half, which a threshold tells apart however they are decoded."""
    frames = [frame // 4 for frame in moving(count)]
    for number, frame in enumerate(frames):
        frame[:, 20 + number % 9 :] += 180
    return frames


def halves(first: int, image: list) -> dict:
    """Nodes `first` to `first` + 3: the bright half of frames as a MASK, and of the fourth frame as an IMAGE."""
    return {
        f"{first}": node("ImageToMask", image=image, channel="red"),
        f"{first + 1}": node("ThresholdMask", mask=[f"{first}", 0], value=0.5),
        f"{first + 2}": node("MaskToImage", mask=[f"{first + 1}", 0]),
        f"{first + 3}": node("ImageFromBatch", image=[f"{first + 2}", 0], batch_index=3, length=1),
    }


def both(file: str, window: int, inside: dict, **own: object) -> dict:
    """A prompt with the loop, whose Sliding Window takes what `inside` makes, and Sliding Window alone."""
    prompt = loop({}, [], file, window=window, overlap=1)
    del prompt["8"]
    settings = {"instruction": WORDS, "head": "pin", "hold_colour": True, "seed": 5, **MADE_OF, **SAMPLED}
    taken = {name: link for name, link in own.items() if name != "alone"}
    return prompt | {
        "20": node("InstructXLoadModel", model_name="InstructX Tiny (bundled)", precision="float32"),
        **inside,
        "50": node("InstructXSlidingWindowLoop", flow=["2", FLOW], **settings, **taken),
        "9": node("SaveVideo", video=["50", 0], filename_prefix="loop", format="auto", codec="auto"),
        "60": node("GetVideoComponents", video=["1", 0]),
        **halves(61, ["60", 0]),
        "70": node(
            "InstructXSlidingWindow",
            source=["1", 0],
            window=window,
            overlap=1,
            guidance_from="window",
            cuts="",
            **settings,
            **MLLM,
            **own["alone"],
        ),
        "71": node("SaveVideo", video=["70", 0], filename_prefix="alone", format="auto", codec="auto"),
    }


def edited(server, prompt: dict) -> list:
    """The frames that both give, in pairs."""
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    newest = [max((server.base / "output").glob(f"{name}*.mp4")) for name in ("loop", "alone")]
    with VideoReader(newest[0]) as ours, VideoReader(newest[1]) as alone:
        return [(x.int(), y.int()) for (x, _), (y, _) in zip(ours, alone, strict=True)]


def test_conditioning_and_masks_made_for_each_window(server):
    """Are to the bit what Sliding Window makes itself, and of a mask over the whole video."""
    inside = {
        "21": node("InstructXFit", source=["2", FRAMES], width=0, height=0, **MADE_OF),
        "22": node("InstructXMLLMGuidance", mllm=["20", 2], source=["21", 0], fit=["21", 1], instruction=WORDS),
        "23": node("InstructXConnector", connector=["20", 3], guidance=["22", 0]),
        **halves(30, ["2", FRAMES]),
        "25": node("MaskPreview", mask=["31", 0]),  # runs inside, though ComfyUI would run it by itself too
    }
    taken = {"positive": ["23", 0], "negative": ["23", 1], "mask": ["31", 0]}
    prompt = both("clip.mp4", 9, inside, **taken, alone={"mask": ["62", 0]})
    pairs = edited(server, prompt)
    assert len(pairs) == 25 and pairs[0][0].float().std() > 5
    assert max(int((x - y).abs().max()) for x, y in pairs) == 0
    again = server.run(prompt)
    assert succeeded(again) and {"50", "9"} <= cached(again)


def test_a_reference_made_for_each_window(server):
    inside = halves(30, ["2", FRAMES])
    prompt = both("short.mp4", 9, inside, **MLLM, reference=["33", 0], alone={"reference": ["64", 0]})
    assert max(int((x - y).abs().max()) for x, y in edited(server, prompt)) == 0


def test_the_seed_that_nodes_inside_use_is_part_of_the_edit(server):
    """A reference whose colour is Window Open's seed: another seed is another video, not that of an earlier run."""
    inside = {"30": node("EmptyImage", width=64, height=64, batch_size=1, color=["2", SEED])}
    prompt = both("short.mp4", 9, inside, **MLLM, reference=["30", 0], alone={})
    prompt["50"]["inputs"]["instruction"] = "replace the background with the object in the reference"
    made = []
    for seed in (0xFF0000, 0x00FF00):
        prompt["2"]["inputs"]["seed"] = seed
        made.append(torch.stack([ours for ours, _ in edited(server, prompt)]))
    assert not torch.equal(*made)


def test_what_cannot_be_used_is_refused(server):
    outside = both("short.mp4", 9, {}, **MLLM, mask=["62", 0], alone={})
    assert "None of positive, negative, reference and mask comes" in error(server.run(outside))["exception_message"]
    nothing = server.post("/prompt", {"prompt": both("short.mp4", 9, {}, alone={})})
    assert "Nothing says what to change" in json.dumps(nothing["node_errors"]["50"])
    inside = {"24": node("ImageToMask", image=["2", FRAMES], channel="red")}
    inside["25"] = node("LoopFail", image=["2", FRAMES], index=["2", 3], at=0)
    inside["24"]["inputs"]["image"] = ["25", 0]
    (server.base / "output" / "fail").touch()
    said = error(server.run(both("short.mp4", 9, inside, **MLLM, mask=["24", 0], alone={})))
    assert "Window 1 of 1, node 25 (LoopFail): no luck" in said["exception_message"] and said["node_id"] == "25"


@pytest.mark.parametrize("head", ["source", "pin"])
def test_the_nodes_inside_are_the_sliding_window(server, head):
    """To the bit with the head as a source frame, within 1 of 255 where it is held in the latents."""
    make_video(server.base / "input" / "moving.mp4", moving(25), audio=["aac"])
    fit = {**MADE_OF, "width": 0, "height": 0}
    prompt = loop({}, ["29", 0], "moving.mp4", window=9, overlap=1, hold_colour=True)
    prompt["9"]["inputs"]["filename_prefix"] = "loop"
    prompt |= {
        "20": node("InstructXLoadModel", model_name="InstructX Tiny (bundled)", precision="float32"),
        "21": node("InstructXFit", source=["2", FRAMES], **fit),
        "22": node("ImageFromBatch", image=["2", FRAMES], batch_index=1, length=4096),
        "23": node("ImageBatch", image1=["2", TAIL], image2=["22", 0]),
        "24": node("InstructXFit", source=["23", 0], **fit),
        "25": node("InstructXMLLMGuidance", mllm=["20", 2], source=["21", 0], fit=["21", 1], instruction=WORDS),
        "26": node("InstructXConnector", connector=["20", 3], guidance=["25", 0]),
        "27": node(
            "InstructXSource",
            **MADE_OF,
            positive=["26", 0],
            negative=["26", 1],
            source=["24" if head == "source" else "21", 0],
            strength=1.0,
        ),
        "28": node(
            "InstructXSampler",
            model=["27", 0],
            positive=["27", 1],
            negative=["27", 2],
            latent=["27", 3] if head == "source" else ["33", 0],
            seed=["2", SEED],
            **SAMPLED,
        ),
        "30": node("VAEDecode", samples=["28", 0], vae=["20", 1]),
        "29": node("InstructXRestore", image=["30", 0], fit=["21", 1], keep_source=False),
        "31": node("VAEEncode", pixels=["24", 0], vae=["20", 1]),
        "32": node("InvertMask", mask=["2", HELD]),
        "33": node("SetLatentNoiseMask", samples=["31", 0], mask=["32", 0]),
        "70": node(
            "InstructXSlidingWindow",
            source=["1", 0],
            instruction=WORDS,
            window=9,
            overlap=1,
            head=head,
            guidance_from="window",
            cuts="",
            hold_colour=True,
            seed=5,
            **MADE_OF,
            **MLLM,
            **SAMPLED,
        ),
        "71": node("SaveVideo", video=["70", 0], filename_prefix="alone", format="auto", codec="auto"),
    }
    pairs = edited(server, prompt)
    largest = max(int((x - y).abs().max()) for x, y in pairs)
    assert largest <= (0 if head == "source" else 1), largest
    assert len(pairs) == 25 and pairs[0][0].float().std() > 5
