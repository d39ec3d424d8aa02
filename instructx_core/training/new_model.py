"""Make a model to train: unchanged base models with untrained queries, LoRA and connector.

Base models are copied tensor by tensor (see `convert`), so they may be larger than memory.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..bounded import UnreadableError, read_yaml
from ..config import ContextEntry, ModelConfig
from ..connectors import Connector, make_connector
from ..convert.writing import Checksums, counted, write_folder
from ..errors import InputError
from ..families.components import adapter_state, guidance_class
from ..families.configs import config_of
from ..families.instructx.folder import FORMAT
from ..families.networks import network_kind
from ..families.opened import check_kind, check_sizes, check_streams
from ..guidance.encoder import QUERY_SIZE
from ..unet_denoiser import image_attended
from ..validation import FieldError
from ..weights.compare import shapes_of
from ..weights.component_files import DIFFUSERS_WEIGHTS, FILE, Plan, dit_part, mllm_part, under, vae_part
from ..weights.detect import Form, find_form
from ..weights.dit import checked_dit
from ..weights.marks import ADAPTER
from ..weights.networks import checked_autoencoder, network_sizes
from ..weights.parts import Names, Part
from ..weights.readers import checked_reader, reader_config, reader_width
from ..weights.streaming import Content, StoredTensor, computed, tensor_file, text
from ..weights.unet import editing_unet
from ..words import quoted_path
from .changes import apply_change

EXAMPLE = "guidance.lora_rank=320"


def make_model(
    target: str | Path,
    mllm: str | Path,
    transformer: str | Path,
    vae: str | Path,
    changes: Sequence[str] = (),
    seed: int = 0,
    config: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Checksums:
    """Write a model folder of three base models and fresh queries, LoRA and connector.

    Args:
        target: the folder to write; it appears once it is complete.
        mllm, transformer, vae: a Qwen2.5-VL, a Wan DiT and a Wan VAE in any supported form.
        changes: "guidance.lora_rank=320" and the like, for fields of `ModelConfig`; the defaults are the paper's, and
            alpha defaults to the LoRA's rank.
        seed: of the fresh weights.
        config: a YAML file of `ModelConfig` fields (configs/paper/variants); `changes` override it.
        progress: called as progress(bytes done, total bytes).

    Raises:
        CheckpointError: a base model is missing, damaged, of the wrong kind, or does not fit the others.
        InputError: a config or change that is not valid for `ModelConfig`, or a target that cannot be written.
    """
    target, plain = Path(target), _read_config(config)
    forms = (
        find_form(transformer, Part.DIT),
        find_form(vae, Part.VAE),
        find_form(mllm, Part.MLLM),
    )
    for form in forms:
        here, there = target.resolve(), form.path.resolve()
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise InputError(
                f"The output {quoted_path(target)} is the same as, contains or is inside {quoted_path(form.path)}; "
                "give another folder."
            )
    plan = _plan(target, *forms, plain, changes, seed)
    return write_folder(target, plan, counted(progress, sum(content.size for content in plan.values())))


def _read_config(path: str | Path | None) -> dict[str, Any]:
    """The fields of a YAML file; {} without a path."""
    if path is None:
        return {}
    try:
        plain = read_yaml(path)
    except UnreadableError as error:
        raise InputError(
            f"The model config {quoted_path(path)} cannot be read: {error.reason}; those of the paper's variants are "
            "in instructx_core/training/configs/paper/variants."
        ) from error
    if not isinstance(plain, dict):
        raise InputError(f"The model config {quoted_path(path)} is not a mapping of fields to values.")
    return plain


def new_config(
    changes: Sequence[str], hidden: int, text_dim: int, width: int, plain: Mapping[str, Any] | None = None
) -> ModelConfig:
    """The config of the paper's model with these changes, for base models of these sizes.

    Args:
        plain: fields of `ModelConfig` to set before `changes`.
        hidden: width of the MLLM.
        text_dim, width: widths of the DiT's text input and of its blocks.

    Raises:
        InputError: an unknown field, or a value out of range.
    """
    plain = copy.deepcopy(dict(plain or {}))
    for change in changes:
        apply_change(plain, change, EXAMPLE)
    sections = {name: plain.setdefault(name, {}) for name in ("guidance", "connector")}
    if all(isinstance(section, dict) for section in sections.values()):
        guidance, connector = sections.values()
        if "lora_rank" in guidance:
            guidance.setdefault("lora_alpha", guidance["lora_rank"])
        connector.setdefault("input_dim", hidden)
        past_text = connector.get("entry") == ContextEntry.WIDTH.value
        connector.setdefault("output_dim", width if past_text else text_dim)
    try:
        return config_of(plain)
    except (FieldError, TypeError, ValueError) as error:
        raise InputError(f"The new model's config cannot be used: {error}; see --config and --set.") from error


def _plan(
    target: Path, dit: Form, vae: Form, mllm: Form, plain: Mapping[str, Any], changes: Sequence[str], seed: int
) -> dict[str, Content]:
    """Plan the content of each file in the folder, checked as far as headers tell."""
    beside = mllm.path if mllm.path.is_dir() else mllm.path.parent
    network, files, copied = _network(dit)
    checked_autoencoder(vae)
    reader = checked_reader(mllm, reader_config(mllm, beside))
    sizes = network_sizes(dit)
    config = new_config(changes, reader_width(mllm), sizes.text_dim, sizes.width, plain)
    for form in (dit, vae):
        check_kind(config, target, form)
    check_sizes(config, target, dit, vae, mllm)
    check_streams(config, target, dit, reader)
    with torch.device("meta"):
        guidance = guidance_class(config)(reader, None, config.guidance)
        connector = make_connector(config.connector)
        denoiser = network_kind(config).denoiser(network, config)
    shapes = shapes_of(adapter_state(guidance, connector, denoiser))
    parts = {"mllm": mllm_part(mllm, beside), "transformer": files, "vae": vae_part(vae)}
    plan = {name: content for part, files in parts.items() for name, content in under(part, files).items()}
    metadata = {FORMAT: config.to_json()}
    fresh = _fresh(shapes, connector, seed)
    fresh |= {name: stored for name, stored in copied.items() if name in fresh}
    return plan | {ADAPTER: tensor_file(fresh, metadata)}


def _network(form: Form) -> tuple[nn.Module, Plan, dict[str, StoredTensor]]:
    """The empty DiT or UNet, its files, and those of its tensors that initialise the model's image attention."""
    if form.names is not Names.UNET:
        return checked_dit(form), dit_part(form), {}
    unet, config, tensors = editing_unet(form)
    said = json.dumps({"_class_name": "UNet2DConditionModel"} | config, indent=2) + "\n"
    files = {"config.json": text(said), DIFFUSERS_WEIGHTS: tensor_file(tensors, FILE)}
    copied = {
        f"denoiser.image_attention.{number}.to_{part}_ip.0.weight": tensors[f"{name}.to_{part}.weight"]
        for number, name in enumerate(image_attended(unet))
        for part in ("k", "v")
    }
    return unet, files, copied


def _fresh(shapes: Mapping[str, tuple[int, ...]], connector: Connector, seed: int) -> dict[str, StoredTensor]:
    """The float32 tensors of a new `instructx.safetensors`, each created only when it is written.

    Args:
        connector: only its config is read, so it may be on the meta device.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        own = make_connector(connector.config).state_dict()
    tensors = {}
    for name, shape in shapes.items():
        if name.startswith("connector."):
            make = partial(own.__getitem__, name.removeprefix("connector."))
        else:
            make = partial(_values, name, shape, seed)
        tensors[name] = computed("F32", shape, make, Path(ADAPTER), name)
    return tensors


def _values(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Initial values [*shape] of a query, LoRA matrix or embedding; the same name and seed give the same values."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    if name.startswith(("queries.", "rows.")):
        return torch.randn(shape, generator=generator) * QUERY_SIZE
    if ".lora_A." in name:  # peft's initialisation: A random, B zero, so that the LoRA changes nothing yet
        return nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5), generator=generator)
    return torch.zeros(shape)
