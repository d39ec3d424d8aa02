"""`instructx synthesise` that is stopped, killed or given another config: nothing is lost, doubled or mixed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest
import yaml

from instructx_core.errors import InputError
from instructx_core.synthesis import Experts
from instructx_core.synthesis import store as storing
from instructx_core.synthesis.manifest import read_manifest
from instructx_core.synthesis.one_clip import make_pairs, open_clips, open_experts
from instructx_core.synthesis.run import read_summary, synthesise
from support.shards import check_sums, files, small_synthesis, stored


class Stop(BaseException):
    """A kill."""


def test_a_run_that_was_stopped_anywhere_ends_as_one_that_was_not(tmp_path, monkeypatch):
    whole = small_synthesis(tmp_path / "whole", count=5)
    synthesise(whole)
    again = small_synthesis(tmp_path / "again", count=5)
    calls, stop_at = [0], [0]

    def counted(real):
        def call(*arguments, **named):
            calls[0] += 1
            if calls[0] == stop_at[0]:
                raise Stop
            return real(*arguments, **named)

        return call

    # before and after a clip's media, before a shard, before the manifest's line, before clips leave `pending`
    for name in ("write_media", "write_shard", "flush", "checksum"):
        monkeypatch.setattr(storing, name, counted(getattr(storing, name)))
    monkeypatch.setattr(storing.os, "fsync", counted(storing.os.fsync))
    stops = 0
    for stop_at[0] in (2, 9, 17, 5, 11, 3):
        calls[0] = 0
        try:
            synthesise(again)
        except Stop:
            stops += 1
    stop_at[0] = 0
    synthesise(again)
    assert stops >= 4
    assert files(tmp_path / "again") == files(tmp_path / "whole")
    check_sums(tmp_path / "again")
    finished = synthesise(again, Experts())  # nothing is left to ask experts for
    assert (finished.clips, finished.pairs) == (5, 15)


def test_a_torn_manifest_is_mended(tmp_path):
    settings = small_synthesis(tmp_path / "out", count=4)
    synthesise(settings)
    before = files(tmp_path / "out")
    manifest = tmp_path / "out/manifest.jsonl"
    text = manifest.read_text()
    manifest.write_text(text[: len(text) - 200])  # the second line is cut: its clips are made again
    synthesise(settings)
    assert files(tmp_path / "out") == before
    check_sums(tmp_path / "out")


def test_finished_packs_are_not_deleted_for_an_older_manifest(tmp_path):
    settings = small_synthesis(tmp_path / "out", count=6)
    synthesise(settings)
    before = files(tmp_path / "out")
    manifest = tmp_path / "out/manifest.jsonl"
    first, rest = manifest.read_text().split("\n", 1)
    manifest.write_text(f"{first}\n")
    with pytest.raises(InputError, match="00002.parquet' is not in manifest.jsonl"):
        synthesise(settings)
    assert all((tmp_path / "out" / name).is_file() for name in before)
    for path in (tmp_path / "out").glob("*/0000[12].*"):  # as the message says
        path.unlink()
    synthesise(settings)
    assert files(tmp_path / "out") == before
    manifest.write_text(f"{first}\n")
    with pytest.raises(InputError, match="is not in manifest.jsonl"):
        synthesise(settings)
    manifest.write_text(f"{first}\n{rest}")
    assert synthesise(settings, Experts()).clips == 6  # nothing is left to make
    check_sums(tmp_path / "out")


@pytest.mark.slow
def test_ten_kills_lose_and_double_nothing(tmp_path):
    count = 120
    plain = {"recipe": "add_remove", "world": {"count": count, "frames": 1}, "shard": 7}
    synthesise(small_synthesis(tmp_path / "whole", count=count, shard=7))
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(plain | {"output": str(tmp_path / "out")}))
    command = [sys.executable, "-m", "instructx_core", "synthesise", str(file)]
    chance, kills = random.Random(0), 0
    while kills < 10:
        done = read_summary(tmp_path / "out").clips
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        pending = tmp_path / "out/pending"
        begun = len(list(pending.glob("world*"))) if pending.exists() else 0
        while process.poll() is None:  # it has begun to write when it is killed
            now = read_summary(tmp_path / "out").clips, len(list(pending.glob("world*"))) if pending.exists() else 0
            if now not in ((done, begun), (0, 0)):
                time.sleep(chance.random() * 0.6)
                break
            time.sleep(0.02)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    subprocess.run(command, check=True, capture_output=True)
    print("kills", kills)
    assert kills == 10
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    check_sums(tmp_path / "out")
    keys = [row["key"] for row in stored(tmp_path / "out", "parquet")]
    assert len(keys) == len(set(keys)) == 3 * count


def test_another_config_does_not_mix_in(tmp_path):
    synthesise(small_synthesis(tmp_path / "out"))
    with pytest.raises(InputError, match=r"started with different settings \(bounds\)"):
        synthesise(small_synthesis(tmp_path / "out", bounds={"fit": (0.5, 1.0)}))
    assert len(read_manifest(tmp_path / "out")) == 2


def test_clips_that_workers_finished_count_as_begun(tmp_path):
    """A driver that is killed before it moves them leaves no other trace of its config."""
    begun = storing.Store(tmp_path, "parquet", {"seed": 1})
    storing.write_clip(begun.working, "clip", [], {})
    with pytest.raises(InputError, match=r"started with different settings \(seed\)"):
        storing.Store(tmp_path, "parquet", {"seed": 2})
    assert storing.Store(tmp_path, "parquet", {"seed": 1}).waiting() == ["clip"]


def test_a_clip_that_two_killed_runs_finished_is_taken_once(tmp_path):
    for run in ("one", "other"):
        storing.write_clip(tmp_path / "working" / run, "clip", [], {})
    (tmp_path / "settings.json").write_text("{}")
    assert storing.Store(tmp_path, "parquet", {}).waiting() == ["clip"]
    assert not (tmp_path / "working").exists()


def test_a_kept_pair_is_found_wherever_its_clip_is(tmp_path):
    settings = small_synthesis(tmp_path, 1)
    clips = open_clips(settings)
    (key,) = clips.keys()
    store = storing.Store(tmp_path, "parquet", {})
    storing.write_clip(store.working, "dropped", [], {})
    (store.pending / "moved").mkdir()
    (store.pending / "moved/rows.json").write_text("")  # while it is read
    assert not storing.has_kept(tmp_path) and not storing.has_kept(tmp_path / "none")
    storing.write_clip(store.working, key, make_pairs(settings, clips, key, open_experts(settings, clips)), {})
    assert storing.has_kept(tmp_path)
    store.take(store.working / key)
    assert storing.has_kept(tmp_path)
    store.pack([key])
    assert storing.has_kept(tmp_path)


def test_a_config_that_made_nothing_yet_can_be_mended(tmp_path, monkeypatch):
    import instructx_core.synthesis.run as running

    def refuse(*_):
        raise InputError("no such model")

    with monkeypatch.context() as patched:
        patched.setattr(running, "open_experts", refuse)
        with pytest.raises(InputError, match="no such model"):
            synthesise(small_synthesis(tmp_path / "out", references=False))
    assert synthesise(small_synthesis(tmp_path / "out")).pairs == 9
