"""docs/training.md: every command in it can be given, and the three walks run from end to end on tiny parts."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from instructx_core import cli
from instructx_core.cli import build_parser
from instructx_core.training.config import read_train_config
from instructx_core.world_folder import write_pairs
from support import golden_runs
from support.places import ROOT
from support.training_runs import environment

LAPTOP, GPU, CLUSTER = "A laptop and the tiny world", "One GPU: a LoRA on Kiwi-Edit", "A cluster and the paper's recipe"
LITTLE = {
    "steps": "2", "sample_every": "0", "validate_every": "0", "data.images": "6", "data.videos": "4",
    "data.image_batch": "1", "data.video_batch": "1", "data.sizes": "[[32, 32]]", "data.lengths": "[5]",
}  # fmt: skip
WORLD = {**LITTLE, "data.groups": "{recolor: 1, tone: 1, outside: 1}"}
SHARED = {**LITTLE, "data.step_images": "8", "data.step_videos": "8"}  # by 8 processes and by 2
NEW = {"guidance.image_queries": "4", "guidance.video_queries": "6", "guidance.lora_rank": "4",
       "connector.hidden_dim": "64", "guidance.max_pixels": "6272", "default_size": "[32, 32]",
       "default_frames": "5", "sampling.steps": "2"}  # fmt: skip


def commands(heading: str) -> list[list[str]]:
    """The commands of a section, word by word."""
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^#+ {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S) or [""]
    lines = "\n".join(re.findall(r"^```bash\n(.*?)^```", section, re.M | re.S)).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def changed(values: dict[str, str]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: as the repository's root, but what is written stays apart."""
    for name in ("instructx_core", "recipes", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHON", sys.executable)
    return tmp_path


def run(command: list[str], *more: str) -> None:
    """One command to its end: `instructx` in this process, all else in its own."""
    if command[0] == "instructx":
        assert cli.main([*command[1:], *more]) == 0, command
        return
    program = {"python": [sys.executable], "accelerate": [sys.executable, "-m", "accelerate.commands.accelerate_cli"]}
    words = [*program.get(command[0], command[:1]), *command[1:], *more]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=1200)
    assert done.returncode == 0, done.stderr[-3000:]


def given(command: list[str]) -> Iterator[tuple[Path, list[str]]]:
    """Config files that a command names, each with the changes that it makes."""
    changes = [word for before, word in pairwise(command) if before == "--set"]
    if command[0] == "recipes/tiny/train":
        yield from ((path, changes) for path in sorted((ROOT / "recipes" / "tiny").glob("*.yaml")))
    elif "train" in command and (named := command[command.index("train") + 1]) != "CONFIG.yaml":
        yield ROOT / named, changes


@pytest.mark.parametrize("heading", ["Training", LAPTOP, GPU, CLUSTER])
def test_every_command_can_be_given(heading: str) -> None:
    found = commands(heading)
    assert len(found) >= 4
    for command in found:
        assert command[0] in {"instructx", "accelerate", "python", "recipes/tiny/train", "tensorboard"}
        if command[0] == "instructx" or "instructx_core" in command:
            start = 1 if command[0] == "instructx" else command.index("instructx_core") + 1
            build_parser().parse_args(command[start:])
        for path in (word for word in command if word.endswith((".py", "fsdp.yaml", "demo.png"))):
            assert (ROOT / path).is_file(), path
        for path, changes in given(command):
            assert read_train_config(path, changes).steps > 0


@pytest.mark.slow
def test_the_laptop(repository: Path) -> None:
    for command in commands(LAPTOP):
        if command[0] == "recipes/tiny/train":
            run(command, *changed(WORLD))
            assert len(list(repository.joinpath(command[1]).rglob("events.out.*"))) == 5
        elif command[1] == "evaluate":
            counts = [f"--{kind}=1" for kind in ("images", "videos", "drawn", "outside", "steps")]
            run(command, *counts)
        elif command[1] == "edit":
            run(command, "--steps", "1")
        else:  # the first shows the curves above; the other is run by test_alignment
            assert command[0] == "tensorboard" or command[1] == "benchmarks/alignment.py"
    assert (repository / "try.png").is_file()


@pytest.mark.slow
def test_one_gpu(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(golden_runs.KIWI, repository / "kiwi-edit-5b-instruct-only-diffusers")
    for command in commands(GPU):
        more = {"train": changed(LITTLE), "edit": ["--steps", "1"]}
        run(command, *more.get(command[1], []))
        if "--check" in command:
            assert "transformer_lora" in capsys.readouterr().out
    assert (repository / "snow.png").is_file() and (repository / "half.png").is_file()


@pytest.mark.slow
def test_a_cluster(repository: Path, bundled: Path) -> None:
    shutil.copytree(bundled / "mllm", repository / "Qwen2.5-VL-3B-Instruct")
    for part in ("transformer", "vae"):
        shutil.copytree(bundled / part, repository / "Wan2.1-T2V-14B-Diffusers" / part)
    pictures = write_pairs(repository / "data", count=8, size=32)
    for name in ("images", "images-and-videos", "quality"):
        shutil.copyfile(pictures, pictures.with_name(f"{name}.csv"))
    shutil.copyfile(ROOT / "instructx_core/assets/demo.png", repository / "photo.png")
    for command in commands(CLUSTER):
        more = {"new": changed(NEW), "train": changed(SHARED), "edit": ["--steps", "1"]}.get(command[1])
        if more is None:
            at = command.index("-m")
            command[at:at] = ["--num_processes", "2", "--main_process_port", "0"]
            more = changed(SHARED)
        run(command, *more)
    assert (repository / "snow.png").is_file()
