"""Configs are values that survive JSON, and what JSON may not say is named."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructx_core.config import (
    ConnectorConfig,
    ContextEntry,
    DenoiserConfig,
    GuidanceConfig,
    ModelConfig,
    SamplingConfig,
    SourceInjection,
)
from instructx_core.errors import CheckpointError
from instructx_core.families.configs import read_config
from support import tiny

COUNTS = st.integers(1, 2048)
NUMBERS = st.floats(0.01, 100)
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
MODELS = st.builds(
    ModelConfig,
    name=WORDS,
    default_size=st.tuples(st.integers(16, 1080), st.integers(16, 1920)),
    default_frames=st.integers(1, 121),
    guidance=st.builds(
        GuidanceConfig, image_queries=COUNTS, video_queries=COUNTS, reference_queries=COUNTS, lora_rank=COUNTS
    ),
    connector=st.builds(ConnectorConfig, hidden_dim=COUNTS, entry=st.sampled_from(ContextEntry)),
    denoiser=st.builds(DenoiserConfig, source=st.sampled_from(tiny.DIT_SOURCES)),
    sampling=st.builds(SamplingConfig, steps=st.integers(1, 100), shift=NUMBERS, guidance_scale=NUMBERS),
)


def test_waves_are_for_a_source_with_an_embedding_of_its_own():
    ModelConfig(denoiser=DenoiserConfig(SourceInjection.EMBEDDING, source_waves=3)).checked()
    with pytest.raises(CheckpointError, match="source_waves is 3; give 0, or denoiser.source embedding"):
        ModelConfig(denoiser=DenoiserConfig(SourceInjection.LATENT, source_waves=3)).checked()


def test_defaults_are_the_paper_s_numbers():
    config = ModelConfig()
    guidance, connector = config.guidance, config.connector
    assert (guidance.image_queries, guidance.video_queries, guidance.video_frames) == (256, 512, 13)
    assert guidance.reference_queries == 0
    assert (connector.input_dim, connector.output_dim) == (2048, 4096)  # Qwen2.5-VL-3B, Wan's text space
    assert connector.entry is ContextEntry.TEXT
    assert config.denoiser.source is SourceInjection.LATENT


@given(MODELS)
def test_json_round_trip(config: ModelConfig):
    back = read_config(config.to_json())
    assert back == config and hash(back) == hash(config)
    assert type(back.denoiser.source) is SourceInjection and type(back.default_size) is tuple
    assert back.to_json() == config.to_json()


def test_what_is_left_out_takes_its_default():
    config = read_config('{"guidance": {"video_queries": 7}, "sampling": {"shift": 3}}')
    assert config == dataclasses.replace(
        ModelConfig(), guidance=GuidanceConfig(video_queries=7), sampling=SamplingConfig(shift=3.0)
    )
    assert read_config("{}") == ModelConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("no JSON", "cannot be read"),
        ("[]", "ModelConfig is .*give a mapping"),
        ('{"guidance": 3}', "guidance is 3; give a mapping"),
        ('{"steps": 3}', "ModelConfig has no field 'steps'"),
        ('{"denoiser": {"source": "telepathy"}}', "telepathy"),
        (
            '{"guidance": {"image_queries": "many"}}',
            "guidance.image_queries is 'many'; give an integer from 1",
        ),
        ('{"guidance": {"image_queries": 2.5}}', "image_queries is 2.5"),
        ('{"guidance": {"image_queries": true}}', "image_queries is True"),
        ('{"sampling": {"shift": "1e-4"}}', "sampling.shift is '1e-4'; give a number above 0"),
        ('{"sampling": {"shift": null}}', "shift is None"),
        ('{"name": 3}', "name is 3; give a string"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str):
    with pytest.raises(CheckpointError, match=message) as caught:
        read_config(text)
    assert "\n" not in str(caught.value)


def test_configs_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().name = "other"
    assert json.loads(ModelConfig().to_json())["connector"]["entry"] == "text"
