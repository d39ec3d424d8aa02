"""The pack in a real ComfyUI server on a CPU: starting, every workflow, caching, errors on the node, interruption."""

import json
import re
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from instructx_core.source import load_source
from support import comfyui_server, kiwi_model, record_object_info, workflow_files
from support.comfyui_server import cached, files, succeeded
from support.loops import QUICK

START_UP = 0.5  # seconds that the pack may add to ComfyUI's start
GOLDEN = json.loads(workflow_files.GOLDEN.read_text(encoding="utf-8"))
API_RUNNABLE = [workflow_files.api(path) for path in workflow_files.RUNNABLE]
KIWI = [path for path in workflow_files.NEED_WEIGHTS if "Kiwi-Edit" in path.stem]


@pytest.fixture(scope="module")
def server(bundled, tmp_path_factory):
    with comfyui_server.Server(tmp_path_factory.mktemp("comfyui")) as started:
        yield started


@pytest.fixture(scope="module")
def object_info(server):
    return server.get("/object_info")


def prompt_of(name, object_info):
    """What a template, known by its English title, asks a server to run."""
    workflow = workflow_files.read(workflow_files.named(name))
    return workflow_files.to_api(workflow, object_info, exact=False)


def of_type(prompt, kind):
    return next(number for number, node in prompt.items() if node["class_type"] == kind)


def test_start_is_quick(server):
    seconds = re.search(r"([\d.]+) seconds(?: \(IMPORT FAILED\))?: .*instructx", server.log.read_text())
    assert seconds, "the pack is not in ComfyUI's import report"
    assert "IMPORT FAILED" not in seconds[0]
    assert float(seconds[1]) < START_UP


def test_golden_object_info_is_current(server, object_info):
    if server.get("/system_stats")["system"]["comfyui_version"] != record_object_info.VERSION:
        pytest.skip(f"recorded from ComfyUI {record_object_info.VERSION}; this is another version")
    live = {name: object_info[name] for name in GOLDEN}
    assert live == GOLDEN
    assert set(record_object_info.chosen(object_info)) <= set(GOLDEN)


def test_front_end_finds_the_packs_files(server):
    for language in ("en", "zh"):
        assert "InstructXLoadModel" in server.get("/i18n")[language]["nodeDefs"]
    assert server.text("/extensions/instructx/docs/InstructXFit.md").startswith("# InstructX Fit")
    assert server.text("/extensions/instructx/docs/InstructXFit/zh.md").startswith("# InstructX 适配")
    templates = server.get("/workflow_templates")["instructx"]
    assert sorted(templates) == sorted(path.stem for path in workflow_files.PATHS)
    served = [one for one in server.get("/global_subgraphs").values() if one["info"]["node_pack"].endswith("instructx")]
    assert sorted(one["name"] for one in served) == sorted(path.stem for path in workflow_files.BLUEPRINTS)


def inside_a_loop(prompt):
    """Nodes that Window Close runs itself, whose windows are not kept by ComfyUI."""
    found, waiting = set(), {number for number, node in prompt.items() if node["class_type"] == "InstructXWindowOpen"}
    while waiting:
        takers = {
            number
            for number, node in prompt.items()
            if node["class_type"] != "InstructXWindowClose"
            and any(isinstance(value, list) and value[0] in waiting for value in node["inputs"].values())
        }
        waiting = takers - found
        found |= takers
    return found


def make_quick(prompt):
    """Every station and every link as they are shipped, at a small size and, where a node has no size, in one step."""
    for node in prompt.values():
        if node["class_type"] == "InstructXFit":
            node["inputs"] |= {"width": 64, "height": 64}
        if node["class_type"] == "InstructXSlidingWindow":
            node["inputs"]["steps"] = 1


@pytest.mark.parametrize("path", workflow_files.RUNNABLE, ids=lambda path: path.stem)
def test_workflow_runs_and_is_cached(server, object_info, path):
    kinds = {node["type"] for node in workflow_files.nodes_of(workflow_files.read(path))}
    if lacking := sorted(kinds - set(object_info)):
        assert "0.33" in path.read_text(encoding="utf-8"), f"{path.stem} does not name the ComfyUI that it needs"
        pytest.skip(f"this ComfyUI has no {', '.join(lacking)}")
    prompt = prompt_of(workflow_files.title(path), object_info)
    make_quick(prompt)
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    saved = files(entry, server.base)
    assert saved
    for file in saved:
        frames = load_source(file).frames
        assert frames.std() > 0.02, "blank"
    again = server.run(prompt)
    assert succeeded(again)
    assert cached(again) == set(prompt) - inside_a_loop(prompt)


