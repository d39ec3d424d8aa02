"""Bad configs, tables and pools: one line, exit code 2, and nothing left behind."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from instructx_core import cli
from instructx_core.training.config import DataConfig, TrainConfig
from support.training_runs import FIRST, SMALL_DATA, editing_config, write_config

NAN, INFINITY = float("nan"), float("inf")


def refused(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The one line that `instructx train` ends with."""
    folder = path.parent
    before = sorted(folder.rglob("*"))
    assert cli.main(["train", str(path), *options]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("instructx:")]
    assert len(lines) == 1 and len(lines[0]) < 1000, lines
    assert sorted(folder.rglob("*")) == before, "something was left behind"
    return lines[0]


def nested(plain: dict[str, Any], name: str, value: object) -> dict[str, Any]:
    """`plain` with the field "section__name" set."""
    *sections, last = name.split("__")
    for section in sections:
        plain[section] = dict(plain.get(section, {}))
    place = plain
    for section in sections:
        place = place[section]
    place[last] = value
    return plain


VALUES: list[tuple[str, list[object]]] = [
    ("task", ["painting", 5, None, [], "autoencoder", "language"]),
    ("output", ["", 5, None, "a\0b", "x" * 5000]),
    ("steps", [0, -1, 1.5, "3", True, None, 10**30, NAN]),
    ("start", [{}, 5, None, [], "x", {"model": 5}, {"model": None}, {"model": ""}, {"x": "y"}, {"vae": "a"},
               {"model": "a", "vae": "b"}]),
    ("model", [5, [], "x"]),
    ("train", [[], ["vae"], "queries", 5, None, [5]]),
    ("use_source", [1, "yes", None]),
    ("loss", ["l1", 5, None, ["data"]]),
    ("noise", [5, "uniform", {"kind": "beta"}, {"kind": "uniform", "shift": 0}, {"kind": "uniform", "shift": NAN},
               {"kind": "uniform", "mean": 1}, {"kind": "logit_normal", "std": 0}, {"kind": "logit_normal", "std": -1},
               {"kind": "logit_normal", "mean": INFINITY}, {"kind": "logit_normal", "shift": 3}, {"x": 1}]),
    ("drop_instruction", [-0.1, 1.1, NAN, "a"]),
    ("drop_source", [-0.1, 1.1, NAN, "a"]),
    ("edited_weight", [-1, NAN, "a", 10**12]),
    ("balance", [-1, NAN, "a"]),
    ("channel_emphasis", [-1, INFINITY]),
    ("reading_weight", [-1, NAN]),
    ("hearing_weight", [-1, NAN]),
    ("locating_weight", [-1, NAN]),
    ("naming_weight", [-1, NAN]),
    ("deadband", [1, -0.5, NAN, "a"]),
    ("source_waves", [-1, 9, 1.5, NAN, "a"]),
    ("optimizer", ["sgd", 5, None]),
    ("learning_rate", [0, -1, NAN, INFINITY, "a", True, 100]),
    ("muon_rate", [0, -1, NAN]),
    ("betas", [0.9, [0.9], [0.9, 1.0], [0.9, -0.1], [0.9, NAN], ["a", "b"], [0.9, 0.99, 0.9]]),
    ("guidance_rate", [-1, NAN, "a"]),
    ("warmup", [-1, 1.5, "a"]),
    ("decay_from", [-1, 2, NAN]),
    ("average", [1, -1, NAN, "a"]),
    ("weight_decay", [-1, NAN, INFINITY]),
    ("max_grad_norm", [0, -1, NAN]),
    ("accumulate", [0, -1, 1.5, 10**9]),
    ("precision", ["fp16", 16, None, True]),
    ("checkpointing", [1, "yes"]),
    ("seed", [-1, 2**63, 2**64, 1.5, "a", True]),
    ("save_every", [0, -1, 1.5]),
    ("log_every", [0, -1]),
    ("sample_every", [-1, "a"]),
    ("validate_every", [-1]),
    ("validation", [0, -1]),
    ("data", [5, None, []]),
    ("data__table", [5, "", [], "a\0"]),
    ("data__pool", [5, "", []]),
    ("data__root", [5, "", "x"]),
    ("data__columns", [5, [], {"x": "y"}, {"source": 5}, {"source": "a"}, {"source": "a", "target": "b"},
                       {"source": "a", "target": "b", "instruction": "c"}]),
    ("data__filters", [5, [], {"a": None}, {"a": []}, {"a": [1, 2, 3]}, {"a": NAN}, {"a": {"b": 1}}, {"a": 1}, {5: 1}]),
    ("data__broken", [-0.1, 1.1, NAN, "a", None]),
    ("data__images", [-1, 1.5, "a", 10**12]),
    ("data__videos", [-1]),
    ("data__image_batch", [0, -1, 10**9]),
    ("data__video_batch", [0, -1]),
    ("data__step_images", [-1, 3]),
    ("data__step_videos", [-1]),
    ("data__video_probability", [-0.1, 1.1, NAN, "a"]),
    ("data__sizes", [[], [[]], [[0, 0]], [[-64, 64]], [[63, 63]], [["a", "b"]], [[64]], [[64, 64, 64]], 64, [64, 64],
                     [[1_000_000, 1_000_000]], [[NAN, 64]], None]),
    ("data__lengths", [[], [0], [-5], ["a"], 5, [6], [10**9], None]),
    ("data__groups", [None, [1], {"recolor": "a"}, {"recolor": NAN}, {"recolor": -1}, {"recolor": 0}, {"x": 1},
                      {"recolor": 10**400}, {"late": 1}, {5: 1}]),
    ("data__held_out_from_video", ["x", ["x"], [5], None]),
    ("data__world", ["poor", 5]),
    ("data__photographs", [5, ""]),
    ("data__x", [1]),
    ("x", [1]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values"), VALUES, ids=[name for name, _ in VALUES])
def test_values_out_of_range(name: str, values: list[object], foundation: Path, tmp_path: Path, capsys) -> None:
    field = name.rsplit("__", maxsplit=1)[-1]
    known = {each.name for kind in (TrainConfig, DataConfig) for each in dataclasses.fields(kind)}
    own = {} if field in known or field == "x" else {"task": "tiny-editing"}
    for value in values:
        plain = nested(editing_config(foundation, tmp_path / "out" / "run", **own), name, value)
        plain["data"] = plain["data"] and dict(plain["data"]) if isinstance(plain["data"], dict) else plain["data"]
        if name.startswith("data__") and field in ("sizes", "lengths", "groups"):
            plain["data"].pop("pool", None)
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(plain))
        line = refused(path, capsys).replace(str(path), "")  # whose folder has the field's name
        said = rf"\b{field}\b|(autoencoder|language) stages start|NoiseConfig has no field|its key 5 is not a string"
        assert re.search(said, line), (value, line)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not a mapping"),
        ("[1, 2]", "is not a mapping"),
        ("5", "is not a mapping"),
        ("task: [", "not valid YAML"),
        ("[" * 200_000, "deep|larger"),
        ("a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)), "values"),
        ("task: !!python/object/apply:os.system ['touch PWNED']", "not valid YAML"),
        ("5: 1", "its key 5 is not a string"),
        ("\xff", "is not a mapping|UTF-8"),
        ("task: editing\n" * 100_000, "larger"),
        ("x: " + "9" * 5000, ""),
    ],
)  # fmt: skip
def test_texts_that_are_no_config(text: str, words: str, tmp_path: Path, capsys) -> None:
    import re

    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="latin-1")
    assert re.search(words, refused(path, capsys))


