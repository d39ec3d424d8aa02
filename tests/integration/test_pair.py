"""Pairs of DiTs (Wan2.2-A14B), one for high noise, one for low: against their authors' code, against each by hand."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from instructx_core import CheckpointError, Editor, InputError, cli, families
from instructx_core.calibration import calibrate
from instructx_core.config import ModelConfig
from instructx_core.convert import convert
from instructx_core.denoiser_pair import DenoiserPair
from instructx_core.families.overrides import Overrides
from instructx_core.guidance_modes import formula_of, second_scales
from instructx_core.long_video.editor_model import fingerprint
from instructx_core.memory.choice import Memory
from instructx_core.memory.decide import outline_model
from instructx_core.memory.needs import RUNTIME, main_memory_need
from instructx_core.memory.phases import trained_job
from instructx_core.memory.placement import place, store_in_fp8
from instructx_core.memory.plan import CHOICES, Plan, peak, resident
from instructx_core.memory.sizes import sizes_of
from instructx_core.sampling import GuidanceTerm, initial_noise, sample
from instructx_core.schedules import schedule
from instructx_core.speed.mag_ratios import write_ratios
from instructx_core.speed.options import speed_up
from instructx_core.training.start import open_start
from instructx_core.validation import FieldError
from instructx_core.weights.files import write_safetensors
from instructx_core.weights.parts import Part
from instructx_core.weights.wan_keys import dit_to_original
from support import recorded, tiny
from support.pairs import BOUNDARY, MIDDLE, WEIGHTS, bernini_pair, paired, save_second
from support.public_models import save_bernini
from support.quantise import quantised
from support.recorded import Outputs, check_close
from support.weight_forms import scaled, write_gguf

CPU = torch.device("cpu")
WORDS = "make the red circle blue"
STEPS, SHIFT = 4, 3.0  # levels 1, .9, .75, .5: two steps each at .8


@pytest.fixture(scope="module", params=recorded.folders("bernini"), ids=lambda folder: folder.parent.name)
def recorded_model(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def pair(recorded_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bernini-R in the layout of its 14B."""
    return bernini_pair(recorded_model, tmp_path_factory.mktemp("pair") / "bernini")


@pytest.fixture(scope="module")
def bernini(pair: Path) -> Editor:
    return Editor.from_pretrained(pair, device="cpu", dtype="float32")


@pytest.fixture
def two(saved: Path, tmp_path: Path) -> Path:
    """A pipeline's folder with two DiTs, such as Wan2.2-A14B's, of the sizes of the model in `saved`."""
    folder = tmp_path / "wan22"
    shutil.copytree(saved / "transformer", folder / "transformer")
    save_second(folder)
    (folder / "model_index.json").write_text(json.dumps({"boundary_ratio": MIDDLE}))
    return folder


def edited(editor: Editor, steps: int = STEPS) -> torch.Tensor:
    return editor.edit(tiny.clip(5), WORDS, tiny.clip(1)[0], steps=steps, guidance_scale=2.0).latents


# --- what it computes


@pytest.mark.parametrize("case", ["image", "video", "reference", "video_chain"])
def test_an_edit_is_its_authors(case: str, bernini: Editor, recorded_model: Path):
    """Levels .999, .908 and .713: two steps of the first DiT, one of the second at .8 of each scale."""
    outputs = Outputs.of(recorded_model)
    held = outputs.tensors
    wanted = load_file(recorded_model / "reference_pair.safetensors")[f"{case}.latents"]
    result = bernini.edit(
        held["image.source" if case == "image" else "video.source"],
        outputs.said("prompts")[case],
        reference=held["reference.image"][0] if case == "reference" else None,
        guidance_mode="v2v_chain" if case == "video_chain" else None,
        **{name: int(outputs.metadata[name]) for name in ("steps", "seed", "height", "width")},
    )
    check_close(result.latents, wanted)
    assert (wanted - held[f"{case}.latents"]).abs().max() > 0.01  # and not those of the first DiT alone


