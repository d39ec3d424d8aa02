"""Each benchmark's published layout, its questions and its scoring rule; published tables as they were printed."""

import json
import math

import pytest
import torch

from instructx_core.errors import InputError
from instructx_core.evaluation.bench_report import PUBLISHED, read_published
from instructx_core.evaluation.benches import BENCHES, Columns
from instructx_core.evaluation.benches.case import safe_name
from instructx_core.evaluation.benches.imgedit import read_prompts
from instructx_core.evaluation.benches.vie import PUBLISHED as VIE_NAMES
from instructx_core.evaluation.judges import parse
from instructx_core.images import read_image
from support import benchmarks

VIE = Columns({"source": "video", "instruction": "prompt", "group": "task", "references": "ref"})


def cases_of(name, root):
    data, scratch = root / "data", root / "scratch"
    data.mkdir()
    columns = VIE if name == "vie" else Columns()
    return BENCHES[name].cases(benchmarks.LAYOUTS[name](data), columns, scratch)


@pytest.fixture(params=list(BENCHES))
def read(request, tmp_path):
    if request.param == "gedit":
        pytest.importorskip("pyarrow", reason="GEDIT'S TABLES WERE NOT READ: install the extra `data`")
    return BENCHES[request.param], cases_of(request.param, tmp_path)


def test_layouts_are_read_as_published(read):
    _, cases = read
    assert len(cases) >= 2 and len({case.key for case in cases}) == len(cases)
    for case in cases:
        assert case.source.is_file() and case.instruction and case.group
        assert json.loads(json.dumps(case.to_dict()))["source"] == str(case.source.resolve())
        assert all(character.isalnum() or character in "_.-" for character in case.key)


def test_questions_ask_for_what_the_rule_scores(read):
    """The best answer has the best score and the worst the worst, and the words say how to answer."""
    bench, cases = read
    for case in cases:
        questions = bench.questions(case, {})
        bounds = []
        for best in (True, False):
            answers = []
            for question in questions:
                assert case.instruction in question.words or question.shown == ("edited",)
                assert '{"' in question.words and all(name in question.words for name in question.scores)
                text = json.dumps({name: scale.high if best else scale.low for name, scale in question.scores.items()})
                answers.append(parse(question, text))
            bounds.append(bench.score(answers))
        high, low = bounds
        assert set(high) <= set(bench.scores) and bench.scores[-1] in high
        assert all(high[name] > low[name] for name in high)


def test_imgedit(tmp_path):
    cases = cases_of("imgedit", tmp_path)
    bench = BENCHES["imgedit"]
    assert [case.group for case in cases] == ["add", "remove", "extract"]
    assert bench.score([{"a": 5, "b": 4, "c": 3}]) == {"overall": 4}
    assert "extract" not in bench.summaries["overall of 8"] and len(bench.summaries["overall of 8"]) == 8
    assert read_prompts(tmp_path / "data") == {}
    prompts = {"add": "Judge <edit_prompt> now."}
    (tmp_path / "data" / "Benchmark" / "Basic" / "prompts.json").write_text(json.dumps(prompts))
    assert read_prompts(tmp_path / "data") == prompts
    (question,) = bench.questions(cases[0], prompts)
    assert question.words == f"Judge {cases[0].instruction} now." and question.lines and question.count == 3
    assert not bench.questions(cases[1], prompts)[0].lines  # a kind that the download has no prompt of


def test_gedit_languages_and_intersection(tmp_path):
    pytest.importorskip("pyarrow", reason="GEDIT'S TABLES WERE NOT READ: install the extra `data`")
    cases = cases_of("gedit", tmp_path)
    assert [case.key for case in cases] == ["en-k0", "en-k1", "cn-k0"]
    assert [case.tags["intersection"] for case in cases] == ["yes", "no", "yes"]
    assert read_image(cases[0].source).shape == (64, 64, 3)
    scores = BENCHES["gedit"].score([{"success": 9, "restraint": 4}, {"naturalness": 8, "cleanness": 9}])
    assert scores == {"Q_SC": 4, "Q_PQ": 8, "Q_O": pytest.approx(math.sqrt(32))}


def test_gedit_refuses_a_language_of_no_table(tmp_path):
    row = {"key": "k", "instruction": "x", "input_image_raw": "x.png", "task_type": "y", "instruction_language": "zh"}
    (tmp_path / "gedit.jsonl").write_text(json.dumps(row))
    benchmarks.picture(tmp_path / "x.png", 0)
    with pytest.raises(InputError, match="line 1: the language is 'zh'; give en or cn"):
        BENCHES["gedit"].cases(tmp_path, Columns(), tmp_path)


