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


@pytest.mark.parametrize(("node", "socket"), [("InstructXLoadModel", "mllm"), ("InstructXLoadMLLM", "base")])
@pytest.mark.parametrize("language", LANGUAGES)
def test_menus_of_mllms_name_every_kind_that_edits(language, node, socket):
    """Template 31 chooses a Qwen3-VL there."""
    tooltip = texts(language)[node]["inputs"][socket]["tooltip"]
    assert "Qwen2.5-VL" in tooltip and "Qwen3-VL" in tooltip


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


@pytest.mark.parametrize("name", NODES)
def test_help_speaks_of_every_input(name):
    """That of InstructX Sliding Window (Images) says: as of InstructX Sliding Window."""
    pages = [name, "InstructXSlidingWindow"] if name == "InstructXSlidingWindowImages" else [name]
    said = "".join((HELP / f"{page}.md").read_text(encoding="utf-8") for page in pages)
    assert not [
        socket for socket in workflow_files.inputs_of(INFO[name]["input"]) if not re.search(rf"\b{socket}\b", said)
    ]


@pytest.mark.parametrize("name", NODES)
def test_chinese_help_calls_outputs_what_the_node_shows(name):
    english = (HELP / f"{name}.md").read_text(encoding="utf-8")
    chinese = (HELP / name / "zh.md").read_text(encoding="utf-8")
    for index, output in enumerate(INFO[name]["output_name"]):
        if f"`{output}`" in english or f"*{output}*" in english:
            assert texts("zh")[name]["outputs"][str(index)]["name"] in chinese, output


def test_chinese_texts_name_nodes_that_are_there():
    shown = {part["display_name"].removeprefix("InstructX ") for part in texts("zh").values()}
    pages = [*HELP.glob("*/zh.md"), LANGUAGES["zh"]]
    for words in re.findall(
        "InstructX ([\u4e00-\u9fff]+(?: MLLM)?)", "".join(page.read_text(encoding="utf-8") for page in pages)
    ):
        assert words.startswith((*shown, "检查点", "模型")), words


def test_chinese_texts_name_comfyuis_nodes_as_its_front_end_does():
    """People search for these names; as of the front end 1.49.6."""
    shown = {
        "InvertMask": "反转遮罩",
        "LoadImage": "加载图像",
        "LoadVideo": "加载视频",
        "PreviewAny": "预览任意",
        "SetLatentNoiseMask": "设置Latent噪波遮罩",
        "UNETLoader": "UNet加载器",
        "VAEDecode": "VAE解码",
    }
    said = "".join(page.read_text(encoding="utf-8") for page in (*HELP.glob("*/zh.md"), LANGUAGES["zh"]))
    assert not [name for name in shown.values() if name not in said]
    assert not [old for old in ("加载扩散模型", "预览文本", "设置潜空间噪波遮罩") if old in said]


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
