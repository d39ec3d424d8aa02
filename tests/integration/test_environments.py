"""The tests hold in anybody's environment: a selection of them runs under the variables that people have set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import environment
from support.places import ROOT, TESTS

# What reads a setting of somebody's: the hub, caches, temporary folders, text, processes of their own, training.
SELECTION = (
    "test_hub.py",
    "test_download.py",
    "test_info.py",
    "test_cli.py::test_help_teaches",
    "test_cli.py::test_module_and_command_are_the_same_program",
    "test_cli.py::test_numbers_out_of_range",
    "test_cli_writes.py::test_bundled_edit_is_reproducible",
    "test_editor.py::test_hub_names_are_fetched_only_on_request",
    "test_goldens.py::test_edits_give_the_recorded_numbers[bundled]",
    "test_training_states.py::test_a_run_goes_on_from_the_state_before_a_damaged_one",
    "test_video.py",
)
NOWHERE = "/dev/null/nowhere"  # not even the administrator can make a folder there
ENVIRONMENTS = {
    "offline": {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "0",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_TOKEN": "hf_nobody",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "socks5://127.0.0.1:9",
        "CUDA_VISIBLE_DEVICES": "",
    },
    "folders": {
        "HOME": None,
        "HF_HOME": NOWHERE,
        "XDG_CACHE_HOME": NOWHERE,
        "TORCH_HOME": NOWHERE,
        "TMPDIR": "a folder with spaces",
        "OMP_NUM_THREADS": "2",
        "WORLD_SIZE": "2",
        "RANK": "1",
        "ACCELERATE_MIXED_PRECISION": "fp16",
    },
    "words": {
        "LC_ALL": "C",
        "LANG": "tlh_QO.ISO-8859-1",
        "COLUMNS": "20",
        "NO_COLOR": "1",
        "FORCE_COLOR": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "ascii",
        "TRANSFORMERS_VERBOSITY": "debug",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_tests_hold(name: str, tmp_path: Path):
    changed = dict(ENVIRONMENTS[name])
    if folder := changed.get("TMPDIR"):
        changed["TMPDIR"] = str(tmp_path / folder)
        (tmp_path / folder).mkdir()
    whole = {key: value for key, value in (os.environ | changed).items() if value is not None}
    files = [str(TESTS / part) for part in SELECTION]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, env=whole, capture_output=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-6000:]


def test_what_is_taken_out():
    variables = dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_CACHE", "https_proxy", "COLUMNS", "RANK"), "1")
    own = {"PATH": "p", "HOME": "h", "COMFYUI_PATH": "c", "OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "0"}
    whole = variables | own
    environment.settle(whole)
    assert not variables.keys() & whole.keys()
    assert whole.items() >= own.items()
    assert Path(whole["HF_HOME"]).is_dir() and not list(Path(whole["HF_HOME"]).iterdir())