def test_vie_reads_any_list_by_its_columns(tmp_path):
    cases = cases_of("vie", tmp_path)
    assert [case.group for case in cases] == ["Swap / Change", "Add", "Ref Base Add"]
    assert [len(case.references) for case in cases] == [0, 0, 1]
    bench = BENCHES["vie"]
    assert bench.score([{"a": 8, "b": 9, "c": 7}])["average"] == 8
    four = bench.score([{"a": 8, "b": 9, "c": 7, "d": 4}])
    assert four == {"instruction": 8, "preservation": 9, "quality": 7, "similarity": 4, "average": 7}
    (plain,), (referenced,) = bench.questions(cases[0], {}), bench.questions(cases[2], {})
    assert len(plain.scores) == 3 and len(referenced.scores) == 4 and referenced.shown[0] == "references"
    (published,) = bench.questions(cases[0], {"video": "Their words."})
    answer = json.dumps(dict.fromkeys(VIE_NAMES[:3], 6) | {"instruction": "make it blue", "reason": "so"})
    assert bench.score([parse(published, answer)])["average"] == 6
    with pytest.raises(InputError, match="'group'"):
        bench.cases(tmp_path / "data", Columns(), tmp_path)
    renamed = Columns(VIE.names, {"Object Swap": "Mine"}, "list.jsonl")
    assert bench.cases(tmp_path / "data", renamed, tmp_path)[0].group == "Mine"


@pytest.mark.parametrize(
    ("name", "names", "words"),
    [
        ("vie", {**VIE.names, "reference": "ref"}, "there is no column 'reference'; choose from key, source"),
        ("vie", {**VIE.names, "references": "reff"}, "references is 'reff', which no row of .*list.jsonl' has"),
        ("reasonedit", {"source": "picture"}, "Reason-Edit has no list of cases; leave it out"),
    ],
)
def test_columns_that_name_nothing_are_refused(tmp_path, name, names, words):
    """Else optional ones, such as references, would be left out in silence."""
    data = benchmarks.LAYOUTS[name](tmp_path)
    with pytest.raises(InputError, match=f"^--columns.*{words}"):
        BENCHES[name].cases(data, Columns(names), tmp_path / "scratch")


def test_openve_bounds_scores_by_the_first():
    score = BENCHES["openve"].score([{"instruction": 2, "consistency": 5, "quality": 1}])
    assert score == {"instruction": 2, "consistency": 2, "quality": 1, "overall": pytest.approx(5 / 3)}


def test_refvie_needs_references(tmp_path):
    data = benchmarks.openve(tmp_path, reference=True)
    listing = data / "benchmark_videos.csv"
    listing.write_text(listing.read_text().replace("ref1.png", ""))
    with pytest.raises(InputError, match="ref_image"):
        BENCHES["refvie"].cases(data, Columns(), tmp_path)


def test_advancededit_has_two_instructions_a_mask_and_a_word(tmp_path):
    cases = cases_of("advancededit", tmp_path)
    assert [case.tags["kind"] for case in cases[:2]] == ["understanding", "reasoning"]
    assert cases[0].word == "square" and cases[2].word == ""  # a removal shows no thing that it names
    mask = read_image(cases[0].mask)[..., 0]
    assert mask[:, 8:24].min() == 1 and mask.sum() == 64 * 16


def test_advancededit_refuses_more_instructions_than_kinds(tmp_path):
    """As the synthesis's own records have them: the first is a plain one, which would count as understanding."""
    listing = benchmarks.advancededit(tmp_path) / "advanced.json"
    records = json.loads(listing.read_text())
    records[1]["instruction"] *= 2
    listing.write_text(json.dumps(records))
    with pytest.raises(InputError, match="entry 2: it has 4 instructions; give one of understanding and one of reason"):
        BENCHES["advancededit"].cases(tmp_path, Columns(), tmp_path)


def test_another_table_s_mask_is_not_taken(tmp_path):
    """Of two tables with one folder for their pictures, each has its own."""
    benchmarks.advancededit(tmp_path)
    (record, *_) = json.loads((tmp_path / "advanced.json").read_text())
    (tmp_path / "advanced.json").unlink()
    pixels = benchmarks.SIZE**2
    for name, counts in (("white", [0, pixels]), ("black", [pixels])):
        record["segmentation"]["counts"] = counts
        (tmp_path / f"{name}.json").write_text(json.dumps([record]))
        cases = BENCHES["advancededit"].cases(tmp_path, Columns(table=f"{name}.json"), tmp_path / "scratch")
        assert read_image(cases[0].mask).mean() == (name == "white")
    assert len(list((tmp_path / "scratch").iterdir())) == 2


