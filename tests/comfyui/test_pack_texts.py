"""What a person reads on and beside the nodes, against the recorded /object_info: complete and in step."""

import json
import re

import pytest

from support import record_object_info, workflow_files
from support.places import ROOT

INFO = json.loads(workflow_files.GOLDEN.read_text(encoding="utf-8"))
HELP = ROOT / "web" / "docs"
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
    """The front end asks for <node>/<language>.md, then for <node>.md."""
    english = (HELP / f"{name}.md").read_text(encoding="utf-8")
    chinese = (HELP / name / "zh.md").read_text(encoding="utf-8")
    assert english.startswith(f"# {INFO[name]['display_name']}\n")
    assert chinese.startswith(f"# {texts('zh')[name]['display_name']}\n")
    labels = {socket: part["name"] for socket, part in texts("zh")[name]["inputs"].items()}
    named = [socket for socket in labels if f"**{socket}**" in english]
    for socket in named:
        assert labels[socket] in chinese, socket  # as the Chinese node shows it
        assert re.search(rf"\b{socket}\b", chinese, re.ASCII), socket
    for kept in re.findall(r"`[^`]+`", english):  # names of files, folders and functions
        assert kept in chinese, kept


def test_no_help_without_a_node():
    assert sorted({path.name.removesuffix(".md") for path in HELP.iterdir()}) == NODES
    assert {path.name for path in HELP.glob("*/*")} == {"zh.md"}


@pytest.mark.parametrize(
    "phrase",
    ["kiwi", "edit image", "edit video", "inpaint", "mask", "segment", "wan", "bernini", "instruct pix2pix", "subject"],
)
def test_a_search_for_what_people_look_for_finds_ours(phrase):
    """The front end searches aliases as they stand."""
    assert [name for name in NODES if phrase in INFO[name]["search_aliases"]]


def test_the_english_locale_is_made_from_the_nodes():
    assert texts("en") == record_object_info.english(INFO)