def test_paths_that_are_no_config(tmp_path: Path, capsys) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing.yaml", ".", "pipe", "n" * 300, "a\0b", "/dev/zero"):
        refused(tmp_path / name if name != "a\0b" else Path(f"{tmp_path}/a\0b"), capsys)


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("autoencoder", {"base_dim": 0}),
        ("autoencoder", {"base_dim": "a"}),
        ("autoencoder", {"base_dim": 10**9}),
        ("autoencoder", {"dim_mult": "a"}),
        ("autoencoder", {"dim_mult": [0]}),
        ("autoencoder", {"patch_size": 1_000_000}),
        ("autoencoder", {"patch_size": 0}),
        ("autoencoder", {"z_dim": 0}),
        ("autoencoder", {"z_dim": -1}),
        ("autoencoder", {"x": 1}),
        ("autoencoder", {"scale_factor_spatial": 0}),
        ("autoencoder", {"scale_factor_spatial": "a"}),
        ("autoencoder", None),
        ("language", {"vocabulary": 0}),
        ("language", {"vocabulary": "a"}),
        ("language", {"text": 5}),
        ("language", {"text": {"hidden_size": 0}}),
        ("language", {"vision": {"depth": -1}}),
        ("language", {"guidance": {"min_pixels": "a"}}),
        ("language", {"guidance": {"x": 1}}),
        ("language", None),
        ("generator", {"transformer": 5}),
        ("generator", {"transformer": {"num_layers": "a"}}),
        ("generator", {"transformer": {"num_attention_heads": 0}}),
        ("generator", {"transformer": {"x": 1}}),
        ("generator", {"connector": {"hidden_dim": "a"}}),
        ("generator", {"x": 1}),
        ("generator", None),
    ],
)
def test_sizes_of_what_a_stage_makes(
    stage: str, changes: dict[str, Any] | None, foundation: Path, tmp_path: Path, capsys
) -> None:
    plain = yaml.safe_load((FIRST / f"stage0-{stage}.yaml").read_text())
    plain |= {"output": str(tmp_path / "out/run"), "steps": 1, "data": SMALL_DATA}
    if stage == "generator":
        start = {"vae": str(foundation / "autoencoder/model/vae"), "mllm": str(foundation / "language/model/mllm")}
        plain |= {"start": start, "data": {**SMALL_DATA, "pool": str(foundation / "pool")}}
    if changes is None:
        plain.pop("model")
    else:
        plain["model"] = {
            **plain["model"],
            **{
                name: {**plain["model"].get(name, {}), **value} if isinstance(value, dict) else value
                for name, value in changes.items()
            },
        }
    assert "model" in refused(write_config(tmp_path / "c.yaml", **plain), capsys)