@torch.no_grad()
def test_steps_are_those_of_each_half_by_hand():
    model = paired()
    first, second = model.denoiser.halves
    source, noise = torch.randn(1, 4, 2, 6, 6), initial_noise((1, 4, 2, 6, 6), 0)
    context = Editor(model).context([WORDS], [tiny.clip(5)], [()], True)
    conditions = model.denoiser.conditions(source)
    sigmas = schedule(STEPS, SHIFT).float()
    latents = noise
    for number, (sigma, lower) in enumerate(pairwise(sigmas)):
        half = first if number < 2 else second
        latents = latents + (lower - sigma) * half(latents, sigma, context, conditions)
    found = sample(model.denoiser, noise, [GuidanceTerm(1.0, context, conditions)], STEPS, SHIFT)
    assert torch.equal(found, latents)
    for alone in (first, second):
        other = sample(alone, noise, [GuidanceTerm(1.0, context, conditions)], STEPS, SHIFT)
        assert (other - found).abs().max() > 1e-3


@pytest.mark.parametrize(("sigma", "half"), [(1.0, 0), (0.9, 0), (0.89999, 1), (0.5, 1), (0.001, 1)])
def test_the_boundary_is_the_first_dit_s(sigma: float, half: int):
    pair = replace_boundary(0.9)
    level = float(torch.tensor(sigma, dtype=torch.float32))  # .9 is a little less in float32
    assert pair.at(level) is pair.halves[half]
    latents, context = torch.randn(1, 4, 1, 6, 6), Editor(paired()).context([WORDS], [tiny.clip(1)], [()], False)
    with torch.no_grad():
        found, wanted = (
            one(latents, torch.tensor(sigma), context, pair.conditions(latents)) for one in (pair, pair.halves[half])
        )
    assert torch.equal(found, wanted)


def replace_boundary(boundary: float) -> DenoiserPair:
    return DenoiserPair(*paired().denoiser.halves, boundary)


def test_a_batch_on_both_sides_is_refused():
    with pytest.raises(InputError, match=r"both sides of 0\.8"):
        paired().denoiser(torch.zeros(2, 4, 1, 6, 6), torch.tensor([0.9, 0.7]), None)


def test_the_second_is_guided_by_its_share():
    sampling = replace(
        tiny.CONFIG.sampling, second_share=0.8, guidance_scale=4.0, source_scale=1.25, reference_scale=4.5
    )
    scaled = second_scales(sampling.guidance_mode, sampling)
    found = (scaled.guidance_scale, scaled.source_scale, scaled.reference_scale)
    assert found == pytest.approx((3.2, 1.0, 3.6))
    for mode in ("v2v", "v2v_apg", "v2v_chain", "rv2v", "r2v_apg"):
        chosen = type(sampling.guidance_mode)(mode)
        made = formula_of(chosen, second_scales(chosen, sampling))
        assert made.projection or sum(part.weight for part in made.parts) == pytest.approx(1)
    alone = replace(sampling, guidance_scale=1.0)
    mode = type(sampling.guidance_mode)("v2v")
    assert second_scales(mode, alone) == alone  # no guidance stays none, and takes half the time


@pytest.mark.parametrize("cache", ["first-block", "taylor"])
def test_step_caches_begin_anew_where_halves_change(cache: str, monkeypatch: pytest.MonkeyPatch):
    model, begun = paired(), []
    for half in model.denoiser.halves:
        speed_up(half.transformer, "sdpa", compile_blocks=False, cache=tiny.step_cache(cache))
        own = half.prepare
        monkeypatch.setattr(
            half, "prepare", lambda steps, own=own, half=half: (begun.append((half, steps)), own(steps))
        )
    first, second = edited(Editor(model)), edited(Editor(model))
    assert torch.equal(first, second)  # nothing of a run before
    assert begun == [(half, 2) for half in model.denoiser.halves] * 2


