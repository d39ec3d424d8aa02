"""The templates of Bernini-R and CoinVE-Edit in a real server, with weights of no meaning in the places of theirs.

ComfyUI's own umT5 has the published size alone, so the pack's nodes read the words of a small one in its place.
"""

import pytest

from instructx_core.cli import main
from instructx_core.source import load_source
from support import comfyui_server, public_models, workflow_files
from support.comfyui_server import files, succeeded

pytestmark = pytest.mark.slow
CARD, THREE = "Bernini-R on an 8 GB card", "Three edits and their masks"


@pytest.fixture(scope="module")
def server(bundled, tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    models = base / "models"
    public_models.save_coinve_natively(models, "coinve")
    folder = models / "instructx"
    published = folder / "FireCRT--CoinVE-Edit"
    published.mkdir()
    (folder / "coinve.safetensors").rename(published / "coinve_edit_composite_vllm256_dit128.safetensors")
    (models / "diffusion_models/coinve.safetensors").rename(
        models / "diffusion_models/wan2.1_t2v_14B_fp8_scaled.safetensors"
    )
    (models / "vae/coinve.safetensors").rename(models / "vae/wan_2.1_vae.safetensors")
    (models / "text_encoders/coinve").rename(models / "text_encoders/Qwen3-VL-8B-Instruct")
    public_models.save_bernini(folder / "bernini", native=True)
    assert main(["convert", str(folder / "bernini"), str(models / "diffusion_models/bernini_r_1.3b.safetensors")]) == 0
    with comfyui_server.Server(base) as started:
        yield started


def prompt_of(server, title):
    object_info, workflow = server.get("/object_info"), workflow_files.read(workflow_files.named(title))
    if lacking := {node["type"] for node in workflow_files.nodes_of(workflow)} - set(object_info):
        pytest.skip(f"this ComfyUI has no {', '.join(sorted(lacking))}")
    prompt = workflow_files.to_api(workflow, object_info, exact=False)
    prompt[of_type(prompt, "InstructXFit")]["inputs"] |= {"width": 64, "height": 64}
    return prompt


def of_type(prompt, kind):
    (name,) = (name for name, node in prompt.items() if node["class_type"] == kind)
    return name


def test_three_edits_and_the_place_of_each(server):
    prompt = prompt_of(server, THREE)
    prompt[of_type(prompt, "InstructXSampler")]["inputs"]["steps"] = 2
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    clips = [load_source(saved).frames for saved in files(entry, server.base)]
    assert len(clips) == 2 and all(len(one) > 1 and one.std() > 0.02 for one in clips)
    shown = entry["outputs"][of_type(prompt, "PreviewImage")]["images"]
    places = [load_source(server.base / "temp" / one["subfolder"] / one["filename"]).frames for one in shown]
    assert len(places) == 3 and all(len(place) == 1 for place in places)


def test_an_edit_by_words_alone(server):
    prompt = prompt_of(server, CARD)
    prompt[of_type(prompt, "InstructXUniPC")]["inputs"]["steps"] = 2
    fit = of_type(prompt, "InstructXFit")
    prompt |= {
        "model": {"class_type": "InstructXLoadModel", "inputs": {"model_name": "bernini", "precision": "float32"}},
        "read": {
            "class_type": "InstructXMLLMGuidance",
            "inputs": {"mllm": ["model", 2], "source": [fit, 0], "instruction": "make it snow", "fit": [fit, 1]},
        },
        "words": {"class_type": "InstructXConnector", "inputs": {"connector": ["model", 3], "guidance": ["read", 0]}},
    }
    for name in [name for name, node in prompt.items() if node["class_type"] in ("CLIPTextEncode", "CLIPLoader")]:
        del prompt[name]
    prompt[of_type(prompt, "BerniniConditioning")]["inputs"] |= {"positive": ["words", 0], "negative": ["words", 1]}
    entry = server.run(prompt)
    assert succeeded(entry), entry["status"]
    found = [load_source(saved).frames for saved in files(entry, server.base)]
    assert len(found) == 2 and len(found[0]) == len(found[1]) > 1
    assert all(one.std() > 0.02 for one in found)
