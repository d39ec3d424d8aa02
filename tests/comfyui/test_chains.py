"""Templates that need weights: what a real server says to them, and runs with tiny weights or stand-ins for these.

What a SAM3, BiRefNet, FILM or language model gives comes from a stock node of the same output, so that everything
before and after it runs as it would.
"""

import pytest
import torch
from safetensors.torch import save_file

from instructx_core.source import load_source
from support import comfyui_server, workflow_files
from support.comfyui_server import files, succeeded

pytestmark = pytest.mark.slow
HEIGHT, WIDTH = 300, 451  # of the photograph that is made four times as large
# Of a node whose weights are not there: one that gives the same, its inputs, and those of them that stay linked.
STAND_INS = {
    "SAM3_Detect": ("ImageToMask", {"channel": "red"}, (("image", "image"),)),
    "RemoveBackground": ("ImageToMask", {"channel": "red"}, (("image", "image"),)),
    "FrameInterpolate": ("RepeatImageBatch", {"amount": 2}, (("images", "image"),)),
    "TextGenerate": ("PrimitiveStringMultiline", {"value": "make the background teal"}, ()),
}
LOADERS = {"CheckpointLoaderSimple", "CLIPTextEncode", "LoadBackgroundRemovalModel", "FrameInterpolationModelLoader"}
LOADERS |= {"CLIPLoader"}
CHAINS = ("SAM3 mask, edit only there", "Keep the subject, change the rest", "Edit, then more frames")
CHAINS += ("Rewrite a vague prompt",)
SEEDVR2 = {"UNETLoader", "VAELoader", "VAEEncodeTiled", "SeedVR2Conditioning", "KSampler", "VAEDecodeTiled"}
SEEDVR2 |= {"SeedVR2Preprocess"}


def upscaler(path):
    """SRVGGNetCompact of 4 features, which enlarges four times by the nearest pixel and adds next to nothing."""
    torch.manual_seed(0)
    shapes = {"0": (4, 3, 3, 3), "2": (4, 4, 3, 3), "4": (48, 4, 3, 3)}
    state = {f"body.{name}.weight": torch.randn(shape) * 1e-3 for name, shape in shapes.items()}
    state |= {f"body.{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    state |= {f"body.{name}.weight": torch.full((4,), 0.25) for name in ("1", "3")}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)


@pytest.fixture(scope="module")
def server(bundled, tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    upscaler(base / "models" / "upscale_models" / "RealESRGAN_x4plus.safetensors")
    with comfyui_server.Server(base) as started:
        yield started


@pytest.fixture(scope="module")
def object_info(server):
    return server.get("/object_info")


def prompt_of(path, object_info):
    lacking = {node["type"] for node in workflow_files.nodes_of(workflow_files.read(path))} - set(object_info)
    if lacking:
        pytest.skip(f"this ComfyUI has no {', '.join(sorted(lacking))}")
    return workflow_files.to_api(workflow_files.read(path), object_info, exact=False)


@pytest.mark.parametrize("path", workflow_files.NEED_WEIGHTS, ids=lambda path: path.stem)
def test_a_server_asks_for_nothing_but_the_weights(server, object_info, path):
    """Every link, type and value is right: what is refused is a name of a file that is not there."""
    answer = server.post("/prompt", {"prompt": prompt_of(path, object_info)})
    assert answer.get("node_errors") or "prompt_id" in answer, answer
    for node, said in answer.get("node_errors", {}).items():
        for error in said["errors"]:
            assert error["type"] in ("value_not_in_list", "custom_validation_failed"), (node, error)
            assert ".safetensors" in str(error) or "model" in str(error), (node, error)


def test_upscaling_by_a_model(server, object_info):
    prompt = prompt_of(workflow_files.named("Edit, then upscale"), object_info)
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    (saved,) = files(entry, server.base)
    assert load_source(saved).frames.shape == (1, 4 * HEIGHT, 4 * WIDTH, 3)


def test_seedvr2_gets_the_edit_and_gives_it_larger(server, object_info):
    """Core's own enlarging and aligning run; the model between them is left out, for the smallest has 3B weights."""
    prompt = prompt_of(workflow_files.named("Edit, then SeedVR2"), object_info)
    (larger,) = [name for name, node in prompt.items() if node["class_type"] == "ImageScaleBy"]
    box = larger.partition(":")[0]
    model = {name for name, node in prompt.items() if name.startswith(f"{box}:") and node["class_type"] in SEEDVR2}
    assert len(model) == len(SEEDVR2)
    prompt = {name: node for name, node in prompt.items() if name not in model}
    (align,) = [node for node in prompt.values() if node["class_type"] == "SeedVR2PostProcessing"]
    assert align["inputs"]["images"][0] in model
    align["inputs"]["images"] = [larger, 0]
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    (saved,) = files(entry, server.base)
    assert load_source(saved).frames.shape == (1, 4 * HEIGHT, 4 * WIDTH, 3)


@pytest.mark.parametrize("title", CHAINS)
def test_chain_runs_around_a_stand_in(server, object_info, title):
    prompt = prompt_of(workflow_files.named(title), object_info)
    prompt = {name: node for name, node in prompt.items() if node["class_type"] not in LOADERS}
    for node in prompt.values():
        if node["class_type"] in STAND_INS:
            kind, inputs, linked = STAND_INS[node["class_type"]]
            inputs = inputs | {new: node["inputs"][old] for old, new in linked}
            node |= {"class_type": kind, "inputs": dict(inputs)}
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    saved = [load_source(file).frames for file in files(entry, server.base)]
    assert saved and all(frames.std() > 0.02 for frames in saved)
    if title == "Edit, then more frames":
        assert sorted(map(len, saved)) == [9, 18]
