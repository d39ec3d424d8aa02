"""Guidance modes and projection against their formulas written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from instructx_core.conditions.condition import Condition
from instructx_core.conditions.source_stream import source_streams
from instructx_core.config import GuidanceMode, SamplingConfig
from instructx_core.context import Context
from instructx_core.errors import InputError
from instructx_core.guidance_modes import Formula, OneForward, formula_of, mode_of, needs_both, second_scales, terms
from instructx_core.projection import Projection
from instructx_core.sampling import combined, unipc
from instructx_core.schedules import unipc_schedule

SCALES = SamplingConfig(guidance_scale=4.0, source_scale=1.25, reference_scale=4.5)
CONTEXT, WITHOUT = Context(torch.ones(1, 1, 1)), Context(torch.zeros(1, 1, 1))


def conditions(with_source: bool, with_references: bool) -> tuple[Condition, ...]:
    return (Condition(),) * (with_source + 2 * with_references)


def added(mode: GuidanceMode) -> torch.Tensor:
    """What a mode adds up of random velocities, one for each (words, source, references)."""
    parts = terms(formula_of(mode, SCALES), CONTEXT, WITHOUT, conditions)
    assert sum(term.weight for term in parts) == pytest.approx(1)
    return combined([(term.weight, velocity(term.context is CONTEXT, len(term.conditions))) for term in parts])


def velocity(with_words: bool, given: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(10 * with_words + given)
    return torch.randn(4, generator=generator)


def test_each_mode_adds_up_what_its_formula_says():
    nothing, source = velocity(False, 0), velocity(False, 1)
    everything, words = velocity(False, 3), velocity(True, 3)
    wanted = {
        GuidanceMode.V2V: everything + 4 * (words - everything),
        GuidanceMode.V2V_CHAIN: nothing + 1.25 * (source - nothing) + 4 * (words - source),
        GuidanceMode.RV2V: nothing + 1.25 * (source - nothing) + 4.5 * (everything - source) + 4 * (words - everything),
    }
    for mode, value in wanted.items():
        torch.testing.assert_close(added(mode), value)


@pytest.mark.parametrize(
    ("is_video", "has_references", "mode"),
    [
        (False, False, GuidanceMode.V2V),
        (True, False, GuidanceMode.V2V_APG),
        (True, True, GuidanceMode.RV2V),
        (False, True, GuidanceMode.RV2V),
    ],
)
def test_a_task_has_its_mode(is_video: bool, has_references: bool, mode: GuidanceMode):
    assert mode_of(GuidanceMode.TASK, is_video, has_references) is mode
    assert mode_of(GuidanceMode.V2V_CHAIN, is_video, has_references) is GuidanceMode.V2V_CHAIN


@pytest.mark.parametrize(("text", "source", "count"), [(4.0, 1.25, 3), (4.0, 1.0, 2), (1.0, 1.25, 3), (1.0, 1.0, 1)])
def test_a_velocity_that_counts_nothing_is_not_made(text: float, source: float, count: int):
    scales = SamplingConfig(guidance_scale=text, source_scale=source)
    parts = formula_of(GuidanceMode.V2V_CHAIN, scales).parts
    assert len(parts) == count and parts[-1].words
    assert sum(part.weight for part in parts) == pytest.approx(1)


@pytest.mark.parametrize("mode", [GuidanceMode.V2V, GuidanceMode.V2V_APG])
def test_a_guidance_scale_of_1_is_off(mode: GuidanceMode):
    scales = replace(SCALES, guidance_scale=1.0)
    assert formula_of(mode, scales) == Formula((OneForward(1, True, True, True),))
    assert not needs_both(mode, 1.0) and needs_both(mode, 1.1)
    assert second_scales(mode, scales) == scales


def test_a_chain_needs_what_to_guide_away_from():
    with pytest.raises(InputError, match="needs the context without the instruction"):
        terms(formula_of(GuidanceMode.V2V_CHAIN, SCALES), CONTEXT, None, conditions)


def test_a_difference_is_projected_frame_by_frame():
    torch.manual_seed(0)
    projection = Projection(along=0.5, most=2.0)
    difference, prediction = torch.randn(1, 3, 2, 4, 4), torch.randn(1, 3, 2, 4, 4)
    difference[:, :, 1] /= 100  # short enough as it is
    found = projection.projected(difference, prediction)
    for frame in range(2):
        own, base = difference[0, :, frame].flatten(), prediction[0, :, frame].flatten()
        own = own * min(1.0, 2.0 / own.norm().item())
        along = (own @ base) / (base @ base) * base
        torch.testing.assert_close(found[0, :, frame].flatten(), own - along + 0.5 * along)


def test_pictures_are_projected_each_by_itself():
    """A UNet's latents in ComfyUI, [B, C, H, W], as the library's of one frame."""
    torch.manual_seed(0)
    projection = Projection(along=0.5, most=2.0)
    difference, prediction = torch.randn(2, 3, 1, 4, 4), torch.randn(2, 3, 1, 4, 4)
    found = projection.projected(difference[:, :, 0], prediction[:, :, 0])
    assert torch.equal(found, projection.projected(difference, prediction)[:, :, 0])


def test_a_projection_that_changes_nothing_is_plain_guidance():
    torch.manual_seed(0)
    latents, first, last = (torch.randn(1, 3, 2, 4, 4) for _ in range(3))
    found = Projection(along=1.0, most=1e9).guided([(1.0, first), (4.0, last)], latents, torch.tensor(0.7))
    torch.testing.assert_close(found, first + 4 * (last - first), rtol=1e-4, atol=1e-4)


def test_more_streams_than_were_trained_share_their_ids():
    latents = [torch.zeros(1, 1, 1, 2, 2)] * 9
    assert [stream.identity for stream in source_streams(latents[:3])] == [1, 2, 3]
    assert [stream.identity for stream in source_streams(latents)] == [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    assert source_streams([]) == []


def test_an_id_is_a_position_on_an_axis_of_its_own():
    """The angle of every pair of a head's channels is that of the grid and that of the id."""
    (stream,) = source_streams([torch.zeros(1, 1, 1, 2, 2)])
    angles = torch.rand(1, 4, 1, 6).repeat_interleave(2, -1)
    behind = torch.zeros(1, 1, 1, 12)
    cos, sin = stream.turned_before((behind, behind), lambda _: (angles.cos(), angles.sin()))
    rates = (1 / 10000 ** (torch.arange(6) / 6)).repeat_interleave(2)
    torch.testing.assert_close(cos[:, :4], (angles + rates).cos())
    torch.testing.assert_close(sin[:, :4], (angles + rates).sin())
    assert torch.equal(cos[:, 4:], behind)


def test_unipc_has_no_level_of_nothing():
    _, levels = unipc(unipc_schedule(1000, 1.0))
    assert levels.min() == pytest.approx(1 / 1000)


@pytest.mark.parametrize("steps", [1, 3, 40, 1000])
def test_unipc_has_levels_of_its_own(steps: int):
    sigmas = unipc_schedule(steps, 5.0)
    assert len(sigmas) == steps + 1 and sigmas[-1] == 0 and bool((sigmas.diff() < 0).all())
    assert sigmas[0].item() == pytest.approx(5 * 0.999 / (1 + 4 * 0.999))
