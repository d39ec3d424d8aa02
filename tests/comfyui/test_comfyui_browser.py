"""The real front end in a real browser against a real ComfyUI server on a CPU, with mouse and keyboard.

Set INSTRUCTX_SCREENSHOTS to a folder to keep pictures of what was seen.
"""

import os
import time
from pathlib import Path

import pytest

from support import comfyui_server, front_end, record_object_info, workflow_files

pytestmark = pytest.mark.slow
RUN_LIMIT = 600_000  # milliseconds


@pytest.fixture(scope="module")
def server(bundled, tmp_path_factory):
    front_end.find_chromium()  # without it no server need start
    with comfyui_server.Server(tmp_path_factory.mktemp("comfyui")) as started:
        yield started


@pytest.fixture
def page(server):
    with front_end.page(server.url) as opened:
        yield opened


def keep(page, name):
    """Save a screenshot where somebody asked for them."""
    if folder := os.environ.get("INSTRUCTX_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def types(page):
    return page.evaluate("() => window.app.graph.nodes.map(node => node.type)")


def on_screen(page, node_type, slot, output):
    """Where a socket of the only node of this type is drawn, in page pixels."""
    return page.evaluate(
        """([type, slot, output]) => {
            const node = window.app.graph.nodes.find(node => node.type === type);
            const at = output ? node.getOutputPos(slot) : node.getInputPos(slot);
            const scale = window.app.canvas.ds.scale, offset = window.app.canvas.ds.offset;
            const box = window.app.canvas.canvas.getBoundingClientRect();
            return [box.left + (at[0] + offset[0]) * scale, box.top + (at[1] + offset[1]) * scale];
        }""",
        [node_type, slot, output],
    )


def test_every_workflow_loads_and_turns_into_its_prompt(page, server):
    object_info = server.get("/object_info")
    if server.get("/system_stats")["system"]["comfyui_version"] != record_object_info.VERSION:
        pytest.skip(f"widgets are those of ComfyUI {record_object_info.VERSION}'s nodes; this is another version")
    for path in workflow_files.PATHS:
        workflow = workflow_files.read(path)
        front_end.load(page, workflow)
        found = front_end.problems(page)
        assert set(found["missing"]) <= workflow_files.take_a_file(workflow), path.stem
        assert found["links"] == len(workflow["links"]), path.stem
        expected = workflow_files.to_api(workflow, object_info)
        made = front_end.prompt(page)
        plain = {number: {key: node[key] for key in ("class_type", "inputs")} for number, node in made.items()}
        assert plain == expected, path.stem
        keep(page, f"graph-{path.stem}")


def test_a_workflow_of_an_older_version_loads(page):
    """InstructX Load Model had two widgets more; the hub id is now the name of the folder in the menu."""
    for hub_id, name in (("", "InstructX Tiny (bundled)"), ("owner/name", "owner--name")):
        workflow = workflow_files.read(workflow_files.named("Under the hood"))
        (old,) = [node for node in workflow["nodes"] if node["type"] == "InstructXLoadModel"]
        old["widgets_values"] = [*old["widgets_values"][:2], hub_id, True]
        old["inputs"] = [one for one in old["inputs"] if one["name"] in ("model_name", "precision")]
        for gone, kind in (("hub_id", "STRING"), ("download", "BOOLEAN")):
            old["inputs"].append({"name": gone, "type": kind, "widget": {"name": gone}, "link": None})
        front_end.load(page, workflow)
        assert front_end.problems(page)["links"] == len(workflow["links"])
        made = front_end.prompt(page)[str(old["id"])]["inputs"]
        own = dict.fromkeys(("transformer", "vae", "mllm"), "the model's own")
        assert made == {"model_name": name, "precision": "default"} | own


def test_references_of_an_older_version_keep_their_links(page):
    """InstructX MLLM Guidance had two more sockets; a growing input has them now, and offers the next."""
    workflow = workflow_files.read(workflow_files.named("Under the hood"))
    (old,) = [node for node in workflow["nodes"] if node["type"] == "InstructXMLLMGuidance"]
    (example,) = [node for node in workflow["nodes"] if node["type"] == "InstructXExampleInput"]
    sockets = {one["name"]: one for one in old["inputs"] if not one["name"].startswith("further")}
    gone = [{"name": name, "type": "IMAGE", "link": None} for name in ("reference_2", "reference_3")]
    old["inputs"] = [sockets.pop(name) for name in ("mllm", "source", "reference")] + gone + list(sockets.values())
    by_number = {link[0]: link for link in workflow["links"]}
    for slot, one in enumerate(old["inputs"]):
        if one["link"] is not None:
            by_number[one["link"]][4] = slot
    for number, slot in ((901, 2), (902, 3), (903, 4)):
        old["inputs"][slot]["link"] = number
        example["outputs"][0]["links"].append(number)
        workflow["links"].append([number, example["id"], 0, old["id"], slot, "IMAGE"])
    front_end.load(page, workflow)
    assert front_end.problems(page)["links"] == len(workflow["links"])
    made = front_end.prompt(page)[str(old["id"])]["inputs"]
    linked = {name for name, value in made.items() if value == [str(example["id"]), 0]}
    assert linked == {"reference", "further.reference_2", "further.reference_3"}
    names = page.evaluate("id => window.app.graph.getNodeById(id).inputs.map(one => one.name)", old["id"])
    assert "further.reference_4" in names


def test_node_from_the_search_box_is_wired_by_hand(page):
    page.wait_for_timeout(1500)
    page.keyboard.press("Escape")  # a fresh installation opens with the template browser over the canvas
    page.wait_for_timeout(800)
    page.evaluate("() => window.app.graph.clear()")
    for name, x in (("InstructX Load Model", 500), ("InstructX Fit", 1200)):
        page.mouse.dblclick(x, 400)
        page.get_by_placeholder("Add a node...").wait_for()
        page.keyboard.type(name, delay=30)
        page.wait_for_timeout(1500)
        page.keyboard.press("Enter")
        page.wait_for_timeout(500)
        page.mouse.click(x, 300)  # puts down the node that hangs on the pointer
        page.wait_for_timeout(500)
    assert sorted(types(page)) == ["InstructXFit", "InstructXLoadModel"]
    page.mouse.move(*on_screen(page, "InstructXLoadModel", 0, True))
    page.mouse.down()
    page.mouse.move(*on_screen(page, "InstructXFit", 0, False), steps=10)
    page.mouse.up()
    assert page.evaluate("() => window.app.graph.nodes.find(n => n.type === 'InstructXFit').inputs[0].link != null")
    keep(page, "wired-by-hand")


@pytest.mark.parametrize("title", ["Edit an image", "Edit a video"])
def test_template_runs_at_the_first_click(page, server, title):
    """From the template browser to the result, with latent previews on the way."""
    path = workflow_files.named(title)
    known = set(server.get("/history"))
    page.evaluate("() => { window.app.extensionManager.command.execute('Comfy.BrowseTemplates') }")
    page.get_by_test_id("template-workflows-content").wait_for()
    page.get_by_role("dialog").get_by_text("instructx", exact=True).first.click()
    page.get_by_test_id(f"template-workflow-{path.stem}").click()
    count = len(workflow_files.read(path)["nodes"])
    page.wait_for_function("count => window.app.graph.nodes.length === count", arg=count)
    page.evaluate(
        "() => { window.previews = 0; window.app.api.addEventListener('b_preview', () => window.previews++) }"
    )
    page.get_by_test_id("queue-button").first.click()
    deadline = time.monotonic() + RUN_LIMIT / 1000
    while not (entries := [entry for number, entry in server.get("/history").items() if number not in known]):
        assert time.monotonic() < deadline, "it did not come to an end"
        page.wait_for_timeout(500)
    assert comfyui_server.succeeded(entries[0]), entries[0]["status"]
    page.wait_for_function("() => window.previews > 0")  # they may arrive behind the end of two quick steps
    page.wait_for_function(
        "() => window.app.graph.nodes.filter(n => n.type === 'SaveImage').every(n => n.imgs?.length > 0)"
    )
    keep(page, f"{path.stem}-after-run")
