"""benchmarks/speed.py: a row for every way, also for those that cannot be gone here."""

from __future__ import annotations

import sys

import pytest
import torch

from instructx_core import InputError
from support.places import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import speed


def test_a_way_that_is_refused_is_a_row(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def load(memory: str, attention: str = "sdpa") -> str:
        if attention == "flash":
            raise InputError("flash is not installed.")
        return attention

    monkeypatch.setattr(speed, "one_edit", lambda *_: (torch.zeros(1, 2, 2, 3), 1.0))
    job = speed.Job(source=None, instruction="", steps=2, height=None, width=None)
    speed.measure(load, {"flash": {"attention": "flash"}, "sage": {"attention": "sage"}}, job, repeats=1)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[1] == ["flash", "flash", "is", "not", "installed."]
    assert rows[2] == ["sage", "1.00", "100.0"] and len(rows) == 3 + len(speed.FEWER_STEPS)


def test_ways_are_those_of_the_device(monkeypatch: pytest.MonkeyPatch):
    """On a machine with a GPU, the CPU's run leaves out what needs one."""
    seen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(speed, "measure", lambda load, ways, *_: seen.append(ways))
    monkeypatch.setattr(sys, "argv", ["speed.py", "--device", "cpu"])
    speed.main()
    assert seen == [speed.WAYS]


def test_one_step_has_no_time(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["speed.py", "--steps", "1"])
    with pytest.raises(SystemExit):
        speed.main()
    assert "--steps: give 2 or more" in capsys.readouterr().err
