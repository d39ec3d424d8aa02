"""Schedule, noise and Euler loop against formulas, golden numbers and hand-written loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from instructx_core.backbone import Backbone
from instructx_core.conditions.condition import Condition
from instructx_core.config import DenoiserConfig
from instructx_core.context import Context
from instructx_core.denoiser import Denoiser
from instructx_core.errors import EditInterrupted, InputError
from instructx_core.sampling import GuidanceTerm, initial_noise, sample
from instructx_core.schedules import schedule
from support import tiny
from support.guided import by_instruction


class Field(Backbone):
    """A velocity field that is written down: a denoiser without a network, which keeps a record of its calls."""

    dtype = torch.float32

    def __init__(self, velocity) -> None:
        super().__init__()
        self.velocity = velocity
        self.sigmas: list[float] = []

    def conditions(self, source=None, references=()) -> tuple[Condition, ...]:
        return ()

    def forward(
        self, latents: torch.Tensor, sigma: torch.Tensor, context: Context, conditions: tuple[Condition, ...]
    ) -> torch.Tensor:
        self.sigmas.append(float(sigma))
        return self.velocity(latents, sigma, context.tokens)


NOISE = initial_noise((1, 2, 1, 4, 4), 0)
NOTHING = [GuidanceTerm(1.0, Context(torch.zeros(1, 1, 1)))]

# --- schedule


def test_schedule_golden_numbers():
    assert schedule(1, 5.0).tolist() == [1, 0]
    assert schedule(4, 1.0).tolist() == [1, 0.75, 0.5, 0.25, 0]
    torch.testing.assert_close(schedule(4, 5.0), torch.tensor([1, 15 / 16, 5 / 6, 5 / 8, 0], dtype=torch.float64))
    torch.testing.assert_close(schedule(2, 3.0), torch.tensor([1, 0.75, 0], dtype=torch.float64))


def test_the_schedule_of_distilled_models():
    """LightX2V's 4-step schedule for Wan (WanStepDistillScheduler): timesteps 1000, 750, 500, 250 warped by shift 5, of
    which it takes Euler steps; golden: 1000 times the noise levels."""
    published = [1000, 937.5, 833.3333333333334, 625, 0]
    assert (1000 * schedule(4, 5.0)).tolist() == pytest.approx(published, abs=1e-9)
    field = Field(lambda latents, sigma, context: torch.ones_like(latents))
    sample(field, NOISE, NOTHING, 4, 5.0)
    assert [1000 * sigma for sigma in field.sigmas] == pytest.approx(published[:-1], rel=1e-6)


@given(st.integers(1, 1000), st.floats(0.01, 100))
def test_schedule_falls_from_noise_to_data(steps: int, shift: float):
    sigmas = schedule(steps, shift)
    assert sigmas.dtype == torch.float64 and len(sigmas) == steps + 1
    assert sigmas[0] == 1 and sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    for i in range(0, steps + 1, 97):
        u = 1 - i / steps
        assert sigmas[i].item() == pytest.approx(shift * u / (1 + (shift - 1) * u), abs=1e-12)


@pytest.mark.parametrize("steps", [0, -1, 1001, 2.5, 3.0, True, float("nan"), float("inf"), "4"])
def test_steps_out_of_range(steps):
    with pytest.raises(InputError, match="steps is .*; give a whole number from 1 to 1000"):
        schedule(steps, 5.0)


@pytest.mark.parametrize("shift", [0, -1, 100.5, float("nan"), float("inf")])
def test_shift_out_of_range(shift):
    with pytest.raises(InputError, match="shift is"):
        schedule(4, shift)


# --- noise


@given(st.integers(0, 2**64 - 1))
def test_noise_is_torch_s_own(seed: int):
    shape = (1, 4, 2, 3, 3)
    noise = initial_noise(shape, seed)
    assert noise.dtype == torch.float32
    assert torch.equal(noise, torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)))


def test_noise_golden_numbers():
    """The same on every machine and in every version, or saved seeds lose their meaning."""
    first = initial_noise((1, 4, 1, 2, 2), 0).flatten()[:4]
    torch.testing.assert_close(first, torch.tensor([-1.1258, -1.1524, -0.2506, -0.4339]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, True, None])
def test_seed_out_of_range(seed):
    with pytest.raises(InputError, match="seed is"):
        initial_noise((1,), seed)


# --- loop


@pytest.mark.parametrize(("steps", "shift"), [(1, 1.0), (3, 5.0), (20, 3.0)])
def test_a_straight_path_arrives_exactly(steps: int, shift: float):
    """Where the velocity is noise - data all the way, any number of steps ends on the data."""
    data = torch.randn(NOISE.shape)
    result = sample(Field(lambda *_: NOISE - data), NOISE, NOTHING, steps, shift)
    torch.testing.assert_close(result, data, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("steps", "shift"), [(4, 1.0), (7, 5.0)])
def test_a_linear_field_follows_its_product(steps: int, shift: float):
    """dx/dsigma = a x: each Euler step multiplies by 1 + a dsigma; many steps come near exp(-a)."""
    factor = torch.prod(1 + 0.7 * schedule(steps, shift).diff())
    result = sample(Field(lambda x, *_: 0.7 * x), NOISE, NOTHING, steps, shift)
    torch.testing.assert_close(result, NOISE * factor.float(), atol=1e-5, rtol=0)
    fine = sample(Field(lambda x, *_: 0.7 * x), NOISE, NOTHING, 1000, 1.0)
    torch.testing.assert_close(fine, NOISE * torch.tensor(-0.7).exp(), atol=2e-3, rtol=0)


def test_the_field_is_asked_once_a_step_at_the_schedule_s_levels():
    field = Field(lambda x, *_: x)
    sample(field, NOISE, NOTHING, 6, 5.0)
    assert field.sigmas == pytest.approx(schedule(6, 5.0)[:-1].tolist(), abs=1e-6)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return Denoiser(tiny.transformer(), DenoiserConfig()).requires_grad_(False)


@pytest.fixture(scope="module")
def problem(denoiser) -> tuple[torch.Tensor, Context, Context, tuple[Condition, ...]]:
    """Noise, a context, one without the instruction, and the conditions of both."""
    shape = (1, tiny.CHANNELS, 2, 4, 4)
    source, reference = initial_noise(shape, 1), initial_noise((1, tiny.CHANNELS, 1, 4, 4), 2)
    contexts = map(Context, initial_noise((2, 1, 3, tiny.TEXT_DIM), 3))
    return initial_noise(shape, 0), *contexts, denoiser.conditions(source, (reference,))


def test_euler_is_a_hand_written_loop(denoiser, problem):
    noise, context, _, conditions = problem
    sigmas = schedule(3, 5.0)
    x = noise
    for i in range(3):
        velocity = denoiser(x, sigmas[i], context, conditions)
        x = x + (sigmas[i + 1] - sigmas[i]).float() * velocity
    result = sample(denoiser, noise, [GuidanceTerm(1.0, context, conditions)], 3, 5.0)
    assert result.shape == noise.shape and result.dtype == torch.float32
    torch.testing.assert_close(result, x, atol=1e-4, rtol=1e-4)


def test_renoising_is_fastvideos_loop(denoiser, problem):
    """Data = x - sigma v, then (1 - sigma) data + sigma noise at the next level (its DmdDenoisingStage)."""
    noise, context, _, conditions = problem
    levels, drawn = (1.0, 0.757, 0.522), torch.Generator().manual_seed(3)
    x = noise
    for i, sigma in enumerate(levels):
        data = x - sigma * denoiser(x, torch.tensor(sigma), context, conditions)
        fresh = torch.randn(noise.shape, generator=drawn)
        x = data if i == 2 else (1 - levels[i + 1]) * data + levels[i + 1] * fresh
    generators, seen = [torch.Generator().manual_seed(3)], []
    terms = [GuidanceTerm(1.0, context, conditions)]
    result = sample(denoiser, noise, terms, 3, 5.0, lambda *step: seen.append(step[:2]),
                    renoise=levels, generators=generators)  # fmt: skip
    torch.testing.assert_close(result, x, atol=1e-4, rtol=1e-4)
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("scale", [0.0, 2.5])
def test_guidance_is_two_velocities(denoiser, problem, scale: float):
    noise, context, without, conditions = problem
    sigmas = schedule(2, 3.0)
    x = noise
    for i in range(2):
        told, untold = (denoiser(x, sigmas[i], each, conditions) for each in (context, without))
        x = x + (sigmas[i + 1] - sigmas[i]).float() * (untold + scale * (told - untold))
    result = sample(denoiser, noise, by_instruction(scale, context, without, conditions), 2, 3.0)
    torch.testing.assert_close(result, x, atol=1e-4, rtol=1e-4)


def test_guidance_of_source_and_instruction(denoiser, problem):
    """InsightEdit's: e(0, 0) + 1.5 (e(source, 0) - e(0, 0)) + 7.5 (e(source, words) - e(source, 0))."""
    noise, context, without, conditions = problem
    text, image = 7.5, 1.5
    both, source_alone, nothing = (
        denoiser(noise, torch.tensor(1.0), *given)
        for given in ((context, conditions), (without, conditions), (without, ()))
    )
    expected = noise - (nothing + image * (source_alone - nothing) + text * (both - source_alone))
    terms = [
        GuidanceTerm(text, context, conditions),
        GuidanceTerm(image - text, without, conditions),
        GuidanceTerm(1 - image, without, ()),
    ]
    batches = []
    handle = denoiser.register_forward_pre_hook(lambda _module, inputs: batches.append(len(inputs[0])))
    torch.testing.assert_close(sample(denoiser, noise, terms, 1, 3.0), expected, atol=1e-4, rtol=1e-4)
    handle.remove()
    assert batches == [2, 1]  # what has the same shapes shares a forward


