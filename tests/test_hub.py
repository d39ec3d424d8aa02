"""Fetching from the hub: what is asked for, in which order, and what is said when it fails. No network is used."""

from types import SimpleNamespace

import huggingface_hub
import pytest

from instructx_core.checkpoints import hub
from instructx_core.errors import CheckpointError, InputError

SIZES = {
    "instructx.safetensors": 5,
    "vae/config.json": 1,
    "mllm/model.safetensors": 40,
    "train.py": 7,
    "mllm/pytorch_model.bin": 9,
}


@pytest.fixture
def remote(monkeypatch):
    """A hub with one repository; collects the names of what is fetched."""
    fetched = []

    def model_info(_api, repository, files_metadata):
        assert files_metadata
        if repository != "owner/name":
            raise OSError("no such repository\nand a second line")
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=n, size=s) for n, s in SIZES.items()])

    def download(repository, name, local_dir):
        fetched.append(name)
        (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (local_dir / name).write_bytes(b"x" * SIZES[name])

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return fetched


def test_code_and_pickles_stay_away_and_the_adapter_comes_last(remote):
    names = [file.name for file in hub.list_files("owner/name")]
    assert names == ["mllm/model.safetensors", "vae/config.json", "instructx.safetensors"]


def test_progress_counts_bytes(remote, tmp_path):
    seen = []
    hub.fetch("owner/name", tmp_path, hub.list_files("owner/name"), lambda *at: seen.append(at))
    assert seen == [(0, 46), (40, 46), (41, 46), (46, 46)]
    assert (tmp_path / "instructx.safetensors").stat().st_size == 5


def test_progress_stops_it_by_raising(remote, tmp_path):
    def stop(done, _total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.fetch("owner/name", tmp_path, hub.list_files("owner/name"), stop)
    assert remote == ["mllm/model.safetensors"]


@pytest.mark.parametrize("name", ["name", "owner/name/more", "/name", ""])
def test_hub_ids_are_checked(remote, name):
    with pytest.raises(InputError, match="owner/name"):
        hub.list_files(name)


def test_failures_are_one_sentence(remote, tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="'some/other' could not be looked up on the hub: no such repository$"):
        hub.list_files("some/other")

    def broken(*_args, **_options):
        raise OSError("No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(CheckpointError, match="No space left on device; run again to go on"):
        hub.fetch("owner/name", tmp_path, hub.list_files("owner/name"), lambda *_: None)


def test_other_models_are_refused(remote, monkeypatch):
    monkeypatch.delitem(SIZES, "instructx.safetensors")
    with pytest.raises(CheckpointError, match="not an InstructX model"):
        hub.list_files("owner/name")


@pytest.mark.parametrize(("size", "words"), [(12_340_000_000, "12.3 GB"), (5_000_000, "5.0 MB"), (1500, "2 kB")])
def test_sizes_in_words(size, words):
    assert hub.readable_size(size) == words
