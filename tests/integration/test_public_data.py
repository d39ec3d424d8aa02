"""Public data sets as they lie: recognised by content, read, filtered, streamed and trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from instructx_core import cli
from instructx_core.errors import InputError
from instructx_core.training.config import DataConfig, read_train_config
from instructx_core.training.data.opening import open_table
from instructx_core.training.data.rows import Row
from instructx_core.training.data.sources import table_examples
from instructx_core.training.editing import EditingTask
from instructx_core.training.stages import train
from support import public_sets
from support.public_sets import config, long_csv, rows_of
from support.training_runs import (
    assert_same,
    editing_config,
    read_editing,
    scalars,
    train_on_two,
    weights,
    write_config,
)

EVERY = list(public_sets.SETS)


# --- what is recognised and read


@pytest.mark.parametrize("name", EVERY)
def test_a_set_is_recognised_and_read(name: str, sets: dict[str, Path]) -> None:
    _, called, is_video = public_sets.SETS[name]
    data = config(sets[name], name)
    table = open_table(data)
    assert table.layouts == [called]
    assert table.total == {"x2edit": None, "gpt-image-edit": 11}.get(name, 10)
    examples = list(table_examples(table, data, 16, 4))
    assert len(examples) == 10
    assert sorted(one.instruction for one in examples) == sorted(map(public_sets.instruction, range(10)))
    for one in examples:
        assert one.is_video == is_video and one.source.shape == one.target.shape == (5 if is_video else 1, 64, 64, 3)
        assert len(one.references) == (name in ("kiwi-videos", "refvie"))
        assert (one.source - one.target).abs().mean() > 0.05
    number = public_sets.ROWS - 1
    last = next(one for one in examples if one.instruction == public_sets.instruction(number))
    wanted = public_sets.picture(number, False).getpixel((60, 60))
    assert (last.source[0, 60, 60] * 255).round().tolist() == pytest.approx(list(wanted), abs=12)
    if name == "instruct-pix2pix":
        assert examples[3].caption == "a box, 3"


@pytest.mark.parametrize("name", EVERY)
def test_names_and_suffixes_do_not_decide(name: str, tmp_path: Path) -> None:
    """A listing under another name, given as a file."""
    path = public_sets.make(name, tmp_path / "set")
    files = [(path, path.parent)] if path.is_file() else [
        (each.path, each.root or path) for each in _found(config(path, name))
    ]  # fmt: skip
    for number, (file, root) in enumerate(files):
        renamed = file.rename(file.with_name(f"listing-{number}.dat"))
        table = open_table(config(renamed, name, root=str(root)))
        assert table.layouts == [public_sets.SETS[name][1]]
        assert all(isinstance(row, Row) for row in rows_of(table) if row is not None)


def _found(data: DataConfig) -> list[Any]:
    from instructx_core.training.data.layouts import LAYOUTS
    from instructx_core.training.data.opening import _in_folder

    return list(_in_folder(Path(data.table or ""), LAYOUTS))


def test_other_names_need_columns(sets: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"has no known layout.*data\.columns.*after, text, score"):
        open_table(config(sets["other"]))
    with pytest.raises(InputError, match=r"needs the columns 'x', 'after', 'text', each once, as data.columns says"):
        open_table(config(sets["other"], columns={**public_sets.COLUMNS, "source": "x"}))


def test_a_set_s_dev_rows_are_left_out(sets: dict[str, Path]) -> None:
    assert {part.shard.path.name for part in open_table(config(sets["magicbrush"])).parts} == {
        "train-00000-of-00001.parquet"
    }
    dev = sets["magicbrush"] / "data/dev-00000-of-00001.parquet"
    assert open_table(config(dev)).total == 2


def test_a_folder_of_nothing_known(tmp_path: Path) -> None:
    (tmp_path / "dataset_infos.json").write_text('{"default": {"features": {}}}')
    with pytest.raises(InputError, match=r"holds no listing with a known layout.* among 1 CSV"):
        open_table(config(tmp_path))


# --- filters


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ({"aesthetic_score": 4.55}, [6, 7, 8, 9]),
        ({"aesthetic_score": [4.15, 4.45]}, [2, 3, 4]),
        ({"task": ["color_change"]}, [0, 2, 4, 6, 8]),
        ({"mask": 0.01}, [1, 3, 5, 7, 9]),
        ({"mask": [0.2, 0.3], "aesthetic_score": 4.4}, [5, 7, 9]),
        ({"mask": 0.5}, []),
        ({"nothing": 1}, []),
    ],
)
def test_scores_words_and_masks_filter(filters: dict[str, Any], numbers: list[int], sets: dict[str, Path]) -> None:
    plain = {"table": str(sets["x2edit"]), "filters": filters}
    from instructx_core.validation import converted

    table = open_table(converted(DataConfig, plain))
    kept = [row.instruction for row in rows_of(table) if isinstance(row, Row)]
    assert kept == [public_sets.instruction(number) for number in numbers]


def test_filters_read_columns_of_any_listing(sets: dict[str, Path]) -> None:
    table = open_table(config(sets["other"], "other", filters={"score": 7.0}))
    assert sum(isinstance(row, Row) for row in rows_of(table)) == 3
    table = open_table(config(sets["nhr-edit-parquet"], filters={"sample_id": ("4", "5")}))
    assert sum(isinstance(row, Row) for row in rows_of(table)) == 2


# --- training


def test_check_says_what_was_recognised(sets: dict[str, Path], bundled: Path, tmp_path: Path, capsys) -> None:
    plain = {"task": "editing", "output": str(tmp_path / "run"), "steps": 2, "start": {"model": str(bundled)},
             "train": ["connector"], "data": {"table": str(sets["nhr-edit"]), "sizes": [[64, 64]], "lengths": [5],
             "image_batch": 2, "video_batch": 1}}  # fmt: skip
    assert cli.main(["train", str(write_config(tmp_path / "c.yaml", **plain)), "--check"]) == 0
    said = capsys.readouterr().out
    assert "table: NHR-Edit; 10 rows in 1 shards" in said and said.count("of 'metadata.jsonl': 64 x 64") == 10
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in ("x2edit", "refvie", "gpt-image-edit")
                                               else pytest.mark.slow) for name in EVERY])  # fmt: skip
def test_a_set_is_trained_on(name: str, sets: dict[str, Path], foundation: Path, tmp_path: Path) -> None:
    plain = editing_config(foundation, tmp_path / "run", steps=2, validate_every=2, validation=1, sample_every=2)
    plain["data"] |= {"table": str(sets[name]), "pool": None, "image_batch": 2}
    plain["data"] |= {"columns": public_sets.COLUMNS} if name == "other" else {}
    model = train(read_train_config(write_config(tmp_path / "c.yaml", **plain)))
    before, after = weights(foundation / "generator/model"), weights(model)
    assert any(not before[key].equal(after[key]) for key in before)
    assert len(scalars(tmp_path / "run", "loss")) == 2
    assert all(0 < share < 1 for share in scalars(tmp_path / "run", "waiting"))
    kind = "clip" if public_sets.SETS[name][2] else "images"
    assert [path.name for path in (tmp_path / "run/samples").iterdir()] == [f"00000002-{kind}.png"]
    assert not (tmp_path / "run/pool").exists()


def both_kinds(folder: Path) -> Path:
    """Kiwi's metadata of pictures and of clips, side by side."""
    public_sets.kiwi_images(folder)
    public_sets.kiwi_videos(folder)
    return folder


