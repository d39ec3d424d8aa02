"""What ComfyUI's own loaders and InstructX Load Adapter read: a DiT in one file, and what was added to it in another.

Nothing is written here; see `component_files`.
"""

from __future__ import annotations

from pathlib import Path

from .. import kiwi
from ..bundle import ADAPTER, FORMAT
from ..files import read_shapes
from ..kiwi_keys import MLLM, REFERENCE, SOURCE, adapter_to_own, dit_to_native
from ..loading import read_model_config
from .component_files import turned, weight_files
from .streaming import Content, stored_tensors, tensors

Names = dict[Path, dict[str, str]]  # file -> the names of tensors in it -> their names elsewhere


def dit_file(source: Path, allow_pickle: bool) -> Content:
    """The DiT of a model folder under the original Wan names, and beside it the embedders that it gained.

    Args:
        source: of either layout; or any with a diffusers Wan `transformer/`.
        allow_pickle: as `stored_tensors`.

    Raises:
        CheckpointError: a part that is missing, damaged or pickled, or no Wan DiT.
    """
    taken: Names = {}
    for path in weight_files(source / "transformer", allow_pickle):
        taken[path] = turned(dit_to_native({name: name for name in stored_tensors(path, allow_pickle)}, {}))
    if kiwi.is_kiwi(source) or (source / ADAPTER).is_file():
        for path, names in adapter_names(source).items():
            taken[path] = turned(dit_to_native({}, turned(names)))
    return tensors(taken, {"format": "pt"}, allow_pickle)


def adapter_file(source: Path) -> Content:
    """Queries, LoRA, connector and embedders of a model folder of either layout, as `instructx.safetensors`.

    Raises:
        CheckpointError: no model folder, or a damaged file.
    """
    return tensors(adapter_names(source), {FORMAT: read_model_config(source).to_json()})


def adapter_names(source: Path) -> Names:
    """Where a model folder of either layout keeps the tensors of `instructx.safetensors`: file -> name there -> here.

    Raises:
        CheckpointError: as `adapter_file`.
    """
    if not kiwi.is_kiwi(source):
        read_model_config(source)
        return {source / ADAPTER: {name: name for name in read_shapes(source / ADAPTER)}}
    files = {path: part for part in (SOURCE, REFERENCE) for path in sorted((source / part).glob("*.safetensors"))}
    files[kiwi.adapter_file(source)] = MLLM
    return {
        path: turned(adapter_to_own(part, {name: name for name in read_shapes(path)})) for path, part in files.items()
    }
