"""A config whose experts are the real classes at tiny random sizes, from footage to shards that training reads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

from instructx_core.families.instructx.folder import BUNDLED
from instructx_core.images import write_image
from instructx_core.synthesis import World
from instructx_core.synthesis.run import read_summary
from instructx_core.synthesis.store import read_manifest
from instructx_core.training.config import DataConfig
from instructx_core.training.data.opening import open_table
from instructx_core.training.data.rows import Row
from support import tiny_experts as tiny
from support.chat_server import served
from support.commands import called
from support.video_files import make_video

pytestmark = pytest.mark.slow
OPEN = {name: [0, 1] for name in ("detection", "area", "seen", "change", "fit", "outside")}  # of random weights


def footage(folder: Path) -> Path:
    """Two clips and a picture."""
    folder.mkdir()
    world = World(2, 5, 64)
    for key in world.keys():
        make_video(folder / f"{key}.mp4", world.read(key).frames.numpy())
    write_image(torch.randint(0, 255, (48, 64, 3), dtype=torch.uint8), folder / "noise.png")
    return folder


def answer(words: str) -> dict:
    """What a describer and a judge might say."""
    cat = {"category": "cat", "simple": "red cat", "detailed": "A red cat at the left.", "person": True}
    in_three_ways = {"simple": "take the cat out", "understanding": "remove that cat", "reasoning": "remove the pet"}
    for mark, said in (
        ("Describe what", {"caption": "A red cat lies at the left."}),
        ("Write it again in three ways", in_three_ways),
        ("List up to", {"subjects": [cat]}),
        ("is to be exchanged", cat | {"simple": "cat"}),
        ("Think of one change", {"request": "make it low", "thing": ""}),
        ("was edited into", {"request": "remove the red cat"}),
        ("An editor was asked", {"follow": 9, "preserve": 8, "quality": 7.5}),
    ):
        if mark in words:
            return said
    raise AssertionError(words)


def experts(folder: Path, url: str) -> dict:
    steps = {"settings": {"steps": 1}}
    vace = str(tiny.save_vace(folder / "vace"))
    return {
        "describe": {"kind": "service", "url": url, "model": "x"},
        "judge": {"kind": "service", "url": url, "model": "x"},
        "detect": {
            "kind": "detector",
            "model": str(tiny.save_grounding_dino(folder / "dino")),
            "settings": {"threshold": 0.0},
        },
        "segment": {"kind": "sam2", "model": str(tiny.save_tracker(folder / "sam2"))},
        "erase": {"kind": "inpainting", "model": vace} | steps,
        "redraw": {"kind": "picture-edit", "model": str(tiny.save_picture_editor(folder / "editor"))} | steps,
        "pose": {"kind": "vitpose", "model": str(tiny.save_poser(folder / "vitpose"))},
        "animate": {"kind": "vace", "model": vace} | steps,
        "flow": {"kind": "block-matching"},
    }


def run(capsys, folder: Path, plain: dict, *more: object) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "pairs.yaml"
    file.write_text(yaml.safe_dump(plain | {"output": str(folder / "out"), "bounds": OPEN}))
    code, said = called(capsys, "synthesise", file, *more)
    assert code == 0, said
    return said


PAINTING = {"detect", "segment", "erase"}
# recipe -> pairs kept of three clips; the experts it asks beside describer and judge
EXPECTED = {
    "add_remove": (9, PAINTING | {"redraw"}),
    "advanced_edit": (9, PAINTING),
    "look": (9, {"redraw", "animate"}),
    "swap_dynamic": (6, PAINTING | {"redraw"}),
    "swap_static": (6, {"detect", "segment", "redraw", "pose", "animate"}),
}


@pytest.mark.parametrize("recipe", EXPECTED)
def test_a_config_of_real_classes_runs_from_end_to_end(tmp_path, capsys, recipe):
    if recipe == "swap_static":
        pytest.importorskip("scipy", reason="ViTPose's processor needs scipy")
    kept, asked = EXPECTED[recipe]
    clips = footage(tmp_path / "clips")
    with served(answer) as url:
        named = experts(tmp_path, url)
        plain = {"recipe": recipe, "clips": str(clips), "experts": named, "background": "any"}
        said = run(capsys, tmp_path / recipe, plain)
    made = read_summary(tmp_path / recipe / "out")
    assert (made.clips, made.kept, dict(made.dropped)) == (3, kept, {}), said
    assert made.seconds.keys() - {"read", "measures", "write"} == asked | {"describe", "judge"}
    table = open_table(DataConfig(table=str(tmp_path / recipe / "out/kept"), sizes=((64, 64),), lengths=(5,)))
    rows = [row for shard in range(len(table.parts)) for _, row in table.rows(shard)]
    assert len(rows) == made.kept and all(isinstance(row, Row) for row in rows)


def test_a_random_mllm_has_no_readable_answer(tmp_path, capsys):
    clips = footage(tmp_path / "clips")
    with served(answer) as url:
        named = experts(tmp_path, url)
    mllm = {"kind": "mllm", "model": str(BUNDLED / "mllm")}
    named |= {"describe": mllm, "judge": mllm, "redraw": {"kind": "instructx", "model": str(BUNDLED)}}
    run(capsys, tmp_path / "run", {"recipe": "add_remove", "clips": str(clips), "experts": named})
    made = read_summary(tmp_path / "run" / "out")
    assert made.dropped == {"any: no readable answer to subjects": 3}


def test_models_of_their_own_process_give_the_same(tmp_path, capsys):
    """On Ray: models as actors, Grounding DINO twice."""
    pytest.importorskip("ray", reason="NOTHING RAN ON RAY: pip install 'ray[data]'")
    clips = footage(tmp_path / "clips")
    with served(answer) as url:
        named = experts(tmp_path, url)
        named["redraw"] = {"kind": "instructx", "model": str(BUNDLED), "settings": {"steps": 1}}
        plain = {"recipe": "add_remove", "clips": str(clips), "experts": named}
        run(capsys, tmp_path / "one", plain)
        named["detect"] |= {"copies": 2}
        said = run(capsys, tmp_path / "many", plain | {"batch": 1}, "--workers", 2)
    one, many = (Counter(str(entry["files"]) for entry in read_manifest(tmp_path / n / "out")) for n in ("one", "many"))
    assert one == many, said
    assert read_summary(tmp_path / "many/out").kept
