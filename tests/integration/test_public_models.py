"""Bernini-R's folder and CoinVE-Edit's file at tiny sizes: every way in, without anything from outside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F

from instructx_core import Editor, EditRequest, families
from instructx_core.conditions.local_edits import masks_of_tokens
from instructx_core.config import GuidanceMode
from instructx_core.convert import convert
from instructx_core.errors import InputError
from instructx_core.families.components import Components
from instructx_core.families.overrides import Overrides
from instructx_core.long_video import LongOptions, edit_footage, edit_video
from instructx_core.long_video.editor_model import EditorModel
from instructx_core.long_video.footage import look_through
from instructx_core.memory.decide import outline_model
from instructx_core.memory.measure import measure_phases, step_bytes
from instructx_core.memory.phases import Job, trained_job
from instructx_core.windows import Reading, Span
from support import public_models, tiny
from support.recorded import check_close
from support.video_files import clip, make_video

SIDES = {"height": 32, "width": 32, "steps": 2}


@pytest.fixture(scope="module")
def coinve(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return public_models.save_coinve(tmp_path_factory.mktemp("coinve"))


@pytest.fixture(scope="module")
def bernini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return public_models.save_bernini(tmp_path_factory.mktemp("bernini"))


def test_words_alone_edit_in_every_mode(bernini: Path):
    editor = Editor.from_pretrained(bernini, device="cpu", dtype="float32")
    clip, reference = tiny.clip(5, 32, 32), tiny.clip(1, 24, 40)[0]
    found = {
        mode: editor.edit(clip, "make it snow", reference, guidance_mode=mode.value, **SIDES).latents
        for mode in GuidanceMode
    }
    assert torch.equal(found.pop(GuidanceMode.TASK), found[GuidanceMode.RV2V])
    kept = list(found.values())
    assert all((one - other).abs().max() > 1e-4 for i, one in enumerate(kept) for other in kept[:i])
    # the source and the reference are seen
    plain = editor.edit(clip, "make it snow", guidance_mode="v2v", **SIDES).latents
    assert (plain - found[GuidanceMode.V2V]).abs().max() > 1e-4
    other = editor.edit(clip.flip(2), "make it snow", guidance_mode="v2v", **SIDES).latents
    assert (plain - other).abs().max() > 1e-4


def test_a_folder_made_of_words_alone_is_the_same_model(bernini: Path, tmp_path: Path):
    convert(bernini, tmp_path / "own")
    first, second = (
        Editor.from_pretrained(path, device="cpu", dtype="float32") for path in (bernini, tmp_path / "own")
    )
    assert first.config == second.config
    found = [editor.edit(tiny.clip(1, 32, 32), "make it snow", **SIDES).latents for editor in (first, second)]
    assert torch.equal(*found)


def test_each_instruction_has_its_mask(coinve: dict[str, Path]):
    editor = Editor.from_pretrained(device="cpu", dtype="float32", **coinve)
    clip = tiny.clip(5, 32, 32)
    result = editor.edit(clip, ["make it snow", "add a dog"], **SIDES)
    assert result.masks.shape[0] == 2 and result.masks.min() >= 0 and result.masks.max() <= 1
    assert (result.masks[0] - result.masks[1]).abs().max() > 1e-6
    joint = editor.edit(clip, "make it snow, add a dog", **SIDES)
    assert joint.masks is None and torch.equal(joint.context, result.context)
    assert (joint.latents - result.latents).abs().max() > 1e-4
    both = editor.edit(clip, "make it snow", tiny.clip(1, 40, 24)[0], **SIDES)
    assert both.context.shape[1] > joint.context.shape[1]


def test_masks_stay_on_a_source_that_does_not_fill_the_canvas(coinve: dict[str, Path]):
    """A portrait of 24 of 64 columns, and 6 frames of 9; the result's masks are of the source."""
    editor = Editor.from_pretrained(device="cpu", dtype="float32", **coinve)
    with mock.patch("instructx_core.denoiser.masks_of_tokens", side_effect=masks_of_tokens) as spy:
        result = editor.edit(tiny.clip(6, 48, 24), ["make it snow", "add a dog"], height=48, width=64, steps=1)
    own, carried = result.masks, spy.call_args.args[0][0]
    assert own.shape[1:] != carried.shape[1:] == (3, 6, 8)
    on_it = F.interpolate(own[None], (2, 6, 3), mode="trilinear")[0]
    assert torch.equal(carried[:, :2, :, :3], on_it)
    assert torch.equal(carried[:, :2, :, 3:], on_it[..., -1:].expand(-1, -1, -1, 5))
    assert torch.equal(carried[:, 2], carried[:, 1])


