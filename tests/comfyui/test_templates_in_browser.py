"""Every template as an artist meets it: a real server, the real front end, 1600 x 950, both canvases, mouse clicks.

Set INSTRUCTX_SCREENSHOTS to a folder to keep pictures of what was seen.
"""

import itertools
import os
import re
import time
from pathlib import Path

import pytest

from support import comfyui_server, front_end, workflow_files

pytestmark = pytest.mark.slow
RUN_LIMIT = 600  # seconds
NETWORK = "Failed to load resource"  # of links to weights, which this machine may not reach
TEMPLATES = [path for path in workflow_files.PATHS if path not in workflow_files.APPS]
# on a node, when it has run; the second canvas of a server finds the video that the first has made
SAID = {
    "Measure an edit": re.compile("PSNR outside"),
    "Any nodes over a long video": re.compile("window 4 of 4|Made by an earlier run"),
}
# The front end orders by names alone, then by how often a node is used: aliases make a node found, not first. So no box
# of ours can be before ComfyUI's own mask nodes for "mask" alone.
PHRASES = ("edit image", "edit video", "instruct", "inpaint", "kiwi", "edit mask", "long video", "subject")


@pytest.fixture(scope="module")
def server(bundled, tmp_path_factory):
    front_end.find_chromium()  # without it no server need start
    # by default a ComfyUI that is short of memory forgets results, which is not what is looked at here
    with comfyui_server.Server(tmp_path_factory.mktemp("comfyui"), options=("--cache-classic",)) as started:
        yield started


@pytest.fixture(scope="module", params=[False, True], ids=["classic", "nodes-2"])
def page(request, server):
    """The front end in one of its canvases; errors of its console in `page.errors`."""
    server.post("/settings", {"Comfy.VueNodes.Enabled": request.param, "Comfy.TutorialCompleted": True})
    with front_end.page(server.url) as opened:
        opened.set_viewport_size({"width": 1600, "height": 950})
        opened.wait_for_timeout(2500)
        opened.keyboard.press("Escape")  # a fresh installation opens with the template browser over the canvas
        opened.wait_for_timeout(1000)
        opened.canvas = "nodes-2" if request.param else "classic"
        opened.errors = []
        opened.on("console", lambda said: opened.errors.append(said.text) if said.type == "error" else None)
        yield opened


def keep(page, name):
    if folder := os.environ.get("INSTRUCTX_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name} ({page.canvas}).png"))


def open_template(page, path):
    """As a click in the template browser does, which then calls this."""
    page.evaluate(
        "([graph, name]) => window.app.loadGraphData(graph, true, true, name, { openSource: 'template' })",
        [workflow_files.read(path), path.stem],
    )
    page.wait_for_function(
        "count => window.app.graph.nodes.length === count", arg=len(workflow_files.read(path)["nodes"])
    )
    page.wait_for_timeout(1500)


def boxes(page):
    """Every node on the screen, with its title bar: left, top, right, bottom in pixels of the graph."""
    return page.evaluate(
        """() => {
            const ds = window.app.canvas.ds, at = window.app.canvas.canvas.getBoundingClientRect();
            return window.app.graph.nodes.map(node => {
                const element = document.querySelector(`[data-node-id="${node.id}"]`);
                if (element) {
                    const box = element.getBoundingClientRect(), scale = ds.scale;
                    return [box.left / scale, box.top / scale, box.right / scale, box.bottom / scale];
                }
                return [node.pos[0], node.pos[1] - 30, node.pos[0] + node.size[0], node.pos[1] + node.size[1]];
            });
        }"""
    )


def overlapping(found):
    return [
        (one, other)
        for one, other in itertools.combinations(found, 2)
        if one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    ]


def sentences(path):
    """What is typed in texts on the top level."""
    return [
        node["widgets_values"][0]
        for node in workflow_files.read(path)["nodes"]
        for socket in node.get("inputs", [])
        if socket["name"] in ("instruction", "prompt") and "widget" in socket and socket["link"] is None
    ]


def run(page, server):
    """Click Run; the history entry."""
    known = set(server.get("/history"))
    page.get_by_test_id("queue-button").first.dispatch_event("click")
    deadline = time.monotonic() + RUN_LIMIT
    while not (entries := [entry for number, entry in server.get("/history").items() if number not in known]):
        assert time.monotonic() < deadline, "it did not come to an end"
        page.wait_for_timeout(300)
    return entries[0]


DRAWN = """titles => {
    const scale = window.app.canvas.ds.scale;
    return window.app.graph.nodes.filter(node => titles.includes(node.title)).every(node => {
        const element = document.querySelector(`[data-node-id="${node.id}"]`);
        if (node.type === 'SaveVideo') {
            const scope = element ? [...element.querySelectorAll('video')] : [...document.querySelectorAll('video')];
            return scope.some(one => one.videoWidth > 0 && one.getBoundingClientRect().width / scale > 250);
        }
        if (element)
            return [...element.querySelectorAll('img')].some(
                one => one.naturalWidth > 0 && one.getBoundingClientRect().width / scale > 250);
        return node.imgs?.length > 0 && node.imgs[0].naturalWidth >= 256 && node.size[0] > 250;
    });
}"""


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_template_is_readable_and_runs(page, server, path):
    page.errors.clear()
    open_template(page, path)
    assert page.evaluate("() => window.app.canvas.ds.scale") >= 0.6
    assert not overlapping(boxes(page))
    seen = page.evaluate(
        "() => [...document.querySelectorAll('textarea')].filter(t => t.checkVisibility()).map(t => t.value)"
    )
    for sentence in sentences(path):
        assert sentence in seen
    if path in workflow_files.RUNNABLE:
        assert comfyui_server.succeeded(run(page, server))
        titles = [
            node["title"]
            for node in workflow_files.read(path)["nodes"]
            if node["type"] in ("PreviewImage", "SaveImage", "SaveVideo")
        ]
        page.wait_for_function(DRAWN, arg=titles, timeout=120_000)
        page.wait_for_timeout(1000)
        assert not overlapping(boxes(page))  # some grow by what they show
        if words := SAID.get(workflow_files.title(path)):
            page.get_by_text(words).first.wait_for(state="visible", timeout=30_000)  # drawn when the browser has time
        again = run(page, server)
        prompt = workflow_files.to_api(workflow_files.read(path), server.get("/object_info"))
        # after its first run the classic canvas posts a Save Video with its player as one more input
        asked_for = set(prompt) - workflow_files.inside_loops(prompt)
        played = {name for name, node in prompt.items() if node["class_type"] == "SaveVideo"}
        assert asked_for - comfyui_server.cached(again) <= (played if page.canvas == "classic" else set())
    keep(page, path.stem)
    assert not [error for error in page.errors if NETWORK not in error]


@pytest.mark.parametrize("phrase", PHRASES)
def test_search_finds_ours_first_or_second(page, phrase):
    page.evaluate("() => window.app.graph.clear()")
    page.evaluate("() => window.app.extensionManager.command.execute('Workspace.SearchBox.Toggle')")
    box = page.get_by_placeholder("Add a node...")
    box.wait_for()
    page.wait_for_timeout(500)
    page.keyboard.type(phrase, delay=20)
    page.wait_for_timeout(2000)
    keep(page, f"search {phrase}")
    results = page.get_by_role("option").all_inner_texts()
    page.keyboard.press("Escape")
    page.wait_for_timeout(500)
    assert any("instructx" in result.lower() for result in results[:2]), results[:4]
