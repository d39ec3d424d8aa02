"""The command line: what it writes, with a stand-in for the model and with the bundled one."""

import csv
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from instructx_core import EditRequest, Sampling, cli
from instructx_core.cli.progress import Progress
from instructx_core.demo import DEMO_EDITS
from instructx_core.errors import EditInterrupted, InputError
from instructx_core.source import load_source
from instructx_core.world import GROUPS

CLIP = DEMO_EDITS[1].source


@dataclass
class Result:
    frames: torch.Tensor


class Inverter:
    """Stands in for a model: inverts whatever it is given, in two steps."""

    default_size = (32, 32)
    config = SimpleNamespace(name="inverter", held_out_from_video=("grayscale",))
    guidance = SimpleNamespace(edits_pictures_alone=False)

    asked: EditRequest
    options: tuple

    def edit_loaded(self, source, request, detail="source", callback=None, dtype=torch.float32):
        self.asked, self.options = request, (detail, dtype)
        for step in (1, 2):
            if callback and callback(step, 2, torch.zeros(1)) is False:
                raise EditInterrupted("stopped")
        return Result(1 - source.frames)

    def edit_batch(self, sources, instructions, context_transform=None, **options):
        return [Result(source if context_transform else 1 - source) for source in sources]

    def encode(self, frames):
        return frames

    def decode(self, latents):
        return latents


@pytest.fixture
def inverter(monkeypatch: pytest.MonkeyPatch) -> Inverter:
    editor = Inverter()
    monkeypatch.setattr("instructx_core.editor.Editor.from_pretrained", lambda *args, **options: editor)
    return editor


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "instructx_core", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=500)


# --- what is written, with a stand-in for the model


def test_edit_of_a_picture(picture: Path, inverter: Inverter, capsys):
    output = picture.with_name("out.png")
    options = (
        "--steps",
        "3",
        "--seed",
        "5",
        "--shift",
        "2",
        "--guidance-scale",
        "1.5",
        "--height",
        "32",
        "--width",
        "64",
    )
    assert cli.main(["edit", str(picture), "invert it", "-o", str(output), "--reference", str(picture), *options]) == 0
    assert np.array_equal(np.asarray(Image.open(output)), 255 - np.asarray(Image.open(picture)))
    asked = inverter.asked
    assert [reference.shape for reference in asked.references] == [(20, 30, 3)]
    assert (asked.instruction, asked.sampling, asked.size, asked.seed) == (
        "invert it",
        Sampling(3, 2, 1.5),
        (32, 64),
        5,
    )
    assert inverter.options == ("source", torch.uint8)
    captured = capsys.readouterr()
    assert captured.out.strip() == str(output)
    assert "2/2" in captured.err


def test_edit_of_a_clip(tmp_path: Path, inverter: Inverter):
    output = tmp_path / "out.mp4"
    assert cli.main(["edit", str(CLIP), "invert it", "-o", str(output)]) == 0
    before, after = load_source(CLIP), load_source(output)
    assert after.is_video and after.frames.shape == before.frames.shape
    assert (after.frames - (1 - before.frames)).abs().mean() < 0.03


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError, InputError, torch.OutOfMemoryError])
def test_nothing_half_written(failure: type[BaseException], picture: Path, inverter: Inverter, monkeypatch, capsys):
    def fail(*args: object, **options: object) -> None:
        raise failure("no")

    monkeypatch.setattr(inverter, "edit_loaded", fail)
    arguments = ["edit", str(picture), "invert it", "-o", str(picture.with_name("out.png"))]
    if failure is RuntimeError:  # a defect keeps its traceback
        with pytest.raises(RuntimeError):
            cli.main(arguments)
    else:
        assert cli.main(arguments) == (130 if failure is KeyboardInterrupt else 2)
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and (failure is not KeyboardInterrupt or error == "instructx: interrupted.\n")
    assert [path.name for path in picture.parent.iterdir()] == ["in.png"]


