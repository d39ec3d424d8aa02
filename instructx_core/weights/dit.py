"""Load a Wan DiT from weights in any form: diffusers folders, original names, 8-bit floats, GGUF.

Sizes are read from tensor shapes. Only the head size is in no shape: it is 128 in every published Wan (Wan2.1 and
Wan2.2, `wan/configs/`: dim / num_heads) and in ComfyUI; a diffusers folder states it in its config. Quantised weights
are dequantised on load, or stay packed and are unpacked layer by layer in the forward pass: GGUF's by diffusers,
ComfyUI's by `packed_linear`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ..compat import load_gguf, unpack_gguf
from ..errors import CheckpointError
from ..words import quoted_path
from .build import check_shapes, empty_model, fill
from .compare import shape_of, shapes_of
from .detect import Form
from .files import naming, read_json
from .library_load import load_or_explain, load_weights
from .part_configs import check_dit_config
from .parts import Names
from .quantised import check_readable
from .wan_keys import (
    DIT_LIBRARY,
    dit_config_from_original,
    dit_to_diffusers,
    dit_to_original,
    is_unread,
    split_embeddings,
)

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

T = TypeVar("T")

TEXT = "condition_embedder.text_embedder.linear_1.weight"  # projects text into the DiT, [width, text]


def load_dit(form: Form, dtype: torch.dtype, sizes: Form | None = None, packed: bool = False) -> WanTransformer3DModel:
    """Load a DiT onto the CPU.

    Args:
        dtype: of the weights, or of GGUF weights once unpacked; diffusers keeps a few layers in float32.
        sizes: as in `checked_dit`.
        packed: keep quantised weights of linear layers as stored; GGUF's always are.

    Raises:
        CheckpointError: a DiT that is incomplete, damaged or in an unsupported form.
    """
    from diffusers import WanTransformer3DModel

    if form.is_library_folder:
        dit_config(form)
        return load_weights(form.path, WanTransformer3DModel, torch_dtype=dtype)
    model = checked_dit(form, sizes)
    if form.is_gguf:
        return _load_gguf(form, dtype)
    return fill(model, form, to_diffusers(form, {name: name for name in form.tensors}), dtype, packed)


def checked_dit(form: Form, sizes: Form | None = None) -> WanTransformer3DModel:
    """An empty DiT, after checking that `form` has all of its tensors in a readable form.

    Args:
        sizes: a DiT of the same sizes whose config supplies what no shape does; None for `form` itself.

    Raises:
        CheckpointError: as in `load_dit`, from the headers alone.
    """
    from diffusers import WanTransformer3DModel

    if not form.is_gguf:
        check_readable(form.stored, form.path)
    model = load_or_explain(form.path, lambda: empty_model(WanTransformer3DModel, dit_config(sizes or form)))
    check_shapes(model, to_diffusers(form, form.tensors), form.path, "Wan DiT")
    return model


def dit_config(form: Form) -> dict[str, Any]:
    """The arguments of `WanTransformer3DModel`: from a diffusers folder's config, else from tensor shapes.

    Raises:
        CheckpointError: a required tensor is missing, the width is not a multiple of 128, or a config value is out of
            range.
    """
    said = form.path / "config.json"
    if form.has_config:
        config = read_json(said)
    else:
        with naming(form.path):
            config = dit_config_from_original(dit_to_original(to_diffusers(form, form.tensors)))
    check_dit_config(config, said if form.has_config else form.path)
    return config


@dataclass(frozen=True)
class DitSizes:
    """Sizes that a DiT must share with what is added to it."""

    width: int
    channels: int
    text_dim: int


def dit_sizes(form: Form) -> DitSizes:
    """The sizes of a DiT in any form, from its headers.

    Raises:
        CheckpointError: the weights have no text embedding.
    """
    shapes = shapes_of(to_diffusers(form, form.tensors))
    if TEXT not in shapes:
        raise CheckpointError(f"{quoted_path(form.path)} is not a complete Wan DiT: {TEXT} is missing; get it again.")
    width, channels = shape_of(shapes, "patch_embedding.weight", 5, form.path)[:2]
    return DitSizes(width, channels, shape_of(shapes, TEXT, 2, form.path)[1])


def to_diffusers(form: Form, state: Mapping[str, T]) -> dict[str, T]:
    """Tensors of `form` under diffusers' names, without the patch embeddings that an editor stores with its DiT.

    Raises:
        CheckpointError: a tensor that no Wan DiT has.
    """
    with naming(form.path):
        if form.names is Names.ORIGINAL:
            return dit_to_diffusers(split_embeddings(state)[0])
        return {name: value for name, value in DIT_LIBRARY.unwrapped(state).items() if not is_unread(name)}


def _load_gguf(form: Form, dtype: torch.dtype) -> WanTransformer3DModel:
    """Linear layers stay packed; other packed tensors are unpacked here, as diffusers unpacks only linear layers."""
    from diffusers import GGUFQuantizationConfig, WanTransformer3DModel

    config = dit_config(form)
    model = empty_model(WanTransformer3DModel, config)
    linear = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    held = load_or_explain(form.path, lambda: dict(load_gguf(form.files[0])))
    for name, stored in form.stored.items():
        if stored.is_reshaped:  # its blocks do not follow the model's rows
            held[name] = unpack_gguf(held[name]).reshape(stored.shape)
    state = to_diffusers(form, held)
    for name, value in state.items():
        if name not in linear:
            state[name] = unpack_gguf(value)
    with tempfile.TemporaryDirectory() as folder:  # diffusers takes configs only from a folder or the hub
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        quantised = GGUFQuantizationConfig(compute_dtype=dtype)
        options = {"config": folder, "quantization_config": quantised, "torch_dtype": dtype}
        return load_or_explain(form.path, lambda: WanTransformer3DModel.from_single_file(state, **options))
