"""Window Open and Window Close in a real ComfyUI server on a CPU: any nodes, window by window."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction

import pytest

from instructx_core.video import VideoReader, probe
from support import comfyui_server
from support.comfyui_server import cached, succeeded
from support.loops import (
    COUNT,
    FLOW,
    FRAMES,
    HELD,
    INDEX,
    INVERT,
    QUICK,
    SEED,
    START,
    TAIL,
    WINDOWS,
    error,
    inverted,
    loop,
    made,
    moving,
    node,
    noted,
    prepare,
    wait_for,
    whole,
)
from support.video_files import can_tag_rotation, make_video


@pytest.fixture(scope="module")
def server(bundled, tmp_path_factory):
    base = prepare(tmp_path_factory.mktemp("comfyui"))
    make_video(base / "input" / "clip.mp4", moving(COUNT), audio=["aac"])
    with comfyui_server.Server(base, options=QUICK) as started:
        yield started


@pytest.fixture
def clean(server):
    """No videos, windows or notes of other tests."""
    output = server.base / "output"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    yield output


def test_nodes_of_single_frames_give_what_they_give_of_the_whole_video(server, clean, tmp_path):
    entry = server.run(loop(INVERT, ["3", 0]))
    assert succeeded(entry), entry["status"]
    (file,) = made(server)
    assert file.read_bytes() == whole(server, tmp_path / "whole.mp4", inverted)
    assert probe(file).has_audio
    assert not list((clean / "loops").glob(".*")), "windows are still there"
    assert any("loops" in str(item) for outputs in entry["outputs"].values() for item in outputs.get("images", []))
    again = server.run(loop(INVERT, ["3", 0]))
    assert succeeded(again) and {"1", "2", "8"} <= cached(again)


def test_a_deleted_video_is_made_again(server, clean):
    assert succeeded(server.run(loop(INVERT, ["3", 0])))
    (file,) = made(server)
    before = file.read_bytes()
    shutil.rmtree(clean / "loops")
    entry = server.run(loop(INVERT, ["3", 0]))
    assert succeeded(entry), entry["status"]
    assert "8" not in cached(entry)
    assert made(server)[0].read_bytes() == before


def test_what_the_nodes_inside_are_told(server, clean):
    watch = {
        "3": node("ImageInvert", image=["2", FRAMES]),
        "4": node(
            "LoopWatch",
            frames=["2", FRAMES],
            held=["2", HELD],
            tail=["2", TAIL],
            index=["2", INDEX],
            count=["2", WINDOWS],
            seed=["2", SEED],
            start=["2", START],
        ),
    }
    prompt = loop(watch, ["3", 0], overlap=3, head="source")
    number = server.post("/prompt", {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": {"a": 1}}}})
    entry = server.wait(number["prompt_id"])
    assert succeeded(entry), entry["status"]
    seen = noted(server, "watched")
    assert [(one["index"], one["count"], one["seed"]) for one in seen] == [(i, 6, 5) for i in range(6)]
    assert [one["start"] for one in seen] == [0, 9, 18, 27, 36, 38], "the last one is drawn back"
    assert {one["id"] for one in seen} == {"4"}
    assert seen[0]["extra"] == {"workflow": {"a": 1}}
    assert sum(seen[0]["held"]) == 0 and seen[1]["held"] == [1.0] + [0.0] * 11
    assert seen[1]["frames"][0] == seen[1]["tail"][0], "the edited frame stands in its place"
    assert abs(seen[1]["tail"][1] - (255 - seen[1]["frames"][1])) < 1
    shutil.rmtree(clean)
    clean.mkdir()
    assert succeeded(server.run(loop(watch, ["3", 0], overlap=3, head="mask")))
    second = noted(server, "watched")[1]
    assert second["held"] == [1.0] * 3 + [0.0] * 9
    assert second["frames"][:3] == second["tail"]


@pytest.mark.parametrize(
    ("nodes", "image"),
    [
        ({"3": node("LoopExpand", image=["2", FRAMES])}, ["3", 0]),
        ({"3": node("LoopAsync", image=["2", FRAMES])}, ["3", 0]),
        ({"3": node("LoopClips", image=["2", FRAMES])}, ["3", 0]),
        (
            INVERT
            | {
                "4": node("ImageInvert", image=["3", 0]),
                "5": node("LoopLazy", image=["3", 0], other=["4", 0]),
            },
            ["5", 0],
        ),
        (
            {
                "3": node("LoopSplit", image=["2", FRAMES]),
                "4": node("ImageInvert", image=["3", 0]),
                "5": node("LoopJoin", image=["4", 0]),
            },
            ["5", 0],
        ),
        ({"3": node("LoopSplit", image=["2", FRAMES]), "4": node("ImageInvert", image=["3", 0])}, ["4", 0]),
        (
            {
                "10:3": node("ImageInvert", image=["2", FRAMES]),
                "10:11:4": node("ImageInvert", image=["10:3", 0]),
                "5": node("ImageInvert", image=["10:11:4", 0]),
                "6": node("PreviewImage", images=["10:3", 0]),
            },
            ["5", 0],
        ),
    ],
    ids=["expanding", "async", "clips", "lazy", "lists", "a list at the end", "subgraphs and a preview"],
)
def test_all_kinds_of_nodes_work_inside(server, clean, tmp_path, nodes, image):
    entry = server.run(loop(nodes, image))
    assert succeeded(entry), entry["status"]
    assert made(server)[0].read_bytes() == whole(server, tmp_path / "whole.mp4", inverted)


@can_tag_rotation
def test_times_rotation_and_sound_of_the_source_stay(server, clean, tmp_path):
    source = server.base / "input" / "turned.mp4"
    times = [number * number for number in range(COUNT)]  # slower and slower
    timed = {"pts": times, "time_base": Fraction(1, 1000), "options": {"bf": "0"}}
    make_video(source, moving(COUNT), rotation=(90, False), audio=["aac", "aac"], **timed)
    entry = server.run(loop(INVERT, ["3", 0], source.name, overlap=2))
    assert succeeded(entry), entry["status"]
    (file,) = made(server)
    info = probe(file)
    assert (info.rotation, info.has_audio) == (probe(source).rotation, True) and info.rotation
    with VideoReader(file) as reader, VideoReader(source) as before:
        for time, (frame, pts), (original, _) in zip(times, reader, before, strict=True):
            assert pts * info.time_base * 1000 == time
            assert (frame.int() - inverted(original).int()).abs().float().mean() < 3, "in its place, coded once more"


def test_the_same_loop_elsewhere_in_a_graph(server, clean, tmp_path):
    """In a subgraph, and beside itself: a cached Window Open of the same settings is not this one."""

    def moved(value):
        return [f"7:{value[0]}", value[1]] if isinstance(value, list) else value

    prompt = {
        f"7:{number}": one | {"inputs": {name: moved(value) for name, value in one["inputs"].items()}}
        for number, one in loop(INVERT, ["3", 0]).items()
    }
    for graph in (loop(INVERT, ["3", 0]), prompt, prompt | loop(INVERT, ["3", 0])):
        entry = server.run(graph)
        assert succeeded(entry), entry["status"]
        (file,) = made(server)
        assert file.read_bytes() == whole(server, tmp_path / "whole.mp4", inverted)
        file.unlink()


def test_nothing_inside_gives_the_source(server, clean, tmp_path):
    assert succeeded(server.run(loop({}, ["2", FRAMES])))
    assert made(server)[0].read_bytes() == whole(server, tmp_path / "whole.mp4", lambda frame: frame)


def test_what_stands_outside_runs_once(server, clean):
    nodes = {"3": node("LoopLoader", shift=0.1), "4": node("LoopUse", image=["2", FRAMES], loaded=["3", 0])}
    assert succeeded(server.run(loop(nodes, ["4", 0])))
    assert noted(server, "loaded") == [{"shift": 0.1}]
    nodes["3"]["inputs"]["shift"] = 0.2
    assert succeeded(server.run(loop(nodes, ["4", 0])))
    assert len(noted(server, "loaded")) == 2 and len(made(server)) == 2


def test_another_node_inside_is_another_result(server, clean, tmp_path):
    assert succeeded(server.run(loop(INVERT, ["3", 0])))
    mirrored = {"3": node("ImageScale", **SCALE, image=["2", FRAMES])}
    assert succeeded(server.run(loop(mirrored, ["3", 0])))
    first, second = made(server)
    assert first.read_bytes() != second.read_bytes()
    assert (probe(second).width, probe(second).height) == (128, 96)


SCALE = {"upscale_method": "nearest-exact", "width": 128, "height": 96, "crop": "disabled"}


def test_what_a_file_outside_holds_counts(server, clean):
    (clean / "number").write_text("0.1")
    nodes = {"3": node("LoopFromFile", name="number"), "4": node("LoopUse", image=["2", FRAMES], loaded=["3", 0])}
    assert succeeded(server.run(loop(nodes, ["4", 0])))
    (clean / "number").write_text("0.2")
    assert succeeded(server.run(loop(nodes, ["4", 0])))
    first, second = made(server)
    assert first.read_bytes() != second.read_bytes()


def test_a_node_that_is_never_the_same_runs_again(server, clean):
    nodes = {"3": node("LoopRestless", image=["2", FRAMES])}
    for count in (5, 10):
        assert succeeded(server.run(loop(nodes, ["3", 0])))
        assert len(noted(server, "restless")) == count


def test_a_failing_window_is_named_on_its_node_and_the_rest_kept(server, clean, tmp_path):
    (clean / "fail").touch()
    nodes = INVERT | {"4": node("LoopFail", image=["3", 0], index=["2", INDEX], at=2)}
    nodes["4"]["_meta"] = {"title": "My node"}
    said = error(server.run(loop(nodes, ["4", 0])))
    assert "Window 3 of 5, node 4 (My node): no luck" in said["exception_message"]
    assert (said["node_id"], said["node_type"]) == ("4", "LoopFail")
    (clean / "fail").unlink()
    before = len(server.log.read_text())
    assert succeeded(server.run(loop(nodes, ["4", 0])))
    assert "resuming after window 2 of 5" in server.log.read_text()[before:]
    assert made(server)[0].read_bytes() == whole(server, tmp_path / "whole.mp4", inverted)


def test_cancel_and_run_again_goes_on(server, clean, tmp_path):
    nodes = INVERT | {"4": node("LoopSlow", image=["3", 0], seconds=1.0)}
    number = server.queue(loop(nodes, ["4", 0]))
    wait_for(lambda: list((clean / "loops").glob(".*/00001.safetensors")))
    server.post("/interrupt", {})
    entry = server.wait(number)
    assert any(kind == "execution_interrupted" for kind, _ in entry["status"]["messages"])
    before = len(server.log.read_text())
    assert succeeded(server.run(loop(nodes, ["4", 0])))
    assert "resuming after window 2 of 5" in server.log.read_text()[before:]
    assert made(server)[0].read_bytes() == whole(server, tmp_path / "whole.mp4", inverted)


def test_loops_beside_and_behind_each_other(server, clean):
    prompt = loop(INVERT, ["3", 0])
    prompt |= {
        "20": node("InstructXWindowOpen", **(prompt["2"]["inputs"] | {"window": 7})),
        "21": node("LoopAsync", image=["20", FRAMES]),
        "22": node("InstructXWindowClose", flow=["20", FLOW], image=["21", 0]),
        "30": node("InstructXWindowOpen", **(prompt["2"]["inputs"] | {"source": ["22", 0]})),
        "31": node("ImageInvert", image=["30", FRAMES]),
        "32": node("InstructXWindowClose", flow=["30", FLOW], image=["31", 0]),
        "33": node("SaveVideo", video=["32", 0], filename_prefix="second", format="auto", codec="auto"),
    }
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    assert len(made(server)) == 3
    assert made(server)[0].read_bytes() == made(server)[1].read_bytes(), "both are the same inversion"
    assert list(clean.glob("second*.mp4"))


def test_two_ends_of_one_loop(server, clean, tmp_path):
    prompt = loop(INVERT, ["3", 0])
    prompt |= {
        "4": node("ImageInvert", image=["3", 0]),
        "18": node("InstructXWindowClose", flow=["2", FLOW], image=["4", 0]),
        "19": node("SaveVideo", video=["18", 0], filename_prefix="second", format="auto", codec="auto"),
    }
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    wanted = {whole(server, tmp_path / "whole.mp4", edit) for edit in (inverted, lambda frame: frame)}
    assert {file.read_bytes() for file in made(server)} == wanted


def refused(server, prompt: dict) -> str:
    answer = server.post("/prompt", {"prompt": prompt})
    if answer.get("node_errors"):
        return json.dumps(answer["node_errors"])
    return error(server.wait(answer["prompt_id"]))["exception_message"]


def test_loops_inside_one_another_are_refused_by_name(server, clean):
    inside = {
        "3": node("CreateVideo", images=["2", FRAMES], fps=8.0),
        "4": node("InstructXWindowOpen", **(loop({}, [])["2"]["inputs"] | {"source": ["3", 0]})),
        "5": node("InstructXWindowClose", flow=["4", FLOW], image=["4", FRAMES]),
        "6": node("GetVideoComponents", video=["5", 0]),
    }
    words = refused(server, loop(inside, ["6", 0]))
    assert "node 5 (InstructXWindowClose) ends another loop, but uses the frames of node 2" in words


def test_frames_of_another_loop_are_refused_by_name(server, clean):
    other = {
        "3": node("InstructXWindowOpen", **loop({}, [])["2"]["inputs"]),
        "4": node("ImageBatch", image1=["2", FRAMES], image2=["3", FRAMES]),
    }
    assert "node 3 (InstructXWindowOpen) feeds its frames into another loop" in refused(server, loop(other, ["4", 0]))


def test_a_wire_past_close_is_refused_by_name(server, clean):
    prompt = loop(INVERT, ["3", 0])
    prompt |= {
        "10": node("GetVideoComponents", video=["8", 0]),
        "11": node("ImageBatch", image1=["10", 0], image2=["3", 0]),
        "12": node("PreviewImage", images=["11", 0]),
    }
    words = refused(server, prompt)
    assert "node 11 (ImageBatch) uses both the inside and the result of the loop" in words


def test_an_image_from_elsewhere_is_refused(server, clean):
    nodes = {"3": node("EmptyImage", width=64, height=48, batch_size=12, color=0)}
    assert "does not come from node 2" in refused(server, loop(nodes, ["3", 0]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"overlap": 12}, "leaves no new frames to edit"),
        ({"cuts": "x"}, "is not the first frame of a scene"),
        ({"folder": "../elsewhere"}, "a visible folder in ComfyUI's output folder"),
        ({"folder": "/etc"}, "a visible folder in ComfyUI's output folder"),
        ({"folder": ".hidden"}, "a visible folder in ComfyUI's output folder"),
        ({"head": "pin"}, "head"),
    ],
)
def test_settings_are_checked_before_the_run(server, clean, settings, words):
    answer = server.post("/prompt", {"prompt": loop(INVERT, ["3", 0], **settings)})
    assert words in json.dumps(answer["node_errors"]["2"])


def test_what_gives_another_number_of_frames_is_refused_with_its_window(server, clean):
    nodes = {"3": node("ImageFromBatch", image=["2", FRAMES], batch_index=0, length=5)}
    words = refused(server, loop(nodes, ["3", 0]))
    assert "Window 1 of 5: the edit gave 5 frames for 12" in words


def test_a_list_of_images_of_two_sizes_is_refused_with_its_window(server, clean):
    words = refused(server, loop({"3": node("LoopUneven", image=["2", FRAMES])}, ["3", 0]))
    assert "Window 1 of 5: a list of images of 64 x 46 and 64 x 48" in words
