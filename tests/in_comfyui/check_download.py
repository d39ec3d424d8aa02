"""InstructX Load Model with a hub id: what it asks of a hub on this machine (tests/hub_server.py) and what it keeps."""

import logging
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import comfy.model_management as management
import folder_paths
import torch
from check_memory import expect_cancelled, on_progress
from kit import BUNDLED, MODELS, VARIANTS, expect, loaded, run

sys.path.append(str(Path(__file__).resolve().parents[1]))

import hub_server

BIG = "transformer/diffusion_pytorch_model.safetensors"
ASKED = {"model_name": BUNDLED, "precision": "float32", "hub_id": "owner/name"}


@contextmanager
def served():
    """A hub that has a model, and an empty models/instructx."""
    known = folder_paths.folder_names_and_paths["instructx"][0]
    folder = tempfile.mkdtemp()
    known.insert(0, folder)
    try:
        with hub_server.serving() as hub:
            hub.add("owner/name", MODELS / VARIANTS[0])
            yield hub, Path(folder)
    finally:
        known.remove(folder)


def check_a_download_that_was_cancelled_goes_on():
    from instructx_pack.nodes.folders import model_names

    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.getMessage(), hub.contents()))

    def cancel(done, total):
        if any(folder.rglob(f"{Path(BIG).name}.*.partial")):
            management.interrupt_current_processing()  # as Cancel does, while the DiT is half there
            management.throw_exception_if_processing_interrupted()

    with served() as (hub, folder):
        expect("CheckpointError", "switch download on", run, "LoadModel", **ASKED)
        assert not hub.asked
        logger = logging.getLogger("instructx_pack.nodes.downloading")
        logger.setLevel(logging.INFO)  # ComfyUI's server shows these
        logger.addHandler(handler)
        with on_progress(cancel):
            expect_cancelled("LoadModel", download=True, **ASKED)
        logger.removeHandler(handler)
        size = sum(map(len, hub.models["owner/name"].values()))
        said = f"InstructX fetches owner/name ({size / 1e6:.1f} MB) into {folder / 'owner--name'}"
        assert lines == [(said, [])], lines
        begun = next(folder.rglob("*.partial")).stat().st_size
        assert 0 < begun < len(hub.models["owner/name"][BIG])

        assert "owner--name" not in model_names()  # half a model is none
        expect("CheckpointError", "switch download on", run, "LoadModel", **ASKED)
        hub.contents()
        model = run("LoadModel", download=True, **ASKED)[0]
        asked = hub.contents()
        assert asked[0] == hub_server.Request("GET", f"/cdn/owner/name/resolve/{hub_server.COMMIT}/{BIG}", begun), asked
        assert not any("/mllm/" in request.path for request in asked), asked  # whole before
        assert "owner--name" in model_names()

        run("LoadModel", download=True, **ASKED)
        run("LoadModel", **ASKED)
        assert not hub.asked
    fetched, own = (one.model.diffusion_model.state_dict() for one in (model, loaded(VARIANTS[0])[0]))
    assert all(torch.equal(value, own[key]) for key, value in fetched.items())


def check_the_size_is_shown_on_the_node():
    """As ComfyUI's server runs a node; the words go to the page as those of its own API nodes do."""
    from comfy_execution.utils import CurrentNodeContext

    said = []

    class Page:
        def send_progress_text(self, words, node_id):
            said.append((words, node_id))

    page = SimpleNamespace(PromptServer=SimpleNamespace(instance=Page()))
    with served() as (hub, _), mock.patch.dict(sys.modules, server=page), CurrentNodeContext("prompt", "7"):
        run("LoadModel", download=True, **ASKED)
        size = sum(map(len, hub.models["owner/name"].values()))
    assert said == [(f"fetching {size / 1e6:.1f} MB", "7")]


def check_what_says_that_a_folder_is_whole():
    from instructx_pack.instructx_core.checkpoints.hub import LAST
    from instructx_pack.nodes.folders import ADAPTER, KIWI

    assert LAST == (ADAPTER, KIWI)
