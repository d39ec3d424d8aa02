"""`instructx bench` from end to end: the bundled model with recorded answers, a tiny random Qwen as local judge."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.evaluation.bench_measure import measure_cases
from instructx_core.evaluation.bench_model import BenchModel
from instructx_core.evaluation.bench_report import compared_tables, own_tables, plot, read_run
from instructx_core.evaluation.bench_run import BenchRun
from instructx_core.evaluation.benches import BENCHES, Columns
from instructx_core.evaluation.case_log import CaseLog
from instructx_core.evaluation.judges import Answer, RecordedJudge, RefusedQuestion, local
from instructx_core.source import load_source
from support import benchmarks, public_models, tiny
from support.benchmarks import prepared
from support.commands import called, refusal
from support.places import ROOT

QUICK = {"steps": 1, "seed": 0}


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def no_model():
    pytest.fail("a model was loaded")


@pytest.mark.parametrize("name", list(BENCHES))
def test_every_benchmark_runs_with_the_recorded_judge(name, data, tmp_path, bundled_editor):
    if name == "gedit":
        pytest.importorskip("pyarrow", reason="GEDIT WAS NOT RUN: install the extra `data`")
    columns = Columns({"source": "video", "instruction": "prompt", "group": "task", "references": "ref"})
    run = prepared(name, data, tmp_path / "run", columns if name == "vie" else None)
    assert run.edit(lambda: bundled_editor, QUICK) == len(run.cases)
    for case in run.cases:
        edit, source = load_source(run.edit_of(case)), load_source(case.source)
        assert edit.pixels.shape == source.pixels.shape and edit.is_video == source.is_video
    judge = RecordedJudge(benchmarks.record(tmp_path / "answers.jsonl", run.cases, run.bench, 4))
    assert run.judge(judge, {}, frames=3) == len(run.cases)
    assert run.edit(no_model, QUICK) == 0 and run.judge(judge, {}, frames=3) == 0  # both steps resume
    (found,) = read_run(tmp_path / "run")
    assert found.judge == "GPT-4o (recorded)" and not found.unreadable and not found.missing
    last = run.bench.scores[-1]
    expected = 0.4 if last == "VIEScore" else 4
    for groups in found.means.values():
        assert all(values[last] == pytest.approx(expected) for values in groups.values())
    for table in (*own_tables([found]), *compared_tables([found])):
        assert table.rows and table.to_markdown().count("\n") > len(table.rows)


def test_command_line_from_data_to_report(data, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="NO PLOT WAS DRAWN: install the extra `metrics`")
    bench = BENCHES["imgedit"]
    kinds = ("add", "adjust", "background", "compose", "remove", "replace", "style", "action", "extract")
    benchmarks.imgedit(data, kinds)
    cases = bench.cases(data, Columns(), tmp_path)
    answers = benchmarks.record(tmp_path / "a.jsonl", cases, bench, 3)
    arguments = ["bench", "imgedit", "--data", data, "-o", tmp_path / "tiny", "--steps", 1, "--judge", answers]
    code, said = called(capsys, *arguments)
    assert code == 0 and said.strip() == str(tmp_path / "tiny")
    assert len(list((tmp_path / "tiny" / "edits").glob("*.png"))) == 9
    code, said = called(
        capsys, "bench", "report", tmp_path / "tiny", "--plot", tmp_path / "p.png", "--json", tmp_path / "r.json"
    )
    assert code == 0
    ours, theirs = said.split("**ImgEdit-Bench**, judged by GPT-4o (recorded)")
    assert "| overall of 8 | - | 3.000 |" in ours and "| extract | 1 | 3.000 |" in ours
    assert "| tiny | 3.000 |" in theirs and "| InstructX (published) | 3.560 |" in theirs
    assert theirs.index("tiny") < theirs.index("judged by Qwen2.5-VL-72B")  # never two judges in one table
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    tables = json.loads((tmp_path / "r.json").read_text())
    assert all(len({table["judge"]}) == 1 for table in tables)
    line = refusal(capsys, *arguments[:-4], "--steps", 2, "--judge", answers)
    assert "'steps' 1, not 2" in line
    assert "'vae' None, not 'other.safetensors'" in refusal(capsys, *arguments, "--vae", "other.safetensors")
    assert "'attention' None, not 'sage'" in refusal(capsys, *arguments, "--attention", "sage")
    # a study is made of what was written
    code, _ = called(capsys, "study", tmp_path / "tiny", "-o", tmp_path / "s.html")
    assert code == 0


def test_a_run_is_of_no_dtype_option(data, tmp_path, capsys, monkeypatch):
    """Its edits note their number format, as `auto` may choose another next time; older versions kept the option."""
    benchmarks.imgedit(data)
    monkeypatch.setattr(BenchRun, "edit", lambda *_: 0)
    arguments = ["bench", "imgedit", "--data", data, "-o", tmp_path / "run"]
    path = tmp_path / "run" / "run.json"
    for kept in ({}, {"dtype": None}, {"dtype": "bfloat16"}):
        if kept:
            path.write_text(json.dumps(json.loads(path.read_text()) | kept))
        for dtype in ("auto", "float32"):
            code, _ = called(capsys, *arguments, "--dtype", dtype)
            assert code == 0


def test_a_run_of_the_published_judge_stands_beside_the_paper(data, tmp_path, bundled_editor):
    run = prepared("imgedit", data, tmp_path / "mine")
    run.edit(lambda: bundled_editor, QUICK)

    class Published:
        name = "Qwen2.5-VL-72B"

        def ask(self, key, number, words, shown):
            return Answer('{"instruction": 5, "preservation": 4, "quality": 3}', 100, 10)

    run.judge(Published(), {}, frames=1)
    found = read_run(tmp_path / "mine")
    (table,) = compared_tables(found)
    assert table.judge == "Qwen2.5-VL-72B" and next(iter(table.rows)) == "mine" and len(table.rows) == 9
    assert table.rows["mine"][table.columns.index("Add")] == 4
    assert table.rows["mine"][-1] is None  # an overall score of three kinds is none
    assert found[0].prompt_tokens == 300 and found[0].answer_tokens == 30


def judged_alone(folder, bench, groups, judged):
    """A run with a case in each of `groups`, of which some are judged; what is said of it."""
    run = {"tags": {"language": "en", "intersection": "yes"}}
    cases = [{"key": str(number), "group": group, **run} for number, group in enumerate(groups)]
    (folder / "judged").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"bench": bench.name}))
    (folder / "cases.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    scores = {"judge": "x", "scores": dict.fromkeys(bench.scores, 9)}
    lines = "".join(json.dumps(case | scores) + "\n" for case in cases if case["group"] in judged)
    (folder / "judged" / "x.jsonl").write_text(lines)
    (found,) = read_run(folder)
    return found


def test_an_overall_score_is_of_every_kind_that_the_run_has(tmp_path):
    groups = ("a", "a", "b", "c")
    some = judged_alone(tmp_path / "some", BENCHES["gedit"], groups, ("a",))
    whole = judged_alone(tmp_path / "whole", BENCHES["gedit"], groups, ("a", "b", "c"))
    assert some.means["English"].keys() == {"a"} and some.missing == 2
    assert whole.means["English"]["overall"]["Q_O"] == 9 and "Chinese" not in whole.means


def test_only_masked_cases_can_lack_numbers_without_a_judge(tmp_path):
    """And a line of a case that the run does not have hides none that is missing."""
    judged_alone(tmp_path, BENCHES["openve"], ("a", "a", "b", "b", "b"), ("b",))
    for number in range(2):
        CaseLog(tmp_path / "cases.jsonl").append({"key": str(number), "group": "a", "tags": {}, "mask": "m.png"})
    for key in ("1", "old"):
        scores = {"PSNR": 30.0, "SSIM": 0.9}
        CaseLog(tmp_path / "measured.jsonl").append({"key": key, "group": "a", "tags": {}, "scores": scores})
    judged, found = read_run(tmp_path)
    assert judged.missing == 2 and found.judge == "no judge" and found.missing == 1
    assert next(own_tables([found])).notes == ["Masked cases not edited or measured yet: 1."]


def test_a_plot_draws_scores_and_no_counts(tmp_path, monkeypatch):
    """Of a benchmark without a published table."""
    from instructx_core.evaluation import bench_report

    drawn = []
    monkeypatch.setattr(bench_report, "new_figure", lambda *_: (None, [None]))
    monkeypatch.setattr(bench_report, "draw_bars", lambda axes, rows, columns, title: drawn.extend(columns))
    monkeypatch.setattr(bench_report, "save_figure", lambda *_: None)
    found = judged_alone(tmp_path / "run", BENCHES["openve"], ("a", "b"), ("a", "b"))
    plot([*own_tables([found])], tmp_path / "p.png")
    assert drawn == [*BENCHES["openve"].scores]


def test_unreadable_answers_are_asked_once_more_then_counted(data, tmp_path, bundled_editor):
    run = prepared("imgedit", data, tmp_path / "run")
    run.edit(lambda: bundled_editor, QUICK)
    asked = []

    class Careless:
        name = "careless"

        def ask(self, key, number, words, shown):
            asked.append((key, words))
            right = '{"instruction": 5, "preservation": 5, "quality": 5}'
            again = len([one for one in asked if one[0] == key]) > 1
            return Answer(right if again and key != "1002" else "I would say five.")

    run.judge(Careless(), {}, frames=1)
    assert len(asked) == 6 and asked[1][1].endswith("Answer with the JSON object alone.")
    log = run.judged("careless").read()
    assert log["1000"]["scores"] == {"overall": 5} and len(log["1000"]["answers"][0]) == 2
    assert log["1002"]["scores"] is None and log["1002"]["answers"] == [["I would say five."] * 2]
    (found,) = read_run(tmp_path / "run")
    assert found.unreadable == 1 and "extract" not in found.means["all cases"]
    assert "Cases with unreadable answers: 1;" in next(own_tables([found])).to_markdown()
    with run.judged("careless").path.open("a") as file:
        file.write('{"key": "1003", "sco')  # as a killed process leaves it
    replay = RecordedJudge(run.judged("careless").path)  # a log is a recorded judge
    again = BenchRun(tmp_path / "again", run.bench, run.cases, {"model": "m"})
    again.edits.rmdir()
    again.edits.symlink_to(run.edits)
    again.judge(replay, {}, frames=1)
    assert {k: v["scores"] for k, v in again.judged(replay.name).read().items()} == {
        k: v["scores"] for k, v in log.items()
    }


def test_a_case_that_a_judge_refuses_stops_no_other(data, tmp_path, bundled_editor, said):
    run = prepared("imgedit", data, tmp_path / "run")
    run.edit(lambda: bundled_editor, QUICK)

    class Prim:
        def __init__(self, name, refuses):
            self.name, self.refuses = name, refuses

        def ask(self, key, number, words, shown):
            if key in self.refuses:
                raise RefusedQuestion("The judge did not answer: status 400.")
            return Answer('{"instruction": 5, "preservation": 5, "quality": 5}')

    judge = Prim("prim", {"1000"})
    for count in (2, 0):  # a later call asks about it again
        assert run.judge(judge, {}, frames=1) == count
        assert "prim would not judge 1 of" in said.text and "1000: The judge did not answer" in said.text
        said.clear()
    judge.refuses = set()
    assert run.judge(judge, {}, frames=1) == 1
    with pytest.raises(InputError, match="status 400"):
        run.judge(Prim("prudish", {case.key for case in run.cases}), {}, frames=1)


@pytest.mark.parametrize("kind", ["qwen2_5", "qwen3"])
def test_a_tiny_random_qwen_is_a_local_judge(kind, data, tmp_path, bundled_editor, capsys, monkeypatch):
    monkeypatch.setattr(local, "MOST_TOKENS", 16)  # it never ends by itself
    folder = tmp_path / "tiny-qwen"
    if kind == "qwen3":
        public_models.save_qwen3(folder)
    else:
        tiny.mllm().save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
    run = prepared("imgedit", data, tmp_path / "run")
    run.edit(lambda: bundled_editor, QUICK)
    arguments = ["--judge", folder, "--judge-device", "cpu", "--no-edit"]
    code, _ = called(capsys, "bench", "imgedit", "--data", data, "-o", tmp_path / "judged", *arguments)
    assert code == 0 and not list((tmp_path / "judged" / "judged").iterdir())  # there is no edit
    for case in run.cases:
        (tmp_path / "judged" / "edits" / f"{case.key}.png").write_bytes(run.edit_of(case).read_bytes())
    code, _ = called(capsys, "bench", "imgedit", "--data", data, "-o", tmp_path / "judged", *arguments)
    assert code == 0
    (found,) = read_run(tmp_path / "judged")
    assert found.judge == "tiny-qwen, InstructX prompts"
    assert found.unreadable == 3 and found.prompt_tokens > 6 * 100 and not found.means
    log = CaseLog(next((tmp_path / "judged" / "judged").iterdir())).read()
    assert all(len(line["answers"][0]) == 2 for line in log.values())


def test_cases_that_cannot_be_edited_are_counted(data, tmp_path, bundled_editor, said):
    run = prepared("imgedit", data, tmp_path / "run")
    broken = run.cases[1].source
    broken.write_bytes(broken.read_bytes()[:200])
    for count in (2, 0):  # a later call tries it again
        assert run.edit(lambda: bundled_editor, QUICK) == count
        assert "1 of 3 cases could not be edited" in said.text and broken.name in said.text
        said.clear()
    assert "problem" in run.edited.read()["1001"]
    judge = RecordedJudge(benchmarks.record(tmp_path / "a.jsonl", run.cases, run.bench))
    run.judge(judge, {}, frames=1)
    (found,) = read_run(tmp_path / "run")
    assert found.missing == 1
    for case in run.cases:
        case.source.write_bytes(b"no picture")
        (run.edits / f"{case.key}.png").unlink(missing_ok=True)
    with pytest.raises(InputError):
        run.edit(lambda: bundled_editor, QUICK)


@pytest.mark.parametrize(
    ("error", "why"),
    [(torch.OutOfMemoryError("CUDA no"), "OutOfMemoryError: CUDA no"), (MemoryError(), "MemoryError")],
)
def test_a_case_with_too_little_memory_stops_no_other(error, why, data, tmp_path, bundled_editor, monkeypatch, said):
    plain = bundled_editor.edit_loaded

    def edit_loaded(source, *arguments, **options):
        if source.path == run.cases[0].source:
            raise error
        return plain(source, *arguments, **options)

    run = prepared("imgedit", data, tmp_path / "run")
    monkeypatch.setattr(bundled_editor, "edit_loaded", edit_loaded)
    for count in (2, 0):
        assert run.edit(lambda: bundled_editor, QUICK) == count
        assert f"000.png' needs more memory than is free ({why}); give --memory" in said.text
        said.clear()


def test_a_defect_is_no_want_of_memory(data, tmp_path, bundled_editor, monkeypatch):
    run = prepared("imgedit", data, tmp_path / "run")
    monkeypatch.setattr(bundled_editor, "edit_loaded", lambda *_, **__: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        run.edit(lambda: bundled_editor, QUICK)


def test_a_damaged_source_is_a_problem_of_its_case_alone(data, tmp_path, monkeypatch):
    """A page in the place of a clip, as a download leaves it; a later call gets past it too."""

    class Copying:
        def edit_loaded(self, source, request, **_):
            return type("Result", (), {"frames": source.pixels})()

    monkeypatch.setattr(BenchModel, "of", lambda _: BenchModel("it has no weights", "float32", no_model))
    run = prepared("openve", data, tmp_path / "run")
    run.cases[0].source.write_bytes(b"<!DOCTYPE html><title>404</title>")
    rest = len(run.cases) - 1
    judge = RecordedJudge(benchmarks.record(tmp_path / "a.jsonl", run.cases, run.bench))
    for count in (rest, 0):
        assert run.edit(Copying, QUICK) == count
        assert measure_cases(run) == 0
        assert run.judge(judge, {}, frames=1) == count
    assert "problem" in run.edited.read()[run.cases[0].key]
    (found,) = read_run(tmp_path / "run")
    assert found.missing == 1


def test_a_local_judge_takes_its_memory_after_the_edits(data, tmp_path, capsys, monkeypatch):
    benchmarks.imgedit(data, ("add",))
    (tmp_path / "qwen").mkdir()
    order = []

    class Judge:
        def __init__(self, folder, *_):
            order.append("judge")
            self.name = folder.name

    monkeypatch.setattr("instructx_core.weights.detect.find_form", lambda *_: None)
    monkeypatch.setattr(local, "LocalJudge", Judge)
    monkeypatch.setattr(BenchRun, "edit", lambda *_: order.append("edit"))
    code, _ = called(
        capsys, "bench", "imgedit", "--data", data, "-o", tmp_path / "run", "--judge", tmp_path / "qwen", "--frames", 3
    )
    assert code == 0 and order == ["edit", "judge"]


def test_numbers_without_a_judge(data, tmp_path, bundled_editor):
    run = prepared("reasonedit", data, tmp_path / "run")
    run.edit(lambda: bundled_editor, QUICK)
    with run.measured.claim(run.cases[0].key):  # as another process does
        assert measure_cases(run) == 5
    assert measure_cases(run) == 1 and measure_cases(run) == 0
    others = []  # another process measures the rest after the first case

    def meanwhile(*_):
        others.append(0 if others else measure_cases(run, lpips=lambda *_: 0.5))

    assert measure_cases(run, lpips=lambda *_: 0.5, progress=meanwhile) == 1 and others[0] == 5  # asked for later
    assert all(line["scores"].keys() == {"PSNR", "SSIM", "LPIPS"} for line in run.measured.read().values())
    (found,) = read_run(tmp_path / "run")
    assert found.judge == "no judge"
    assert 5 < found.means["all cases"]["6-Reasoning"]["PSNR"] <= 100
    assert "Understanding Scenarios" not in found.means["all cases"]  # of one of its five kinds
    tables = [table for table in compared_tables([found]) if table.judge == "no judge" and "run" in table.rows]
    assert {table.columns[1] for table in tables} == {"PSNR"}


def test_a_file_that_cannot_be_measured_stops_no_other(data, tmp_path, said):
    """An edit or a mask; a judge is still asked about the case of the latter."""
    run = prepared("reasonedit", data, tmp_path / "run")
    for case in run.cases:
        shutil.copy(case.source, run.edit_of(case))
    unread, masked = run.cases[:2]
    for path in (run.edit_of(unread), masked.mask):
        path.write_bytes(b"<!DOCTYPE html>")
    for count in (4, 0):  # a later call gets past them too
        assert measure_cases(run) == count
        assert f"2 of {count + 2} cases could not be measured; the first: {unread.key}: " in said.text
        said.clear()
    assert run.measured.read().keys() == {case.key for case in run.cases[2:]}
    judge = RecordedJudge(benchmarks.record(tmp_path / "a.jsonl", run.cases, run.bench))
    assert run.judge(judge, {}, frames=1) == 5


def test_a_run_s_folder_is_of_the_same_cases(data, tmp_path):
    run = prepared("imgedit", data, tmp_path / "run")
    BenchRun(run.folder, run.bench, run.cases, {"model": "m"})
    others = [replace(case, instruction="something else") for case in run.cases]
    with pytest.raises(InputError, match="'listed'"):
        BenchRun(run.folder, run.bench, others, {"model": "m"})


@pytest.mark.parametrize("name", ["gedit", "advancededit"])
def test_a_run_may_be_renamed_and_its_data_moved(name, data, tmp_path):
    """Pictures of tables lie in the run's own folder."""
    if name == "gedit":
        pytest.importorskip("pyarrow", reason="NO RUN OF GEDIT WAS RENAMED: install the extra `data`")
    run = prepared(name, data, tmp_path / "run")
    for case in run.cases:
        run.edit_of(case).touch()
    run.folder.rename(tmp_path / "renamed")
    data.rename(tmp_path / "moved")
    cases = run.bench.cases(tmp_path / "moved", Columns(), tmp_path / "renamed" / "sources")
    again = BenchRun(tmp_path / "renamed", run.bench, cases, {"model": "m"})
    assert all(map(again.has_edit, cases))
    others = [replace(case, source=case.source.with_name("other.png")) for case in cases]
    with pytest.raises(InputError, match="'listed'"):
        BenchRun(again.folder, run.bench, others, {"model": "m"})