def test_what_a_run_has_in_common_goes_with_its_half(monkeypatch: pytest.MonkeyPatch):
    """Keys and values of a context are a DiT's own, and a 14B's take gigabytes."""
    import weakref

    from instructx_core import denoiser as module

    made: list[weakref.ref] = []

    class Watched(module.RunCache):
        def __init__(self, transformer: object) -> None:
            super().__init__(transformer)
            made.append(weakref.ref(self))

    monkeypatch.setattr(module, "RunCache", Watched)
    alive = []
    Editor(paired()).edit(
        tiny.clip(1), WORDS, steps=STEPS, callback=lambda *_: alive.append(sum(one() is not None for one in made))
    )
    assert len(made) == 2 and alive == [1, 1, 1, 1]


# --- on the disk


def test_its_folder_says_what_it_is(pair: Path, recorded_model: Path, capsys: pytest.CaptureFixture[str]):
    config = families.open(pair).config
    assert (config.denoiser.boundary, config.sampling.second_share) == (BOUNDARY, 0.8)
    alone = families.open(recorded_model).config
    assert (alone.denoiser.boundary, alone.sampling.second_share) == (0, 1)
    assert cli.main(["info", str(pair)]) == 0
    assert "second DiT" in (said := capsys.readouterr().out) and "denoises below noise level 0.875" in said
    assert cli.main(["info", "--plan", str(pair), "--width", "64", "--height", "64", "--frames", "9"]) == 0
    said = capsys.readouterr().out
    assert "DiT step" in said and "DiT 2 step" in said


def test_diffusers_own_word_for_the_boundary(pair: Path, tmp_path: Path):
    folder = shutil.copytree(pair, tmp_path / "pair")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": said["model_type"]}))
    assert families.open(folder).config.denoiser.boundary == 0.875  # the usual
    (folder / "model_index.json").write_text(json.dumps({"boundary_ratio": 0.9}))
    assert families.open(folder).config.denoiser.boundary == 0.9


def test_one_that_says_it_has_no_second_has_none(pair: Path, tmp_path: Path):
    folder = shutil.copytree(pair, tmp_path / "pair")
    (folder / "model_index.json").write_text(json.dumps({"boundary_ratio": 0.9}))
    said = json.loads((folder / "config.json").read_text())
    for changed in ({"skip_transformer_2": True}, {"switch_dit_boundary": 0}):
        (folder / "config.json").write_text(json.dumps(said | changed))
        assert families.open(folder).config.denoiser.boundary == 0


@pytest.mark.parametrize("boundary", [1, 1.5, -0.1, "0.9", True])
def test_a_boundary_out_of_range_is_named(boundary: object, pair: Path, tmp_path: Path):
    folder = shutil.copytree(pair, tmp_path / "pair")
    said = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(said | {"switch_dit_boundary": boundary}))
    with pytest.raises(CheckpointError, match=r"config\.json.*switch_dit_boundary.*above 0 and below 1"):
        families.open(folder)
    with pytest.raises(FieldError, match=r"denoiser\.boundary is .*; give a number from 0 to below 1"):
        ModelConfig.from_plain({"denoiser": {"boundary": boundary}})


def test_a_unet_has_no_pair():
    with pytest.raises(CheckpointError, match=r"denoiser\.boundary is 0\.875.*unet"):
        ModelConfig.from_plain(
            {
                "default_frames": 1,
                "sampling": {"shift": 1.0},
                "denoiser": {"network": "unet", "source": "channels", "prediction": "noise", "boundary": 0.875},
            }
        )


