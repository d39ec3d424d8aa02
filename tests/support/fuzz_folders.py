"""Readers of what training and long edits keep on the disk or take: windows, tables, configs, states, pools."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from instructx_core import EditInterrupted, edit_video
from instructx_core.long_video import LongOptions
from instructx_core.training.config import read_train_config
from instructx_core.training.stages import train
from instructx_core.windows import Span
from support.fuzz_judge import WrongError, command
from support.fuzz_mutate import (
    HOSTILE_NAMES,
    NASTY,
    mutate_bytes,
    mutate_json,
    mutate_json_file,
    mutate_safetensors,
    put,
)
from support.fuzz_shared import WORDS, Case, Shared

OPTIONS = LongOptions(window=Span.parse("5f"), overlap=Span.parse("1f"))
DATA = {"images": 4, "videos": 2, "image_batch": 2, "video_batch": 1, "sizes": [[32, 32]], "lengths": [5]}


def windows(case: Case) -> Callable[[], object]:
    """A folder of finished windows, one file of which is damaged or forged; the edit continues from it."""
    output = case.folder / "out.mp4"
    folder = shutil.copytree(_interrupted(case.shared), case.folder / ".out.mp4.windows")
    path = case.random.choice(sorted(path for path in folder.iterdir() if path.is_file()))
    (mutate_json_file if path.suffix == ".json" else _mutate_weights)(path, case.random)
    (folder / "mine.txt").write_text("somebody's")

    def edit() -> None:
        edit_video(case.shared.editor, case.shared.clip, output, WORDS, options=OPTIONS, steps=1, resume=True)
        if not output.is_file() or (folder / "mine.txt").read_text() != "somebody's":
            raise WrongError("the output is missing, or a user's file was touched")

    return edit


def _mutate_weights(path: Path, random: Any) -> None:
    put(path, mutate_safetensors(path.read_bytes(), random))


def table(case: Case) -> Callable[[], object]:
    """A table of pairs with odd columns, bytes, names or files of other kinds."""
    pick = case.random
    shutil.copy(case.shared.picture, case.folder / "a.png")
    (case.folder / "b.png").write_bytes(mutate_bytes(case.shared.pictures[".png"], pick))
    (case.folder / "c.mp4").write_bytes(case.shared.videos[".mp4"])
    columns = ["source", "target", "instruction", "reference", "caption"]
    if pick.random() < 0.2:
        columns[pick.randrange(5)] = pick.choice(("source", "", "\ufeff", "x" * 200_000))
    names = ("a.png", "a.png", "a.png", "b.png", "c.mp4", "none.png", ".", "", "/dev/zero", *HOSTILE_NAMES[:4])
    lines = [",".join(columns)]
    for _ in range(pick.randint(0, 3)):
        row = [
            pick.choice(names),
            pick.choice(names),
            pick.choice(("x", '"', "", "y" * 200_000)),
            pick.choice(("", *names)),
        ]
        lines.append(",".join(row[: pick.choice((2, 4, 4, 4))]))
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    text = pick.choice((text, text, b"\xef\xbb\xbf" + text, text.decode().encode("utf-16"), mutate_bytes(text, pick)))
    (case.folder / "pairs.csv").write_bytes(text)
    whole = _config(case, data={**DATA, "table": str(case.folder / "pairs.csv"), "pool": None})
    return _training(case, whole)


def train_config(case: Case) -> Callable[[], object]:
    """A training config with odd values, keys and types, or damaged text."""
    whole = mutate_json(_config(case), case.random)
    if isinstance(whole, dict):
        whole["steps"] = whole.get("steps") if whole.get("steps") not in (7, 63, 10**6, 10**12, 2**63, 2**64) else 1
    return _training(case, whole, damage=case.random.random() < 0.15)


def state(case: Case) -> Callable[[], object]:
    """A training state, one file of which is damaged; the run continues from it, or says that it cannot."""
    output = shutil.copytree(_run(case.shared) / "run", case.folder / "run")
    path = case.random.choice(sorted(path for path in (output / "states").rglob("*") if path.is_file()))
    match case.random.randrange(3):
        case 0:
            path.unlink()
        case 1:
            put(path, mutate_bytes(path.read_bytes(), case.random))
        case 2:
            (mutate_json_file if path.suffix == ".json" else _mutate_weights)(path, case.random)
    return _training(case, _config(case, output=str(output), steps=3), resume=True)


def pool(case: Case) -> Callable[[], object]:
    """A pool of encoded examples, one file of which is damaged."""
    folder = shutil.copytree(_run(case.shared) / "pool", case.folder / "pool")
    path = case.random.choice(sorted(folder.iterdir()))
    (mutate_json_file if path.suffix == ".json" else _mutate_weights)(path, case.random)
    return _training(case, _config(case, data={**DATA, "pool": str(folder)}))


def cli(case: Case) -> Callable[[], object]:
    """The command line with odd options."""
    pick = case.random
    output = case.folder / "out.png"
    texts = (
        [str(value).replace("\0", "") for value in NASTY]
        + list(HOSTILE_NAMES)
        + ["1", "2", "48", "5f", "1s", "-", "--", "@x"]
    )
    options = [
        "--steps",
        "--seed",
        "--guidance-scale",
        "--shift",
        "--height",
        "--width",
        "--window",
        "--overlap",
        "--cuts",
        "--device",
        "--memory",
        "--cache",
        "--attention",
        "--lora",
        "--model",
        "--transformer",
        "--vae",
        "--mllm",
        "--reference",
        "--head",
        "--reading",
        "--resume",
        "--fp8",
        "--unknown",
    ]
    given = ["edit", str(case.shared.picture), WORDS, "-o", str(output), "--steps", "1"]
    for option in pick.sample(options, pick.randint(1, 2)):
        given += [option] if option in ("--resume", "--fp8") else [option, pick.choice(texts)]
    if pick.random() < 0.2:
        given[pick.randrange(len(given))] = pick.choice(texts)
    given = [word for word in given if word not in ("63", str(10**6))]  # too many steps are no fault
    return lambda: command(*given)


def info_option(case: Case) -> Callable[[], object]:
    """Other commands with odd paths and numbers."""
    pick = case.random
    odd = [str(value) for value in NASTY] + list(HOSTILE_NAMES) + [str(case.shared.picture), str(case.folder)]
    what = pick.choice(("info", "convert", "calibrate", "world", "evaluate", "train", "download"))
    given = {
        "info": [pick.choice(odd)],
        "convert": [pick.choice(odd), pick.choice(odd)],
        "calibrate": ["--model", pick.choice(odd)],
        "world": ["-o", str(case.folder / "w"), "--count", pick.choice(odd), "--size", pick.choice(odd)],
        "evaluate": ["--n", pick.choice(odd)],
        "train": [pick.choice(odd)],
        "download": [pick.choice([word for word in odd if word.count("/") != 1])],
    }[what]
    if what in ("world", "evaluate") and any(word.isdecimal() and int(word) > 0 for word in given):
        given = ["--unknown"]  # a large count is no fault
    return lambda: command(what, *given)


def _config(case: Case, **changes: Any) -> dict[str, Any]:
    """A stage of two steps on a few examples of the world, whose pool is there."""
    data = {**DATA, "pool": str(_run(case.shared) / "pool")}
    basics = {"task": "editing", "output": str(case.folder / "run"), "start": {"model": str(case.shared.model)}}
    return {**basics, "steps": 2, "save_every": 1, "log_every": 1, "average": 0.9, "data": data, **changes}


def _training(case: Case, whole: Any, resume: bool = False, damage: bool = False) -> Callable[[], object]:
    path = case.folder / "config.yaml"
    try:
        text = yaml.safe_dump(whole).encode("utf-8", "surrogateescape")
    except RecursionError:
        text = b"[" * 100_000
    path.write_bytes(mutate_bytes(text, case.random) if damage else text)

    def run() -> None:
        config = read_train_config(path)
        if config.steps > 10 or config.data.images + config.data.videos > 100:
            return  # long, but no fault
        train(config, resume=resume)

    return run


@cache
def _run_folder(root: Path, model: Path) -> Path:
    folder = root / "training"
    folder.mkdir()
    config = {"task": "editing", "output": str(folder / "run"), "start": {"model": str(model)}, "steps": 2}
    config |= {"save_every": 1, "log_every": 1, "average": 0.9, "data": {**DATA, "pool": str(folder / "pool")}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    train(read_train_config(folder / "config.yaml"))
    return folder


def _run(shared: Shared) -> Path:
    """A finished run, with its states, and the pool that it made."""
    return _run_folder(shared.root, shared.model)


@cache
def _interrupted_folder(root: Path) -> Path:
    shared = _SHARED[root]
    output = root / "out.mp4"
    with pytest.raises(EditInterrupted):
        stop = lambda at: at.window <= 1  # noqa: E731
        edit_video(shared.editor, shared.clip, output, WORDS, options=OPTIONS, steps=1, resume=True, callback=stop)
    return root / ".out.mp4.windows"


_SHARED: dict[Path, Shared] = {}


def _interrupted(shared: Shared) -> Path:
    """The windows that an edit left which was stopped after the first."""
    _SHARED[shared.root] = shared
    return _interrupted_folder(shared.root)


READERS = {
    "windows": windows,
    "table": table,
    "train-config": train_config,
    "state": state,
    "pool": pool,
    "cli": cli,
    "commands": info_option,
}
