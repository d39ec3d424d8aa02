"""Several processes share one run of `instructx bench`, and a killed one leaves nothing behind."""

import json
import os
import shutil
import subprocess
import sys
import threading
from copy import copy, deepcopy
from dataclasses import dataclass, replace

import pytest
import torch

from instructx_core.config import GuidanceConfig
from instructx_core.errors import InputError
from instructx_core.evaluation.bench_model import BenchModel
from instructx_core.evaluation.bench_report import read_run
from instructx_core.evaluation.bench_run import BenchRun
from instructx_core.evaluation.benches import BENCHES, Columns
from instructx_core.evaluation.case_log import CaseLog, locked
from instructx_core.evaluation.judges import RecordedJudge
from support import benchmarks
from support.benchmarks import prepared
from support.places import ROOT

QUICK = {"steps": 1, "seed": 0}


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def unneeded():
    pytest.fail("a model was loaded, or hashed as older versions did")


class Copying:
    """A model without weights."""

    def edit_loaded(self, source, request, **_):
        return type("Result", (), {"frames": source.pixels})()


def test_many_threads_share_the_cases(data, tmp_path, monkeypatch):
    """No case is edited or judged twice; both end with every case done."""
    monkeypatch.setattr(BenchModel, "of", lambda _: BenchModel("it has no weights", "float32", unneeded))
    kinds = ("add",) * 8
    benchmarks.imgedit(data, kinds)
    bench = BENCHES["imgedit"]
    cases = bench.cases(data, Columns(), tmp_path)
    record = benchmarks.record(tmp_path / "a.jsonl", cases, bench)
    made = []

    class Slow(Copying):
        def edit_loaded(self, source, request, **_):
            threading.Event().wait(0.02)
            return super().edit_loaded(source, request)

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


def test_edits_of_two_models_are_not_mixed(data, tmp_path, bundled_editor):
    """Though they lie in one folder, one after the other."""
    run = prepared("imgedit", data, tmp_path / "run")
    with run.edited.claim(run.cases[0].key):  # as another process does
        assert run.edit(lambda: bundled_editor, QUICK) == 2
    trained = deepcopy(bundled_editor)
    with torch.no_grad():
        next(trained.denoiser.parameters()).add_(1e-3)
    with pytest.raises(InputError, match="by another model .* remove edits/, edited.jsonl, judged/ and measured.jsonl"):
        run.edit(lambda: trained, QUICK)
    assert run.edit(lambda: bundled_editor, QUICK) == 1
    assert run.edit(unneeded, QUICK) == 0
    run.edit_of(run.cases[0]).unlink()
    lines = run.edited.read().values()
    run.edited.path.unlink()
    for line in lines:  # as an older version wrote them
        run.edited.append({name: value for name, value in line.items() if name not in ("model", "dtype")})
    assert run.edit(lambda: trained, QUICK) == 1


def test_of_two_models_that_start_together_the_first_to_finish_an_edit_goes_on(data, tmp_path, monkeypatch):
    run = prepared("imgedit", data, tmp_path / "run")

    class First(Copying):
        maker = BenchModel("one", "bfloat16", unneeded)

    class Second(Copying):
        maker = BenchModel("other", "float32", unneeded)

        def edit_loaded(self, source, request, **_):
            assert run.edit(First, QUICK) == 2
            return super().edit_loaded(source, request)

    monkeypatch.setattr(BenchModel, "of", lambda editor: editor.maker)
    with pytest.raises(InputError, match="made in bfloat16, and the model is loaded in float32; give --dtype bfloat16"):
        run.edit(Second, QUICK)
    assert sorted(path.name for path in run.edits.iterdir()) == ["1001.png", "1002.png"]
    assert run.edited.read().keys() == {"1001", "1002"}
    assert run.edit(First, QUICK) == 1


def test_of_two_calls_that_start_together_with_other_settings_one_is_refused(data, tmp_path):
    bench = BENCHES["imgedit"]
    cases = bench.cases(benchmarks.imgedit(data), Columns(), tmp_path)
    path, refused = tmp_path / "run" / "run.json", []

    def start():
        with pytest.raises(InputError, match="was started with 'steps' 1, not 2"):
            BenchRun(path.parent, bench, cases, {"steps": 2})
        refused.append(True)

    other = threading.Thread(target=start)
    run = BenchRun(path.parent, bench, cases, {"steps": 1})
    settings = path.read_text()
    path.unlink()
    with locked(path):  # as the call that is first
        other.start()
        other.join(0.3)
        path.write_text(settings)
    other.join()
    assert refused and json.loads(path.read_text()) == run.settings


def test_a_later_version_s_config_is_the_same_model(bundled_editor):
    @dataclass(frozen=True)
    class LaterConfig(GuidanceConfig):
        added: int = 0

    config, later, quicker = bundled_editor.config, copy(bundled_editor), copy(bundled_editor)
    later.config = replace(config, guidance=LaterConfig(**vars(config.guidance)))
    quicker.config = replace(config, sampling=replace(config.sampling, steps=config.sampling.steps + 1))
    made = BenchModel.of(bundled_editor)
    assert BenchModel.of(later).model == made.model != BenchModel.of(quicker).model
    assert BenchModel.of(later).older() != made.older()


def test_a_run_of_the_version_that_hashed_whole_configs_goes_on(data, tmp_path, monkeypatch):
    run = prepared("imgedit", data, tmp_path / "run")
    first = run.cases[0]
    shutil.copy(first.source, run.edit_of(first))
    run.edited.append({"key": first.key, "group": first.group, "seconds": 1.0, "weights": "whole"})
    monkeypatch.setattr(BenchModel, "of", lambda _: BenchModel("same", "float32", lambda: "another"))
    with pytest.raises(InputError, match="by another model, or by the same in another number format; .* its --dtype"):
        run.edit(Copying, QUICK)
    monkeypatch.setattr(BenchModel, "of", lambda _: BenchModel("same", "float32", lambda: "whole"))
    with run.edited.claim(run.cases[1].key):  # as another process does
        assert run.edit(Copying, QUICK) == 1
    monkeypatch.setattr(BenchModel, "of", lambda _: BenchModel("same", "float32", lambda: "with a new field"))
    assert run.edit(Copying, QUICK) == 1


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