def test_each_term_may_have_a_source_of_its_own(denoiser, problem):
    noise, context, without, conditions = problem
    other = denoiser.conditions(-conditions[0].source, (conditions[1].latents * 2,))
    twice = torch.cat([noise, -noise])  # and the conditions of one serve a batch
    terms = [GuidanceTerm(2.0, *given) for given in ((doubled(context), conditions),)]
    terms.append(GuidanceTerm(-1.0, doubled(without), other))
    result = sample(denoiser, twice, terms, 1, 3.0)
    for row in (0, 1):
        one = twice[row : row + 1]
        first, second = (
            denoiser(one, torch.tensor(1.0), *given) for given in ((context, conditions), (without, other))
        )
        torch.testing.assert_close(result[row : row + 1], one - (2 * first - second), atol=1e-4, rtol=1e-4)


def doubled(context: Context) -> Context:
    return Context(context.tokens.repeat(2, 1, 1))


def test_a_guided_step_is_the_textbook_s_bit_by_bit(denoiser, problem):
    noise, context, without, conditions = problem
    both = denoiser(
        torch.cat([noise, noise]),
        torch.tensor(1.0),
        Context(torch.cat([context.tokens, without.tokens])),
        conditions,
    )
    told, untold = both.chunk(2)
    expected = noise - (untold + 2.5 * (told - untold))
    assert torch.equal(sample(denoiser, noise, by_instruction(2.5, context, without, conditions), 1, 3.0), expected)


