"""The command line: its help, what it refuses and how."""

import subprocess
import sys
from pathlib import Path

import pytest

from instructx_core import cli
from instructx_core.cli.world import LATER_GROUPS, WORLD_GROUPS
from instructx_core.demo import DEMO_EDITS
from instructx_core.world import EVERY_GROUP, GROUPS, HELD_OUT_SEED

COMMANDS = ("edit", "demo", "new", "train", "evaluate", "measure", "world", "convert", "calibrate", "info", "download")
COMMANDS += ("cache", "study", "bench")
CLIP = DEMO_EDITS[1].source


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail when a model is loaded: what is refused here must be refused before."""

    def load(*args: object, **options: object) -> None:
        pytest.fail("a model was loaded before the input was checked")

    monkeypatch.setattr("instructx_core.editor.Editor.from_pretrained", load)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run in this process; the one line on stderr with which the input was refused."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:  # argparse leaves this way
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert captured.out == ""
    assert captured.err.startswith("instructx") and captured.err.count("\n") == 1
    return captured.err


# --- help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert "examples:" in text and f"instructx {command}" in text


def test_help_is_instant():
    """`--help` and wrong options need neither torch nor numpy."""
    script = "import sys; from instructx_core.cli import build_parser; build_parser(); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_module_and_command_are_the_same_program():
    command = [sys.executable, "-m", "instructx_core", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stderr == ""
    assert all(command in result.stdout for command in COMMANDS)


def test_help_names_the_groups_of_the_world():
    assert ", ".join(GROUPS) == WORLD_GROUPS
    assert ", ".join(EVERY_GROUP[len(GROUPS) :]) == LATER_GROUPS.replace(" (clips only)", "")


# --- refusals, without a model


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--steps", "0"), "--steps"),
        (("--steps", "2.5"), "--steps"),
        (("--steps", "1001"), "--steps"),
        (("--seed", "-1"), "--seed"),
        (("--seed", str(2**64)), "--seed"),
        (("--guidance-scale", "nan"), "--guidance-scale"),
        (("--guidance-scale", "-1"), "--guidance-scale"),
        (("--shift", "0"), "--shift"),
        (("--shift", "inf"), "--shift"),
        (("--height", "0", "--width", "64"), "--height"),
        (("--height", "64"), "height and width"),
        (("--colour", "red"), "--colour"),
    ],
)
def test_numbers_out_of_range(options, word, picture: Path, capsys, no_model):
    line = refused(capsys, "edit", picture, "make it blue", "-o", picture.with_name("out.png"), *options)
    assert word in line


def test_no_command(capsys):
    assert "COMMAND" in refused(capsys)


@pytest.mark.parametrize("instruction", ["", "  \n "])
def test_empty_instruction(instruction: str, picture: Path, capsys, no_model):
    assert "instruction" in refused(capsys, "edit", picture, instruction, "-o", picture.with_name("out.png"))


def test_missing_source(tmp_path: Path, capsys, no_model):
    line = refused(capsys, "edit", tmp_path / "nowhere.png", "make it blue", "-o", tmp_path / "out.png")
    assert "nowhere.png" in line


@pytest.mark.parametrize("content", [b"", b"not a video at all", b"\x89PNG\r\n\x1a\n cut off"])
def test_source_that_is_neither_picture_nor_video(content: bytes, tmp_path: Path, capsys, no_model):
    source = tmp_path / "in.mp4"
    source.write_bytes(content)
    assert "in.mp4" in refused(capsys, "edit", source, "make it blue", "-o", tmp_path / "out.mp4")


def test_truncated_picture(picture: Path, capsys, no_model):
    picture.write_bytes(picture.read_bytes()[:200])
    assert "in.png" in refused(capsys, "edit", picture, "make it blue", "-o", picture.with_name("out.png"))


def test_missing_reference(picture: Path, capsys, no_model):
    arguments = ("edit", picture, "use it", "-o", picture.with_name("out.png"), "--reference", "nowhere.png")
    assert "nowhere.png" in refused(capsys, *arguments)


@pytest.mark.parametrize(
    "output", ["in.png", "link.png", ".", "missing/out.png", "in.png/out.png", "out.mp4", "out", "out.xyz"]
)
def test_output_that_cannot_be(output: str, picture: Path, capsys, no_model):
    (picture.parent / "link.png").symlink_to(picture)
    before = picture.read_bytes()
    refused(capsys, "edit", picture, "make it blue", "-o", picture.parent / output)
    assert picture.read_bytes() == before


def test_output_must_not_replace_a_reference(picture: Path, capsys, no_model):
    reference = picture.with_name("object.png")
    reference.write_bytes(picture.read_bytes())
    refused(capsys, "edit", picture, "use it", "--reference", reference, "-o", reference)


def test_video_into_a_picture(tmp_path: Path, capsys, no_model):
    refused(capsys, "edit", CLIP, "make it blue", "-o", tmp_path / "out.png")


def test_missing_or_foreign_model(tmp_path: Path, picture: Path, capsys):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "nowhere", tmp_path / "empty", picture):
        refused(capsys, "info", folder)
        refused(
            capsys, "edit", picture, "make it blue", "-o", tmp_path / "out.png", "--model", folder, "--device", "cpu"
        )


def test_missing_device(picture: Path, capsys):
    arguments = ("edit", picture, "make it blue", "-o", picture.with_name("out.png"), "--device")
    assert "abacus" in refused(capsys, *arguments, "abacus")


def test_missing_training_config(tmp_path: Path, capsys):
    assert "nowhere.yaml" in refused(capsys, "train", tmp_path / "nowhere.yaml")


def test_options_that_would_do_nothing(tmp_path: Path, capsys):
    assert "--processes is for --check" in refused(capsys, "train", tmp_path / "c.yaml", "--processes", "2")


def test_evaluation_into_a_missing_folder(tmp_path: Path, capsys, no_model):
    refused(capsys, "evaluate", "--json", tmp_path / "missing" / "numbers.json")
    assert "no pictures" in refused(capsys, "evaluate", "--photographs", tmp_path)


@pytest.mark.parametrize(
    "options",
    [("--count", "0"), ("--group", "sharpen"), ("--frames", "0"), ("--size", "8"), ("--frames", "3", "--size", "33")],
)
def test_world_options_out_of_range(options, tmp_path: Path, capsys):
    refused(capsys, "world", "-o", tmp_path / "pairs", *options)
    assert not (tmp_path / "pairs").exists()


def test_world_never_writes_held_out_samples(tmp_path: Path, capsys):
    refused(capsys, "world", "-o", tmp_path / "pairs", "--count", "2", "--seed", HELD_OUT_SEED - 1)


def test_world_keeps_what_is_there(picture: Path, capsys):
    refused(capsys, "world", "-o", picture.parent)
    refused(capsys, "world", "-o", picture)
    assert picture.exists()
