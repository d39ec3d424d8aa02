"""The page of a study and the sums over its answers; it is answered in a browser in test_study_browser."""

import itertools
import json
import re

import numpy as np
import pytest

from instructx_core.errors import InputError
from instructx_core.evaluation.study import collect, find_items, read_answers, write_study
from instructx_core.evaluation.study.collect import NAMES, agreement
from support.commands import called, refusal
from support.studies import METHODS, answers, folders


def study_of(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="study">(.*?)</script>', text, re.DOTALL)[1])


def test_page_is_one_file_without_names(tmp_path, capsys):
    made = folders(tmp_path)
    code, said = called(capsys, "study", *made, "-o", tmp_path / "study.html")
    assert code == 0 and said.strip() == str(tmp_path / "study.html")
    text = (tmp_path / "study.html").read_text(encoding="utf-8")
    assert not any(name in text for name in METHODS)
    assert not re.search(r"(src|href)\s*=\s*[\"']?https?:", text)
    study = study_of(tmp_path / "study.html")
    assert study["methods"] == ["m1", "m2", "m3"] and len(study["items"]) == 3
    assert len(study["questions"]) == 3
    key = json.loads((tmp_path / "study.key.json").read_text())
    assert sorted(key["methods"].values()) == sorted(METHODS) and key["items"] == ["a", "b", "c"]
    clip = next(item for item in study["items"] if item["video"])
    assert clip["source"].startswith("data:video/mp4;base64,")
    assert "</script><!-- <b>" in study["items"][0]["instruction"]  # as text, which ends no script


def test_the_same_study_is_the_same_page(tmp_path):
    made = folders(tmp_path)
    items, _ = find_items(made)
    pages = []
    for name in ("one", "two"):
        write_study(items, METHODS, tmp_path / f"{name}.html", seed=3)
        pages.append((tmp_path / f"{name}.html").read_bytes())
    assert pages[0] == pages[1]
    keys = [write_study(items, METHODS, tmp_path / "x.html", seed=seed).read_text() for seed in range(6)]
    assert len({json.dumps(json.loads(key)["methods"]) for key in keys}) > 1  # ids are drawn


def test_cases_that_a_method_lacks_are_left_out(tmp_path, capsys):
    made = folders(tmp_path)
    (made[1] / "b.png").unlink()
    items, left_out = find_items(made)
    assert [item.name for item in items] == ["a", "c"] and left_out == 1
    code, _ = called(capsys, "study", *made, "-o", tmp_path / "s.html", "--items", 1)
    assert code == 0 and len(study_of(tmp_path / "s.html")["items"]) == 1


def rename_source(root, old, new):
    (root / "sources" / old).rename(root / "sources" / new)
    listing = root / "cases.csv"
    listing.write_text(listing.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: (made[0].parent / "cases.csv").unlink(), "--cases"),
        (lambda made: [path.unlink() for path in made[0].iterdir()], "NAME.png"),
        (lambda made: (made[0].parent / "sources" / "a.png").unlink(), "a.png"),
        (lambda made: (made[0].parent / "cases.csv").write_text("name,source\na,sources/a.png\n"), "instruction"),
        (lambda made: (made[0].parent / "cases.csv").write_text("source,instruction\nx/a.png,b\ny/a.png,b\n"), "twice"),
        (lambda made: made[0].joinpath("a.png").rename(made[0] / "a.mp4"), "mixed"),
        (lambda made: made[0].joinpath("a.mp4").write_bytes(b"0"), "two results for 'a': 'a.mp4' and 'a.png'"),
        (lambda made: rename_source(made[0].parent, "c.mp4", "c.mov"), "c.mov': browsers do not show it"),
        (lambda made: made[2].rename(made[2].parent / "gone"), "not a folder"),
    ],
)
def test_what_a_study_cannot_be_made_of(tmp_path, change, words, capsys):
    made = folders(tmp_path)
    change(made)
    assert words in refusal(capsys, "study", *made, "-o", tmp_path / "s.html")
    assert not list(tmp_path.glob("s.*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "folder"),
        (["x", "-o", "y.txt"], "NAME.html"),
        (["--collect", "x.json", "-o", "y.html"], "--collect"),
        (["--collect", "x.json"], "x.json"),
        (["--collect", "x.json", "--cases", "c.csv"], "--cases is for making a page"),
        (["x", "-o", "y.html", "--plot", "y.png"], "--plot is for --collect"),
    ],
)
def test_arguments_that_do_not_fit(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refusal(capsys, "study", *arguments)


def test_collecting_gives_means_intervals_agreement_and_a_plot(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="NO PLOT WAS DRAWN: install the extra `metrics`")
    made = folders(tmp_path)
    called(capsys, "study", *made, "-o", tmp_path / "study.html")
    study, key = study_of(tmp_path / "study.html"), json.loads((tmp_path / "study.key.json").read_text())
    best = next(number for number, name in key["methods"].items() if name == METHODS[1])
    files = [answers(tmp_path, study, rater, lambda item, method: 5 if method == best else 2) for rater in "xy"]
    code, said = called(
        capsys, "study", "--collect", *files, "--plot", tmp_path / "p.png", "--json", tmp_path / "o.json"
    )
    assert code == 0 and "2 raters, 3 items" in said
    rows = [line for line in said.splitlines() if line.startswith(("| our", "| the", "| plain"))]
    assert rows[0].startswith(f"| {METHODS[1]} | 5.00 (5.00 to 5.00)")
    assert "alpha" in said and "instruction 1.00" in said
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads((tmp_path / "o.json").read_text())
    assert numbers["raters"] == 2 and {score["n"] for score in numbers["scores"]} == {6, 18}


def test_without_the_key_methods_keep_their_ids(tmp_path, capsys):
    made = folders(tmp_path)
    called(capsys, "study", *made, "-o", tmp_path / "study.html")
    study = study_of(tmp_path / "study.html")
    (tmp_path / "study.key.json").unlink()
    outcome = collect([answers(tmp_path, study, "x", lambda item, method: 3)])
    assert {score.method for score in outcome.scores} == {"m1", "m2", "m3"}
    assert outcome.agreement["quality"] is None  # one rater


def test_a_key_among_the_answers_names_the_methods(tmp_path, capsys):
    """As `--collect answers/*.json` hands it over; alone it is refused."""
    made = folders(tmp_path)
    called(capsys, "study", *made, "-o", tmp_path / "study.html")
    study = study_of(tmp_path / "study.html")
    (tmp_path / "answers").mkdir()
    answered = answers(tmp_path / "answers", study, "x", lambda item, method: 3)
    key = tmp_path / "study.key.json"
    code, said = called(capsys, "study", "--collect", key, answered)
    assert code == 0 and all(name in said for name in METHODS)
    key.rename(tmp_path / "answers" / key.name)
    code, again = called(capsys, "study", "--collect", *sorted((tmp_path / "answers").glob("*.json")))
    assert code == 0 and again == said
    assert "a study's key" in refusal(capsys, "study", "--collect", tmp_path / "answers" / key.name)


def test_questions_that_a_method_was_not_rated_in(tmp_path, capsys, monkeypatch):
    """The table and the plot have every question that anybody answered."""
    from instructx_core.evaluation import plotting

    rated = [("m1", {"instruction": 4}), ("m2", {"instruction": 2, "quality": 3})]
    entries = [{"item": 0, "method": method, "scores": scores} for method, scores in rated]
    (tmp_path / "a.json").write_text(json.dumps({"study": "s", "rater": "x", "answers": entries}))
    drawn = []
    monkeypatch.setattr(plotting, "draw_bars", lambda axes, rows, columns, title: drawn.extend(columns))
    monkeypatch.setattr(plotting, "save_figure", lambda *_: None)
    axes = type("Axes", (), {"set_ylim": lambda *_: None})()
    monkeypatch.setattr(plotting, "new_figure", lambda *_: (None, [axes]))
    code, said = called(capsys, "study", "--collect", tmp_path / "a.json", "--plot", tmp_path / "p.png")
    assert code == 0 and drawn == ["instruction", "quality", "all"]
    assert "| m1 | 4.00 | - | - | 4.00 | 1 |" in said and "| m2 | 2.00 | - | 3.00 | 2.50 | 2 |" in said


def test_intervals_are_over_items():
    rng = np.random.default_rng(0)
    from instructx_core.evaluation.study.collect import _score

    rows = [(rater, item, "m1", "quality", int(rng.integers(1, 6))) for item in range(40) for rater in "abc"]
    score = _score("m1", "quality", rows)
    values = np.array([row[4] for row in rows]).reshape(40, 3).mean(1)
    spread = 1.96 * values.std(ddof=1) / 40**0.5
    assert (score.low, score.high) == pytest.approx((score.mean - spread, score.mean + spread), abs=0.06)
    assert _score("m1", "quality", rows[:3]).low is None


def test_agreement_is_krippendorff_s_alpha():
    """The textbook's example (Krippendorff 2011, section C, interval data): alpha = 0.849."""
    table = {
        "a": [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        "b": [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        "c": [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        "d": [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    }
    rows = [(r, i, "m", "q", v) for r, values in table.items() for i, v in enumerate(values) if v is not None]
    assert agreement(rows) == pytest.approx(0.849, abs=0.001)
    assert agreement([(*row[:4], 3) for row in rows]) is None
    chance = [
        (r, i, "m", "q", v)
        for (r, i), v in zip(
            itertools.product("ab", range(500)), np.random.default_rng(1).integers(1, 6, 1000), strict=True
        )
    ]
    assert abs(agreement(chance)) < 0.1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value.pop("study"), "no study answers"),
        (lambda value: value["answers"].clear(), "too early"),
        (lambda value: value["answers"][0]["scores"].update(quality=6), "1 to 5"),
        (lambda value: value["answers"][0]["scores"].update(quality=True), "1 to 5"),
        (lambda value: value["answers"][0]["scores"].update(quality="5"), "1 to 5"),
        (lambda value: value["answers"][0]["scores"].update(beauty=5), "beauty"),
        (lambda value: value["answers"].append(value["answers"][0]), "twice"),
        (lambda value: value["answers"].append([1]), "an answer is"),
    ],
)
def test_damaged_answers(tmp_path, change, words):
    scores = dict.fromkeys(NAMES, 3)
    value = {"study": "s", "rater": "x", "answers": [{"item": 0, "method": "m1", "scores": scores}]}
    change(value)
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=words):
        read_answers(tmp_path / "a.json")


def test_files_that_do_not_belong_together(tmp_path):
    def write(name, study, rater):
        value = {"study": study, "rater": rater, "answers": [{"item": 0, "method": "m1", "scores": {"quality": 3}}]}
        (tmp_path / name).write_text(json.dumps(value))
        return tmp_path / name

    one = write("1.json", "s", "x")
    with pytest.raises(InputError, match="different study"):
        collect([one, write("2.json", "t", "y")])
    with pytest.raises(InputError, match="rater"):
        collect([one, write("3.json", "s", "x")])
    with pytest.raises(InputError, match="not the key"):
        collect([one], write("4.key.json", "s", "x"))
