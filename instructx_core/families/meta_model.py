"""A model's parts without weights: the real classes on PyTorch's meta device, built from configs and headers.

Any mismatch of names, shapes or types that would break loading is found here, before weights are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config import ReferenceInjection, SourceInjection
from ..connectors import make_connector
from ..errors import CheckpointError
from ..mask_head import MaskHead
from ..weights.build import loaded_dtype
from ..weights.compare import Shapes, first_difference, shapes_of
from ..weights.detect import Form
from ..weights.dit import to_diffusers
from ..weights.files import check_types
from ..weights.packed_linear import outline_packed, put_beside
from ..weights.parts import Part, bare_mllm
from ..weights.readers import outline_packed_reader
from ..weights.stored import DTYPES, Stored
from .components import Components, adapter_state, guidance_class
from .match import Match
from .networks import make_denoiser, network_kind
from .opened import Opened

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel
    from torch import nn

PLAIN = {"F32", "F16"}  # GGUF types that diffusers keeps as plain tensors


def outline(opened: Opened, dtype: torch.dtype, packed: bool = False, dit_changes: bool = False) -> Components:
    """Build a model's components on the meta device; they cannot run.

    Args:
        dtype: in which the weights would be loaded.
        packed, dit_changes: see `load_model`.

    Raises:
        CheckpointError: as `load_model`, as far as headers and configs show.
    """
    config, empty = opened.config, opened.check()
    qwen, autoencoder = empty[Part.MLLM], empty[Part.VAE]
    networks = {part: empty[part] for part in (Part.DIT, Part.DIT_2) if part in empty}
    if packed and not config.guidance.lora_rank:
        outline_packed_reader(qwen, opened.form(Part.MLLM), dtype)
    with torch.device("meta"):
        guidance = guidance_class(config)(qwen, None, config.guidance)
        kind = network_kind(config)
        codec, denoiser = kind.codec(autoencoder), make_denoiser(config, *networks.values())
        connector = make_connector(config.connector)
        masks = None if config.masks is None else MaskHead(config.masks)
    modules = [(guidance, qwen), (connector, connector), (codec, codec.vae)]
    modules += zip(denoiser.halves, networks.values(), strict=True)
    modules += [] if masks is None else [(masks, masks)]
    # parameters only: buffers (rotary frequencies, the latents' mean and deviation) always stay in float32
    for module, model in modules:
        for name, weight in module.named_parameters():
            if weight.is_floating_point() and not name.startswith("local_strength"):  # not packed
                weight.data = weight.data.to(loaded_dtype(model, name, dtype))
    for part, network in networks.items():
        dit = opened.form(part)
        if dit.is_gguf:
            _pack(network, dit)
        elif packed and not dit_changes and kind.takes_extras:
            outline_packed(network, dit, to_diffusers(dit, {name: name for name in dit.tensors}), dtype)
        if packed and not dit_changes:
            _put_beside(opened, part, network)
    if packed:
        _put_beside(opened, Part.MLLM, qwen)
    wanted = adapter_state(guidance, connector, denoiser, masks)
    _compare(opened.path, shapes_of(wanted), shapes_of(_added(opened.match)))
    return Components(config, guidance, connector, denoiser, codec, masks)


def check_added(match: Match) -> None:
    """Check what a checkpoint adds against its config, without the base models.

    Raises:
        CheckpointError: wrong shapes of queries or connector, missing or unexpected LoRA or embeddings, or integer
            tensors.
    """
    config, found, path = match.config, _added(match), match.path
    with torch.device("meta"):
        connector = make_connector(config.connector)
    wanted = {f"queries.{name}": (count, config.connector.input_dim) for name, count in config.guidance.queries.items()}
    if guidance_class(config).is_spoken:
        wanted |= {name.replace("queries.", "rows."): shape for name, shape in wanted.items()}
    wanted |= {f"connector.{name}": tuple(value.shape) for name, value in connector.state_dict().items()}
    if config.masks is not None:
        with torch.device("meta"):
            masks = MaskHead(config.masks)
        wanted |= {f"masks.{name}": tuple(value.shape) for name, value in masks.state_dict().items()}
    # only checked for presence: their shapes depend on the base models
    rest = {
        "lora.": config.guidance.lora_rank > 0,
        "denoiser.source_embedding.": config.denoiser.source is SourceInjection.EMBEDDING,
        "denoiser.reference_embedding.": config.denoiser.reference is ReferenceInjection.EMBEDDING,
        "denoiser.local_strength.": config.denoiser.local_edits,
        "denoiser.image_attention.": config.denoiser.image_tokens > 0,
    }
    for prefix, is_wanted in rest.items():
        if is_wanted != any(name.startswith(prefix) for name in found):
            word = "no " if is_wanted else ""
            raise CheckpointError(
                f"{str(path)!r} does not fit its config: it holds {word}{prefix}* tensors; get it again."
            )
    shapes = shapes_of(found)
    _compare(path, wanted, {name: shape for name, shape in shapes.items() if not name.startswith(tuple(rest))})


def _pack(transformer: WanTransformer3DModel, form: Form) -> None:
    """Resize the weights of linear layers, which stay packed, to the bytes of their GGUF blocks."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    linear = {f"{name}.weight" for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)}
    for name, stored in to_diffusers(form, form.tensors).items():
        if name in linear and stored.dtype not in PLAIN and not stored.is_reshaped:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType[stored.dtype]]  # values and bytes per block
            packed = torch.empty(stored.numel // block * size, dtype=torch.uint8, device="meta")
            transformer.get_submodule(name.removesuffix(".weight")).weight = torch.nn.Parameter(packed, False)


def _put_beside(opened: Opened, part: Part, model: nn.Module) -> None:
    """`part_loaders.put_loras` with `packed`, on the meta device."""
    if loras := opened.loras(part):
        stored = opened.match.stored[opened.path]
        with torch.device("meta"):
            pairs = {
                name: tuple(torch.empty(stored[one].shape, dtype=DTYPES[stored[one].dtype]) for one in pair)
                for name, pair in loras.items()
            }
        put_beside(model, pairs, opened.lora_targets(part), bare_mllm if part is Part.MLLM else str)


def _compare(path: Path, wanted: Shapes, found: Shapes) -> None:
    if odd := first_difference(wanted, found):
        raise CheckpointError(f"{str(path)!r} does not fit its config: {odd}; get it again.")


def _added(match: Match) -> dict[str, Stored]:
    """The tensors a model adds to its base models.

    Raises:
        CheckpointError: integer tensors among them.
    """
    found = match.added
    check_types({name: stored.dtype for name, stored in found.items() if not stored.is_float}, match.path)
    return found