def test_another_table_s_picture_is_not_taken(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="GEDIT'S TABLES WERE NOT READ: install the extra `data`")
    parquet = pytest.importorskip("pyarrow.parquet")
    benchmarks.gedit(tmp_path)
    (path,) = (tmp_path / "data").iterdir()
    first = BENCHES["gedit"].cases(tmp_path, Columns(), tmp_path / "scratch")
    table = parquet.read_table(path).to_pylist()
    table[0]["input_image_raw"] = table[2]["input_image_raw"]
    parquet.write_table(pyarrow.Table.from_pylist(table), path)
    second = BENCHES["gedit"].cases(tmp_path, Columns(), tmp_path / "scratch")
    assert [a.source == b.source for a, b in zip(first, second, strict=True)] == [False, True, True]
    assert torch.equal(read_image(second[0].source), read_image(second[2].source))


def test_reasonedit_pairs_lines_with_pictures_by_number(tmp_path):
    cases = cases_of("reasonedit", tmp_path)
    assert [case.word for case in cases[:3]] == ["circle 1", "circle 2", "circle 10"]
    assert cases[0].source.name == "1.png" and cases[2].source.name == "10.png"
    assert "CLIP" not in cases[0].instruction
    folder = tmp_path / "data" / "1-Left-Right"
    (folder / "text.txt").write_text("one line CLIP: word\n")
    with pytest.raises(InputError, match="3 pictures and 1 lines"):
        BENCHES["reasonedit"].cases(tmp_path / "data", Columns(), tmp_path)


@pytest.mark.parametrize("name", list(BENCHES))
def test_a_folder_of_something_else(name, tmp_path):
    with pytest.raises(InputError) as refused:
        BENCHES[name].cases(tmp_path, Columns(), tmp_path / "scratch")
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: (data / "Benchmark" / "singleturn" / "animal" / "001.png").unlink(), "001.png"),
        (lambda data: (data / "Benchmark" / "Basic" / "basic_edit.json").write_text("[]"), "no cases"),
        (lambda data: (data / "Benchmark" / "Basic" / "basic_edit.json").write_text('{"a": 1}'), "mapping"),
        (lambda data: (data / "Benchmark" / "Basic" / "basic_edit.json").write_text('{"a": {"id": "x"}}'), "edit_type"),
    ],
)
def test_a_damaged_download(tmp_path, change, words):
    change(benchmarks.imgedit(tmp_path))
    with pytest.raises(InputError, match=words):
        BENCHES["imgedit"].cases(tmp_path, Columns(), tmp_path / "scratch")


def test_published_tables_name_source_and_judge():
    tables = read_published()
    for table in tables:
        assert table["bench"] in BENCHES and table["source"] and table["judge"] and table["note"]
        assert table["subset"] in BENCHES[table["bench"]].subsets
        for row in table["rows"]:
            assert len(row["values"]) == len(table["columns"])
        for column in table["columns"]:
            known = {*BENCHES[table["bench"]].scores, "PSNR", "SSIM", "LPIPS", "CLIPScore"}
            assert column["score"] in known
    assert PUBLISHED.name == "published.json"


def test_published_numbers_are_the_papers():
    tables = {table["title"]: table for table in read_published()}
    rows = {title: {row["method"]: row["values"] for row in table["rows"]} for title, table in tables.items()}
    assert rows["GEdit-Bench"]["InstructX"] == [7.47, 7.22, 6.68]
    assert rows["ImgEdit-Bench"]["InstructX"][-1] == 3.85 and rows["ImgEdit-Bench"]["GPT-4o"][-1] == 4.51
    assert rows["VIE-Bench, Remove"]["MiniMax-Remover"] == [6.963, 7.518, 6.037, 6.839]
    assert rows["VIE-Bench, Style / Tone Change"]["InstructX"] == [9.650, 9.099, 8.839, 9.196]
    assert rows["VIE-Bench, Ref Base Add"]["Kling"] == [9.714, 9.571, 8.714, 9.285, 9.321]
    two = [table for table in read_published() if table["title"] == "AdvancedEdit-Eval"]
    assert [table["judge"] for table in two] == ["not named", "no judge"]
    assert two[1]["rows"][-1]["values"] == [21.002, 22.871, 0.716, 0.071]
    for values in rows["ImgEdit-Bench"].values():
        assert values[-1] == pytest.approx(sum(values[:-1]) / 8, abs=0.012)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a b/c", "a_b_c"),
        ("../..", "case"),
        ("x" * 300, "x" * 120),
        ("把天空变成紫色" * 20, ("把天空变成紫色" * 6)[:40]),  # three bytes a character
    ],
)
def test_a_key_as_a_file_name(key, name):
    assert safe_name(key) == name