def test_guidance_of_one_needs_no_second_forward(denoiser, problem):
    noise, context, without, conditions = problem
    batches = []
    handle = denoiser.register_forward_pre_hook(lambda _module, inputs: batches.append(len(inputs[0])))
    sample(denoiser, noise, by_instruction(1.0, context, without, conditions), 2, 3.0)
    handle.remove()
    assert batches == [1] * 2


@pytest.mark.parametrize("weights", [(1.0, 0.5), (0.5,), (float("nan"),), ()])
def test_weights_add_up_to_one(weights):
    terms = [GuidanceTerm(weight, NOTHING[0].context) for weight in weights]
    with pytest.raises(InputError, match="add up to 1"):
        sample(Field(lambda x, *_: x), NOISE, terms, 2, 3.0)


def test_same_noise_same_result(denoiser, problem):
    noise, context, _, conditions = problem
    before, terms = noise.clone(), [GuidanceTerm(1.0, context, conditions)]
    assert torch.equal(sample(denoiser, noise, terms, 2, 5.0), sample(denoiser, noise, terms, 2, 5.0))
    assert torch.equal(noise, before)


def test_callback_sees_every_step():
    calls = []
    result = sample(Field(lambda x, *_: x), NOISE, NOTHING, 5, 3.0, callback=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(step, 5) for step in range(1, 6)]
    assert torch.equal(calls[-1][2], result) and all(call[2].shape == NOISE.shape for call in calls)


