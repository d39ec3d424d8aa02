"""Files for ComfyUI's own loaders and InstructX Load Adapter: a DiT in one, and what was added to it in another.

Nothing is written here; see `weights.component_files`.
"""

from __future__ import annotations

from ..config import Network
from ..errors import CheckpointError
from ..families.instructx.folder import FORMAT
from ..families.meta_model import check_added
from ..families.opened import Opened, check_context
from ..weights.component_files import FILE, dit_tensors
from ..weights.detect import Form
from ..weights.dit import checked_dit
from ..weights.native_keys import dit_to_native
from ..weights.parts import Part
from ..weights.streaming import Content, taken_tensors, tensor_file
from ..weights.unet import to_original
from .loras import dit_with_lora


def dit_file(form: Form, allow_pickle: bool) -> Content:
    """A DiT on its own, under the original Wan names.

    Raises:
        CheckpointError: it is damaged or pickled.
    """
    checked_dit(form)
    return tensor_file(dit_to_native(dit_tensors(form, allow_pickle), {}), FILE)


def model_dit_file(opened: Opened) -> Content:
    """A model's DiT with the patch embeddings added to it, under the original Wan names; a UNet under its original
    names.

    Raises:
        CheckpointError: a DiT that is missing, damaged or pickled, or does not fit the model; or a pair of DiTs.
    """
    if Part.DIT_2 in opened.parts:
        first, second = (str(opened.form(part).path) for part in (Part.DIT, Part.DIT_2))
        raise CheckpointError(
            f"{str(opened.path)!r} has a pair of DiTs, but a file holds one; convert {first!r} and {second!r} to a file"
            " each, or give a folder to write."
        )
    form = opened.form(Part.DIT)
    if opened.config.denoiser.network is Network.UNET:
        check_added(opened.match)
        return tensor_file(to_original(form), FILE)
    checked_dit(form, opened.sizes)
    check_context(opened.config, opened.path, form)
    check_added(opened.match)
    opened.check_loras(Part.DIT)
    return tensor_file(dit_to_native(dit_with_lora(opened), taken_tensors(opened.match.adapter)), FILE)


def adapter_file(opened: Opened) -> Content:
    """Only the queries, LoRA, connector and embedders of a model, as `instructx.safetensors`.

    Raises:
        CheckpointError: a model that does not fit its config, or that also changes its MLLM.
    """
    if Part.MLLM in opened.merged:
        raise CheckpointError(
            f"{str(opened.path)!r} holds a LoRA for its MLLM, which an adapter file cannot hold; give a folder to "
            "write, into which it is merged."
        )
    check_added(opened.match)
    return adapter_content(opened)


def adapter_content(opened: Opened) -> Content:
    """What a model adds to its base models, as `instructx.safetensors`."""
    return tensor_file(taken_tensors(opened.match.adapter), {FORMAT: opened.config.to_json()})