def test_demo_writes_source_and_edit_side_by_side(tmp_path: Path, inverter: Inverter, capsys):
    folder = tmp_path / "new" / "demo"
    assert cli.main(["demo", "-o", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["cat_edit.jpg", "demo_edit.mp4", "demo_edit.png"]
    lines = capsys.readouterr().out.splitlines()
    for demo, line in zip(DEMO_EDITS, lines, strict=True):
        source, output = load_source(demo.source), load_source(folder / f"{demo.source.stem}_edit{demo.source.suffix}")
        (frames, height, width, _), both = source.frames.shape, output.frames
        assert both.shape == (frames, height, 2 * width + 8, 3)
        assert (both[:, :, :width] - source.frames).abs().mean() < 0.02
        assert (both[:, :, width + 8 :] - (1 - source.frames)).abs().mean() < 0.03
        assert demo.instruction in line and str(folder) in line


def test_evaluate_prints_a_table_and_writes_json(tmp_path: Path, inverter: Inverter, capsys):
    path = tmp_path / "numbers.json"
    assert cli.main(["evaluate", "--images", "2", "--videos", "0", "--json", str(path)]) == 0
    content = json.loads(path.read_text())
    assert content["images"]["groups"]["invert"]["success"] == 1
    assert content["videos"] is None and content["held_out_video"] == ["grayscale"]
    assert "| invert | 2 | 1.00 |" in capsys.readouterr().out


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_world_writes_pictures_of_every_group(tmp_path: Path):
    folder = tmp_path / "pairs"
    assert cli.main(["world", "-o", str(folder), "--count", str(len(GROUPS)), "--size", "32"]) == 0
    rows = table(folder)
    assert list(rows[0]) == ["source", "target", "instruction", "reference"] and len(rows) == len(GROUPS)
    for row, group in zip(rows, GROUPS, strict=True):
        assert group in row["source"] and row["instruction"]
        assert Image.open(folder / row["source"]).size == Image.open(folder / row["target"]).size == (32, 32)
        assert bool(row["reference"]) == group.startswith("reference")
        if row["reference"]:
            assert Image.open(folder / row["reference"]).size == (32, 32)


def test_world_writes_clips(tmp_path: Path):
    folder = tmp_path / "clips"
    folder.mkdir()  # an empty folder will do
    assert cli.main(["world", "-o", str(folder), "--count", "1", "--group", "invert", "--frames", "3"]) == 0
    (row,) = table(folder)
    assert (
        load_source(folder / row["source"]).frames.shape
        == load_source(folder / row["target"]).frames.shape
        == (3, 64, 64, 3)
    )


def test_world_leaves_nothing_behind_when_stopped(tmp_path: Path, monkeypatch):
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "__call__", stop)
    assert cli.main(["world", "-o", str(tmp_path / "pairs")]) == 130
    assert list(tmp_path.iterdir()) == []


# --- the bundled model


def test_bundled_info(bundled: Path, capsys):
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    assert "instructx-tiny" in text and "queries" in text and "DiT" in text


def test_bundled_edit_is_reproducible(bundled: Path, tmp_path: Path):
    """Here, and in a process of its own."""
    outputs = [tmp_path / name for name in ("first.png", "second.png")]
    first, second = (
        ["edit", str(DEMO_EDITS[0].source), DEMO_EDITS[0].instruction, "-o", str(output), "--device", "cpu"]
        for output in outputs
    )
    assert cli.main(first) == 0
    result = run(*second)
    assert result.returncode == 0, result.stderr
    first, second = (np.asarray(Image.open(output)) for output in outputs)
    assert first.shape == np.asarray(Image.open(DEMO_EDITS[0].source)).shape
    assert np.array_equal(first, second)


def test_bundled_demo(bundled: Path, tmp_path: Path):
    assert cli.main(["demo", "-o", str(tmp_path / "demo")]) == 0
    assert all((tmp_path / "demo" / f"{demo.source.stem}_edit{demo.source.suffix}").is_file() for demo in DEMO_EDITS)


def test_bundled_refusal_is_one_line(bundled: Path, picture: Path):
    """Loading the model says nothing on stderr, so what it then refuses is still one line."""
    output = picture.with_name("out.png")
    result = run("edit", picture, "make it blue", "-o", output, "--height", "17", "--width", "17", "--device", "cpu")
    assert result.returncode == 2
    assert result.stdout == "" and result.stderr.count("\n") == 1, result.stderr
    assert not output.exists()
