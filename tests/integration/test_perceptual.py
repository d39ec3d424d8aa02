"""Networks as judges of edits: real classes with random weights; and `instructx measure`.

LPIPS needs torchvision, which does not stand beside a CPU torch here: it runs in ComfyUI's environment.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from instructx_core.errors import CheckpointError, InputError
from instructx_core.evaluation.perceptual import ClipScore, DinoSimilarity, Lpips, cut_box
from instructx_core.evaluation.vbench import run_vbench
from instructx_core.images import write_image
from support import comfyui
from support.commands import called, refusal
from support.places import ROOT
from support.video_files import make_video


def noise(seed: int = 0, side: int = 64) -> torch.Tensor:
    return torch.rand(1, side, side, 3, generator=torch.Generator().manual_seed(seed))


def corner(side: int = 64) -> torch.Tensor:
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[:, : side // 2, : side // 2] = True
    return mask


@pytest.fixture(scope="module")
def clip(bundled, tmp_path_factory):
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = text | {"image_size": 32, "patch_size": 8}
    text |= {"vocab_size": 1000, "max_position_embeddings": 16, "eos_token_id": 2}
    folder = tmp_path_factory.mktemp("clip")
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    model.visual_projection.weight.data.neg_()  # of this seed all cosines were below 0, which count as 0
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bundled / "mllm" / name, folder)
    return folder


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dino")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    Dinov2Model(Dinov2Config(**sizes)).save_pretrained(folder)
    return folder


def test_clipscore_looks_at_the_region_alone(clip):
    score, picture = ClipScore(clip), noise()
    word = "a red car"
    value = score(picture, corner(), word)
    assert 0 < value <= 100
    outside = torch.where(corner()[..., None], picture, 1 - picture)
    assert score(outside, corner(), word) == pytest.approx(value)
    assert score(1 - picture, corner(), word) != pytest.approx(value)
    with pytest.raises(InputError, match="region is empty"):
        score(picture, torch.zeros(1, 64, 64, dtype=torch.bool), "a red car")
    assert score(picture, corner(), "a long word " * 50) >= 0  # cut to what the text tower takes


def test_clipscore_is_transformers_own_cosine(clip):
    """Of the box as the model is given it, by the class's logits."""
    score = ClipScore(clip)
    box = cut_box(noise()[0], corner()[0])
    assert box.shape == (32, 32, 3)
    from instructx_core.guidance.vision import CLIP_MEAN, CLIP_STD

    pixels = ((box - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)).permute(2, 0, 1)[None]
    words = score.tokenizer("a red car", return_tensors="pt")
    with torch.no_grad():
        output = score.model(pixel_values=pixels, input_ids=words["input_ids"])
    cosine = (output.logits_per_image / score.model.logit_scale.exp()).item()
    assert score(noise(), corner(), "a red car") == pytest.approx(max(0, 100 * cosine), abs=1e-3)


def test_dino_similarity_is_of_what_stays(dino):
    similarity, source = DinoSimilarity(dino), noise(side=448)
    region = corner(448)
    assert similarity(source, source, region) == pytest.approx(1, abs=1e-5)
    outside = torch.where(region[..., None], source, 1 - source)
    assert similarity(source, outside, region) < 0.99
    assert similarity(source, outside, torch.ones_like(region)) is None


def test_a_vit_that_was_trained_to_classify_is_taken(tmp_path):
    """It has no pooler, which nothing here reads; what lacks a layer is refused still."""
    from safetensors.torch import load_file, save_file
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTForImageClassification(ViTConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(tmp_path)
    source, region = noise(side=32), corner(32)
    similarity = DinoSimilarity(tmp_path)
    assert similarity(source, source, region) == pytest.approx(1, abs=1e-5)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("vit.layernorm.bias")
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="layernorm"):
        DinoSimilarity(tmp_path)


@pytest.mark.parametrize("kind", [ClipScore, DinoSimilarity])
def test_weights_are_named_and_never_fetched(kind, tmp_path):
    for missing in (tmp_path / "none", Path("openai/clip-vit-large-patch14")):
        with pytest.raises(CheckpointError, match=r"nothing is fetched"):
            kind(missing)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        kind(tmp_path)


def test_a_folder_of_another_network_is_refused(dino, clip):
    with pytest.raises(CheckpointError, match="lacks 'logit_scale' of a CLIP"):
        ClipScore(dino)
    with pytest.raises(CheckpointError, match="patches"):
        DinoSimilarity(clip)


def test_lpips_without_torchvision_says_what_to_install():
    try:
        import torchvision  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match="pip install torchmetrics torchvision"):
            Lpips(Path("squeezenet.pth"))


LPIPS = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from instructx_core.errors import CheckpointError
from instructx_core.evaluation.perceptual import Lpips
import torchvision
from safetensors.torch import save_file
from torchmetrics.functional.image.lpips import _LPIPS
torch.manual_seed(0)
one, other = torch.rand(1, 64, 64, 3), torch.rand(1, 64, 64, 3)
region = torch.zeros(1, 64, 64, dtype=torch.bool)
folder = Path(sys.argv[2])
state = torchvision.models.squeezenet1_1(weights=None).state_dict()
torch.save(state, folder / "w.pth")
save_file(state, folder / "w.safetensors")
values = [Lpips(folder / name)(one, other, region) for name in ("w.pth", "w.safetensors")]
assert values[0] == values[1] > 0, values
lpips = Lpips(folder / "w.pth")
assert lpips(one, one, region) == 0
assert lpips(one, other, ~region) == 0  # everything may change
assert lpips.network.net.state_dict().keys() == _LPIPS(net="squeeze", pnet_rand=True).net.state_dict().keys()
torch.save(torchvision.models.alexnet(weights=None).state_dict(), folder / "alex.pth")
try:
    Lpips(folder / "alex.pth")
    raise SystemExit("alexnet was taken for squeezenet")