@pytest.mark.parametrize(
    ("title", "rows", "columns"),
    [("Crop, edit, put back", slice(0, 384), slice(128, 512)), ("Edit inside a mask", slice(None), slice(128, 256))],
)
def test_outside_the_edit_every_bit_stays(server, object_info, title, rows, columns):
    prompt = prompt_of(title, object_info)
    before, after = (prompt[of_type(prompt, kind)] for kind in ("PreviewImage", "SaveImage"))
    before |= {"class_type": "SaveImage", "inputs": before["inputs"] | {"filename_prefix": "InstructX/outside-before"}}
    after["inputs"]["filename_prefix"] = "InstructX/outside-after"
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    edited, source = (load_source(file).frames for file in sorted(files(entry, server.base)))  # after, before
    assert (edited - source)[:, rows, columns].abs().mean() > 0.005
    edited[:, rows, columns] = source[:, rows, columns]
    assert edited.equal(source)


@pytest.mark.slow
@pytest.mark.parametrize("path", API_RUNNABLE, ids=lambda path: path.stem)
def test_api_graph_runs(server, object_info, path):
    """As `comfy run` posts it, under a prefix of its own so that nothing is cached."""
    old = "codec" in object_info["SaveVideo"]["input"]["required"]
    if old and "SaveVideo" in path.read_text(encoding="utf-8"):
        pytest.skip("Save Video has other inputs on this ComfyUI; API-format graphs are for 0.33")
    prompt = workflow_files.read(path)
    for node in prompt.values():
        if "filename_prefix" in node["inputs"]:
            node["inputs"]["filename_prefix"] += "-api"
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    assert files(entry, server.base)


def test_another_seed_runs_neither_mllm_nor_vae_encode(server, object_info):
    prompt = prompt_of("Edit an image", object_info)
    assert succeeded(server.run(prompt))
    prompt[of_type(prompt, "InstructXSampler")]["inputs"]["seed"] = 12345
    kept = cached(server.run(prompt))
    for kind in (
        "InstructXLoadModel",
        "InstructXFit",
        "InstructXMLLMGuidance",
        "InstructXConnector",
        "InstructXSource",
    ):
        assert of_type(prompt, kind) in kept
    assert of_type(prompt, "InstructXSampler") not in kept


def test_empty_instruction_is_refused_on_its_node(server, object_info):
    prompt = prompt_of("Edit an image", object_info)
    node = of_type(prompt, "InstructXMLLMGuidance")
    prompt[node]["inputs"]["instruction"] = "  "
    answer = server.post("/prompt", {"prompt": prompt})
    assert "say in a sentence what to change" in json.dumps(answer["node_errors"][node])


def test_missing_model_is_refused_on_its_node(server, object_info):
    prompt = prompt_of("Edit an image", object_info)
    node = of_type(prompt, "InstructXLoadModel")
    prompt[node]["inputs"]["model_name"] = "kiwi-edit"
    answer = json.dumps(server.post("/prompt", {"prompt": prompt})["node_errors"][node])
    assert "huggingface.co/linyq" in answer
    assert str(server.base / "models" / "instructx") in answer


@pytest.mark.parametrize("name", ["/etc", "../../..", "", ".", "C:\\x", "\\\\host\\share", "nul", 5])
def test_a_workflow_names_no_folder_of_the_machine(server, object_info, name):
    prompt = prompt_of("Edit an image", object_info)
    node = of_type(prompt, "InstructXLoadModel")
    prompt[node]["inputs"]["model_name"] = name
    assert "There is no model" in json.dumps(server.post("/prompt", {"prompt": prompt})["node_errors"][node])


def test_a_prompt_of_an_older_version_runs_and_fetches_nothing(server, object_info):
    prompt = prompt_of("Edit an image", object_info)
    node = of_type(prompt, "InstructXLoadModel")
    prompt[node]["inputs"] |= {"hub_id": "", "download": True}
    assert succeeded(server.run(prompt))
    prompt[node]["inputs"] |= {"hub_id": "linyq/kiwi-edit-5b-reference-only-diffusers", "download": True}
    answer = json.dumps(server.post("/prompt", {"prompt": prompt})["node_errors"][node])
    assert "instructx_core download kiwi-edit-5b-reference-only --to" in answer


