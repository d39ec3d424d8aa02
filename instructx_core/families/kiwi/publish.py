"""This repo's folder of a Kiwi-Edit model as its authors publish theirs: the inverse of `to_own`.

Their folder holds code and settings of pictures too (`*.py`, `processor/*preprocessor_config.json`), which no weights
tell: to run their pipeline on the result, copy these from a folder that they have published. This library needs none.

Configs carry the classes and arguments that their `utils/convert_diffusers/convert_weights.py` writes.
Nothing is written here; see `component_files`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ...config import Dialect, ModelConfig
from ...errors import CheckpointError
from ...weights.component_files import DIFFUSERS_WEIGHTS, FILE, Plan, dit_part, inverted, mllm_part, under
from ...weights.detect import Family, Form
from ...weights.files import read_shapes
from ...weights.marks import ADAPTER
from ...weights.streaming import Content, tensor_file, tensors, text
from ...weights.vae import to_diffusers as vae_to_diffusers
from ...weights.vae import vae_config
from ...weights.values import form_tensors
from ...weights.wan_keys import vae_to_original
from ..instructx.folder import read_config
from ..loading import find_part
from ..meta_model import outline
from ..overrides import OWN
from .folder import PROCESSOR, QWEN_CONFIG, TRANSFORMER, VAE
from .keys import MLLM, REFERENCE, SOURCE, adapter_to_published

_VERSION = {"_diffusers_version": "0.36.0"}  # that their published configs name
_INDEX = {
    "_class_name": ["pipeline_kiwi_edit", "KiwiEditPipeline"],
    "processor": ["transformers", "AutoProcessor"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "vae": ["wan_video_vae", "VAE"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "mllm_encoder": ["mllm_encoder", "MLLMEncoder"],
    "source_embedder": ["conditional_embedder", "ConditionalEmbedder"],
    "ref_embedder": ["conditional_embedder", "ConditionalEmbedder"],
}
_SCHEDULER = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
WEIGHTS = (".safetensors", ".safetensors.index.json")
_VAE_ARGUMENTS = ("z_dim", "dim_mult", "num_res_blocks", "attn_scales", "temperal_downsample", "dropout")


def own_to_kiwi(source: Path, allow_pickle: bool) -> Plan:
    """A model folder of this repo's layout that was Kiwi-Edit's, or was trained in its form.

    Raises:
        CheckpointError: a model of another form, or a part that is missing, damaged or pickled.
    """
    config = read_config(source)
    if config.guidance.dialect is not Dialect.KIWI or config.guidance.lora_rank:
        raise CheckpointError(
            f"{str(source)!r} has this layout already and is no model of Kiwi-Edit's form, so there is no other layout "
            "to convert it into; give a .safetensors file to write for ComfyUI."
        )
    outline(source, torch.float32, allow_pickle=allow_pickle)
    shapes = read_shapes(source / ADAPTER)
    embedders = {SOURCE: "source_embedding", REFERENCE: "reference_embedding"}
    plan = _mllm(source, config, allow_pickle)
    plan |= under(TRANSFORMER, dit_part(find_part(source, OWN, Family.DIT, allow_pickle), allow_pickle))
    plan |= under(VAE, _vae(find_part(source, OWN, Family.VAE, allow_pickle), allow_pickle))
    index = dict(_INDEX)
    for part, module in embedders.items():
        if f"denoiser.{module}.weight" not in shapes:
            index[part] = [None, None]  # as diffusers writes down a component that is not there
            continue
        width, channels, *patch = shapes[f"denoiser.{module}.weight"]
        said = {"_class_name": "ConditionalEmbedder", "dim": width, "in_dim": channels, "patch_size": patch}
        said |= {"ref_pad_first": config.denoiser.references_first, "zero_init": True}
        plan |= under(part, {"config.json": _json(said), DIFFUSERS_WEIGHTS: _adapter(source, part)})
    scheduler = _SCHEDULER | {"shift": config.sampling.shift}
    return plan | {"scheduler/scheduler_config.json": _json(scheduler), "model_index.json": _json(index)}


def _mllm(source: Path, config: ModelConfig, allow_pickle: bool) -> Plan:
    """MLLM and queries; tokenizer and the MLLM's own config lie apart from its weights there."""
    guidance, connector = config.guidance, config.connector
    files = mllm_part(find_part(source, OWN, Family.MLLM, allow_pickle), source, allow_pickle)
    weights = {name: content for name, content in files.items() if name.endswith(WEIGHTS)}
    processor = {
        QWEN_CONFIG if name == "config.json" else name: content
        for name, content in files.items()
        if name not in weights
    }
    said = {
        "_class_name": "MLLMEncoder",
        "dit_dim": connector.output_dim,
        "hidden_size": connector.input_dim,
        "num_image_queries": guidance.image_queries,
        "num_video_queries": guidance.video_queries,
        "num_ref_queries": guidance.reference_queries,
        "max_frames": guidance.video_frames,
        "max_pixels_per_frame": guidance.video_max_pixels,
        "max_object_token": guidance.reference_max_pixels // (28 * 28),
        "mllm_model_path": ".",
    }
    encoder = {"config.json": _json(said), DIFFUSERS_WEIGHTS: _adapter(source, MLLM)}
    return under(PROCESSOR, processor) | under(MLLM, weights | encoder)


def _adapter(source: Path, part: str) -> Content:
    """The tensors of `instructx.safetensors` that are one component's."""
    names = inverted(adapter_to_published(part, {name: name for name in read_shapes(source / ADAPTER)}))
    return tensors({source / ADAPTER: names}, {"format": "pt"})


def _vae(form: Form, allow_pickle: bool) -> Plan:
    """The VAE under its original names, with the arguments of the authors' class."""
    weights = tensor_file(vae_to_original(vae_to_diffusers(form, form_tensors(form, allow_pickle))), FILE)
    own = vae_config(form)
    said = {"_class_name": "VAE", "dim": own["base_dim"]} | {name: own[name] for name in _VAE_ARGUMENTS if name in own}
    said |= {name: own[name] for name in ("latents_mean", "latents_std")}
    return {"config.json": _json(said), DIFFUSERS_WEIGHTS: weights}


def _json(plain: dict[str, Any]) -> Content:
    return text(json.dumps(_VERSION | plain, indent=2) + "\n")
