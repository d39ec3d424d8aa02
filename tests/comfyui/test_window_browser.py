"""A loop in the real front end: what the nodes inside show while their windows run, and where an error stands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support import comfyui_server, front_end
from support.loops import FRAMES, INDEX, INVERT, error, inverted, loop, made, moving, node, prepare, whole
from support.video_files import make_video

pytestmark = pytest.mark.slow
LISTEN = """() => {
    window.seen = {progress: {}, images: {}, texts: {}, failed: null};
    const on = (name, use) => window.app.api.addEventListener(name, event => use(event.detail));
    on('progress_state', state => {
        for (const one of Object.values(state.nodes)) {
            const values = window.seen.progress[one.display_node_id] ??= [];
            if (one.state === 'running') values.push([one.value, one.max]);
        }
    });
    on('executed', done => {
        if (done.output?.images) (window.seen.images[done.display_node] ??= []).push(done.output.images.length);
    });
    on('b_preview_with_metadata', one => { window.seen.texts[one.displayNodeId ?? one.nodeId] = true });
    on('execution_error', error => { window.seen.failed = error.node_id });
}"""


def opened(page, prompt):
    """Show a loop; the number of its nodes tells when it is there."""
    for _ in range(20):  # the front end may put its empty graph over one that comes early
        page.evaluate("prompt => window.app.loadApiJson(prompt, 'loop')", prompt)
        page.wait_for_timeout(2000)
        if page.evaluate("() => window.app.graph.nodes.length") == len(prompt):
            break
    page.keyboard.press("Escape")  # a fresh installation opens with the template browser over the canvas


def ran(page, server):
    """Press Run; the history entry, or None where the front end refuses to post it."""
    known = set(server.get("/history"))
    page.evaluate("() => { window.app.queuePrompt(0) }")
    for _ in range(400):
        if ended := [one for key, one in server.get("/history").items() if key not in known]:
            return ended[0]
        page.wait_for_timeout(300)
    return None


SET_MODE = "([id, mode]) => { window.app.graph.getNodeById(id).mode = mode }"
ALWAYS, MUTED, BYPASSED = 0, 2, 4


def test_muted_and_bypassed_nodes_inside(bundled, tmp_path):
    base = prepare(tmp_path / "comfyui")
    make_video(base / "input" / "clip.mp4", moving(24))
    inside = INVERT | {
        "4": node("LoopAsync", image=["3", 0]),
        "5": node("PreviewImage", images=["3", 0]),
    }
    source = base / "input" / "clip.mp4"
    with comfyui_server.Server(base) as server, front_end.page(server.url) as page:
        opened(page, loop(inside, ["4", 0], window=8))
        page.evaluate(SET_MODE, [3, BYPASSED])
        page.evaluate(SET_MODE, [5, MUTED])
        entry = ran(page, server)
        assert comfyui_server.succeeded(entry), entry["status"]
        assert made(server)[-1].read_bytes() == whole(server, tmp_path / "one.mp4", inverted, source), "one inversion"
        assert "5" not in entry["outputs"], "the muted preview"
        page.evaluate(SET_MODE, [4, BYPASSED])
        entry = ran(page, server)
        assert comfyui_server.succeeded(entry), entry["status"]
        assert made(server)[-1].read_bytes() == whole(server, tmp_path / "none.mp4", lambda frame: frame, source)
        page.evaluate(SET_MODE, [4, ALWAYS])
        page.evaluate(SET_MODE, [3, MUTED])
        page.evaluate("() => { window.app.queuePrompt(0) }")
        page.wait_for_function("() => Boolean(window.app.lastNodeErrors?.[4])")
        said = page.evaluate("() => window.app.lastNodeErrors[4].errors[0].type")
        assert said == "required_input_missing", "what a muted node feeds is named before anything runs"


def test_the_nodes_inside_show_what_they_do(bundled, tmp_path):
    base = prepare(tmp_path / "comfyui")
    make_video(base / "input" / "clip.mp4", moving(24))
    (base / "output" / "fail").touch()
    inside = INVERT | {
        "4": node("LoopSlow", image=["3", 0], seconds=1.0),
        "5": node("LoopFail", image=["4", 0], index=["2", INDEX], at=2),
        "6": node("PreviewImage", images=["2", FRAMES]),
    }
    with comfyui_server.Server(base) as server, front_end.page(server.url) as page:
        opened(page, loop(inside, ["5", 0], window=8))
        page.evaluate(LISTEN)
        for failing in (True, False):
            ended = ran(page, server)
            if failing:
                assert "Window 3 of 3, node 5" in error(ended)["exception_message"]
                page.wait_for_function("() => window.seen.failed !== null")
                assert page.evaluate("() => window.seen.failed") == "5", "the error stands on the node inside"
                assert page.evaluate("() => String(window.app.lastExecutionError?.node_id)") == "5"
                if folder := os.environ.get("INSTRUCTX_SCREENSHOTS"):
                    page.screenshot(path=str(Path(folder) / "window-error.png"))
                (base / "output" / "fail").unlink()
        assert comfyui_server.succeeded(ended), ended["status"]
        page.wait_for_function("() => window.seen.images[8]")
        seen = page.evaluate("() => window.seen")
        assert max(value for value, _ in seen["progress"]["4"]) >= 19, "the bar of a node inside"
        assert [3, 3] in [[value, most] for value, most in seen["progress"]["8"]], "windows on Window Close"
        assert len(seen["images"]["6"]) >= 3, "a preview inside, once a window"
        assert seen["images"]["8"], "the finished video on Window Close"
        if folder := os.environ.get("INSTRUCTX_SCREENSHOTS"):
            page.wait_for_timeout(1500)
            page.screenshot(path=str(Path(folder) / "window-done.png"))