def test_a_run_of_the_version_that_digested_absolute_paths_goes_on(data, tmp_path):
    run = prepared("imgedit", data, tmp_path / "run")
    digest = hashlib.sha256((run.folder / "cases.jsonl").read_bytes()).hexdigest()[:12]
    path = run.folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"listed": digest, "dtype": None}))
    BenchRun(run.folder, run.bench, run.cases, {"model": "m"})
    data.rename(tmp_path / "moved")  # from now on it may be
    cases = run.bench.cases(tmp_path / "moved", Columns(), tmp_path)
    BenchRun(run.folder, run.bench, cases, {"model": "m"})
    assert json.loads(path.read_text()) == {**run.settings, "dtype": None}


def test_columns_are_given_on_the_command_line_or_in_a_file(data, tmp_path, capsys):
    benchmarks.vie(data)
    (tmp_path / "columns.yaml").write_text(benchmarks.VIE_COLUMNS)
    for number, given in enumerate((f"{{{benchmarks.VIE_COLUMNS}}}", tmp_path / "columns.yaml")):
        output = tmp_path / str(number)
        code, _ = called(capsys, "bench", "vie", "--data", data, "-o", output, "--columns", given, "--no-edit")
        assert code == 0
        groups = [json.loads(line)["group"] for line in (output / "cases.jsonl").open()]
        assert groups == ["Swap / Change", "Add", "Ref Base Add"]


def test_a_judge_that_nobody_could_read_is_told(data, tmp_path, bundled_editor, capsys):
    run = prepared("openve", data, tmp_path / "run")
    run.edit(lambda: bundled_editor, QUICK)
    run.judge(RecordedJudge(benchmarks.record(tmp_path / "answers.jsonl", run.cases, run.bench, 99)), {}, frames=1)
    code, said = called(capsys, "bench", "report", tmp_path / "run")
    assert code == 0 and f"Cases with unreadable answers: {len(run.cases)};" in said
    for table in [*own_tables(read_run(tmp_path / "run"))]:
        assert not table.rows
    with pytest.raises(InputError, match="nothing to draw"):
        plot([*own_tables(read_run(tmp_path / "run"))], tmp_path / "p.png")


def test_torch_stays_out_of_help():
    code = "import sys; from instructx_core import cli\ntry: cli.main(['bench', '--help'])\nexcept SystemExit: pass\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules, 'instructx_core.evaluation' in sys.modules)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False False"
