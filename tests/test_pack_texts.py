"""What a person reads on and beside the nodes, against the recorded /object_info: complete and in step."""

import json
from pathlib import Path

import pytest
import workflow_files

ROOT = Path(__file__).resolve().parent.parent
INFO = json.loads(workflow_files.GOLDEN.read_text(encoding="utf-8"))
NODES = sorted(name for name in INFO if name.startswith("InstructX"))
LANGUAGES = {path.name: path / "nodeDefs.json" for path in (ROOT / "locales").iterdir()}


def texts(language):
    return json.loads(LANGUAGES[language].read_text(encoding="utf-8"))


def test_languages():
    assert set(LANGUAGES) == {"en", "zh"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_and_socket_has_a_text(language):
    found = texts(language)
    assert sorted(found) == NODES
    for name in NODES:
        assert found[name]["display_name"]
        assert found[name]["description"]
        assert set(found[name]["inputs"]) == set(workflow_files.inputs_of(INFO[name]["input"]))
        assert set(found[name]["outputs"]) == {str(index) for index in range(len(INFO[name]["output"]))}
        for part in (*found[name]["inputs"].values(), *found[name]["outputs"].values()):
            assert part["name"]
            assert part["tooltip"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_trips_the_front_ends_message_format(language):
    text = LANGUAGES[language].read_text(encoding="utf-8")
    values = [part for line in text.splitlines() if '": "' in line for part in [line.split('": "', 1)[1]]]
    assert values
    assert not [value for value in values if set(value) & set("{}|@$")]


def test_english_is_what_the_nodes_say():
    found = texts("en")
    for name in NODES:
        info = INFO[name]
        assert found[name]["display_name"] == info["display_name"]
        assert found[name]["description"] == info["description"]
        for socket, spec in workflow_files.inputs_of(info["input"]).items():
            assert found[name]["inputs"][socket]["tooltip"] == spec[1]["tooltip"]
        outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
        assert list(found[name]["outputs"].values()) == [{"name": n, "tooltip": t} for n, t in outputs]


@pytest.mark.parametrize("name", NODES)
def test_every_node_has_help(name):
    page = ROOT / "web" / "docs" / f"{name}.md"
    assert page.read_text(encoding="utf-8").startswith(f"# {INFO[name]['display_name']}\n")


def test_no_help_without_a_node():
    assert sorted(path.stem for path in (ROOT / "web" / "docs").iterdir()) == NODES
