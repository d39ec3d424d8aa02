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
    import recipes.insightedit_tiny  # its stages
    import recipes.tiny  # noqa: F401
    from instructx_core.training.config import read_train_config

    found = study.read_study(name)
    assert len(found.arms) >= 2 and found.paper and found.medium in report.MEASURES
    for stage in (one for arm in found.arms for one in arm.stages):
        given = {"start": {"model": "x"}} | stage | {"output": str(tmp_path / "x")}
        (tmp_path / "stage.yaml").write_text(yaml.safe_dump(given))
        assert read_train_config(tmp_path / "stage.yaml").steps == stage["steps"]
    assert len({json.dumps([arm.start, arm.stages, arm.measure]) for arm in found.arms}) == len(found.arms)


def test_an_unknown_study() -> None:
    with pytest.raises(InputError, match="9a-queries"):
        study.read_study("none")


def put(results: Path, arm: str, seed: int, left: float, success: float, mllm: str = "ab12") -> None:
    path = study.result_file(results, "9a-queries", arm, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    videos = {"left": left, "success": success, "psnr": 30.0, "zeroed": 0.02, "shuffled": 0.04}
    videos["groups"] = {"add": {"success": success}, "remove": {"success": success / 2}}
    curve = [[step, 1.0 / step + left] for step in (20, 40, 60)]
    run = {"seed": seed, "steps": 1200, "trained_parameters": 7_000_000, "videos": videos, "curve": curve}
    path.write_text(json.dumps(run | {"began_from": {"mllm": mllm, "generator": "cd34"}}))


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
    assert (
        f"| success by kind | add | remove |\n|---|---|---|\n| separate | {success:.2f} | {success / 2:.2f} |" in text
    )
    plot = tmp_path / "images" / "evidence" / "9a-queries.png"
    assert plot.stat().st_size <= 100_000
    assert "not run yet" in text  # the other studies
    before = (page.read_bytes(), plot.read_bytes())
    report.write(tmp_path / "results", tmp_path / "evidence.md")
    assert (page.read_bytes(), plot.read_bytes()) == before


def test_one_seed_has_a_difference_and_no_interval(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="NO PLOT WAS DRAWN: install the extra `metrics`")
    put(tmp_path / "results", "separate", 1, 0.30, 0.8)
    put(tmp_path / "results", "shared", 0, 0.40, 0.8)
    page = report.write(tmp_path / "results", tmp_path / "evidence.md")
    assert "separate against shared, no seed of both arms: **not run yet**." in page.read_text()
    put(tmp_path / "results", "shared", 1, 0.35, 0.8)
    (tmp_path / "results" / "9a-queries" / "shared-0.json").unlink()
    text = report.write(tmp_path / "results", tmp_path / "evidence.md").read_text()
    assert "separate against shared, left -0.050: **one seed, no interval**." in text
    assert "| separate | 1 | 1200 | 7,000,000 | 0.300 | 0.800 |" in text and "nan" not in text


def test_the_report_says_where_runs_began_differently(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="NO PLOT WAS DRAWN: install the extra `metrics`")
    for seed, mllm in enumerate(("ab12", "ab12", "ef56")):
        put(tmp_path / "results", "separate", seed, 0.3, 0.8, mllm)
        told = "**These runs did not all start from the same mllm.**"
        page = report.write(tmp_path / "results", tmp_path / "evidence.md")
        assert (told in page.read_text()) == (seed == 2)


def test_the_committed_page_is_made_from_the_committed_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="THE PAGE WAS NOT COMPARED: install the extra `metrics`")
    made = report.write(study.RESULTS, tmp_path / "evidence.md")
    assert made.read_text() == report.PAGE.read_text()


LONG = {"clips": 2, "seconds": 1, "window": "17f", "steps": 1}


def shorten(monkeypatch: pytest.MonkeyPatch, folder: Path, steps: int) -> None:
    """Take studies from copies with few steps, examples and measures."""
    folder.mkdir()
    for path in study.HERE.glob("*.yaml"):
        plain = yaml.safe_load(path.read_text())
        every = plain.get("arms", {}).values()
        stages = [plain.setdefault("stage", {}), *(one["stage"] for one in every if "stage" in one)]
        stages += [plain["alignment"]] if "alignment" in plain else []  # of the base, for a stage that is like it
        for stage in (*stages, *(one for arm in every for one in arm.get("before", ()))):
            stage |= {name: steps for name in ("steps", "validate_every") if name in stage}
            stage |= {"validation": 4} if "validation" in stage else {}
            data = stage.get("data", {})
            data |= {"images": 12} if "images" in data else {}
            data |= {"videos": 4} if data.get("videos") else {}
        if path.name in study.BASES.values():
            plain |= {"generator_steps": 2}
            plain["stage"] |= {"save_every": 1, "warmup": 1, "log_every": 1}
            small = {"image_batch": 2, "video_batch": 1, "sizes": [[32, 32]], "lengths": [5]}
            plain["stage"]["data"] |= small if "lengths" in plain["stage"]["data"] else {"image_batch": 2}
            plain["measure"] |= {"images": 1, "videos": 1 if plain["measure"]["videos"] else 0, "steps": 1}
            plain["measure"] |= {"groups": ["recolor", "add"]}
            plain["measure"] |= {"video_groups": ["recolor"], "frames": [5]} if "frames" in plain["measure"] else {}
        else:
            measure = plain.get("measure", {})
            measure |= {name: LONG[name] for name in LONG if name in measure}
            measure |= {name: 1 for name in ("images", "videos") if measure.get(name)}
        (folder / path.name).write_text(yaml.safe_dump(plain))
    monkeypatch.setattr(study, "HERE", folder)