def test_several_instructions_are_not_read_from_a_whole_video(coinve: dict[str, Path], tmp_path: Path, idle):
    source, target = make_video(tmp_path / "in.mp4", clip(13, 32, 32)), tmp_path / "out.mp4"
    editor = Editor.from_pretrained(device="cpu", dtype="float32", **coinve)
    options = LongOptions(window=Span.parse("9f"), reading=Reading.VIDEO)
    instructions = ["make it snow", "add a dog"]
    with pytest.raises(InputError, match="guidance-from: video takes one sentence"):
        edit_video(editor, source, target, instructions, options=options)
    model = EditorModel(editor, EditRequest(instructions))
    with pytest.raises(InputError, match="guidance-from: video takes one sentence"):
        edit_footage(model, look_through(source), target, options)


def test_one_folder_of_all_is_the_same_model(coinve: dict[str, Path], tmp_path: Path):
    """Its LoRA is merged into float32 weights, so nothing is rounded."""
    given = dict(coinve)
    convert(given.pop("path"), tmp_path / "own", Overrides(**given))
    first = Editor.from_pretrained(device="cpu", dtype="float32", **coinve)
    second = Editor.from_pretrained(tmp_path / "own", device="cpu", dtype="float32")
    found = [editor.edit(tiny.clip(5, 32, 32), ["make it snow", "add a dog"], **SIDES) for editor in (first, second)]
    check_close(found[0].latents, found[1].latents, 1e-4)
    check_close(found[0].masks, found[1].masks, 1e-5)
    second.save_pretrained(tmp_path / "again")
    third = Editor.from_pretrained(tmp_path / "again", device="cpu", dtype="float32")
    again = third.edit(tiny.clip(5, 32, 32), ["make it snow", "add a dog"], **SIDES)
    assert torch.equal(again.latents, found[1].latents)


def outlined(path: Path, **given: Path) -> Components:
    return outline_model(families.open(path, Overrides(**given)), torch.float32, torch.device("cpu")).model


def test_the_plan_counts_each_place(coinve: dict[str, Path]):
    """Several instructions are read side by side, and every block attends to each."""
    model = outlined(**coinve)
    job = replace(trained_job(model.config), width=64, height=64, frames=9)
    assert job.places == 3
    alone, two, three = (
        {phase.name: phase.working for phase in measure_phases(model, replace(job, places=places))}
        for places in (0, 2, 3)
    )
    for name in ("MLLM reads", "DiT step"):
        assert alone[name] < two[name] < three[name], name
    assert alone["VAE decodes"] == three["VAE decodes"]


def test_the_plan_counts_every_forward_of_a_chain(bernini: Path):
    """What each forward keeps through the run is there beside the others'."""
    model, job = outlined(bernini), Job(64, 64, 9, guided=True)
    chained = replace(model.config.sampling, guidance_mode=GuidanceMode.V2V_CHAIN)
    alone = replace(model.config.sampling, guidance_mode=GuidanceMode.V2V)
    found = [step_bytes(replace(model, config=replace(model.config, sampling=one)), job) for one in (chained, alone)]
    assert found[0] > found[1]


@pytest.mark.parametrize("memory", ["full", "model"])
def test_places_are_found_wherever_weights_are(coinve: dict[str, Path], memory: str):
    editor = Editor.from_pretrained(device="cpu", dtype="float32", memory=memory, **coinve)
    assert editor.edit(tiny.clip(5, 32, 32), ["make it snow"], **SIDES).masks.shape[0] == 1