def test_starts_that_are_no_models(foundation: Path, tmp_path: Path, capsys) -> None:
    vae, mllm = foundation / "autoencoder/model/vae", foundation / "language/model/mllm"
    (tmp_path / "empty").mkdir()
    for start in ({"model": str(tmp_path / "none")}, {"model": str(tmp_path / "empty")}, {"model": str(mllm)},
                  {"model": "n" * 300}):  # fmt: skip
        plain = editing_config(foundation, tmp_path / "out/run", start=start)
        refused(write_config(tmp_path / "c.yaml", **plain), capsys)
    for task, start in (("autoencoder", {"vae": str(mllm)}), ("language", {"mllm": str(vae)})):
        plain = editing_config(foundation, tmp_path / "out/run", task=task, start=start, data=SMALL_DATA)
        refused(write_config(tmp_path / "c.yaml", **plain), capsys)


# --- tables


@pytest.fixture
def pairs(foundation: Path, tmp_path: Path) -> Path:
    """A folder of pictures and a config whose table is pairs.csv in it."""
    from PIL import Image

    for name, colour in (("source", (200, 30, 30)), ("target", (30, 30, 200))):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    Image.new("RGB", (96, 64)).save(tmp_path / "wide.png")
    Image.new("RGB", (64, 64)).save(
        tmp_path / "clip.gif", save_all=True, append_images=[Image.new("RGB", (64, 64), 255)]
    )
    (tmp_path / "cut.png").write_bytes((tmp_path / "source.png").read_bytes()[:40])
    (tmp_path / "folder").mkdir()
    plain = editing_config(foundation, tmp_path / "out/run", steps=1)
    plain["data"] |= {"table": str(tmp_path / "pairs.csv"), "pool": None}
    return write_config(tmp_path / "c.yaml", **plain)