def test_two_given_files_make_a_pair(saved: Path, two: Path, tmp_path: Path):
    """As folders, as one folder that holds both, as single files; the boundary is Wan2.2's where no file says it."""
    apart = {"transformer": two / "transformer", "transformer_2": two / "transformer_2"}
    for name in ("transformer", "transformer_2"):
        write_safetensors(tmp_path / f"{name}.safetensors", dit_to_original(load_file(two / name / WEIGHTS)))
    found = []
    for given in ({"transformer": two}, apart, apart | {"transformer_2": tmp_path / "transformer_2.safetensors"}):
        editor = Editor.from_pretrained(saved, device="cpu", dtype="float32", **given)
        assert editor.config.denoiser.boundary == (MIDDLE if len(given) == 1 else 0.875)
        editor.denoiser.boundary = 0.7
        found.append(edited(editor))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    assert (found[0] - edited(Editor.from_pretrained(saved, device="cpu", dtype="float32"))).abs().max() > 1e-3
    own = Editor.from_pretrained(saved, device="cpu", dtype="float32", transformer_2=two / "transformer_2")
    own.denoiser.boundary = 0.7
    assert torch.equal(edited(own), found[0])  # its own DiT is the first


def test_a_pair_is_saved_and_converted(saved: Path, two: Path, tmp_path: Path):
    first = Editor.from_pretrained(saved, device="cpu", dtype="float32", transformer=two)
    first.save_pretrained(tmp_path / "saved")
    convert(saved, tmp_path / "converted", Overrides(transformer=two))
    for name in ("saved", "converted"):
        again = Editor.from_pretrained(tmp_path / name, device="cpu", dtype="float32")
        assert again.config == first.config and fingerprint(again) == fingerprint(first)
        torch.testing.assert_close(edited(again), edited(first), atol=1e-5, rtol=0)
    own = Editor.from_pretrained(saved, device="cpu", dtype="float32")
    assert fingerprint(own) != fingerprint(first)
    with pytest.raises(CheckpointError, match="has a pair of DiTs, but a file holds one; convert"):
        convert(tmp_path / "saved", tmp_path / "dit.safetensors")
    assert not (tmp_path / "dit.safetensors").exists()
    convert(tmp_path / "saved" / "transformer_2", tmp_path / "low.safetensors")
    with pytest.raises(InputError, match="would not include the base models"):
        convert(saved, tmp_path / "instructx.safetensors", Overrides(transformer_2=two / "transformer_2"))


def test_a_second_dit_that_is_missing_is_named(pair: Path, saved: Path, two: Path, tmp_path: Path):
    folder = shutil.copytree(pair, tmp_path / "pair")
    shutil.rmtree(folder / "transformer_2")
    with pytest.raises(CheckpointError, match=r"no second Wan DiT, for low noise, of its own.*--transformer-2 PATH"):
        Editor.from_pretrained(folder, device="cpu")
    given = Editor.from_pretrained(folder, device="cpu", transformer_2=pair / "transformer_2")
    assert len(given.denoiser.halves) == 2
    for name in ("nothing", "vae"):
        with pytest.raises(CheckpointError, match=name):
            Editor.from_pretrained(saved, device="cpu", transformer=two / "transformer", transformer_2=saved / name)
    with pytest.raises(CheckpointError, match="holds a pair of DiTs.*give one of these two folders"):
        Editor.from_pretrained(saved, device="cpu", transformer_2=two)


def test_dits_that_are_no_pair_are_named(saved: Path, two: Path, tmp_path: Path):
    other = tmp_path / "other"
    sizes = {name: size for name, size in tiny.transformer().config.items() if not name.startswith("_")}
    from diffusers import WanTransformer3DModel

    for changed, said in (
        ({"num_layers": 3}, r"blocks\.2\..* is \(.*expected nothing"),
        ({"ffn_dim": 48}, r"ffn\.net\.0\.proj\.(bias|weight) is \(48"),
        ({"num_attention_heads": 1, "attention_head_dim": tiny.WIDTH}, "num_attention_heads is 1, expected 2"),
    ):
        WanTransformer3DModel(**(sizes | changed)).save_pretrained(other)
        with pytest.raises(
            CheckpointError, match=rf"transformer' and .*other' are not a pair: in the second, .*{said}"
        ):
            Editor.from_pretrained(saved, device="cpu", transformer=two / "transformer", transformer_2=other)


