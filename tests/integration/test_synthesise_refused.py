"""What `instructx synthesise` refuses, and what becomes of experts' errors and damaged outputs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import instructx_core.synthesis.run as running
from instructx_core.errors import InputError
from instructx_core.evaluation.judges import RefusedQuestion
from instructx_core.evaluation.judges.remote import RemoteJudge
from instructx_core.synthesis import store as storing
from instructx_core.synthesis.config import SynthesisConfig, WorldClips, read_synthesis_config
from instructx_core.synthesis.experts import ExpertFailed
from instructx_core.synthesis.manifest import checksum
from instructx_core.synthesis.on_ray import ClipWorker
from instructx_core.synthesis.one_clip import open_clips, open_experts
from instructx_core.synthesis.preview import write_preview
from instructx_core.synthesis.run import synthesise
from instructx_core.synthesis.shards import read_shard
from support.commands import called, refusal
from support.shards import check_sums


def config(folder: Path, count: int = 3, **fields) -> SynthesisConfig:
    return SynthesisConfig("add_remove", str(folder), world=WorldClips(count, frames=1), **({"shard": 2} | fields))


class Stop(BaseException):
    """A kill."""


def footage_config(folder: Path, **change: object) -> Path:
    """A config of footage, whose models are empty folders: good until one is loaded."""
    from PIL import Image

    (folder / "clips").mkdir(exist_ok=True)
    (folder / "model").mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), "red").save(folder / "clips/a.png")
    model = str(folder / "model")
    service = {"kind": "service", "url": "http://127.0.0.1:9/v1", "model": "x"}
    kinds = {"detect": "detector", "segment": "sam2", "erase": "inpainting", "redraw": "picture-edit"}
    experts = {role: {"kind": kind, "model": model} for role, kind in kinds.items()}
    experts |= {"describe": service, "judge": service, "flow": {"kind": "block-matching"}}
    for role, more in change.pop("experts", {}).items():
        experts[role] = experts[role] | more if more else None
    plain = {"recipe": "swap_dynamic", "output": str(folder / "out"), "clips": str(folder / "clips")} | change
    file = folder / "pairs.yaml"
    file.write_text(json.dumps(plain | {"experts": {role: one for role, one in experts.items() if one}}))
    return file


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipe": "swap_static"}, "swap_static needs experts for pose, animate"),
        ({"experts": {"redraw": None}}, "swap_dynamic needs experts for redraw"),
        ({"experts": {"flow": None}}, "swap_dynamic needs experts for flow"),
        ({"experts": {"erase": {"settings": {"steps": "many"}}}}, "experts.erase.settings.steps is 'many'"),
        ({"experts": {"erase": {"settings": {"grow": -3}}}}, "an integer from 0 to 1000"),
        ({"experts": {"detect": {"settings": {"threshold": 2}}}}, "experts.detect.settings.threshold is 2"),
        ({"experts": {"segment": {"settings": {"steps": 2}}}}, "sam2 has no setting 'steps'; it has none"),
        ({"experts": {"describe": {"prompts": {"subjectz": "x"}}}}, "experts.describe has no prompt 'subjectz'"),
        ({"experts": {"judge": {"prompts": {"rate": "How good is it?"}}}}, "lacks the slot {sentence}"),
        ({"experts": {"detect": {"prompts": {"portray": "x"}}}}, "experts.detect has no prompt 'portray'; it has none"),
        ({"experts": {"flow": {"model": "x"}}}, "block-matching has no model"),
        ({"experts": {"judge": {"copies": 3}}}, "copies and gpus are for local models; leave them out for service"),
        ({"experts": {"judge": {"url": "127.0.0.1:8000/v1"}}}, "is not a judge's address"),
        ({"experts": {"redraw": {"model": "none"}}}, "experts.redraw: 'none' is not a folder"),
        ({"clips": "none"}, "'none' is not a folder"),
        ({"film": 500}, "film is 500; it needs experts.cuts"),
        ({"frames": 8, "least_frames": 9}, "least_frames is 9, but clips have at most 8; give no more."),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_loaded(tmp_path, change, words, capsys):
    assert words in refusal(capsys, "synthesise", footage_config(tmp_path, **change))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["clips", "clips/inner/out"])
def test_the_output_is_not_among_the_clips(tmp_path, place, capsys):
    file = footage_config(tmp_path, output=str(tmp_path / place))
    assert "would be taken for footage" in refusal(capsys, "synthesise", file)


def test_experts_that_a_recipe_does_not_ask_are_not_needed(tmp_path):
    settings = read_synthesis_config(footage_config(tmp_path, references=False, background="any"))
    assert set(settings.experts) - set(settings.asked) == {"redraw", "flow"}


def test_the_key_of_another_service_is_not_an_address(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    file = footage_config(tmp_path, experts={"judge": {"url": None}})
    assert "kind: service requires url, other kinds do not take it" in refusal(capsys, "synthesise", file)


def test_only_one_of_page_and_plan(tmp_path, capsys):
    file = footage_config(tmp_path, rates={"erase": 0})
    assert "not allowed with" in refusal(capsys, "synthesise", file, "--preview", "--plan", 10)
    assert "--cards is for --plan" in refusal(capsys, "synthesise", file, "--cards", 1)
    code, said = called(capsys, "synthesise", file, "--plan", 10)
    assert code == 0 and "erase: 0.000 s a clip (given), 0.00 card hours, 0%" in said


def line(**change: object) -> str:
    plain = {"number": 1, "clips": [], "files": {}, "kept": 0, "dropped": {}, "seconds": {}}
    return json.dumps(plain | change)


DAMAGES = {
    "no JSON": ("{", "Line 2 of"),
    "no mapping": ("[1]", "give a mapping"),
    "fields are missing": ('{"number": 1}', "clips is missing"),
    "another pack": (line(number=0), "its number is 0"),
    "a clip elsewhere": (line(clips=["../../x"]), "one of its clips has an invalid name"),
    "a clip of before": (line(clips=["world-0000000"]), "repeats a clip of an earlier line"),
    "a shard elsewhere": (line(files={"../x.parquet": {"sha256": "", "rows": 1}}), "lists a shard that is not its own"),
}


def refused_three_times(capsys, file: Path) -> str:
    """What a run, a page and a plan say of an output."""
    said = {refusal(capsys, "synthesise", file, *more) for more in ((), ("--preview",), ("--plan", 10))}
    assert len(said) == 1, said
    return said.pop()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_manifest_is_refused(tmp_path, damage, capsys):
    synthesise(config(tmp_path / "out"))
    file = tmp_path / "pairs.yaml"
    file.write_text(
        json.dumps(
            {"recipe": "add_remove", "output": str(tmp_path / "out"), "world": {"count": 3, "frames": 1}, "shard": 2}
        )
    )
    manifest = tmp_path / "out/manifest.jsonl"
    first, second, _ = manifest.read_text().split("\n")
    broken, words = DAMAGES[damage]
    manifest.write_text(f"{first}\n{broken}\n")
    assert words in refused_three_times(capsys, file)
    manifest.write_text(f"{first}\n")  # as the message says
    assert called(capsys, "synthesise", file)[0] == 0
    assert json.loads(manifest.read_text().split("\n")[1])["files"] == json.loads(second)["files"]
    check_sums(tmp_path / "out")


@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_a_damaged_shard_is_refused(tmp_path, form, capsys):
    settings = config(tmp_path / "out", form=form)
    synthesise(settings)
    (shard,) = (tmp_path / "out/kept").glob("00001.*")
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100])
    with pytest.raises(InputError, match=rf"has 100 bytes, not {len(whole)}"):
        synthesise(settings)
    with pytest.raises(InputError, match="cannot be read"):
        list(read_shard(form, shard))
    shard.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    with pytest.raises(InputError, match="does not match its checksum in the manifest"):
        write_preview(tmp_path / "out", form, tmp_path / "page.html")
    shard.unlink()
    with pytest.raises(InputError, match="is missing"):
        synthesise(settings)
    assert not (tmp_path / "page.html").exists()


def test_a_page_of_shards_of_another_form_is_refused(tmp_path):
    synthesise(config(tmp_path / "out", 1))
    with pytest.raises(InputError, match=r"00000.parquet' does not have form: webdataset; give the config"):
        write_preview(tmp_path / "out", "webdataset", tmp_path / "page.html")


def test_checksums_of_clips_beside_a_shard(tmp_path):
    settings = replace(config(tmp_path / "out"), world=WorldClips(2, frames=5))
    synthesise(settings)
    (sums,) = (tmp_path / "out/kept/media").glob("*.sha256")
    lines = [line.split("  ") for line in sums.read_text().splitlines()]
    names = {path.name for path in sums.parent.iterdir()} - {sums.name}
    assert {name for _, name in lines} == {f"media/{name}" for name in names} and len(names) == 20
    assert all(checksum(tmp_path / "out/kept" / name) == wanted for wanted, name in lines)
    page = tmp_path / "page.html"
    write_preview(tmp_path / "out", "parquet", page)
    clip = tmp_path / "out/kept" / lines[3][1]
    whole = clip.read_bytes()
    for damage in (lambda: clip.write_bytes(whole[:-1] + b"x"), clip.unlink, sums.unlink):
        damage()
        with pytest.raises(InputError, match="which is missing or does not match its checksum"):
            write_preview(tmp_path / "out", "parquet", page)


def test_what_is_gone_from_an_output_is_refused(tmp_path):
    settings = config(tmp_path / "out", count=5)
    synthesise(settings)
    plain = tmp_path / "out/settings.json"
    text = plain.read_text()
    for damaged in (None, "[]", "{"):
        plain.unlink() if damaged is None else plain.write_text(damaged)
        with pytest.raises(InputError, match=r"settings.json' cannot be read \(.*\); restore it from a copy, or give"):
            synthesise(settings)
    plain.write_text(text)
    (tmp_path / "out/manifest.jsonl").unlink()
    with pytest.raises(InputError, match="is not in manifest.jsonl"):
        synthesise(settings)


@pytest.mark.parametrize("damaged", ["{", "[]", '{"rows": [{}], "seconds": {}}', "outside"])
def test_a_damaged_clip_is_refused(tmp_path, monkeypatch, damaged):
    settings = config(tmp_path / "out", count=2)
    with monkeypatch.context() as patched:
        patched.setattr(storing.Store, "pack", lambda *_: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            synthesise(settings)
    rows = tmp_path / "out/pending/world-0000000/rows.json"
    whole = rows.read_text()
    rows.write_text(whole.replace("world-0000000-00.source", "../x") if damaged == "outside" else damaged)
    with pytest.raises(InputError, match="delete it: its clip is then made again"):
        synthesise(settings)
    shutil.rmtree(rows.parent)
    assert synthesise(settings).kept == 6


class Failing:
    """An expert with an error of its own."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str):
        def fail(*_):
            raise self.error

        return fail


