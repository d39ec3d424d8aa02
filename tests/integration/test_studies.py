"""Studies: their configs are read, their report is made from JSON, and a short one repeats to the bit."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from instructx_core.errors import InputError
from support.places import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

from studies import report, study


@pytest.mark.parametrize("name", study.studies())
def test_studies_are_read_over_the_base(name: str, tmp_path: Path) -> None:
    """Each arm's stage is a config that the trainer takes."""
    import recipes.tiny  # noqa: F401  its stages
    from instructx_core.training.config import read_train_config

    found = study.read_study(name)
    assert len(found.arms) >= 2 and found.paper and found.medium in report.MEASURES
    for arm in found.arms:
        given = dict(arm.stage) | {"output": str(tmp_path / "x"), "start": {"model": "x"}}
        (tmp_path / "stage.yaml").write_text(yaml.safe_dump(given))
        assert read_train_config(tmp_path / "stage.yaml").steps == found.arms[0].stage["steps"]
    assert len({json.dumps([arm.start, arm.stage]) for arm in found.arms}) == len(found.arms)


def test_an_unknown_study() -> None:
    with pytest.raises(InputError, match="9a-queries"):
        study.read_study("none")


def put(results: Path, arm: str, seed: int, left: float, success: float) -> None:
    path = study.result_file(results, "9a-queries", arm, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    videos = {"left": left, "success": success, "psnr": 30.0, "zeroed": 0.02, "shuffled": 0.04}
    run = {"seed": seed, "steps": 1200, "trained_parameters": 7_000_000, "videos": videos}
    path.write_text(json.dumps(run))


@pytest.mark.parametrize(
    ("first", "second", "success", "words"),
    [
        ((0.30, 0.31, 0.29), (0.40, 0.41, 0.40), 0.8, "better"),
        ((0.40, 0.41, 0.40), (0.30, 0.31, 0.29), 0.8, "worse"),
        ((0.30, 0.45, 0.29), (0.40, 0.31, 0.40), 0.8, "not resolved at this size"),
        ((0.30, 0.31, 0.29), (0.40, 0.41, 0.40), 0.3, "not resolved at this size"),
    ],
)
def test_the_report_says_what_is_resolved(first, second, success, words, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="NO PLOT WAS DRAWN: install the extra `metrics`")
    for seed, values in enumerate(zip(first, second, strict=True)):
        for arm, left in zip(("separate", "shared"), values, strict=True):
            put(tmp_path / "results", arm, seed, left, success)
    page = report.write(tmp_path / "results", tmp_path / "evidence.md")
    text = page.read_text()
    assert f"**{words}**" in text and "| separate | 3 | 1200 | 7,000,000 |" in text
    assert "with its context zeroed 0.020 and shuffled 0.040" in text
    plot = tmp_path / "images" / "evidence" / "9a-queries.png"
    assert plot.stat().st_size <= 100_000
    assert "not run yet" in text  # the other studies
    before = (page.read_bytes(), plot.read_bytes())
    report.write(tmp_path / "results", tmp_path / "evidence.md")
    assert (page.read_bytes(), plot.read_bytes()) == before


def test_the_committed_page_is_made_from_the_committed_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="THE PAGE WAS NOT COMPARED: install the extra `metrics`")
    made = report.write(study.RESULTS, tmp_path / "evidence.md")
    assert made.read_text() == report.PAGE.read_text()


def short_base() -> dict:
    short = yaml.safe_load(study.BASE.read_text())
    short["generator_steps"] = 2
    short["stage"] |= {"steps": 3, "save_every": 3, "warmup": 1}
    short["stage"]["data"] |= {"images": 12, "videos": 4, "image_batch": 2, "video_batch": 1, "sizes": [[32, 32]]}
    short["stage"]["data"] |= {"lengths": [5]}
    short["measure"] |= {"images": 0, "videos": 1, "video_groups": ["recolor", "add"], "frames": [5], "steps": 1}
    return short


@pytest.mark.slow
def test_the_paper_s_variants_are_aligned_with_one_frozen_dit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import alignment
    from studies import run

    monkeypatch.setattr(alignment, "DRAWS", 1)
    read = study.merged(yaml.safe_load((study.HERE / "4-alignment.yaml").read_text()), {"stage": {"steps": 3}})
    read["stage"] |= {"validation": 4, "validate_every": 3}
    (tmp_path / "4-alignment.yaml").write_text(yaml.safe_dump(read))
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(short_base()))
    monkeypatch.setattr(study, "HERE", tmp_path)
    monkeypatch.setattr(study, "BASE", tmp_path / "base.yaml")
    run.run(["4-alignment"], tmp_path / "work", tmp_path / "results", (0,), tmp_path / "base.yaml")
    found = [json.loads(path.read_text()) for path in sorted((tmp_path / "results").rglob("*.json"))]
    assert len(found) == 3 and all(one["alignment"]["loss"] != one["alignment"]["before"] for one in found)


@pytest.mark.slow
def test_a_short_study_repeats_to_the_bit(tmp_path: Path) -> None:
    import torch
    from studies import run

    (tmp_path / "base.yaml").write_text(yaml.safe_dump(short_base()))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for place in ("one", "two"):
            run.run(["9a-queries"], tmp_path / place, tmp_path / place / "results", (0,), tmp_path / "base.yaml")
    finally:
        torch.set_num_threads(threads)
    files = sorted((tmp_path / "one" / "results").rglob("*.json"))
    assert len(files) == 2
    for path in files:
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes()
    separate, shared = (json.loads(path.read_text()) for path in files)
    assert separate["trained_parameters"] > shared["trained_parameters"]
    assert separate["videos"]["n"] == 2
    written = files[0].stat().st_mtime_ns
    run.run(["9a-queries"], tmp_path / "one", tmp_path / "one" / "results", (0,), tmp_path / "base.yaml")
    assert files[0].stat().st_mtime_ns == written  # nothing is run again