HEAD = b"source,target,instruction,reference\n"
TABLES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "needs the columns"),
    "a byte order mark alone": (b"\xef\xbb\xbf", "needs the columns"),
    "header only": (HEAD, "no rows"),
    "columns missing": (b"source,target\na.png,b.png\n", "needs the columns.*'source,target'"),
    "a column twice": (b"source,source,target,instruction\na,a,b,c\n", "each once"),
    "semicolons": (b"source;target;instruction\na;b;c\n", "needs the columns"),
    "header twice": (HEAD + HEAD, "Line 2.*there is no file"),
    "short row": (HEAD + b"source.png,target.png\n", "Line 2 .*no instruction"),
    "shorter row": (HEAD + b"source.png\n", "Line 2 .*no target"),
    "long row": (HEAD + b"source.png,target.png,make it, much, bluer, now\n", "Line 2 .*more fields"),
    "empty source": (HEAD + b",target.png,x\n", "Line 2 .*no source"),
    "empty instruction": (HEAD + b"source.png,target.png, ,\n", "Line 2 .*no instruction"),
    "a missing file in the second row": (
        HEAD + b"source.png,target.png,x,\nsource.png,none.png,x,\n", "Line 3 .*no file.*none.png"
    ),
    "a missing reference": (HEAD + b"source.png,target.png,x,none.png\n", "Line 2 .*no file.*none.png"),
    "a folder as source": (HEAD + b"folder,target.png,x,\n", "Line 2 .*no file.*folder"),
    "a dot as source": (HEAD + b".,target.png,x,\n", "Line 2"),
    "a null byte in a name": (HEAD + b"a\0b,target.png,x,\n", "Line 2"),
    "a long name": (HEAD + b"n" * 300 + b",target.png,x,\n", "Line 2"),
    "latin-1": (HEAD + "source.png,target.png,mach es gr\xfcn,\n".encode("latin-1"), "Line 2 .*not UTF-8"),
    "UTF-16": ((HEAD + b"source.png,target.png,x,\n").decode().encode("utf-16"), "UTF-8|columns"),
    "a field of 1 MB": (HEAD + b"source.png,target.png," + b"x" * 1_000_000 + b",\n", "Line 2 .*field larger"),
    "an endless line": (b"x" * 10_000_000, "longer than 4 MB|needs the columns|field larger"),
    "an open quote": (HEAD + b'"source.png,target.png,x,\n' * 20_000, "Line .*field larger|Line .*no "),
    "unequal sizes": (HEAD + b"source.png,wide.png,x,\n", r"Line 2 .*differ in aspect ratio \(64 x 64 and 96 x 64\)"),
    "unequal lengths": (HEAD + b"source.png,clip.gif,x,\n", "Line 2 .*differ in length"),
    "a damaged picture": (HEAD + b"source.png,target.png,x,\ncut.png,target.png,x,\n", "Line 3 "),
    "a table as picture": (HEAD + b"pairs.csv,target.png,x,\n", "Line 2 "),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_cannot_be_used(name: str, pairs: Path, tmp_path: Path, capsys) -> None:
    import re

    content, words = TABLES[name]
    (tmp_path / "pairs.csv").write_bytes(content)
    line = refused(pairs, capsys)
    assert "pairs.csv" in line and re.search(words, line), line


