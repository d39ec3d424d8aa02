"""Windows that other edits have left in a folder."""

import os
import time

import pytest
import torch

from instructx_core.long_video.joining import EditedWindow
from instructx_core.long_video.store import WindowStore
from instructx_core.long_video.unfinished import DAYS, drop_abandoned, kept_by_seed
from instructx_core.run_lock import only_run

EDIT = {"source": "a hash", "seed": 1}


@pytest.fixture
def leave(tmp_path):
    """Windows of an edit, as a run leaves them that was stopped some days ago."""

    def left(name, windows=2, days=0.0, **identity):
        store = WindowStore(tmp_path / f"{name}.mp4")
        store.open({**EDIT, **identity})
        for index in range(windows):
            store.save(index, EditedWindow(torch.zeros(3, 8, 8, 3, dtype=torch.uint8), torch.zeros(1, 1, 3, 1, 1)))
        then = time.time() - days * 24 * 60 * 60
        for path in (*store.folder.iterdir(), store.folder):
            os.utime(path, (then, then))
        return store.folder

    return left


def test_another_seed_is_offered(tmp_path, leave):
    leave("ours", seed=1)
    leave("other", seed=2)
    leave("empty", windows=0, seed=3)
    leave("elsewhere", seed=4, source="another")
    assert kept_by_seed(tmp_path, EDIT) == {2: 2}


def test_what_nobody_came_back_to_is_deleted_and_said(tmp_path, leave, caplog):
    gone, fresh = leave("gone", windows=3, days=DAYS + 1), leave("fresh", days=DAYS - 1)
    ours, running = leave("ours", days=DAYS + 1), leave("running", days=DAYS + 1)
    foreign = tmp_path / ".foreign.mp4.windows"
    foreign.mkdir()
    (foreign / "00000.safetensors").write_bytes(b"somebody's")
    os.utime(foreign / "00000.safetensors", (0, 0))
    (tmp_path / "whole.mp4").write_bytes(b"a finished video")
    os.utime(tmp_path / "whole.mp4", (0, 0))
    with only_run(tmp_path / "running.mp4"):
        drop_abandoned(tmp_path, keep=tmp_path / "ours.mp4")
    assert not gone.exists()
    assert fresh.is_dir() and ours.is_dir() and running.is_dir()
    assert (foreign / "00000.safetensors").is_file() and (tmp_path / "whole.mp4").is_file()
    (said,) = [record.getMessage() for record in caplog.records]
    assert said == f"{gone}: deleted; its edit was abandoned {DAYS + 1} days ago with 3 finished windows."


def test_files_of_somebody_else_in_the_folder_stay(tmp_path, leave):
    folder = leave("gone")
    (folder / "notes.txt").write_text("mine")
    for path in (*folder.iterdir(), folder):
        os.utime(path, (0, 0))
    drop_abandoned(tmp_path, keep=tmp_path / "ours.mp4")
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
