"""MagCache: its ratios against diffusers' own measurement, runs of any number of steps, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from instructx_core import CheckpointError, Editor, InputError, cli
from instructx_core.calibration import EDITS, calibrate, measure_ratios
from instructx_core.families.bundled import located
from instructx_core.speed.mag_ratios import MAG_RATIOS, read_ratios, write_ratios
from instructx_core.speed.options import speed_up
from support import tiny

if TYPE_CHECKING:
    from diffusers.hooks import MagCacheConfig

CPU = torch.device("cpu")
WORDS = "make the red circle blue"
STEPS = 6
RATIOS = [1.0, 1.02, 0.97, 1.04, 1.01, 0.96, 0.93, 1.1, 0.99]


def edit(editor: Editor, steps: int) -> torch.Tensor:
    return editor.edit(tiny.clip(5), WORDS, steps=steps, guidance_scale=1.5).frames


def editor_with(settings: MagCacheConfig) -> Editor:
    components = tiny.components()
    speed_up(components.denoiser.transformer, "sdpa", compile_blocks=False, cache=settings)
    return Editor(components)


def test_the_ratios_are_those_that_diffusers_prints(capsys: pytest.CaptureFixture[str]):
    from diffusers.hooks import MagCacheConfig

    editor = Editor(tiny.components())
    ours = measure_ratios(editor, STEPS)
    assert capsys.readouterr().out == ""  # where results go
    editor.denoiser.transformer.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=STEPS))
    for one in EDITS:
        editor.edit(one.source, one.instruction, steps=STEPS)
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("[1.0")]
    assert len(printed) == len(EDITS) == 4
    assert ours == pytest.approx(torch.tensor(printed, dtype=torch.float64).mean(0).tolist(), rel=1e-12)
    assert ours[0] == 1 and len(set(ours)) == STEPS


def test_the_settings_of_a_run_are_those_of_diffusers():
    from diffusers.hooks import MagCacheConfig

    from instructx_core.speed.mag_cache import MagCache

    cache = MagCache(RATIOS)
    for steps in (30, 2, len(RATIOS), 12, 1):
        cache.set_steps(steps)
        expected = MagCacheConfig(mag_ratios=RATIOS, num_inference_steps=steps)
        assert len(cache.mag_ratios) == steps
        for field in fields(MagCacheConfig):
            ours, theirs = getattr(cache, field.name), getattr(expected, field.name)
            assert torch.equal(ours, theirs) if field.name == "mag_ratios" else ours == theirs


def test_edits_of_any_number_of_steps_after_each_other():
    """Each as if diffusers had been told of it alone; with fewer forwards of the blocks than steps."""
    from diffusers.hooks import MagCacheConfig

    from instructx_core.speed.mag_cache import MagCache

    editor = editor_with(MagCache(RATIOS))
    calls: list[int] = []
    editor.denoiser.transformer.blocks[-1].attn1.to_q.register_forward_hook(lambda *_: calls.append(1))
    for steps in (12, 7, 12, 20):
        calls.clear()
        frames = edit(editor, steps)
        assert 0.2 * steps < len(calls) < steps
        alone = editor_with(MagCacheConfig(mag_ratios=RATIOS, num_inference_steps=steps))
        assert torch.equal(frames, edit(alone, steps))


@pytest.mark.parametrize("layout", ["saved", "kiwi"])
def test_a_calibrated_folder_can_be_edited_with(layout: str, request, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("instructx_core.calibration.EDITS", EDITS[:1])  # a clip at Kiwi-Edit's size takes long
    folder = Path(shutil.copytree(request.getfixturevalue(layout), tmp_path / "copy"))
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    with pytest.raises(InputError, match="has none; create it with `instructx calibrate"):
        Editor.from_pretrained(folder, device="cpu", cache="mag")
    assert cli.main(["calibrate", str(folder), "--steps", "3", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.strip() == str(folder / MAG_RATIOS)
    assert {path.relative_to(folder) for path in folder.rglob("*")} == before | {Path(MAG_RATIOS)}
    assert len(read_ratios(folder)) == 3
    plain, cached = (Editor.from_pretrained(folder, device="cpu", cache=cache) for cache in (None, "mag"))
    options = {"steps": 16, "height": 64, "width": 64}  # of 8 steps, none would be skipped
    plain, cached = (editor.edit(tiny.clip(), WORDS, **options).latents for editor in (plain, cached))
    assert plain.isfinite().all() and not torch.equal(plain, cached)


def test_interrupted_it_leaves_what_was_there(model: Path):
    write_ratios(model, RATIOS)
    before = sorted(model.iterdir())

    def stop(done: int, total: int) -> None:
        assert total == 4 * STEPS
        if done == STEPS + 2:  # in the second edit
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(model, STEPS, "cpu", stop)
    assert read_ratios(model) == RATIOS and sorted(model.iterdir()) == before


def test_measuring_leaves_no_cache_behind():
    editor = Editor(tiny.components())
    exact = edit(editor, STEPS)
    measure_ratios(editor, 2)
    assert torch.equal(edit(editor, STEPS), exact)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1.0, 1.0]",
        '{"steps": 2}',
        '{"ratios": [1.0]}',
        '{"ratios": [1.0, NaN]}',
        '{"ratios": [1.0, Infinity]}',
        f'{{"ratios": [1.0, {10**400}]}}',
        '{"ratios": [1.0, 0.0]}',
        '{"ratios": [1.0, -1.0]}',
        '{"ratios": [1.0, "1.0"]}',
        '{"ratios": "ratios"}',
        '{"ratios": null}',
        json.dumps({"ratios": [1.0] * 1001}),
    ],
)
def test_a_file_that_holds_no_ratios(text: str, tmp_path: Path):
    (tmp_path / MAG_RATIOS).write_text(text, encoding="utf-8")
    with pytest.raises(CheckpointError, match="mag_ratios.json' does not contain finite ratios.*create it again"):
        Editor.from_pretrained(tmp_path, device="cpu", cache="mag")


def test_steps_are_checked_before_the_model_is_loaded(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Editor, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))
    for steps in (0, 1, 1001):
        with pytest.raises(InputError, match=f"steps is {steps}"):
            calibrate(model, steps=steps, device="cpu")


def test_a_place_that_cannot_be_calibrated(model: Path, tmp_path: Path):
    for nowhere in (tmp_path / "nowhere", model / "instructx.safetensors"):
        with pytest.raises(InputError, match="is not a folder"):
            calibrate(nowhere, device="cpu")
    with pytest.raises(CheckpointError, match="is not an InstructX model"):
        calibrate(tmp_path, device="cpu")
    with pytest.raises(InputError, match="steps is 1; .* at least 2 steps"):
        calibrate(model, steps=1, device="cpu")
    (model / MAG_RATIOS).mkdir()
    with pytest.raises(InputError, match=MAG_RATIOS):
        calibrate(model, device="cpu")
    assert not list(model.glob(f"*{MAG_RATIOS}*/*")) and not (tmp_path / MAG_RATIOS).exists()


def test_a_model_without_a_wan_dit_is_refused():
    with pytest.raises(InputError, match="no Wan DiT"):
        calibrate(located("insightedit-tiny"))


def test_weights_that_give_no_ratios(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("instructx_core.calibration.measure_ratios", lambda *_: [1.0, float("nan")])
    with pytest.raises(CheckpointError, match="not finite and above 0"):
        calibrate(model, 2, "cpu")
    assert not (model / MAG_RATIOS).exists()
