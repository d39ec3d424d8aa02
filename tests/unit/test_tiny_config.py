"""A tiny model's own fields stand in one section, wherever an older version of this package wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from instructx_core import families
from instructx_core.config import ModelConfig
from instructx_core.errors import CheckpointError
from instructx_core.families.configs import read_config
from instructx_core.families.instructx.folder import BUNDLED, FORMAT, save_checkpoint
from instructx_core.families.tiny.config import TinyConfig, TinySettings
from instructx_core.families.tiny.prediction import ChangePrediction
from instructx_core.weights.files import read_safetensors, write_safetensors
from support.opening import load

WHOLE = TinySettings("change", 0.45, 0.2, ("remove", "grayscale"))
BEFORE = {  # as version 5 of the tiny model says it
    "denoiser": {"source": "embedding", "prediction": "change", "deadband": 0.45},
    "keep_source": 0.2,
    "held_out_from_video": ["remove", "grayscale"],
}
UNUSED = {
    "denoiser": {"source": "latent", "prediction": "velocity", "deadband": 0.0},
    "keep_source": 0.0,
    "held_out_from_video": [],
}


def test_fields_of_before_are_read_into_the_section():
    config = read_config(json.dumps(BEFORE))
    assert type(config) is TinyConfig and config.tiny == WHOLE
    assert config.denoiser.source.value == "embedding"
    assert (config.source_prediction, config.keep_source) == (ChangePrediction(0.45), 0.2)
    assert read_config(config.to_json()) == config
    assert not {"keep_source", "held_out_from_video"} & set(json.loads(config.to_json()))


@pytest.mark.parametrize("text", ["{}", json.dumps(UNUSED)])
def test_a_model_that_uses_none_of_them_is_the_paper_s(text: str):
    config = read_config(text)
    assert type(config) is ModelConfig and config == ModelConfig()
    assert (config.source_prediction, config.keep_source, config.held_out_from_video) == (None, 0.0, ())
    assert "tiny" not in json.loads(config.to_json())


@pytest.mark.parametrize(
    ("name", "value", "settings"),
    [
        ("keep_source", 0.1, TinySettings("velocity", keep_source=0.1)),
        ("held_out_from_video", ["remove"], TinySettings("velocity", held_out_from_video=("remove",))),
        ("denoiser", {"prediction": "change"}, TinySettings()),
    ],
)
def test_one_of_them_is_enough(name: str, value: object, settings: TinySettings):
    config = read_config(json.dumps({**UNUSED, name: value}))
    assert isinstance(config, TinyConfig) and config.tiny == settings


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"keep_source": False}, "tiny.keep_source is False"),
        ({"denoiser": {"prediction": "telepathy"}}, "denoiser.prediction is 'telepathy'"),
        ({"tiny": {"predicts": "telepathy"}}, "tiny.predicts is 'telepathy'"),
        ({"tiny": {"predicts": "change"}, "keep_source": 0.2}, "TinyConfig has no field 'keep_source'"),
        ({"tiny": {"deadband": -1}}, "tiny.deadband is -1"),
        ({"tiny": None}, "tiny is None; give a mapping"),
    ],
)
def test_what_they_may_not_say_is_named(plain: dict, message: str):
    with pytest.raises(CheckpointError, match=message):
        read_config(json.dumps(plain))


def test_the_bundled_model_is_one():
    config = families.open(BUNDLED).config
    assert isinstance(config, TinyConfig) and isinstance(config.source_prediction, ChangePrediction)


def test_a_folder_of_before_opens_and_is_saved_with_the_section(tmp_path: Path, tiny_components):
    save_checkpoint(tiny_components, tmp_path / "old")
    adapter = tmp_path / "old" / "instructx.safetensors"
    tensors, metadata = read_safetensors(adapter)
    plain = json.loads(metadata[FORMAT])
    plain["denoiser"] |= BEFORE["denoiser"] | {"source": "latent"}
    write_safetensors(adapter, tensors, {FORMAT: json.dumps(plain | {"keep_source": 0.2})})
    components = load(tmp_path / "old")
    assert components.denoiser.prediction == ChangePrediction(0.45)
    save_checkpoint(components, tmp_path / "new")
    assert families.open(tmp_path / "new").config == components.config
