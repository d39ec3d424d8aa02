"""What ComfyUI's own loaders and InstructX Load Adapter read: a DiT in one file, and what was added to it in another.

Nothing is written here; see `component_files`.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError
from ..families.instructx.folder import FORMAT
from ..families.kiwi.keys import dit_to_native
from ..families.kiwi.trained import check_trained, is_trained, read_trained
from ..families.loading import adapter_names, find_part, is_model, read_model_config
from ..families.meta_model import check_added
from ..families.overrides import Base, check_context
from ..weights.component_files import FILE, dit_tensors
from ..weights.detect import Family, find_form
from ..weights.dit import checked_dit
from ..weights.streaming import Content, taken_tensors, tensor_file
from .trained import changed_dit, mllm_loras


def dit_file(source: Path, base: Base, allow_pickle: bool) -> Content:
    """A DiT under the original Wan names, and beside it the embedders that a model of Kiwi-Edit's has.

    Args:
        source: a model as `load_model` reads it, or a Wan DiT in any form.
        base: a DiT that takes the place of the model's own, or that it does not have.
        allow_pickle: open a pickled DiT.

    Raises:
        CheckpointError: a DiT that is missing, damaged, pickled or GGUF, or one that does not fit the model.
    """
    if not is_model(source):
        form = find_form(source, Family.DIT, allow_pickle)
        checked_dit(form)
        return tensor_file(dit_to_native(dit_tensors(form, allow_pickle), {}), FILE)
    form = find_part(source, base, Family.DIT, allow_pickle)
    checked_dit(form)
    check_context(read_model_config(source), source, form)
    check_added(source)
    if is_trained(source):
        check_trained(read_trained(source), form)
    dit = changed_dit(source, form, allow_pickle) or dit_tensors(form, allow_pickle)
    return tensor_file(dit_to_native(dit, taken_tensors(adapter_names(source))), FILE)


def adapter_file(source: Path) -> Content:
    """Queries, LoRA, connector and embedders of a model, as `instructx.safetensors` alone.

    Raises:
        CheckpointError: no model, a damaged file, one that does not fit its config, or one that changes its MLLM too.
    """
    if mllm_loras(source):
        raise CheckpointError(
            f"{str(source)!r} holds a LoRA of its MLLM, for which the adapter has no place; write a folder, into which "
            "it is merged."
        )
    check_added(source)
    return adapter_content(source)


def adapter_content(source: Path) -> Content:
    """What a model adds to its base models, as `instructx.safetensors`."""
    return tensor_file(taken_tensors(adapter_names(source)), {FORMAT: read_model_config(source).to_json()})