def results(folder: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("*.json"))]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What studies share: the generator, and stages of the same configs."""
    return tmp_path_factory.mktemp("work")


@pytest.mark.slow
@pytest.mark.parametrize("name", study.studies())
def test_every_study_runs_in_two_steps(name: str, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import alignment
    from studies import run

    from support import tiny_insightedit

    monkeypatch.setattr(alignment, "DRAWS", 1)
    shorten(monkeypatch, tmp_path / "studies", 2)
    if (found := study.read_study(name, tmp_path / "studies")).base == "insight":
        made = tiny_insightedit.save_start(tmp_path / "made")
        for part, place in (("model", "editing/model"), ("clip", "clip/model/clip")):
            target = tmp_path / "insight" / "runs" / "insightedit" / place
            target.parent.mkdir(parents=True)
            made[part].rename(target)
    places = (work, tmp_path / "results", (0,), tmp_path / "studies", tmp_path / "insight", 6)
    run.run([name], *places)
    runs = results(tmp_path / "results")
    assert {one["arm"] for one in runs} == {arm.name for arm in found.arms}
    for one in runs:
        assert one[found.medium] and one["trained_parameters"] > 0
        assert [step for step, _ in one["curve"]] == [1, 2]
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")}
    next((tmp_path / "results").rglob("*.json")).unlink()
    run.run([name], *places)  # measured again, trained not
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")} == before
    assert results(tmp_path / "results") == runs


def test_a_study_of_insightedit_says_what_it_starts_from(tmp_path: Path) -> None:
    from studies import run

    with pytest.raises(InputError, match=r"recipes.insightedit_tiny train FOLDER"):
        run.run(["insight-tab4-iaa"], tmp_path / "work", tmp_path / "results", (0,))


@pytest.mark.slow
def test_a_killed_study_goes_on_and_repeats_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from studies import run

    from instructx_core.training.trainer import Trainer

    class Kill(BaseException):
        pass

    real, calls, at = Trainer._save, [0], [0]

    def save(self, *arguments, **named):
        real(self, *arguments, **named)
        calls[0] += 1
        if calls[0] == at[0]:
            raise Kill

    monkeypatch.setattr(Trainer, "_save", save)
    shorten(monkeypatch, tmp_path / "studies", 3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for place, kills in (("one", ()), ("two", (1, 1, 2, 1))):
            for at[0] in (*kills, 0):
                calls[0] = 0
                told = (tmp_path / place, tmp_path / place / "results", (0,), tmp_path / "studies")
                if at[0]:
                    with pytest.raises(Kill):
                        run.run(["9a-queries"], *told)
                else:
                    run.run(["9a-queries"], *told)
    finally:
        torch.set_num_threads(threads)
    files = sorted((tmp_path / "one" / "results").rglob("*.json"))
    assert len(files) == 2
    for path in files:
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes()
    separate, shared = (json.loads(path.read_text()) for path in files)
    assert separate["trained_parameters"] > shared["trained_parameters"]
    assert separate["videos"]["n"] == 1


def test_an_estimate_is_of_the_sizes_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    from studies import estimate

    measured = []
    monkeypatch.setattr(estimate.running, "stage_configs", lambda study, arm, *_: [arm.stage])
    monkeypatch.setattr(estimate, "seconds_a_step", lambda stage: measured.append(stage["data"]["sizes"]) or 1.0)
    found, known = study.read_study("9a-queries"), {}
    arm = found.arms[0]
    for change in ({}, {"seed": 5}, {"data": {"sizes": [[128, 128]]}}):
        estimate._known(known, found, study.Arm("x", arm.start, (study.merged(arm.stage, change),), {}), None)
    assert measured == [[[64, 64]], [[128, 128]]]


def test_a_seam_is_what_a_join_adds() -> None:
    import torch
    from studies.measuring import _seam

    source = torch.zeros(9, 4, 4, 3)
    target = source.clone()
    target[:, :2] = 1.0  # the edit; below is left alone
    made = target.clone()
    made[5:, 2:] += 0.25  # a jump of a half of the picture between frames 4 and 5
    made[:, :2] = torch.rand(9, 2, 4, 3)
    assert _seam(made, source, target, [5]) == pytest.approx(0.125)
    assert _seam(made, source, target, [3]) == pytest.approx(-0.125 / 7)
    assert _seam(target, source, target, [3, 5]) == 0


def test_curves_are_of_what_counted_in_the_end(tmp_path: Path) -> None:
    """A run that was killed at step 60 and went on from 40."""
    from studies.curves import BINS, curve
    from torch.utils.tensorboard import SummaryWriter

    for name, first, value in (("a", 20, 1.0), ("b", 60, 2.0)):
        with SummaryWriter(str(tmp_path / name)) as writer:
            for step in range(first, first + 60, 20):
                writer.add_scalar("error", value, step)
    assert curve(tmp_path) == [(20, 1.0), (40, 1.0), (60, 2.0), (80, 2.0), (100, 2.0)]
    with SummaryWriter(str(tmp_path / "c")) as writer:
        for step in range(1, 101):
            writer.add_scalar("error", step, step)
    assert len(curve(tmp_path)) <= BINS and curve(tmp_path)[0] == (7, 4.0)
