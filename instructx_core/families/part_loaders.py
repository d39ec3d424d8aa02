"""A checkpoint's parts one at a time, for programs that keep the MLLM, the connector and the DiT apart.

`loading.load_model` reads a whole model; here each part of what a checkpoint adds goes to its own owner: queries and
LoRA to the MLLM, the connector alone, and what the DiT gained as plain tensors. That is `instructx.safetensors`, or the
same tensors out of Kiwi-Edit's published folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..config import ReferenceInjection, SourceInjection
from ..connectors import Connector
from ..errors import CheckpointError
from ..weights.compare import first_difference, shapes_of
from ..weights.files import check_finite, read_safetensors
from ..weights.library_load import check_part
from .components import load_guidance, put_guidance, strip
from .instructx.folder import adapter_path
from .kiwi.folder import MLLM, is_kiwi, read_adapter
from .loading import read_model_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..guidance.encoder import MLLMGuidance


@dataclass(frozen=True)
class AddedEmbedding:
    """A patch embedding that a DiT gained, for the source or for references, as tensors."""

    weight: torch.Tensor  # [width, C, p_t, p_h, p_w]
    bias: torch.Tensor  # [width]


def load_guidance_part(
    base: str | Path, adapter: str | Path, dtype: torch.dtype, progress: Callable[[int], None] | None = None
) -> MLLMGuidance:
    """An MLLM with the queries and the LoRA of a checkpoint, on the CPU.

    Args:
        base: a model folder of either layout, or a folder of a Qwen2.5-VL itself.
        adapter: the model folder whose queries and LoRA they are to be, or its `instructx.safetensors` alone.
        dtype: of the weights.
        progress: called after each of the MLLM's tensors that was read with its bytes; what it raises ends the loading.

    Raises:
        CheckpointError: a missing or damaged file, or an adapter made for an MLLM of another width or depth.
    """
    base, adapter = Path(base), Path(adapter)
    folder = mllm_folder(base)
    config = read_model_config(adapter)
    check_part(folder)
    guidance = load_guidance(folder, base, config, dtype, progress)
    path, state = _added(adapter)
    _check_guidance(path, state, guidance)
    put_guidance(state, guidance)
    return guidance.eval().requires_grad_(False)


def mllm_folder(base: Path) -> Path:
    """Where the MLLM lies in a model folder; a folder that has none in it is one itself."""
    return next((base / part for part in ("mllm", MLLM) if (base / part).is_dir()), base)


def load_connector(adapter: str | Path) -> Connector:
    """The connector of a model folder, float32 on the CPU.

    Raises:
        CheckpointError: a missing or damaged file, or one that does not fit its config.
    """
    connector = Connector(read_model_config(adapter).connector)
    path, state = _added(Path(adapter))
    _check_fits(path, "connector.", connector.state_dict(), state)
    connector.load_state_dict(strip(state, "connector."))
    return connector.float().eval().requires_grad_(False)


def load_embeddings(adapter: str | Path) -> tuple[AddedEmbedding | None, AddedEmbedding | None]:
    """What the DiT of a model folder gained for the source and for references, float32; None where that is nothing.

    Raises:
        CheckpointError: a missing or damaged file, or no embedding where the config asks for one.
    """
    config = read_model_config(adapter).denoiser
    source = _embedding(Path(adapter), "source", config.source is SourceInjection.EMBEDDING)
    return source, _embedding(Path(adapter), "reference", config.reference is ReferenceInjection.EMBEDDING)


def _embedding(adapter: Path, kind: str, wanted: bool) -> AddedEmbedding | None:
    if not wanted:
        return None
    path, state = _added(adapter)
    gained = strip(state, f"denoiser.{kind}_embedding.")
    if {"weight", "bias"} != set(gained):
        raise CheckpointError(f"{str(path)!r} holds no {kind} embedding though its config asks for one; get it again.")
    return AddedEmbedding(gained["weight"].float(), gained["bias"].float())


def _added(adapter: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """Everything that a checkpoint adds to an MLLM, a DiT and a VAE, and the file or folder to name in messages."""
    if is_kiwi(adapter):
        state = read_adapter(adapter)
        check_finite(state, adapter)
        return adapter, state
    path = adapter_path(adapter)
    return path, read_safetensors(path)[0]


def _check_guidance(path: Path, state: Mapping[str, torch.Tensor], guidance: MLLMGuidance) -> None:
    """Raise CheckpointError unless the queries and the LoRA are those that `guidance` takes."""
    _check_fits(path, "queries.", guidance.queries, state)
    if guidance.config.lora_rank:
        from peft import get_peft_model_state_dict

        _check_fits(path, "lora.", get_peft_model_state_dict(guidance.mllm.model.language_model), state)


def _check_fits(path: Path, prefix: str, taken: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError unless what `state` holds under a prefix has the names and shapes that are taken."""
    wanted = shapes_of({f"{prefix}{name}": value for name, value in taken.items()})
    found = shapes_of({name: value for name, value in state.items() if name.startswith(prefix)})
    if odd := first_difference(wanted, found):
        raise CheckpointError(f"{str(path)!r} does not fit this model: {odd}; choose the base that it was trained on.")
