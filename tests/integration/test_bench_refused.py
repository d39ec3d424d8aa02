"""What `instructx bench` refuses, in one sentence and before any work."""

import json

import pytest

from support import benchmarks
from support.commands import called, refusal


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--columns", "nothing: {a: b}"], "--columns"),
        (["--columns", "columns: {source: 1}"], "give a mapping of strings to strings"),
        (["--columns", "["], "--columns"),
        (["--columns", "none.yaml"], "--columns is 'none.yaml'; give YAML, or a file of it"),
        (["--judge", "http://127.0.0.1:9/v1"], "--judge-model"),
        (["--judge-model", "m"], "belong to --judge; give it too"),
        (["--judge", "ftp://x/v1", "--judge-model", "m"], "not a judge's address"),
        (["-o", __file__], "folder for the run"),
        (["--judge", "none.jsonl"], "none.jsonl"),
        (["--judge", "none"], "none"),
        (["--prompts", "none.json"], "none.json"),
        (["--clip", "none"], "nothing is fetched"),
    ],
)
def test_what_is_refused_before_any_work(data, tmp_path, extra, words, capsys, idle, monkeypatch):
    benchmarks.imgedit(data)
    monkeypatch.chdir(tmp_path)
    assert words in refusal(capsys, "bench", "imgedit", "--data", data, "-o", tmp_path / "run", *extra)
    assert not (tmp_path / "run" / "run.json").exists()


def test_prompts_that_are_not_read_are_refused(data, tmp_path, capsys, idle):
    benchmarks.LAYOUTS["openve"](data)
    (tmp_path / "p.json").write_text('{"video": "Judge it."}')
    asked = ["--prompts", tmp_path / "p.json", "-o", tmp_path / "run"]
    assert "has built-in prompts" in refusal(capsys, "bench", "openve", "--data", data, *asked)
    benchmarks.vie(data)
    asked += ["--columns", f"{{{benchmarks.VIE_COLUMNS}}}"]
    assert "both video and reference" in refusal(capsys, "bench", "vie", "--data", data, *asked)


def test_prompts_without_a_kind_are_refused(data, tmp_path, capsys, idle):
    """Else that kind were asked of in our words, under the published judge's name."""
    benchmarks.imgedit(data)
    (tmp_path / "p.json").write_text('{"add": "Judge it.", "extract": "Judge it."}')
    arguments = ["bench", "imgedit", "--data", data, "-o", tmp_path / "run", "--prompts", tmp_path / "p.json"]
    line = refusal(capsys, *arguments)
    assert "for 'remove'" in line and "--prompts" in line
    code, _ = called(capsys, *arguments, "--no-edit", "--limit", 1)
    assert code == 0


@pytest.mark.parametrize("name", ["gedit", "advancededit"])
def test_a_file_is_no_folder_for_pictures_of_a_table(name, data, tmp_path, capsys, idle):
    if name == "gedit":
        pytest.importorskip("pyarrow", reason="GEDIT'S TABLES WERE NOT READ: install the extra `data`")
    benchmarks.LAYOUTS[name](data)
    (tmp_path / "run").write_text("a file")
    line = refusal(capsys, "bench", name, "--data", data, "-o", tmp_path / "run")
    assert "folder for the run" in line and str(tmp_path / "run") in line


def test_reports_of_what_is_no_run(tmp_path, capsys):
    assert "run.json" in refusal(capsys, "bench", "report", tmp_path)
    (tmp_path / "run.json").write_text('{"bench": "none"}')
    assert "not a run" in refusal(capsys, "bench", "report", tmp_path)
    (tmp_path / "run.json").write_text('{"bench": "imgedit"}')
    assert "no scores yet" in refusal(capsys, "bench", "report", tmp_path)
    for file, line in (
        ("judged/a.jsonl", {"key": "7", "answers": [["4"]]}),
        ("judged/a.jsonl", {"key": "7", "judge": "j", "group": "add", "tags": {}, "scores": {"overall": "4"}}),
        ("measured.jsonl", {"key": "7", "scores": {"PSNR": 30.0}}),
        ("cases.jsonl", {"key": "7", "source": "x.png"}),
    ):
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(line))
        assert f"{path.name}': `instructx bench` did not write the line of the case '7'; delete it" in refusal(
            capsys, "bench", "report", tmp_path
        )
        path.unlink()
    assert "is not a folder" in refusal(capsys, "bench", "imgedit", "--data", tmp_path / "none", "-o", tmp_path / "x")
