"""Attention, compiled blocks and step caches: what they may change, and what is refused."""

from __future__ import annotations

import pytest
import torch

from instructx_core import EditInterrupted, Editor, InputError, cli
from instructx_core.memory.choice import Memory
from instructx_core.memory.placement import place, store_in_fp8
from instructx_core.memory.plan import Plan
from instructx_core.memory.sizes import sizes_of
from instructx_core.speed.options import ATTENTION, CACHES, check_speed, speed_up
from support import tiny

CPU = torch.device("cpu")
WORDS = "make the red circle blue"
STEPS = 10


def editor_with(cache: str | None = None, memory: Memory = Memory.FULL) -> Editor:
    components = place(tiny.components(), Plan(memory, tiled=False), CPU)
    speed_up(components.denoiser.transformer, "sdpa", compile_blocks=False, cache=cache and tiny.step_cache(cache))
    return Editor(components, CPU)


def edit(editor: Editor, **options: object) -> torch.Tensor:
    return editor.edit(tiny.clip(5), WORDS, **({"steps": STEPS, "guidance_scale": 1.5} | options)).frames


def count_blocks(editor: Editor, name: str) -> list[int]:
    """A list that grows by one with every forward of the last block's part."""
    calls: list[int] = []
    part = editor.denoiser.transformer.blocks[-1].get_submodule(name)
    part.register_forward_hook(lambda *_: calls.append(1))
    return calls


FAR = {"first-block": 0.01, "taylor": 0.13, "mag": 0.03}  # found 0.0009, 0.111, 0.013; without any block 0.139


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("memory", tiny.ways_here([Memory.FULL, Memory.GROUP]))
def test_a_cache_saves_forwards_and_stays_near(cache: str, memory: Memory):
    editor, exact = editor_with(cache, memory), editor_with()
    calls = count_blocks(editor, "attn1.to_q")
    frames = edit(editor)
    assert 0 < len(calls) < STEPS
    difference = (frames - edit(exact)).abs().max()
    assert 0 < difference < FAR[cache]


@pytest.mark.parametrize("cache", CACHES)
def test_an_edit_begins_with_an_empty_cache(cache: str):
    editor = editor_with(cache)
    first = edit(editor)
    edit(editor, seed=5)
    with pytest.raises(EditInterrupted):
        edit(editor, callback=lambda step, *_: step < 4)
    editor.edit(tiny.clip(1), WORDS)  # of another shape
    assert torch.equal(edit(editor), first)


def test_fp8_halves_the_blocks_and_stays_near():
    components, exact = tiny.components(), Editor(tiny.components())
    before = sizes_of(components).dit.block
    store_in_fp8(components)
    assert sizes_of(components).dit.block < 0.5 * before  # float32 here: a quarter, but for the norms
    difference = (edit(Editor(components)) - edit(exact)).abs().max()
    assert 0 < difference < 0.03  # found 0.0125; of half the weights 0.078


def test_compiled_blocks_are_the_repeated_ones():
    components = tiny.components()
    speed_up(components.denoiser.transformer, "sdpa", compile_blocks=True, cache=None)
    compiled = [module for module in components.denoiser.modules() if module._compiled_call_impl is not None]
    assert compiled == list(components.denoiser.transformer.blocks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "fast"}, "attention is 'fast'; choose one of sdpa, flash, sage"),
        ({"attention": "flash"}, "needs a CUDA GPU"),
        ({"cache": "everything"}, "cache is 'everything'; choose one of first-block, taylor, mag"),
        ({"cache": "mag", "compile": True}, "cache 'mag' prevents compiling the DiT's blocks; leave out either"),
    ],
)
def test_refused_before_anything_is_loaded(options: dict, message: str, tmp_path):
    with pytest.raises(InputError, match=message):
        Editor.from_pretrained(tmp_path, device="cpu", **options)


def test_fp8_is_refused_on_a_mac_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr("instructx_core.editor.pick_device", lambda _device: torch.device("mps"))
    with pytest.raises(InputError, match="fp8 needs 8-bit floats, which the device mps does not have; leave out fp8"):
        Editor.from_pretrained(tmp_path, fp8=True)


@pytest.mark.parametrize(("cache", "name"), [("taylor", "TaylorSeerCacheConfig"), ("mag", "MagCacheConfig")])
def test_an_older_diffusers_is_named(cache: str, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(f"diffusers.hooks.{name}")
    with pytest.raises(InputError, match=f"cache '{cache}' is not in diffusers .*update diffusers"):
        check_speed("sdpa", False, cache, CPU)


def test_a_model_s_attention_is_its_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ATTENTION, "flash", "_native_math")  # which needs no GPU
    chosen, plain = tiny.components(), tiny.components()
    speed_up(plain.denoiser.transformer, "sdpa", compile_blocks=False, cache=None)
    speed_up(chosen.denoiser.transformer, "flash", compile_blocks=False, cache=None)
    calls, kernel = [], torch.nn.attention.sdpa_kernel
    monkeypatch.setattr("torch.nn.attention.sdpa_kernel", lambda backend: calls.append(backend) or kernel(backend))
    edit(Editor(plain), steps=1)
    assert not calls
    edit(Editor(chosen), steps=1)
    assert calls


def test_missing_packages_are_named():
    with pytest.raises(InputError, match="attention 'sage' cannot be used here"):
        speed_up(tiny.components().denoiser.transformer, "sage", compile_blocks=False, cache=None)


def test_the_command_line_hands_them_on(monkeypatch: pytest.MonkeyPatch, tmp_path):
    from PIL import Image

    Image.new("RGB", (32, 32)).save(tmp_path / "in.png")
    given = {}

    def load(*_: object, **options: object) -> None:
        given.update(options)
        raise InputError("enough")

    monkeypatch.setattr("instructx_core.editor.Editor.from_pretrained", load)
    words = ["--memory", "group", "--fp8", "--attention", "sdpa", "--compile", "--cache", "taylor"]
    assert cli.main(["edit", str(tmp_path / "in.png"), WORDS, "-o", str(tmp_path / "out.png"), *words]) == 2
    expected = {"memory": "group", "fp8": True, "attention": "sdpa", "compile": True, "cache": "taylor"}
    assert {name: given[name] for name in expected} == expected
