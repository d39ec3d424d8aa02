"""Several processes share one run of `instructx bench`, and a killed one leaves nothing behind."""

import json
import os
import subprocess
import sys
import threading

import pytest

from instructx_core.errors import InputError
from instructx_core.evaluation import bench_run
from instructx_core.evaluation.bench_report import read_run
from instructx_core.evaluation.bench_run import BenchRun
from instructx_core.evaluation.benches import BENCHES, Columns
from instructx_core.evaluation.case_log import CaseLog
from instructx_core.evaluation.judges import RecordedJudge
from support import benchmarks
from support.places import ROOT


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_many_threads_share_the_cases(data, tmp_path, monkeypatch):
    """No case is edited or judged twice; both end with every case done."""
    monkeypatch.setattr(bench_run, "fingerprint", lambda _: "it has no weights")
    kinds = ("add",) * 8
    benchmarks.imgedit(data, kinds)
    bench = BENCHES["imgedit"]
    cases = bench.cases(data, Columns(), tmp_path)
    record = benchmarks.record(tmp_path / "a.jsonl", cases, bench)
    made = []

    class Slow:
        def edit_loaded(self, source, request, **_):
            threading.Event().wait(0.02)
            return type("Result", (), {"frames": source.pixels})()

    def work():
        run = BenchRun(tmp_path / "run", bench, cases, {"model": "m"})
        made.append((run.edit(Slow, {"steps": 1, "seed": 0}), run.judge(RecordedJudge(record), {}, 1)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4 and sum(edited for edited, _ in made) == sum(judged for _, judged in made) == 8
    lines = (tmp_path / "run" / "edited.jsonl").read_text().splitlines()
    assert len(lines) == 8 and len({json.loads(line)["key"] for line in lines}) == 8


@pytest.mark.slow
def test_processes_share_the_cases_and_a_killed_one_is_made_up_for(data, tmp_path):
    benchmarks.imgedit(data, ("add", "remove", "replace") * 8)
    bench = BENCHES["imgedit"]
    cases = bench.cases(data, Columns(), tmp_path)
    answers = benchmarks.record(tmp_path / "a.jsonl", cases, bench)
    command = [sys.executable, "-m", "instructx_core", "bench", "imgedit", "--data", str(data)]
    command += ["-o", str(tmp_path / "run"), "--judge", str(answers), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(2)]
    edits = tmp_path / "run" / "edits"
    while not (edits.is_dir() and len(list(edits.glob("*.png"))) >= 3):
        assert any(process.poll() is None for process in started)
        threading.Event().wait(0.05)
    started[0].kill()
    started[0].communicate()
    _, said = started[1].communicate()
    assert started[1].returncode == 0, said
    subprocess.run(command, env=environment, check=True)  # what the killed one had claimed is done now
    (found,) = read_run(tmp_path / "run")
    assert not found.missing and not found.unreadable
    keys = [json.loads(line)["key"] for line in (tmp_path / "run" / "judged" / "GPT-4o_recorded.jsonl").open()]
    assert sorted(keys) == sorted(case.key for case in cases)


def test_a_case_that_cannot_be_locked_is_refused(tmp_path):
    (tmp_path / ".claims").write_text("no folder")
    with pytest.raises(InputError, match=r"\.claims' cannot be written \(.*\); free space"):
        CaseLog(tmp_path / "log.jsonl").claim("a").__enter__()


def test_a_torn_line_is_left_aside_and_its_case_done_again(tmp_path, said):
    log = CaseLog(tmp_path / "log.jsonl")
    log.append({"key": "a", "n": 1})
    with log.path.open("a") as file:
        file.write('{"key": "b", "sco')  # as a killed process leaves it
    assert log.read().keys() == {"a"}
    log.append({"key": "c"})
    assert log.read().keys() == {"a", "c"} and "damaged" in said.text
    log.append({"key": "a", "n": 2})
    assert log.read()["a"]["n"] == 2
    with log.path.open("ab") as file:
        file.write('{"key": "d", "said": "图'.encode()[:-1])  # inside a character
    assert log.read().keys() == {"a", "c"}