def with_experts(monkeypatch, **others) -> None:
    """The world's experts, with some others in their place."""
    monkeypatch.setattr(running, "open_experts", lambda config, clips: replace(clips.experts(), **others))


def test_an_expert_that_fails_drops_the_clip(tmp_path, monkeypatch):
    with_experts(monkeypatch, segment=Failing(RuntimeError("sizes do not match\n at all")))
    made = synthesise(config(tmp_path / "out"))
    assert made.dropped == {"any: segment failed": 3}
    (first, *_) = read_shard("parquet", tmp_path / "out/dropped/00000.parquet")
    assert json.loads(first["about"]) == {"why": "RuntimeError: sizes do not match at all"}


@pytest.mark.parametrize("where", ["process", "worker"])
def test_a_service_is_trusted_once_the_run_has_kept_a_pair(tmp_path, monkeypatch, where):
    def refuse(*_):
        raise RefusedQuestion("status 400")

    monkeypatch.setattr(RemoteJudge, "ask", refuse)
    settings = read_synthesis_config(footage_config(tmp_path))
    services = {role: choice for role, choice in settings.experts.items() if choice.url}
    settings, picture = replace(settings, experts=services), torch.zeros(1, 8, 8, 3, dtype=torch.uint8)

    def third_refusal() -> Exception:
        if where == "process":
            experts = open_experts(settings, open_clips(settings))
        else:
            experts = ClipWorker(settings, str(tmp_path / "out/working/run"), {}).experts
        for _ in range(2):
            with pytest.raises(ExpertFailed, match="question refused"):
                experts.describe.caption(picture)
        with pytest.raises((ExpertFailed, RefusedQuestion)) as third:
            experts.describe.caption(picture)
        return third.value

    assert isinstance(third_refusal(), RefusedQuestion)
    synthesise(config(tmp_path / "out", 1))
    assert isinstance(third_refusal(), ExpertFailed)


