"""A complete model from a VAE, an MLLM and sizes, with a DiT that changes nothing yet."""

from __future__ import annotations

from pathlib import Path

import torch

from instructx_core.config import ModelConfig
from instructx_core.connectors import make_connector
from instructx_core.denoiser import Denoiser
from instructx_core.errors import InputError
from instructx_core.families.components import Components, with_queries
from instructx_core.families.configs import config_of
from instructx_core.families.opened import check_reader
from instructx_core.latents import LatentCodec
from instructx_core.training.tasks import Encoder
from instructx_core.validation import FieldError
from instructx_core.weights.detect import find_form
from instructx_core.weights.parts import Part
from instructx_core.weights.readers import load_reader
from instructx_core.weights.vae import load_vae

from .config import TinyTrainConfig
from .initialisation import start_unchanging
from .sizes import check_numbers, check_sized


def assemble(config: TinyTrainConfig) -> Components:
    """Build the model that `start: {vae, mllm}` and `model` describe.

    Raises:
        CheckpointError: a part that is missing or damaged.
        InputError: invalid sizes.
    """
    from diffusers import WanTransformer3DModel

    model, sizes = _model(config)
    check_sized(lambda: WanTransformer3DModel(**sizes), "model.transformer")
    mllm = Path(config.start["mllm"])
    form = find_form(mllm, Part.MLLM)
    check_reader(model, Path(config.output), form)
    guidance = with_queries(*load_reader(form, mllm, torch.float32), model, torch.float32)
    codec = LatentCodec(load_vae(find_form(config.start["vae"], Part.VAE), torch.float32))
    connector = make_connector(model.connector)
    transformer = WanTransformer3DModel(**sizes)
    denoiser = Denoiser(transformer, model.denoiser, model.connector.entry, model.source_prediction)
    start_unchanging(connector, denoiser)
    return Components(model, guidance, connector, denoiser, codec)


def planned_encoder(config: TinyTrainConfig) -> Encoder:
    """The encoder of examples for a stage whose DiT does not exist yet. Raises as `assemble`."""
    from diffusers import WanTransformer3DModel

    model, sizes = _model(config)
    with torch.device("meta"):
        patch = WanTransformer3DModel(**sizes).config.patch_size[1]
    return Encoder(find_form(config.start["vae"], Part.VAE), patch, model.guidance.video_frames)


def _model(config: TinyTrainConfig) -> tuple[ModelConfig, dict]:
    """The model's config, and the sizes of its DiT."""
    plain = dict(config.model)
    sizes = plain.pop("transformer")
    try:
        model = config_of(plain, "model.")
    except FieldError as error:
        raise InputError(f"In the model section of the training config, {error}.") from error
    check_numbers(sizes, "model.transformer")
    return model, sizes