def test_a_resumed_run_goes_on_at_the_very_row(foundation: Path, tmp_path: Path) -> None:
    """Both kinds, more than one epoch of either, a broken row, batches that wait: losses and weights are equal."""
    table = both_kinds(tmp_path / "set")
    with (table / "image_edit.csv").open("a") as file:
        file.write("gpt_edit/src/00000.jpg,none.jpg,broken\n")

    def read(name: str, steps: int) -> Any:
        plain = editing_config(foundation, tmp_path / name, steps=steps, save_every=3, warmup=0, decay_from=1.0)
        plain["data"] |= {"table": str(table), "pool": None, "image_batch": 4, "video_batch": 3, "broken": 0.2}
        plain["data"] |= {"video_probability": 0.4}
        return read_train_config(write_config(tmp_path / f"{name}.yaml", **plain))

    whole = train(read("whole", 8))
    train(read("halves", 3))
    state = json.loads((tmp_path / "halves/states/00000003/position-1-of-1.json").read_text())
    assert state["images"]["stream"]["drawn"] and state["videos"]["stream"]["drawn"]
    halves = train(read("halves", 8), resume=True)
    assert_same(weights(whole), weights(halves))
    assert scalars(tmp_path / "whole", "loss")[3:] == scalars(tmp_path / "halves", "loss")[-5:]
    listed = (tmp_path / "whole/broken-rows.txt").read_text().splitlines()
    assert len(listed) == 1 and "Line 12 of 'image_edit.csv': there is no file" in listed[0]