def test_bad_size_is_reported_on_its_node(server, object_info):
    prompt = prompt_of("Edit an image", object_info)
    node = of_type(prompt, "InstructXFit")
    prompt[node]["inputs"]["width"] = 64
    answer = server.post("/prompt", {"prompt": prompt})
    assert "width and height go together" in json.dumps(answer["node_errors"][node])


def test_a_reference_that_is_spoken_of_is_asked_for_on_its_node(server, object_info):
    prompt = prompt_of("Edit an image", object_info)
    node = of_type(prompt, "InstructXMLLMGuidance")
    prompt[node]["inputs"]["instruction"] = "replace the circle with the object in the reference"
    answer = server.post("/prompt", {"prompt": prompt})
    assert "none is connected" in json.dumps(answer["node_errors"][node])


def test_a_link_of_another_type_is_still_refused(server, object_info):
    prompt = prompt_of("Edit an image", object_info)
    node = of_type(prompt, "InstructXMLLMGuidance")
    prompt[node]["inputs"]["reference"] = [of_type(prompt, "InstructXLoadModel"), 0]
    answer = server.post("/prompt", {"prompt": prompt})
    assert "mismatch" in json.dumps(answer["node_errors"][node])


def test_an_example_without_its_reference_fails_the_run(server, object_info):
    prompt = prompt_of("Edit with a reference", object_info)
    prompt[of_type(prompt, "InstructXExampleInput")]["inputs"]["example"] = "recolor"
    entry = server.run(prompt)
    assert not succeeded(entry)
    assert "has no reference image" in json.dumps(entry["status"]["messages"])


def test_references_grow(server, object_info):
    """Two references of different sizes; a prompt of an older version has its own name for the second."""
    prompt = prompt_of("Edit with a reference", object_info)
    guidance, reference = (of_type(prompt, kind) for kind in ("InstructXMLLMGuidance", "InstructXReference"))
    prompt["other"] = {"class_type": "EmptyImage", "inputs": {"width": 96, "height": 64, "batch_size": 1, "color": 0}}
    prompt[guidance]["inputs"]["further.reference_2"] = prompt[reference]["inputs"]["further.reference_2"] = [
        "other",
        0,
    ]
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    prompt[guidance]["inputs"]["reference_2"] = prompt[guidance]["inputs"].pop("further.reference_2")
    assert guidance in cached(server.run(prompt))
    prompt[guidance]["inputs"]["reference_2"] = [of_type(prompt, "InstructXLoadModel"), 0]
    answer = server.post("/prompt", {"prompt": prompt})
    assert "further.reference_2, received_type(MODEL)" in json.dumps(answer["node_errors"][guidance])


def test_the_plan_runs_alone(server):
    entry = server.run(
        {
            "1": {
                "class_type": "InstructXPlan",
                "inputs": {"model_name": "InstructX Tiny (bundled)", "width": 0, "height": 0, "frames": 0},
            }
        }
    )
    assert succeeded(entry), entry["status"]
    assert "24 GiB free: everything on the GPU" in json.dumps(entry["outputs"])


WITHOUT_LIBRARIES = """\
import importlib.metadata as metadata
import sys

GONE = {"diffusers", "peft", "accelerate"}
sys.modules |= dict.fromkeys(GONE)
found = metadata.version


def version(name):
    if name in GONE:
        raise metadata.PackageNotFoundError(name)
    return found(name)


metadata.version = version
"""


def test_comfyui_starts_without_the_libraries(bundled, tmp_path):
    """As on a machine where nobody installed requirements.txt: menus are there, a loader says what to do."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_LIBRARIES)
    with comfyui_server.Server(tmp_path / "comfyui", {"PYTHONPATH": str(tmp_path)}, options=QUICK) as bare:
        object_info = bare.get("/object_info")
        assert {name for name in GOLDEN if name.startswith("InstructX")} <= set(object_info)
        assert "diffusers is not installed" in bare.log.read_text()
        entry = bare.run(prompt_of("Edit an image", object_info))
        error = next(data for kind, data in entry["status"]["messages"] if kind == "execution_error")
        assert error["node_type"] == "InstructXLoadModel"
        assert "pip install -r" in error["exception_message"]


@pytest.fixture(scope="module")
def kiwi_folders(server):
    """A tiny model of Kiwi-Edit's layout where the real ones would be."""
    folder = server.base / "models" / "instructx"
    for name in ("instruct-only", "instruct-reference"):
        kiwi_model.publish(kiwi_model.components(), folder / f"linyq--kiwi-edit-5b-{name}-diffusers")