except CheckpointError as error:
    assert "SqueezeNet 1.1" in str(error)
print("LPIPS OK")
"""


@pytest.mark.slow
def test_lpips_in_comfyui_s_environment(tmp_path):
    """torchmetrics, pure Python, is lent to ComfyUI's interpreter from this one's packages."""
    torchmetrics = pytest.importorskip("torchmetrics", reason="LPIPS WAS NOT RUN: install the extra `metrics`")
    _, python = comfyui.find()
    lent = tmp_path / "lent"
    lent.mkdir()
    for name in ("torchmetrics", "lightning_utilities"):
        (lent / name).symlink_to(Path(torchmetrics.__file__).parents[1] / name)
    done = subprocess.run(
        [python, "-c", LPIPS, str(lent), str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "LPIPS OK" in done.stdout, done.stderr[-2000:]


def test_vbench_is_asked_for_and_never_a_dependency(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="pipx install vbench"):
        run_vbench(tmp_path)


def test_vbench_by_its_own_command(tmp_path, monkeypatch):
    """A program that answers as vbench 0.1.5 does, and one that fails."""
    program = tmp_path / "vbench"
    program.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib, sys\n"
        "at = lambda name: sys.argv[sys.argv.index(name) + 1]\n"
        "assert sys.argv[1] == 'evaluate' and at('--mode') == 'custom_input'\n"
        "out = pathlib.Path(at('--output_path')); out.mkdir(parents=True)\n"
        "answer = {at('--dimension'): [0.75, [{'video_path': at('--videos_path'), 'video_results': 0.75}]]}\n"
        "(out / 'results_now_eval_results.json').write_text(json.dumps(answer))\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_vbench(tmp_path) == {"motion_smoothness": 0.75, "aesthetic_quality": 0.75}
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('no GPU')\n")
    with pytest.raises(InputError, match="no GPU"):
        run_vbench(tmp_path)


@pytest.fixture
def pair(tmp_path):
    source = noise()[0]
    edited = torch.where(corner()[0, ..., None], 1 - source, source)
    for name, picture in (("a.png", source), ("b.png", edited), ("m.png", corner()[0, ..., None].expand(-1, -1, 3))):
        write_image(picture.float(), tmp_path / name)
    return tmp_path


def test_measure_on_the_command_line(pair, dino, capsys):
    code, said = called(
        capsys, "measure", pair / "a.png", pair / "b.png", "--mask", pair / "m.png", "--dino", dino,
        "--difference", pair / "d.png", "--json", pair / "n.json",
    )  # fmt: skip
    assert code == 0 and "region (mask): 25.0%" in said and "PSNR outside: 100.00 dB" in said
    numbers = json.loads((pair / "n.json").read_text())
    assert numbers["exclusivity"] == 1 and 0.98 < numbers["DINO similarity outside"] < 1  # attention sees the edit
    assert (pair / "d.png").is_file()


def test_viescore_of_one_edit(pair, capsys):
    first, second = '{"success": 9, "restraint": 4}', '{"naturalness": 9, "cleanness": 9}'
    log = pair / "log.jsonl"
    log.write_text(json.dumps({"key": "edit", "judge": "GPT-4o", "answers": [["what?", first], [second]]}) + "\n")
    arguments = ["measure", pair / "a.png", pair / "b.png", "--judge", log, "--instruction", "invert a corner"]
    code, said = called(capsys, *arguments)
    assert code == 0 and "VIEScore overall, judged by GPT-4o (recorded): 6.0000" in said
    log.write_text(json.dumps({"key": "edit", "judge": "GPT-4o", "answers": [["what?"], [second]]}) + "\n")
    assert "VIEScore overall, judged by GPT-4o (recorded): nothing to measure" in called(capsys, *arguments)[1]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--vbench"], "pipx install vbench"),
        (["--judge", "http://127.0.0.1:9/v1", "--instruction", "invert it"], "--judge-model"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_measured(extra, words, dino, tmp_path, capsys, idle, monkeypatch):
    clip = make_video(tmp_path / "a.mp4", np.zeros((3, 32, 32, 3), np.uint8))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("instructx_core.evaluation.measure", lambda *_: pytest.fail("measured"))
    assert words in refusal(capsys, "measure", clip, clip, "--dino", dino, *extra)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--judge", "x.jsonl"], "belong together"),
        (["--clip", "nowhere", "--word", "car"], "nothing is fetched"),
        (["--word", "car"], "belong together"),
        (["--vbench"], "is a picture"),
        (["--mask", "b.mp4"], "b.mp4"),
        (["--difference", "d.mp4"], "image"),
        (["--json", "none/n.json"], "n.json"),
    ],
)
def test_measure_refuses_in_one_line(pair, extra, words, capsys, monkeypatch):
    monkeypatch.chdir(pair)
    assert words in refusal(capsys, "measure", "a.png", "b.png", *extra)
    assert sorted(path.name for path in pair.iterdir()) == ["a.png", "b.png", "m.png"]