def test_a_clip_whose_cuts_cannot_be_found_is_dropped(tmp_path, monkeypatch):
    with_experts(monkeypatch, cuts=Failing(ValueError("no frame rate")))
    clips = replace(config(tmp_path / "out"), world=WorldClips(3, frames=2))
    assert synthesise(clips).dropped == {"any: cuts failed": 3}


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), RuntimeError("CUDA error: a"), MemoryError()])
def test_an_expert_whose_device_fails_ends_the_run(tmp_path, monkeypatch, error):
    with monkeypatch.context() as patched:
        with_experts(patched, judge=Failing(error))
        with pytest.raises(InputError, match="experts.judge cannot continue"):
            synthesise(config(tmp_path / "out"))
    assert synthesise(config(tmp_path / "out")).kept == 9


def test_shares_are_those_of_each_stage(tmp_path, monkeypatch):
    """Of six clips, nothing is detected in two, and the judge drops what it sees of one."""

    class Odd:
        calls = 0

        def __init__(self, right):
            self.right = right

        def find(self, picture, name):
            self.calls += 1
            return [] if self.calls <= 2 else self.right.find(picture, name)

        def rate(self, *arguments):
            self.calls += 1
            return {**self.right.rate(*arguments), **({"quality": 0.0} if self.calls <= 2 else {})}

    def experts(config, clips):
        right = clips.experts()
        return replace(right, detect=Odd(right.detect), judge=Odd(right.judge))

    monkeypatch.setattr(running, "open_experts", experts)
    lines: list[list[str]] = []
    settings = config(tmp_path / "out", count=6, references=False)
    made = synthesise(settings, progress=lambda board: lines.append(board.lines()))
    why = {"not detected": 2, "quality below 7": 1}
    assert made.dropped == {f"{task}: {reason}": n for task in ("remove", "add") for reason, n in why.items()}
    shares = {said.split(":")[0].strip(): said.split("% kept")[0].split()[-1] for said in lines[-1][1:]}
    whole = ("read", "describe", "segment", "erase", "measures", "write")
    assert shares == {"detect": "67", "judge": "75"} | dict.fromkeys(whole, "100")
    assert made.seconds.keys() == shares.keys()