def test_a_run_stops_where_too_many_rows_are_broken(foundation: Path, tmp_path: Path, capsys) -> None:
    table = long_csv(tmp_path / "set", 1100)
    with table.open("a") as file:
        file.write("".join(f"a.png,none-{number}.png,x\n" for number in range(200)))
    plain = editing_config(foundation, tmp_path / "run", steps=500)
    plain["data"] |= {"table": str(table), "pool": None, "image_batch": 32, "sizes": [[16, 16]]}
    assert cli.main(["train", str(write_config(tmp_path / "c.yaml", **plain))]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.count("none-") == 10 and "data.broken allows 0.05 of them" in last
    assert (tmp_path / "run/broken-rows.txt").read_text().count("there is no file") > 50


def test_an_instruction_that_is_too_long_for_the_model_is_skipped(foundation: Path, tmp_path: Path) -> None:
    """In a table it is a broken row; in a pool, whose texts are read with each batch, its example is named."""
    table = long_csv(tmp_path / "set", 40)
    with table.open("a") as file:
        file.write("a.png,b.png," + "word " * 5000 + "\n")
    plain = editing_config(foundation, tmp_path / "run", steps=3)
    plain["data"] |= {"table": str(table), "pool": None, "image_batch": 20, "sizes": [[16, 16]]}
    train(read_train_config(write_config(tmp_path / "c.yaml", **plain)))
    (line,) = (tmp_path / "run/broken-rows.txt").read_text().splitlines()
    assert line.startswith("Line 42 of 'pairs.csv': The instruction has ") and "tokens; give at most 4096" in line
    task = EditingTask(read_editing(foundation, tmp_path / "pooled"))
    examples = task.source.some(False, 2)
    assert examples is not None
    with pytest.raises(InputError, match=f"{examples.names[1]}.* cannot be used: The instruction has"):
        task.make_batch(replace(examples, instructions=["x", "word " * 5000]))


@pytest.mark.slow
def test_two_processes_read_a_table_together(foundation: Path, tmp_path: Path, caplog) -> None:
    """They resume exactly; one alone goes on too, from the beginning of its epoch, and says so."""
    table = both_kinds(tmp_path / "set")

    def config(name: str, steps: int) -> Path:
        plain = editing_config(foundation, tmp_path / name, steps=steps, save_every=3, warmup=0, decay_from=1.0)
        plain["data"] |= {"table": str(table), "pool": None, "image_batch": 2, "video_batch": 1}
        return write_config(tmp_path / f"{name}.yaml", **plain)

    for name, steps, options in (("whole", 6, ()), ("halves", 3, ()), ("halves", 6, ("--resume",))):
        done = train_on_two(config(name, steps), *options)
        assert done.returncode == 0, done.stderr[-3000:]
    assert_same(weights(tmp_path / "whole/model"), weights(tmp_path / "halves/model"))
    state = tmp_path / "halves/states/00000006"
    shares = [json.loads((state / f"position-{number}-of-2.json").read_text()) for number in (1, 2)]
    assert [share["processes"] for share in shares] == [2, 2]
    train(read_train_config(config("halves", 7)), resume=True)
    assert (tmp_path / "halves/states/00000007").is_dir()
    assert "from 2 processes or other data" in caplog.text