@pytest.mark.parametrize(
    "form", ["fp8 scaled", "GGUF", *(pytest.param(form, marks=pytest.mark.slow) for form in ("int8", "nvfp4"))]
)
def test_each_half_has_a_form_of_its_own(form: str, tmp_path: Path):
    """The second is packed on the disk, and where it stays so in memory the plan counts it so."""
    folder = save_bernini(tmp_path / "bernini", native=True)
    state = dit_to_original(load_file(folder / "transformer" / WEIGHTS))
    file = tmp_path / f"low.{'gguf' if form == 'GGUF' else 'safetensors'}"
    if form == "GGUF":
        write_gguf(state, file, "Q8_0")
    else:
        write_safetensors(file, scaled(state, "new") if form == "fp8 scaled" else quantised(state, form)[0])
    held = outline_model(families.open(folder, Overrides(transformer_2=file)), torch.float32, CPU)
    editor = Editor.from_pretrained(folder, device="cpu", dtype="float32", transformer_2=file)
    assert sizes_of(editor.components) == held.sizes
    assert form == "fp8 scaled" or held.sizes.dit_2.block < 0.6 * held.sizes.dit.block
    found, wanted = (
        one.edit(tiny.clip(1, 32, 32), WORDS, steps=2, shift=1.0, height=32, width=32).latents
        for one in (editor, Editor.from_pretrained(folder, device="cpu", dtype="float32"))
    )
    assert not torch.equal(found, wanted)  # by its rounding
    assert (found - wanted).std() < 0.012 * wanted.std()  # nvfp4 0.006; half of the blocks' weights 0.024


# --- LoRA


def test_a_lora_goes_into_both_or_into_one(saved: Path, two: Path, tmp_path: Path):
    name = "blocks.0.attn1.to_q"
    state = {f"{name}.lora_A.weight": torch.randn(2, tiny.WIDTH), f"{name}.lora_B.weight": torch.randn(tiny.WIDTH, 2)}
    write_safetensors(tmp_path / "lora.safetensors", state)

    def moved(*loras: object) -> list[bool]:
        editor = Editor.from_pretrained(saved, device="cpu", dtype="float32", transformer=two, loras=loras)
        weights = [half.transformer.get_submodule(name).weight for half in editor.denoiser.halves]
        return [not torch.equal(now, own) for now, own in zip(weights, unchanged, strict=True)]

    plain = Editor.from_pretrained(saved, device="cpu", dtype="float32", transformer=two)
    unchanged = [half.transformer.get_submodule(name).weight for half in plain.denoiser.halves]
    file = tmp_path / "lora.safetensors"
    assert moved((file, 1.0)) == [True, True]
    assert moved((file, 1.0, "high")) == [True, False]
    assert moved((file, 1.0, "low")) == [False, True]
    with pytest.raises(InputError, match="is for the low-noise DiT.*has only one DiT; leave out 'low'"):
        Editor.from_pretrained(saved, device="cpu", loras=[(file, 1.0, "low")])
    with pytest.raises(InputError, match=r'"high" or "low"'):
        Editor.from_pretrained(saved, device="cpu", loras=[(file, 1.0, "middle")])


