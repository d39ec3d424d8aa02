"""This repo's folder of a Kiwi-Edit model as its authors publish theirs: the inverse of `to_own`.

Their folder holds code and settings of pictures too (`*.py`, `processor/*preprocessor_config.json`), which no weights
tell: to run their pipeline on the result, copy these from a folder that they have published. This library needs none.

Configs carry the classes and arguments that their `utils/convert_diffusers/convert_weights.py` writes.
Nothing is written here; see `component_files`.
"""

from __future__ import annotations

import json
from typing import Any

import torch

from ...weights.component_files import DIFFUSERS_WEIGHTS, FILE, Plan, dit_part, mllm_part, under
from ...weights.detect import Form, Part
from ...weights.streaming import Content, taken_tensors, tensor_file, text
from ...weights.vae import to_diffusers as vae_to_diffusers
from ...weights.vae import vae_config
from ...weights.values import form_tensors
from ...weights.wan_keys import vae_to_original
from ..meta_model import outline
from ..opened import Opened
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


def publish(opened: Opened) -> Plan:
    """A model folder of this repo's layout that was Kiwi-Edit's, or was trained in its form.

    Raises:
        CheckpointError: a part that is missing, damaged or pickled.
    """
    config = opened.config
    outline(opened, torch.float32)
    shapes = {name: stored.shape for name, stored in opened.match.added.items()}
    embedders = {SOURCE: "source_embedding", REFERENCE: "reference_embedding"}
    plan = _mllm(opened)
    plan |= under(TRANSFORMER, dit_part(opened.form(Part.DIT), opened.allow_pickle))
    plan |= under(VAE, _vae(opened.form(Part.VAE), opened.allow_pickle))
    index = dict(_INDEX)
    for part, module in embedders.items():
        if f"denoiser.{module}.weight" not in shapes:
            index[part] = [None, None]  # as diffusers writes down a component that is not there
            continue
        width, channels, *patch = shapes[f"denoiser.{module}.weight"]
        said = {"_class_name": "ConditionalEmbedder", "dim": width, "in_dim": channels, "patch_size": patch}
        said |= {"ref_pad_first": config.denoiser.references_first, "zero_init": True}
        plan |= under(part, {"config.json": _json(said), DIFFUSERS_WEIGHTS: _adapter(opened, part)})
    scheduler = _SCHEDULER | {"shift": config.sampling.shift}
    return plan | {"scheduler/scheduler_config.json": _json(scheduler), "model_index.json": _json(index)}


def _mllm(opened: Opened) -> Plan:
    """MLLM and queries; tokenizer and the MLLM's own config lie apart from its weights there."""
    guidance, connector = opened.config.guidance, opened.config.connector
    files = mllm_part(opened.form(Part.MLLM), opened.match.folder, opened.allow_pickle)
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
    encoder = {"config.json": _json(said), DIFFUSERS_WEIGHTS: _adapter(opened, MLLM)}
    return under(PROCESSOR, processor) | under(MLLM, weights | encoder)


def _adapter(opened: Opened, part: str) -> Content:
    """The tensors of `instructx.safetensors` that are one component's."""
    taken = taken_tensors(opened.match.adapter)
    return tensor_file(adapter_to_published(part, taken), {"format": "pt"})


def _vae(form: Form, allow_pickle: bool) -> Plan:
    """The VAE under its original names, with the arguments of the authors' class."""
    weights = tensor_file(vae_to_original(vae_to_diffusers(form, form_tensors(form, allow_pickle))), FILE)
    own = vae_config(form)
    said = {"_class_name": "VAE", "dim": own["base_dim"]} | {name: own[name] for name in _VAE_ARGUMENTS if name in own}
    said |= {name: own[name] for name in ("latents_mean", "latents_std")}
    return {"config.json": _json(said), DIFFUSERS_WEIGHTS: weights}


def _json(plain: dict[str, Any]) -> Content:
    return text(json.dumps(_VERSION | plain, indent=2) + "\n")
