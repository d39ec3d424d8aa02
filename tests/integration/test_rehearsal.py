"""benchmarks/rehearsal.py and gpu.py at tiny sizes on the CPU: every step of theirs runs and says something."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.places import ROOT

PARTS = {"MLLM reads", "VAE encodes", "DiT step", "VAE decodes"}


def ran(module: str, *words: str) -> str:
    path = os.pathsep.join(str(ROOT / folder) for folder in ("", "tests", "benchmarks"))
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, env=os.environ | {"PYTHONPATH": path},
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert not done.returncode, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["kiwi", "bernini", "coinve", "coinve-fp8"])
def test_a_rehearsal(name: str, tmp_path: Path):
    ran(
        "rehearsal", name, str(tmp_path / "model"), "--tiny", "--only", "edit", "--out", str(tmp_path), "--threads", "1"
    )
    result = json.loads((tmp_path / f"rehearsal-{name}.json").read_text())
    assert "refused" not in result and result["finite"] and result["windows"] == 2
    assert {f"{stretch}: {part}" for stretch in ("picture", "windows") for part in PARTS} <= result["most"].keys()
    assert all(said["planned"] > said["weights"] > 0 for said in result["planned"]["windows"].values())


@pytest.mark.slow
def test_a_process_over_the_limit_is_ended(tmp_path: Path):
    ran("rehearsal", "bernini", str(tmp_path / "model"), "--tiny", "--limit", "0.1", "--out", str(tmp_path))
    assert "more than 0.1 GiB of its own" in json.loads((tmp_path / "rehearsal-bernini.json").read_text())["refused"]


def test_an_edit_that_is_not_finite_is_kept_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import rehearsal

    monkeypatch.setattr(rehearsal, "write", lambda *_: {})
    monkeypatch.setattr(rehearsal, "watched", lambda *_: ('{"finite": false}', {"resident": 1.0}))
    given = {"model": "kiwi", "folder": tmp_path, "out": tmp_path, "tiny": True, "only": "edit", "limit": None}
    with pytest.raises(SystemExit, match="not finite"):
        rehearsal.rehearse(argparse.Namespace(**given, dtype="bfloat16", memory="model", threads=1))
    assert json.loads((tmp_path / "rehearsal-kiwi.json").read_text())["finite"] is False


@pytest.mark.slow
def test_the_script_for_a_gpu(tmp_path: Path):
    ran("gpu", "--tiny", "--device", "cpu", "--out", str(tmp_path / "gpu.json"))
    result = json.loads((tmp_path / "gpu.json").read_text())
    for name in ("full", "fp8", "group"):
        assert result[name]["found"]["peak"].keys() == PARTS, result[name]
        assert result[name]["found"]["seconds_a_step"] > 0
    assert result["bare 5B"]["found"] > 0 and result["bare 1.3B"]["found"] > 0
    assert not result["skipped"] and {"1.3B, flash", "1.3B, sage", "1.3B, compiled"} <= result.keys()