def write_lora(path: Path) -> None:
    """A LoRA of the tiny model's layout, in the names that ComfyUI knows."""
    width = kiwi_model.components().denoiser.transformer.patch_embedding.out_channels
    name = "diffusion_model.blocks.0.self_attn.q.lora_{}.weight".format
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name("A"): torch.ones(2, width) / width, name("B"): torch.ones(width, 2) / width}, path)


@pytest.mark.parametrize("path", KIWI, ids=lambda path: path.stem)
def test_kiwi_workflow_runs(server, object_info, kiwi_folders, path):
    """With weights of no meaning, at a small size and in few steps: every station and every link of the graph."""
    prompt = prompt_of(workflow_files.title(path), object_info)
    prompt[of_type(prompt, "InstructXFit")]["inputs"] |= {"width": 64, "height": 64}
    for node in prompt.values():
        if node["class_type"] == "InstructXSampler":
            node["inputs"]["steps"] = 2
        if "lora_name" in node["inputs"]:
            write_lora(server.base / "models" / "loras" / node["inputs"]["lora_name"])
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    saved = files(entry, server.base)
    assert saved
    for file in saved:
        assert load_source(file).frames.std() > 0.02, "blank"


def cancel_while_sampling(server, prompt, kind, seed):
    """Run a prompt with a thousand steps and press Cancel in the middle of them; then free what was loaded."""
    prompt[of_type(prompt, kind)]["inputs"] |= {"steps": 1000, "seed": seed}
    before = len(server.log.read_text())
    number = server.queue(prompt)
    deadline = time.monotonic() + 300
    while "/1000" not in server.log.read_text()[before:]:  # the sampler's own progress bar
        assert time.monotonic() < deadline, "the sampling did not begin"
        time.sleep(0.1)
    server.post("/interrupt", {})
    entry = server.wait(number)
    assert any(message == "execution_interrupted" for message, _ in entry["status"]["messages"])
    server.post("/free", {"unload_models": True, "free_memory": True})


@pytest.mark.parametrize("kind", ["InstructXSampler", "InstructXSlidingWindow"])
def test_interrupting_leaves_the_server_usable(server, object_info, kind):
    name = "Edit an image" if kind == "InstructXSampler" else "Edit a long video"
    cancel_while_sampling(server, prompt_of(name, object_info), kind, 99)
    assert succeeded(server.run(prompt_of("Edit an image", object_info)))


def test_cancel_keeps_windows_for_the_same_graph(server, object_info):
    prompt = prompt_of("Edit a long video", object_info)
    prompt[of_type(prompt, "InstructXSlidingWindow")]["inputs"] |= {"seed": 4321}  # seconds for a window
    folder = server.base / "temp" / "InstructX"
    others = set(folder.glob(".*.windows"))  # of edits that other tests have cancelled

    def kept() -> list[Path]:
        return [path for path in folder.glob(".*.windows/00000.safetensors") if path.parent not in others]

    number = server.queue(prompt)
    deadline = time.monotonic() + 600
    while not kept():
        assert time.monotonic() < deadline, "no window was finished"
        time.sleep(0.05)
    server.post("/interrupt", {})
    entry = server.wait(number)
    assert any(message == "execution_interrupted" for message, _ in entry["status"]["messages"])
    before = len(server.log.read_text())
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    assert "resuming after window 1 of 7" in server.log.read_text()[before:]
    assert set(folder.glob(".*.windows")) == others
    assert len(load_source(files(entry, server.base)[0]).frames) == 33


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="what a process holds is read from /proc")
def test_interrupting_releases_memory(server, object_info, bundled):
    """Load, Cancel, free, again and again: the server does not grow by the model that each round loads."""
    model = sum(path.stat().st_size for path in bundled.rglob("*.safetensors"))
    sizes = []
    for seed in range(6):
        cancel_while_sampling(server, prompt_of("Edit a long video", object_info), "InstructXSlidingWindow", seed)
        time.sleep(1)  # the server frees when its worker wakes up
        sizes.append(server.resident())
    deadline = time.monotonic() + 10  # what is not freed by then stays
    while sizes[-1] - sizes[2] >= model and time.monotonic() < deadline:
        time.sleep(0.1)
        sizes.append(server.resident())
    print("resident MiB:", [size >> 20 for size in sizes])
    assert sizes[-1] - sizes[2] < model, sizes