def test_the_command_line_takes_a_pair(saved: Path, two: Path, picture: Path, tmp_path: Path):
    name = "blocks.0.attn1.to_q"
    state = {f"{name}.lora_A.weight": torch.randn(2, tiny.WIDTH), f"{name}.lora_B.weight": torch.randn(tiny.WIDTH, 2)}
    write_safetensors(tmp_path / "lora.safetensors", state)
    edit = ["edit", str(picture), WORDS, "-o", str(tmp_path / "out.png"), "--model", str(saved), "--steps", "2"]
    halves = ["--transformer", str(two / "transformer"), "--transformer-2", str(two / "transformer_2")]
    loras = ["--lora", f"{tmp_path / 'lora.safetensors'}:0.5:low", "--lora", f"{tmp_path / 'lora.safetensors'}:high"]
    assert cli.main([*edit, *halves, *loras]) == 0
    assert (tmp_path / "out.png").is_file()


# --- memory


@pytest.mark.parametrize("memory", tiny.ways_here(CHOICES))
def test_the_same_pixels_wherever_weights_are(memory: Memory):
    found = edited(Editor(place(paired(), Plan(memory, tiled=False), CPU), CPU))
    assert torch.equal(found, edited(Editor(paired())))


def test_a_plan_counts_one_dit_at_a_time():
    both, one = sizes_of(paired()), sizes_of(replace(paired(), denoiser=paired().denoiser.halves[0]))
    assert both.dit == both.dit_2 == one.dit and both.added == one.added
    assert resident(both, Memory.FULL, Part.DIT) == resident(one, Memory.FULL, Part.DIT) + one.dit.total
    for choice in (Memory.MODEL, Memory.GROUP, Memory.SEQUENTIAL):
        for part in (Part.MLLM, Part.DIT, Part.VAE):
            assert resident(both, choice, part) == resident(one, choice, part)
        assert resident(both, choice, Part.DIT_2) == resident(one, choice, Part.DIT)


def test_main_memory_maps_both_and_needs_one(pair: Path, recorded_model: Path):
    """Half-precision files in bfloat16 are mapped: one DiT is in use, the other's pages may go."""
    models = [outline_model(families.open(path), torch.bfloat16, CPU) for path in (pair, recorded_model)]
    both, one = (model.held for model in models)
    assert both.mapped[Part.DIT] == both.mapped[Part.DIT_2] == one.mapped[Part.DIT] > 0
    needs = []
    for model in models:
        phases = tuple(replace(at, working=0) for at in model.phases(trained_job(model.model.config), tiled=False))
        needs.append(
            [main_memory_need(model.held, phases, memory, CPU).total for memory in (Memory.FULL, Memory.MODEL)]
        )
    assert needs[0][0] == both.total + RUNTIME
    own = both.own - one.own  # layers of the second that diffusers keeps in float32
    assert needs[0][1] - needs[1][1] == own and needs[0][0] - needs[1][0] == own + one.mapped[Part.DIT]
    assert [phase.name for phase in phases].count("DiT 2 step") == 0
    names = [phase.name for phase in models[0].phases(trained_job(models[0].model.config), tiled=False)]
    assert names == ["MLLM reads", "VAE encodes", "DiT step", "DiT 2 step", "VAE decodes"]
    gpu = [peak(model.sizes, model.phases(trained_job(model.model.config), False), Memory.MODEL) for model in models]
    assert gpu[0] == gpu[1]


def test_both_are_stored_in_fp8():
    model = paired()
    store_in_fp8(model)
    kinds = [half.transformer.blocks[0].ffn.net[2].weight.dtype for half in model.denoiser.halves]
    assert kinds == [torch.float8_e4m3fn] * 2


# --- what takes one DiT


def test_what_takes_one_dit_says_so(pair: Path, tmp_path: Path):
    with pytest.raises(InputError, match="pair of DiTs, but training takes only one"):
        open_start(pair)
    with pytest.raises(InputError, match="pair of DiTs, but the cache mag works with one"):
        calibrate(pair, steps=2, device="cpu")
    folder = shutil.copytree(pair, tmp_path / "pair")
    write_ratios(folder, [1.0, 1.0])
    with pytest.raises(InputError, match="cache 'mag' works with one DiT, but .* has a pair"):
        Editor.from_pretrained(folder, device="cpu", cache="mag")
