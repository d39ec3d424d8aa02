"""Listings of every kind, damaged by seeded chance: rows that are whole, broken rows, or one sentence; nothing else."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from instructx_core.errors import InputError
from instructx_core.training.data.opening import open_table
from instructx_core.training.data.pixels import read_example
from instructx_core.training.data.rows import Row, RowError
from instructx_core.training.data.table import Broken
from support.fuzz_mutate import mutate_bytes
from support.public_sets import config, rows_of

LISTINGS = {
    "own": "pairs.csv",
    "openve": "local_change.csv",
    "ditto": "training_metadata/local.json",
    "kiwi-images": "image_edit.csv",
    "nhr-edit": "train/metadata.jsonl",
    "gpt-image-edit": "training_json/omniedit.json",
    "x2edit": "X2Edit_data/kontext/0/00000.tar",
    "magicbrush": "data/train-00000-of-00001.parquet",
}


@pytest.mark.parametrize("name", LISTINGS)
@pytest.mark.parametrize("seeds", [range(15), pytest.param(range(15, 300), marks=pytest.mark.slow)], ids=str)
def test_damaged_listings(name: str, seeds: range, sets: dict[str, Path], tmp_path: Path) -> None:
    whole = sets[name] if sets[name].is_dir() else sets[name].parent
    folder = shutil.copytree(whole, tmp_path / "set")
    path = folder / LISTINGS[name]
    content = path.read_bytes()
    data = config(folder)
    for seed in seeds:
        path.write_bytes(mutate_bytes(content, random.Random(seed)))
        try:
            rows = rows_of(open_table(data))
        except InputError as error:
            assert len(str(error)) < 1500 and str(error).isprintable(), seed
            continue
        for row in rows:
            assert row is None or isinstance(row, (Row, Broken)), seed
            if isinstance(row, Row):
                try:
                    read_example(row, data, 16, 4)
                except RowError:
                    continue
