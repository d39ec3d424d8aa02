"""The shipped workflows as files: made from their descriptions, complete, and of stock nodes and this pack's alone."""

import hashlib
import itertools
import json
import re
import subprocess
import sys
from functools import cache

import pytest

from instructx_core.config import ModelConfig
from instructx_core.examples import examples as example_inputs
from instructx_core.families.bernini.prompt import HELPER, NEGATIVE, VIDEO
from instructx_core.weights.known_models import find_known, folder_name
from instructx_core.world import HELD_OUT_SEED, sample_triplet
from support import draw_chain, workflow_files

INFO = json.loads(workflow_files.GOLDEN.read_text(encoding="utf-8"))
BELOW = "InstructXConnector"  # stands below what it is linked to in the longest graph, which else would not be readable
TITLE_CHARACTER = 8.4  # pixels that the front end widens a node to for each character of its title
BOX_INPUTS, BOX_OUTPUTS = -10, -20  # the ids that a box gives its own ends
LONG = {"Under the hood": 0.6, "Four steps with a LoRA": 0.7}  # the zoom at which graphs of many columns open
BESIDE = 60  # pixels by which one of two that stand beside each other may begin lower
KIWI = [path for path in workflow_files.NEED_WEIGHTS if "Kiwi-Edit" in path.stem]
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


def test_the_graph_of_insightedit_chooses_it_in_the_menu(monkeypatch):
    monkeypatch.syspath_prepend(workflow_files.ROOT / "docs")
    from workflows.files import template_file
    from workflows.templates.insightedit_image import NAME, insightedit_image

    from workflows.api import api_file

    graph = api_file(insightedit_image(), INFO)
    loaders = [node for node in graph.values() if node["class_type"] == "InstructXLoadModel"]
    assert [node["inputs"]["model_name"] for node in loaders] == [NAME]
    assert f'"{NAME}"' in (workflow_files.ROOT / "nodes" / "folders.py").read_text(encoding="utf-8")
    assert template_file(insightedit_image(), INFO)["nodes"]


def test_the_folders_hold_what_is_described_and_pictures_alone(monkeypatch):
    monkeypatch.syspath_prepend(workflow_files.ROOT / "docs")
    from make_workflows import made

    here = {path for folder in ("workflows", "subgraphs") for path in (workflow_files.ROOT / folder).rglob("*.*")}
    assert here == set(made()) | {path.with_suffix(".jpg") for path in workflow_files.PATHS}


@pytest.mark.parametrize("path", [*workflow_files.PATHS, *workflow_files.BLUEPRINTS], ids=lambda path: path.stem)
def test_every_link_joins_sockets_of_one_type(path):
    workflow = workflow_files.read(path)
    for level in workflow_files.levels(workflow):
        nodes = {node["id"]: node for node in level["nodes"]}
        inputs, outputs = level.get("inputs", []), level.get("outputs", [])  # of a box
        for link in level["links"]:
            number, start, out, end, into, kind = link if isinstance(link, list) else link.values()
            source = inputs[out] if start == BOX_INPUTS else nodes[start]["outputs"][out]
            target = outputs[into] if end == BOX_OUTPUTS else nodes[end]["inputs"][into]
            assert number in source["linkIds" if start == BOX_INPUTS else "links"]
            assert number in target["linkIds"] if end == BOX_OUTPUTS else target["link"] == number
            assert set(kind.split(",")) & set(source["type"].split(","))
            assert set(kind.split(",")) & set(target["type"].split(",")) or target["type"] == "*"


@pytest.mark.parametrize("path", [*workflow_files.PATHS, *workflow_files.BLUEPRINTS], ids=lambda path: path.stem)
def test_ids_are_unique_on_all_levels(path):
    """Where they are not, the front end gives new ones and says so in its console."""
    levels = workflow_files.levels(workflow_files.read(path))
    numbers = [node["id"] for level in levels for node in level["nodes"]]
    assert len(numbers) == len(set(numbers))
    links = [link[0] if isinstance(link, list) else link["id"] for level in levels for link in level["links"]]
    assert len(links) == len(set(links))


@each
def test_every_required_input_is_there(path):
    prompt = workflow_files.to_api(workflow_files.read(path), INFO)
    for node in prompt.values():
        assert set(INFO[node["class_type"]]["input"]["required"]) <= set(node["inputs"]), node["class_type"]


@pytest.mark.parametrize("path", workflow_files.GRAPHS, ids=lambda path: path.stem)
def test_api_graph_is_what_the_front_end_would_post(path):
    """But for the names of nodes: numbers there, words here."""
    posted = workflow_files.to_api(workflow_files.read(path), INFO)
    shipped = workflow_files.read(workflow_files.api(path))
    assert unnamed(posted) == unnamed(shipped)