@pytest.mark.parametrize("stop_at", [1, 3, 5])
def test_false_stops(stop_at: int):
    field, calls = Field(lambda x, *_: x), []

    def callback(step: int, total: int, latents: torch.Tensor) -> bool:
        calls.append(step)
        return step != stop_at

    with pytest.raises(EditInterrupted, match=f"after step {stop_at} of 5"):
        sample(field, NOISE, NOTHING, 5, 3.0, callback=callback)
    assert len(calls) == len(field.sigmas) == stop_at


@pytest.mark.parametrize("scale", [-0.5, 101, float("nan"), float("inf")])
def test_guidance_scale_out_of_range(scale: float):
    with pytest.raises(InputError, match="guidance_scale is"):
        by_instruction(scale, NOTHING[0].context, NOTHING[0].context, ())


def test_guidance_needs_something_to_guide_away_from():
    with pytest.raises(InputError, match="needs the context without the instruction"):
        by_instruction(2.0, NOTHING[0].context, None, ())


def test_pinned_frames_are_what_they_are_told_to_be(tiny_components):
    """At every noise level they are noised to it, and the frames beside them are denoised knowing them."""
    shape = (1, tiny.CHANNELS, 3, 6, 6)
    noise, pinned = initial_noise(shape, 0), initial_noise((1, tiny.CHANNELS, 2, 6, 6), 5)
    denoiser = tiny_components.denoiser
    context = Context(torch.randn(1, 5, tiny.TEXT_DIM))
    terms = [GuidanceTerm(1.0, context, denoiser.conditions(initial_noise(shape, 7)))]
    seen = []
    latents = sample(denoiser, noise, terms, 4, 3.0, callback=lambda *call: seen.append(call[2]), pinned=pinned)
    for sigma, state in zip(schedule(4, 3.0)[1:].float(), seen, strict=True):
        torch.testing.assert_close(state[:, :, :2], (1 - sigma) * pinned + sigma * noise[:, :, :2])
    assert torch.equal(latents[:, :, :2], pinned)
    free = sample(denoiser, noise, terms, 4, 3.0)
    assert (latents[:, :, 2:] - free[:, :, 2:]).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(1, 4, 4, 6, 6), (1, 4, 0, 6, 6), (2, 4, 1, 6, 6), (1, 4, 1, 6, 5)])
def test_pinned_latents_of_another_shape_are_refused(tiny_components, shape):
    terms = [GuidanceTerm(1.0, Context(torch.zeros(1, 5, tiny.TEXT_DIM)))]
    with pytest.raises(InputError, match="pinned latents"):
        sample(tiny_components.denoiser, torch.zeros(1, 4, 3, 6, 6), terms, 1, 1.0, pinned=torch.zeros(shape))
