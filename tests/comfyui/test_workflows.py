"""The shipped workflows as files: made from their descriptions, complete, and of stock nodes and this pack's alone."""

import json
import subprocess
import sys

import pytest

from instructx_core.weights.known_models import find_known, folder_name
from support import workflow_files

INFO = json.loads(workflow_files.GOLDEN.read_text(encoding="utf-8"))
TITLE_CHARACTER = 8.4  # pixels that the front end widens a node to for each character of its title
each = pytest.mark.parametrize("path", workflow_files.PATHS, ids=lambda path: path.stem)


def test_files_are_what_their_descriptions_make():
    done = subprocess.run(
        [sys.executable, "docs/make_workflows.py", "--check"],
        cwd=workflow_files.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr


def test_the_folder_holds_workflows_and_their_pictures_alone(monkeypatch):
    monkeypatch.syspath_prepend(workflow_files.ROOT / "docs")
    from make_workflows import workflows

    made = {workflow.name for workflow in workflows()}
    runnable = {path.stem for path in workflow_files.RUNNABLE}
    found = {path.name for path in workflow_files.FOLDER.iterdir()}
    assert found == {f"{name}.json" for name in made} | {f"{name}.jpg" for name in runnable}


@each
def test_every_link_joins_sockets_of_one_type(path):
    workflow = workflow_files.read(path)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, start, out, end, into, kind in workflow["links"]:
        source, target = nodes[start]["outputs"][out], nodes[end]["inputs"][into]
        assert number in source["links"]
        assert target["link"] == number
        assert source["type"] == kind
        assert set(kind.split(",")) & set(target["type"].split(","))


@each
def test_every_required_input_is_there(path):
    prompt = workflow_files.to_api(workflow_files.read(path), INFO)
    for node in prompt.values():
        required = INFO[node["class_type"]]["input"]["required"]
        assert set(required) <= set(node["inputs"]), node["class_type"]


@each
def test_a_note_explains_it_and_groups_hold_it(path):
    workflow = workflow_files.read(path)
    notes = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert len(notes) == 1
    assert notes[0]["widgets_values"][0].startswith("## ")
    for node in workflow["nodes"]:
        if node["type"] != "MarkdownNote":
            assert any(inside(node, group["bounding"]) for group in workflow["groups"]), node["type"]
        assert len(node.get("title", "")) * TITLE_CHARACTER <= node["size"][0], node["title"]


@pytest.mark.parametrize("path", sorted(set(workflow_files.PATHS) - set(workflow_files.RUNNABLE)), ids=lambda p: p.stem)
def test_what_is_to_be_downloaded_is_linked(path):
    """Every weight by its public address and the place it belongs to; the note says how its owner fetches it."""
    workflow = workflow_files.read(path)
    prompt = workflow_files.to_api(workflow, INFO)
    (number,) = [number for number, node in prompt.items() if node["class_type"] == "InstructXLoadModel"]
    name = prompt[number]["inputs"]["model_name"]
    known = find_known(name)
    assert name == folder_name(known.repository)
    (note,) = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert f"instructx_core download {known.name} " in note["widgets_values"][0]
    (node,) = [node for node in workflow_files.read(path)["nodes"] if str(node["id"]) == number]
    models = node["properties"]["models"]
    parts = {"mllm_encoder", "transformer", "vae", "source_embedder"}
    assert parts <= {model["name"].split("/")[1] for model in models}
    for model in models:
        folder, _, file = model["name"].partition("/")
        assert folder == name
        assert model["url"] == f"https://huggingface.co/{known.repository}/resolve/main/{file}"
        assert file.endswith(".safetensors")
        assert model["directory"] == "instructx"


def inside(node, box):
    x, y, width, height = box
    left, top = node["pos"]
    return x <= left and y <= top and left + node["size"][0] <= x + width and top + node["size"][1] <= y + height
