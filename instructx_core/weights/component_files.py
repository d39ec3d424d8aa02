"""Plan the files that a conversion writes for one component of a model.

A component that its library can read keeps its files and shards; any other form becomes one file, under the
library's names. Nothing is written here: a plan maps each file to its content, checked as far as headers allow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..bounded import read_text
from ..errors import CheckpointError
from ..words import quoted
from .compare import shapes_of
from .detect import Form
from .dit import checked_dit, dit_config
from .dit import to_diffusers as dit_to_diffusers
from .mllm import find_tokenizer, load_tokenizer
from .parts import Names, bare_text, published_mllm
from .portable import CONFIGS, portable
from .readers import checked_reader, reader_config
from .streaming import Content, StoredTensor, copied, stored_bytes, tensor_file, text
from .text_encoder import SECOND_NAME
from .vae import to_diffusers as vae_to_diffusers
from .vae import vae_config
from .values import Lora, form_tensors, merged, trimmed

DIFFUSERS_WEIGHTS, MLLM_WEIGHTS = "diffusion_pytorch_model.safetensors", "model.safetensors"  # single files
INDEX = "[!.]*.safetensors.index.json"  # maps tensors to shards; required for a sharded model
FILE = {"format": "pt"}  # metadata that transformers requires

Plan = dict[str, Content]  # a folder to write: file, relative to it -> its content
Tensors = dict[str, StoredTensor]


def dit_tensors(form: Form, allow_pickle: bool = False) -> Tensors:
    """A DiT's tensors under diffusers' names.

    Raises:
        CheckpointError: as `form_tensors`.
    """
    tensors = dit_to_diffusers(form, form_tensors(form, allow_pickle))
    return trimmed(tensors, shapes_of(checked_dit(form).state_dict()), form.path) if form.is_padded else tensors


def dit_part(form: Form, allow_pickle: bool = False, changed: Tensors | None = None, sizes: Form | None = None) -> Plan:
    """A DiT as diffusers reads it.

    Args:
        form: checked; its config is kept.
        changed: tensors to write instead of its own.
        sizes: as in `checked_dit`.

    Raises:
        CheckpointError: as `form_tensors` and `shards`.
    """
    config = {"config.json": _config(sizes or form, "WanTransformer3DModel", dit_config)}
    if changed is None and form.is_library_folder:
        return config | shards(form, DIFFUSERS_WEIGHTS)
    return config | {DIFFUSERS_WEIGHTS: tensor_file(changed or dit_tensors(form, allow_pickle), FILE)}


def vae_part(form: Form, allow_pickle: bool = False) -> Plan:
    """A VAE as diffusers reads it.

    Raises:
        CheckpointError: as `form_tensors` and `shards`.
    """
    config = {"config.json": _config(form, "AutoencoderKLWan", vae_config)}
    if form.is_library_folder:
        return config | shards(form, DIFFUSERS_WEIGHTS)
    return config | {DIFFUSERS_WEIGHTS: tensor_file(vae_to_diffusers(form, form_tensors(form, allow_pickle)), FILE)}


def mllm_part(
    form: Form, checkpoint: Path, allow_pickle: bool = False, loras: Mapping[str, Lora] | None = None
) -> Plan:
    """An MLLM as transformers reads it, with its tokenizer.

    Args:
        checkpoint: the folder of the model that uses it, see `load_mllm`.
        loras: to merge, by weight name without prefixes.

    Raises:
        CheckpointError: no tokenizer or config for it, tensors that do not fit its config, or as `form_tensors`.
    """
    config = reader_config(form, checkpoint)
    tokenizer = load_tokenizer(find_tokenizer(form, checkpoint))
    reader = checked_reader(form, config)
    small = saved_by(config.save_pretrained) | saved_by(tokenizer.save_pretrained)
    if form.is_library_folder and not loras:
        return small | shards(form, MLLM_WEIGHTS)
    held: Tensors = {}
    for name, value in form_tensors(form, allow_pickle).items():
        written = _published(form, name)
        if form.is_text and written == SECOND_NAME:
            continue
        if written in held:
            raise CheckpointError(f"{str(form.path)!r} holds {quoted(written)} twice; get it again.")
        held[written] = value
    if form.is_padded:
        shapes = {_published(form, name): tensor.shape for name, tensor in reader.state_dict().items()}
        held = trimmed(held, shapes, form.path)
    wanted = {_published(form, name): pair for name, pair in (loras or {}).items()}
    return small | {MLLM_WEIGHTS: tensor_file(merged(held, wanted, checkpoint), FILE)}


def _published(form: Form, name: str) -> str:
    """A reader tensor's name in the form that every version of its library reads."""
    if form.is_text:
        return bare_text(name)
    return name if form.names is Names.LLAVA else published_mllm(name, form.is_qwen3)


def shards(form: Form, whole: str) -> Plan:
    """Checked weight files under the names that the libraries read: one named `whole`, or shards with their index.

    Raises:
        CheckpointError: several files without an index.
    """
    if len(form.files) == 1:
        return {whole: copied(form.files[0])}
    index = sorted(form.path.glob(INDEX))
    if not index:
        raise CheckpointError(f"{str(form.path)!r} has several weight files but no index; get the folder again.")
    return {path.name: copied(path) for path in (*form.files, *index)}


def saved_by(save: Callable[[Path], object]) -> Plan:
    """The small files that a library's `save` writes into the folder that it is passed."""
    with TemporaryDirectory(prefix="instructx-") as folder:
        save(Path(folder))
        found = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    return {
        name: text(portable(value.decode())) if name in CONFIGS else stored_bytes(value)
        for name, value in found.items()
    }


def under(folder: str, files: Mapping[str, Content]) -> Plan:
    """A component's files, moved into its subfolder of the model folder."""
    return {f"{folder}/{name}": content for name, content in files.items()}


def _config(form: Form, class_name: str, arguments: Callable[[Form], dict[str, Any]]) -> Content:
    """The folder's own config, or one built from the class's arguments."""
    if form.has_config:
        return text(portable(read_text(form.path / "config.json")))
    return text(json.dumps({"_class_name": class_name} | arguments(form), indent=2) + "\n")
