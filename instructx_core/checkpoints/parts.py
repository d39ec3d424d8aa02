"""A checkpoint's parts one at a time, for programs that keep the MLLM, the connector and the DiT apart.

`bundle.load_checkpoint` reads a whole model; here each part of `instructx.safetensors` goes to its own owner: queries
and LoRA to the MLLM, the connector alone, and what the DiT gained as plain tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..config import ModelConfig, SourceInjection
from ..connectors import Connector
from ..errors import CheckpointError
from .bundle import ADAPTER, check_part, load_guidance, put_guidance, read_config, strip
from .files import read_safetensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..guidance.encoder import MLLMGuidance


@dataclass(frozen=True)
class SourceEmbedding:
    """The patch embedding that a DiT with `SourceInjection.EMBEDDING` gained, as tensors."""

    weight: torch.Tensor  # [width, C, p_t, p_h, p_w]
    bias: torch.Tensor  # [width]


def load_guidance_part(
    base: str | Path, adapter: str | Path, dtype: torch.dtype, progress: Callable[[int], None] | None = None
) -> MLLMGuidance:
    """An MLLM with the queries and the LoRA of a checkpoint, on the CPU.

    Args:
        base: a model folder with `mllm/` in it, or a folder of a Qwen2.5-VL itself.
        adapter: the model folder whose `instructx.safetensors` holds queries and LoRA.
        dtype: of the weights.
        progress: called after each of the MLLM's tensors that was read with its bytes; what it raises ends the loading.

    Raises:
        CheckpointError: a missing or damaged file, or an adapter made for an MLLM of another width or depth.
    """
    base, adapter = Path(base), Path(adapter)
    folder = mllm_folder(base)
    config = read_config(adapter)
    check_part(folder)
    guidance = load_guidance(folder, config, dtype, progress)
    path = adapter / ADAPTER
    state, _ = read_safetensors(path)
    _check_guidance(path, state, guidance)
    put_guidance(state, guidance)
    return guidance.eval().requires_grad_(False)


def mllm_folder(base: Path) -> Path:
    """Where the MLLM lies in a model folder; a folder that has none in it is one itself."""
    return base / "mllm" if (base / "mllm").is_dir() else base


def load_connector(adapter: str | Path) -> Connector:
    """The connector of a model folder, float32 on the CPU.

    Raises:
        CheckpointError: a missing or damaged file, or one that does not fit its config.
    """
    config = read_config(adapter)
    path = Path(adapter) / ADAPTER
    state, _ = read_safetensors(path)
    connector = Connector(config.connector)
    wanted = {name: tuple(value.shape) for name, value in connector.state_dict().items()}
    _same_shapes(path, wanted, strip(state, "connector."), "connector.")
    connector.load_state_dict(strip(state, "connector."))
    return connector.float().eval().requires_grad_(False)


def load_source_embedding(adapter: str | Path) -> SourceEmbedding | None:
    """What the DiT of a model folder gained, float32; None where the source is added to the latent itself.

    Raises:
        CheckpointError: a missing or damaged file, or no source embedding where the config asks for one.
    """
    config: ModelConfig = read_config(adapter)
    if config.denoiser.source is not SourceInjection.EMBEDDING:
        return None
    path = Path(adapter) / ADAPTER
    state, _ = read_safetensors(path)
    gained = strip(state, "denoiser.source_embedding.")
    if {"weight", "bias"} != set(gained):
        raise CheckpointError(f"{str(path)!r} holds no source embedding though its config asks for one; get it again.")
    return SourceEmbedding(gained["weight"].float(), gained["bias"].float())


def _check_guidance(path: Path, state: Mapping[str, torch.Tensor], guidance: MLLMGuidance) -> None:
    """Raise CheckpointError unless the queries and the LoRA are those that `guidance` takes."""
    wanted = {name: tuple(value.shape) for name, value in guidance.queries.items()}
    _same_shapes(path, wanted, strip(state, "queries."), "queries.")
    if guidance.config.lora_rank:
        from peft import get_peft_model_state_dict

        lora = get_peft_model_state_dict(guidance.mllm.model.language_model)
        wanted = {name: tuple(value.shape) for name, value in lora.items()}
        _same_shapes(path, wanted, strip(state, "lora."), "lora.")


def _same_shapes(
    path: Path, wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, torch.Tensor], prefix: str
) -> None:
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    if wanted == shapes:
        return
    odd = min(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
    raise CheckpointError(
        f"{str(path)!r} does not fit this model: {prefix}{odd} is {shapes.get(odd, 'missing')}, "
        f"expected {wanted.get(odd, 'nothing')}; choose the base that it was trained on."
    )
