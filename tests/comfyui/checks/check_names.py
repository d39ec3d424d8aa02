"""A workflow comes from anybody: it names no folder of this machine, fetches nothing, and walks through no disk."""

import os
import shutil
import socket
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import folder_paths
from check_folders import put
from kit import BUNDLED, MODELS, NODES, VARIANTS, expect, loaded, run

MENUS = (("LoadModel", "model_name"), ("LoadMLLM", "base"), ("LoadMLLM", "adapter"), ("LoadAdapter", "adapter"))
ELSEWHERE = (
    *("", ".", "..", "/", "/etc", "../../..", "diffusers//etc", "text_encoders//root", "diffusers/..", "./."),
    *("C:\\", "\\\\host\\share\\model", "\\\\?\\C:\\x", "//host/share", "CON", "nul", "aux.x", "..\\..\\x"),
    *(5, None, ["a"], {"a": 1}, "x" * 100_000, "a\0b", "a\x1b[2J"),
)


def check_only_names_of_the_menus_are_taken():
    """Nor is the disk asked whether another name is there."""
    from instructx_pack.nodes import folders

    with TemporaryDirectory() as folder:
        outside = Path(folder) / "model"
        shutil.copytree(MODELS / VARIANTS[0], outside)
        shutil.copyfile(outside / "instructx.safetensors", Path(folder) / "lone.safetensors")
        inside = Path(folder_paths.get_folder_paths("instructx")[0])
        names = [*ELSEWHERE, str(outside), os.path.relpath(outside, inside), str(Path(folder) / "lone.safetensors")]
        names += [VARIANTS[0] + "/", f"./{VARIANTS[0]}", f"{VARIANTS[0]}/../{VARIANTS[0]}", f"{VARIANTS[0]}/mllm/.."]
        model = loaded(BUNDLED)[0]
        # no folder changes meanwhile, and each name would be looked for in all of them many times
        menus = {one: cache(getattr(folders, one)) for one in ("models", "bases")}
        with mock.patch.multiple(folders, **menus):
            for node, menu in MENUS:
                whole = {"model_name": BUNDLED} if node == "LoadModel" else {"base": BUNDLED, "adapter": BUNDLED}
                whole = {"adapter": BUNDLED, "model": model} if node == "LoadAdapter" else whole
                whole |= {"precision": "float32"} if node == "LoadMLLM" else {}
                for name in names:
                    if name is not None:  # in validate_inputs that is a link, whose value comes later
                        said = NODES[f"InstructX{node}"].validate_inputs(**{menu: name})
                        assert isinstance(said, str) and "There is no model" in said, (node, menu, name)
                        assert len(said) < 2000 and said.isprintable(), (node, menu)
                    expect("CheckpointError", "There is no model", run, node, **whole | {menu: name})
                    stamped = {key: value for key, value in whole.items() if key != "model"}
                    fingerprint = NODES[f"InstructX{node}"].fingerprint_inputs
                    if name is None:  # a link, as above
                        assert isinstance(fingerprint(**stamped | {menu: None}), str)
                    else:
                        expect("CheckpointError", "There is no model", fingerprint, **stamped | {menu: name})


def check_names_that_other_systems_misread_are_not_offered():
    from instructx_pack.nodes.folders import base_names, model_names

    for name in ("aux", "a\\b", "c:x", "nul.safetensors") if os.name == "posix" else ():
        with put("instructx", name, MODELS / VARIANTS[0]):
            assert name not in {*model_names(), *base_names()}, name


def check_a_fingerprint_stays_inside_the_model():
    from instructx_pack.nodes.folders import MOST_FILES, stamp

    with TemporaryDirectory() as folder, put("instructx", "linked", MODELS / VARIANTS[0]) as model:
        many = Path(folder) / "many"
        for number in range(3):
            (many / f"{number}" / "deep").mkdir(parents=True)
            (many / f"{number}" / "deep" / "secret.txt").write_text("x")
        (model / "out").symlink_to(many, target_is_directory=True)
        (model / "root").symlink_to("/", target_is_directory=True)
        (model / "vae" / "out").symlink_to(many, target_is_directory=True)
        (model / "vae" / "loop").symlink_to(model, target_is_directory=True)
        (model / "gone").symlink_to(model / "nothing")
        began = time.monotonic()
        words = stamp(model)
        assert time.monotonic() - began < 1
        assert "secret" not in words and "etc" not in words and "deep" not in words
        blob = Path(folder) / "blob"
        blob.write_bytes(b"one")
        (model / "vae" / "more.safetensors").symlink_to(blob)
        before = stamp(model)
        blob.write_bytes(b"other")
        assert stamp(model) != before  # a link to one file, as the hub's own cache has them, is that file
        for number in range(MOST_FILES):
            (model / "mllm" / f"{number}.txt").touch()
        expect("CheckpointError", "more than", stamp, model)


def check_a_run_never_fetches():
    """Whatever an old graph asks for: no connection is opened, and nothing is put into models/instructx."""
    inputs = {item.id for item in NODES["InstructXLoadModel"].GET_SCHEMA().inputs}
    assert inputs == {"model_name", "precision", "transformer", "vae", "mllm"}

    def refuse(*_args, **_kwargs):
        raise AssertionError("a connection was opened")

    folder = Path(folder_paths.get_folder_paths("instructx")[0])
    before = sorted(folder.rglob("*")) if folder.is_dir() else []
    with mock.patch.object(socket.socket, "connect", refuse):
        expect("CheckpointError", "instructx_core download", run, "LoadModel", model_name="owner--name")
        assert run("LoadModel", model_name=BUNDLED, precision="float32")
    assert (sorted(folder.rglob("*")) if folder.is_dir() else []) == before


def check_prompts_of_old_graphs_are_brought_up_to_date():
    from instructx_pack.nodes.old_graphs import up_to_date

    old = {"model_name": BUNDLED, "precision": "float32", "hub_id": " owner/name ", "download": True}
    request = {"prompt": {"1": {"class_type": "InstructXLoadModel", "inputs": dict(old)}}}
    assert up_to_date(request)["prompt"]["1"]["inputs"] == {"model_name": "owner--name", "precision": "float32"}
    request = {"prompt": {"1": {"class_type": "InstructXLoadModel", "inputs": old | {"hub_id": ""}}}}
    assert up_to_date(request)["prompt"]["1"]["inputs"] == {"model_name": BUNDLED, "precision": "float32"}
    links = {"reference": ["2", 0], "reference_2": ["3", 0], "reference_3": ["4", 0]}
    request = {"prompt": {"1": {"class_type": "InstructXMLLMGuidance", "inputs": links}}}
    grown = {"reference": ["2", 0], "further.reference_2": ["3", 0], "further.reference_3": ["4", 0]}
    assert up_to_date(request)["prompt"]["1"]["inputs"] == grown
    for odd in ({}, {"prompt": None}, {"prompt": []}, {"prompt": {"1": 5}}, {"prompt": {"1": {"class_type": "X"}}}):
        assert up_to_date(odd) == odd
