"""Every reader of outside data, given valid inputs made bad by seeded chance: success, or one line; never a traceback.

Run one case again by its name, `pytest tests/integration/test_fuzz.py -k picture-17-`, or by `support/run_fuzz.py`,
which shows the whole traceback and leaves the files there. The many cases of `-m slow` name their seeds when they fail.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.fuzz import READERS, one
from support.fuzz_shared import Shared

# Cases by default; 20 times as many under `-m slow`, on other seeds.
COUNTS = dict.fromkeys(READERS, 10) | {"picture": 60, "array": 30, "video": 20, "cli": 25, "config": 25, "lora": 20}
COUNTS |= {"state": 6, "pool": 8, "table": 10, "windows": 10, "train-config": 15, "published": 15}
MORE = 20


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return Shared(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind, count in COUNTS.items() for seed in range(count)])
def test_case(kind: str, seed: int, shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    problem = one(kind, seed, shared, tmp_path)
    assert problem is None, f"{kind} {seed}: {problem}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", COUNTS)
def test_many_cases(kind: str, shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    problems = []
    for seed in range(COUNTS[kind], COUNTS[kind] * (1 + MORE)):
        folder = tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.chdir(folder)
        if problem := one(kind, seed, shared, folder):
            problems.append(f"{kind} {seed}: {problem}")
    assert not problems, f"{len(problems)} of {COUNTS[kind] * MORE} failed:\n" + "\n\n".join(problems)
