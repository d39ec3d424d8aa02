"""`instructx cache`: the examples of a training config, encoded before any stage, by as many processes as one likes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from .. import families
from ..bounded import is_dir, is_file
from ..errors import InputError
from ..families.meta_model import outline
from ..latents import LatentCodec
from ..run_lock import only_run
from ..validation import FieldError, converted
from ..weights.detect import Part, find_form
from ..weights.vae import load_vae
from ..words import quoted_path
from .config import TrainConfig
from .data.cache import Maker, make_pool, make_pool_with, writing
from .data.pool import read_pool
from .processes import process_state
from .sizes import check_numbers


def cache(config: TrainConfig, folder: Path, processes: int = 1) -> Path:
    """Encode the examples of a config into `folder`, which may then be the `data.pool` of all stages of this data.

    What a killed call had finished is kept, and one that is complete is left as it is. Under `accelerate launch` every
    process makes its share.

    Args:
        processes: how many to start for it.

    Raises:
        InputError: a stage without latents, a folder that holds something else, unusable data, or a full disk.
        CheckpointError: the stage's start is missing or damaged.
    """
    if config.task in ("autoencoder", "language"):
        raise InputError(f"A {config.task} stage trains on pixels; there are no latents to cache.")
    state = process_state()
    if state.num_processes > 1 and processes > 1:
        raise InputError("accelerate has started the processes already; leave --processes out.")
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    if is_file(folder):
        raise InputError(f"{quoted_path(folder)} is a file; name a folder.")
    if state.num_processes > 1:
        maker = make_maker(config)
        if not is_dir(folder):
            make_pool(folder, maker, (state.process_index, state.num_processes), state.wait_for_everyone)
    else:
        with only_run(folder):
            maker = make_maker(config)
            if not is_dir(folder):
                make_pool_with(folder, maker, processes, partial(make_maker, config))
    read_pool(folder, maker.origin())
    return folder


def make_maker(config: TrainConfig) -> Maker:
    """What encodes a config's examples: of the model that it starts from only the VAE is loaded.

    Raises:
        InputError, CheckpointError: as `cache`.
    """
    if "model" in config.start:
        opened = families.open(config.start["model"])
        components = outline(opened, torch.float32)
        patch, shown = components.denoiser.transformer.config.patch_size[1], components.config.guidance.video_frames
        vae = opened.form(Part.VAE)
    else:
        from diffusers import WanTransformer3DModel

        from ..config import ModelConfig

        sizes = dict(config.model)
        transformer = sizes.pop("transformer")
        try:
            shown = converted(ModelConfig, sizes, "model.").guidance.video_frames
        except FieldError as error:
            raise InputError(f"In the model section of the training config, {error}.") from error
        check_numbers(transformer, "model.transformer")
        with torch.device("meta"):
            patch = WanTransformer3DModel(**transformer).config.patch_size[1]
        vae = find_form(config.start["vae"], Part.VAE)
    codec = LatentCodec(load_vae(vae, torch.float32)).requires_grad_(False).to(process_state().device)
    return Maker(config.data, codec, shown, codec.stride * patch)