def unnamed(prompt):
    """Every node of a prompt by its type, values and what it is linked to, whatever their names; in order."""

    @cache
    def text(name):
        node = prompt[name]
        inputs = {
            key: [text(value[0]), value[1]] if isinstance(value, list) else value
            for key, value in node["inputs"].items()
        }
        return hashlib.sha256(json.dumps([node["class_type"], inputs], sort_keys=True).encode()).hexdigest()

    return sorted(text(name) for name in prompt)


@each
def test_notes_in_two_languages_stand_beside_it(path):
    workflow = workflow_files.read(path)
    english, chinese = (node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    assert english["widgets_values"][0].startswith(f"## {workflow_files.title(path)}")
    assert re.search("[\u4e00-\u9fff]", path.stem)
    assert re.search("[\u4e00-\u9fff]", chinese["widgets_values"][0])
    for node in workflow["nodes"]:
        assert len(node.get("title", "")) * TITLE_CHARACTER <= node["size"][0] + TITLE_CHARACTER, node["title"]


@each
def test_notes_name_nodes_as_the_canvas_shows_them(path):
    """A node with a title of its own shows no other name, in no language."""
    workflow = workflow_files.read(path)
    notes = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    shown = {node["type"]: node["title"] for node in workflow["nodes"] if node.get("title") and node["type"] in INFO}
    for kind, title in shown.items():
        name = INFO[kind]["display_name"]
        named = {f"*{name}*", f"*{name.removeprefix('InstructX ')}*"}
        if kind != "InstructXExampleInput":  # "the example on the left"
            assert not any(words in notes[0] for words in named) or all(f"*{title}*" in note for note in notes), title


@each
def test_what_the_oldest_comfyui_lacks_is_said_in_both_notes(path):
    workflow = workflow_files.read(path)
    oldest = (workflow_files.GOLDEN.parent / "oldest_nodes.txt").read_text(encoding="utf-8").splitlines()
    core = {node["type"] for node in workflow_files.nodes_of(workflow) if not node["type"].startswith("InstructX")}
    notes = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert all("ComfyUI 0.33" in note for note in notes) == bool(core - set(oldest))


@pytest.mark.parametrize("path", [*workflow_files.PATHS, *workflow_files.BLUEPRINTS], ids=lambda path: path.stem)
def test_links_run_left_to_right_and_nothing_overlaps(path):
    for level in workflow_files.levels(workflow_files.read(path)):
        nodes = {node["id"]: node for node in level["nodes"]}
        for link in level["links"]:
            _, start, _, end, _, _ = link if isinstance(link, list) else link.values()
            if start in nodes and end in nodes and nodes[end]["type"] != BELOW:
                assert nodes[start]["pos"][0] + nodes[start]["size"][0] < nodes[end]["pos"][0]
        for one, other in itertools.combinations(level["nodes"], 2):
            assert apart(one, other), (one["type"], other["type"])


def apart(one, other):
    (x, y), (width, height) = one["pos"], one["size"]
    (left, top), (wide, high) = other["pos"], other["size"]
    title = 30  # pixels above a node's position
    return x + width <= left or left + wide <= x or y + height <= top - title or top + high <= y - title


@each
def test_a_video_that_is_made_of_an_edit_has_its_sound(path):
    for node in workflow_files.to_api(workflow_files.read(path), INFO).values():
        assert node["class_type"] != "CreateVideo" or "audio" in node["inputs"]


@each
def test_it_opens_readable(path):
    """The front end fits a graph into three quarters of its window; here one of 1600 x 950 without its bars."""
    nodes = workflow_files.read(path)["nodes"]
    left, top = (min(node["pos"][axis] for node in nodes) for axis in (0, 1))
    right, bottom = (max(node["pos"][axis] + node["size"][axis] for node in nodes) for axis in (0, 1))
    least = LONG.get(workflow_files.title(path), 0.75)
    assert min(0.75 * 1600 / (right - left + 20), 0.75 * 900 / (bottom - top + 50)) >= least  # with a margin of 10


@each
def test_the_sentence_is_typed_where_it_is_seen(path):
    """In the box's own text, or of a rewritten one in the text that is rewritten."""
    workflow = workflow_files.read(path)
    nodes = [node for level in workflow_files.levels(workflow) for node in level["nodes"]]
    if not any(socket["name"] == "instruction" for node in nodes for socket in node.get("inputs", [])):
        return  # a loop around nodes that take no sentence
    links = {link[0] for link in workflow["links"]}
    texts = [
        (socket, node["widgets_values"][0])
        for node in workflow["nodes"]
        for socket in node.get("inputs", [])
        if socket["name"] in ("instruction", "prompt") and "widget" in socket
    ]
    typed = [value for socket, value in texts if socket["link"] not in links]
    assert typed
    assert all(len(str(value)) > 10 for value in typed)
    if "Rewrite" not in path.stem:
        assert len(typed) == len(texts)


@each
def test_the_sentence_speaks_of_what_is_in_the_picture(path):
    nodes = workflow_files.nodes_of(workflow_files.read(path))
    named = example_inputs()
    examples = [node["widgets_values"] for node in nodes if node["type"] == "InstructXExampleInput"]
    for name, *_ in examples:
        own = named[name].drawn
        if own is not None:
            drawn = sample_triplet(
                HELD_OUT_SEED + own.seed, own.group, frames=own.frames, height=own.height, width=own.width
            )
            for node in nodes:
                for value in node["widgets_values"]:
                    for thing in re.findall(r"the (\w+ (?:circle|square|triangle|star))", str(value)):
                        assert thing in drawn.source_caption


@each
def test_source_and_result_stand_beside_each_other(path):
    nodes = {node.get("title"): node for node in workflow_files.read(path)["nodes"]}
    shown = {"PreviewImage", "SaveImage", "SaveVideo"}  # what both canvases draw
    after = [node for title, node in nodes.items() if title == "After" or (title or "").startswith("Strength")]
    for node in (nodes["Before"], *after):
        assert node["type"] in shown
        assert node["size"][0] >= 256
    assert after
    (_, top), (_, lower) = nodes["Before"]["pos"], after[0]["pos"]
    assert abs(top - lower) <= BESIDE


@pytest.mark.parametrize("path", workflow_files.APPS, ids=lambda path: path.stem)
def test_app_names_widgets_and_outputs_that_are_there(path):
    workflow = workflow_files.read(path)
    form, nodes = workflow["extra"]["linearData"], {node["id"]: node for node in workflow["nodes"]}
    assert workflow["extra"]["linearMode"]
    for number, widget in form["inputs"]:
        assert any(one["name"] == widget and "widget" in one for one in nodes[number]["inputs"])
    assert {nodes[number]["title"] for number in form["outputs"]} == {"After"}


@pytest.mark.parametrize("path", workflow_files.BLUEPRINTS, ids=lambda path: path.stem)
def test_blueprint_is_one_box(path):
    """As the front end wants it: a graph of a single node, whose type is the first definition."""
    blueprint = workflow_files.read(path)
    (box,) = blueprint["nodes"]
    (definition,) = blueprint["definitions"]["subgraphs"]
    assert box["type"] == definition["id"]
    assert box["title"] == definition["name"] == path.stem
    assert [one["name"] for one in box["inputs"]] == [one["name"] for one in definition["inputs"]]
    assert [one["name"] for one in box["outputs"]] == [one["name"] for one in definition["outputs"]]
    widgets = [one["name"] for one in box["inputs"] if "widget" in one]
    assert len(box["widgets_values"]) == len(widgets)
    assert {"instruction", "seed"} <= set(widgets)
    assert blueprint["extra"]["BlueprintDescription"] == definition["description"]
    assert blueprint["extra"]["BlueprintSearchAliases"]


@pytest.mark.parametrize("path", KIWI, ids=lambda path: path.stem)
def test_what_is_to_be_downloaded_is_linked(path):
    """Every weight by its public address and the place it belongs to; the note says how its owner fetches it."""
    workflow = workflow_files.read(path)
    (loads,) = [node for node in workflow_files.nodes_of(workflow) if node["type"] == "InstructXLoadModel"]
    name = loads["widgets_values"][0]
    known = find_known(name)
    assert name == folder_name(known.repository)
    notes = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert all(f"instructx_core download {known.name} " in note for note in notes)
    models = loads["properties"]["models"]
    parts = {"mllm_encoder", "transformer", "vae", "source_embedder"}
    assert parts <= {model["name"].split("/")[1] for model in models}
    for model in models:
        folder, _, file = model["name"].partition("/")
        assert folder == name
        assert model["url"] == f"https://huggingface.co/{known.repository}/resolve/main/{file}"
        assert file.endswith(".safetensors")
        assert model["directory"] == "instructx"


@pytest.mark.parametrize("path", workflow_files.NEED_WEIGHTS, ids=lambda path: path.stem)
def test_its_picture_names_all_that_is_to_be_downloaded(path):
    """The model's own folder too, and not what comes with the pack."""
    workflow = workflow_files.read(path)
    nodes = workflow_files.nodes_of(workflow)
    linked = {model["name"] for node in nodes for model in node["properties"].get("models", [])}
    folders = {str(value) for node in workflow["nodes"] for value in node["widgets_values"] or [] if "--" in str(value)}
    named = draw_chain.to_fetch(workflow)
    assert {name.partition("/")[0] for name in linked} | {name for name in folders if " " not in name} <= set(named)
    assert named and not any("bundled" in name for name in named)


def test_other_weights_have_addresses_of_comfyuis_own_templates():
    """The list was read from ComfyUI 0.33's blueprints and comfyui-workflow-templates 0.11.44."""
    found = {
        (model["name"], model["url"], model["directory"])
        for path in set(workflow_files.NEED_WEIGHTS) - set(KIWI)
        for node in workflow_files.nodes_of(workflow_files.read(path))
        for model in node["properties"].get("models", [])
    }
    for name, url, directory in found:
        assert url.endswith(f"/{name}")
        assert url.split("/")[3] in ("Comfy-Org", "Kijai", "lightx2v")
        assert directory
    assert len(found) == 19


def test_what_other_templates_say_of_weights():
    """Names to download, folders and prompts are the library's own."""
    for title, name in (
        ("Bernini-R on an 8 GB card", "bernini-r-1.3b"), ("Three edits and their masks", "coinve-edit"),
        ("UniGen-LingXi, a video", "unigen-lingxi-5b"),
    ):  # fmt: skip
        workflow, known = workflow_files.read(workflow_files.named(title)), find_known(name)
        notes = [node["widgets_values"][0] for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
        assert all(f"instructx_core download {name} " in note for note in notes)
        loads = [node for node in workflow_files.nodes_of(workflow) if node["type"] == "InstructXLoadModel"]
        assert {node["widgets_values"][0] for node in loads} <= {folder_name(known.repository)}
        assert loads or folder_name(known.repository) in notes[0]


def test_bernini_is_told_what_its_authors_tell_it():
    workflow = workflow_files.read(workflow_files.named("Bernini-R on an 8 GB card"))
    values = [node["widgets_values"] for node in workflow_files.nodes_of(workflow)]
    assert [NEGATIVE] in values
    assert any(HELPER + VIDEO in said for said in values)


def test_few_steps_take_their_authors_noise_levels():
    """FastVideo looks timesteps up in a schedule of shift 8 (its DmdDenoisingStage); LightX2V shifts even ones by 5."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    own = FlowMatchEulerDiscreteScheduler(shift=8.0)
    levels = [own.sigmas[(own.timesteps - step).abs().argmin()].item() for step in (1000, 757, 522)]
    graph = workflow_files.read(workflow_files.api(workflow_files.named("Kiwi-Edit in three steps")))
    given = {node["class_type"]: node["inputs"] for node in graph.values()}
    sigmas = [float(level) for level in given["ManualSigmas"]["sigmas"].split(",")]
    assert sigmas == pytest.approx([*levels, 0], abs=1e-3)
    assert given["KSamplerSelect"]["sampler_name"] == "lcm" and given["SamplerCustom"]["cfg"] == 1
    assert given["LoraLoaderModelOnly"]["strength_model"] == 1
    graph = workflow_files.read(workflow_files.api(workflow_files.named("Four steps with a LoRA")))
    given = {node["class_type"]: node["inputs"] for node in graph.values()}
    taken = given["InstructXSampler"]
    assert (taken["steps"], taken["sampler_name"], taken["scheduler"]) == (4, "euler", "instructx")
    assert taken["cfg"] == taken["shift"] == 0  # the model's own, which by default are the authors'
    assert (ModelConfig().sampling.guidance_scale, ModelConfig().sampling.shift) == (1, 5)
    assert given["LoraLoaderModelOnly"]["strength_model"] == 1


def test_the_pages_name_the_templates_that_run():
    def numbers(text, said):
        words = re.search(rf"([\d ,toand]+) {said}", text)[1].strip()
        spans = [part.split(" to ") for part in re.split(", | and ", words)]
        return {f"{number:02}" for span in spans for number in range(int(span[0]), int(span[-1]) + 1)}

    root = workflow_files.ROOT
    readme, page = ((root / name).read_text(encoding="utf-8") for name in ("README.md", "docs/comfyui.md"))
    runnable = {path.stem[:2] for path in workflow_files.RUNNABLE}
    assert numbers(readme, "run on a CPU") == numbers(page, "need nothing that") == runnable
    assert f"; {len(runnable)} run with what the pack holds" in readme
    oldest = set((workflow_files.GOLDEN.parent / "oldest_nodes.txt").read_text(encoding="utf-8").splitlines())
    newer = {
        path.stem[:2]
        for path in workflow_files.GRAPHS
        for node in workflow_files.nodes_of(workflow_files.read(path))
        if not node["type"].startswith("InstructX") and node["type"] not in oldest
    }
    assert numbers(page, r"need nodes of ComfyUI 0\.33") == newer
