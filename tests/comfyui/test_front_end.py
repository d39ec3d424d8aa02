"""Every workflow in the real front end, in a real browser, served by the stand-in: no ComfyUI needed."""

import json

import pytest

from support import front_end, workflow_files

pytestmark = pytest.mark.slow
INFO = json.loads(workflow_files.GOLDEN.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page():
    with front_end.stand_in() as url, front_end.page(url) as opened:
        yield opened


@pytest.mark.parametrize(
    "path", [path for path in workflow_files.PATHS if path not in workflow_files.APPS], ids=lambda path: path.stem
)
def test_workflow_loads_and_turns_into_its_prompt(page, path):
    workflow = workflow_files.read(path)
    front_end.load(page, workflow)
    found = front_end.problems(page)
    assert set(found["missing"]) <= workflow_files.take_a_file(workflow)
    assert found["links"] == len(workflow["links"])
    made = front_end.prompt(page)
    assert {number: without_display(node) for number, node in made.items()} == workflow_files.to_api(workflow, INFO)


def without_display(node):
    """A node of a prompt without its title and without inputs that carry no value (a comparison's view)."""
    return {"class_type": node["class_type"], "inputs": node["inputs"]}


def test_search_finds_every_node(page):
    types = page.evaluate("() => Object.keys(window.LiteGraph.registered_node_types)")
    assert {name for name in INFO if name.startswith("InstructX")} <= set(types)