def test_paths_that_are_no_table(pairs: Path, tmp_path: Path, capsys) -> None:
    assert "it does not exist" in refused(pairs, capsys)
    for make in (Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        make(tmp_path / "pairs.csv")
        assert "pairs.csv" in refused(pairs, capsys)
        (tmp_path / "pairs.csv").rmdir() if make is Path.mkdir else (tmp_path / "pairs.csv").unlink()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_tables_of_excel_and_of_everybody_else(encoding: str, pairs: Path, tmp_path: Path) -> None:
    with (tmp_path / "pairs.csv").open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerow(["source", "target", "instruction"])
        writer.writerow(["source.png", "target.png", 'make it "blue", and gr\xfcn, \u4f60\u597d'])
    assert cli.main(["train", str(pairs)]) == 0


# --- pools


@pytest.mark.parametrize("damage", ["no origin", "no JSON", "a list", "deep", "a pipe", "no examples", "no metadata",
                                    "words a mapping", "words deep", "other tensors", "cut",
                                    "other settings"])  # fmt: skip
def test_damaged_pools_are_named(damage: str, foundation: Path, tmp_path: Path, capsys) -> None:
    from instructx_core.weights.files import read_safetensors, write_safetensors

    pool = shutil.copytree(foundation / "pool", tmp_path / "pool")
    origin, bucket = pool / "origin.json", min(pool.glob("*.safetensors"))
    tensors, metadata = read_safetensors(bucket)
    plain = editing_config(foundation, tmp_path / "out/run", steps=1)
    plain["data"] |= {"pool": str(pool)}
    if damage == "no origin":
        origin.unlink()
    elif damage == "a pipe":
        origin.unlink()
        os.mkfifo(origin)
    elif damage in ("no JSON", "a list", "deep"):
        origin.write_text({"no JSON": "{", "a list": "[]", "deep": "[" * 200_000}[damage])
    elif damage == "no examples":
        for path in pool.glob("*.safetensors"):
            path.unlink()
    elif damage == "no metadata":
        write_safetensors(bucket, tensors)
    elif damage in ("words a mapping", "words deep"):
        names = json.loads(metadata["names"])
        words = json.dumps({str(place): name for place, name in enumerate(names)})
        write_safetensors(bucket, tensors, metadata | {"names": words if "mapping" in damage else "[" * 100_000})
    elif damage == "other tensors":
        write_safetensors(bucket, {**tensors, "source": tensors["source"][:-1]}, metadata)
    elif damage == "cut":
        os.truncate(bucket, 1000)
    else:
        plain["data"] |= {"images": 7, "world": "rich"}
    line = refused(write_config(tmp_path / "c.yaml", **plain), capsys)
    assert "pool" in line
    if damage == "other settings":
        assert "'images', 'world'" in line


def test_an_output_that_is_a_file_or_holds_a_run(foundation: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("x")
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        refused(write_config(tmp_path / "c.yaml", **editing_config(foundation, output, steps=1)), capsys)
    (tmp_path / "run/states/00000001").mkdir(parents=True)
    path = write_config(tmp_path / "c.yaml", **editing_config(foundation, tmp_path / "run"))
    assert "already holds a training run" in refused(path, capsys)
    assert "00000001: it has no manifest.json" in refused(path, capsys, "--resume")


@pytest.mark.parametrize("name", ["file", "n" * 300])
def test_a_folder_that_cannot_be_is_told_before_its_examples_are_encoded(name: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("x")
    folder = str(tmp_path / name)
    plain = {"task": "editing", "output": str(tmp_path / "run"), "start": {"model": "instructx-tiny"}, "steps": 1}
    reason = "is a file" if name == "file" else "its name is too long"
    for changed in ({"output": folder}, {"data": {"pool": folder, "images": 1, "videos": 0}}):
        assert reason in refused(write_config(tmp_path / "c.yaml", **(plain | changed)), capsys)
    assert cli.main(["cache", str(write_config(tmp_path / "c.yaml", **plain)), folder]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("options", [(), ("--resume",)])
def test_a_model_that_the_run_did_not_write_is_kept(options: tuple[str, ...], tmp_path: Path, capsys) -> None:
    """Such as the one that it starts from."""
    model = tmp_path / "work/model"
    model.mkdir(parents=True)
    plain = {"task": "editing", "output": str(model.parent), "start": {"model": str(model)}, "steps": 1}
    line = refused(write_config(tmp_path / "c.yaml", **plain), capsys, *options)
    assert "would replace" in line and "choose another output" in line
