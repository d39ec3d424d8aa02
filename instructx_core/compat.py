"""Every private library API that this project uses: one function each, with the versions that have it.

`tests/unit/test_compat.py` calls each on a real class; if it fails after an update, the docstring says what to do.
Exceptions elsewhere: torch's private modules for dispatch, pytrees and fake tensors (`memory.live`,
`training.footprint`), and `nn.Module._apply`, overridden in `connectors.two_stream`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import torch
    from diffusers import WanTransformer3DModel
    from diffusers.models.transformers.transformer_wan import WanAttnProcessor
    from torch import nn


def has_fast_bfloat16_on_cpu() -> bool:
    """Whether oneDNN has bfloat16 on this processor; otherwise PyTorch's own loops compute it, many times as slowly.

    torch 2.6 to 2.13: `torch.ops.mkldnn._is_mkldnn_bf16_supported`, which torch asks before each product.
    Without it: `torch.backends.cpu.get_cpu_capability() == "AVX512"`, which misses ARM.
    """
    import torch

    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def empty_step_cache(transformer: WanTransformer3DModel) -> None:
    """Empty a step cache of the previous run's values.

    diffusers 0.36 to 0.42: `CacheMixin._reset_stateful_cache`, which its own pipelines call.
    Without it: `disable_cache()` and `enable_cache(config)`, which hooks all blocks again.
    """
    transformer._reset_stateful_cache()


def cache_config(transformer: WanTransformer3DModel) -> Any:
    """The config that was passed to `enable_cache`, or None.

    diffusers 0.36 to 0.42: `CacheMixin._cache_config`.
    Without it: store the config next to the DiT in `speed.options.speed_up`.
    """
    return transformer._cache_config


def mag_cache_ratios(first_block: nn.Module) -> list[float]:
    """The ratios that a calibrating MagCache recorded in the last run; call it within the DiT's `cache_context`.

    diffusers 0.37 to 0.42 (0.36 has no MagCache): the hook's name `_MAG_CACHE_LEADER_BLOCK_HOOK` and its state.
    Without it: measure the norm of a step's residual over the previous step's here (diffusers' `mag_cache.py`,
    30 lines).
    """
    from diffusers.hooks import HookRegistry
    from diffusers.hooks.mag_cache import _MAG_CACHE_LEADER_BLOCK_HOOK

    hook = HookRegistry.check_if_exists_or_initialize(first_block).get_hook(_MAG_CACHE_LEADER_BLOCK_HOOK)
    return hook.state_manager.get_state().calibration_ratios


def attention_backend(processor: WanAttnProcessor) -> Any:
    """The backend that `set_attention_backend` chose for a processor, None for diffusers' default.

    diffusers 0.36 to 0.42: `WanAttnProcessor._attention_backend`, read by its own `__call__`.
    Without it: pass None, and refuse `--attention` other than sdpa in `speed.options.check_speed`.
    """
    return processor._attention_backend


def spatial_padding(convolution: nn.Module) -> tuple[int, int]:
    """Padding (height, width) of a causal convolution of Wan's VAE on each side; in time only the past is padded.

    diffusers 0.36 to 0.42: `WanCausalConv3d._padding`, in `F.pad`'s order; `padding` itself is set to zeros.
    Without it: half the kernel, `kernel_size[1] // 2, kernel_size[2] // 2`, as in all of Wan's convolutions.
    """
    left, _, top, _, _, _ = convolution._padding
    return top, left


def count_of_changes(weight: torch.Tensor) -> int:
    """Autograd's count of in-place changes to a tensor; 0 for inference tensors, which do not count them.

    torch 2.6 to 2.13: `Tensor._version`.
    Without it: scan the weights on every call (`latents._PresentForward`), a pass over each convolution.
    """
    return 0 if weight.is_inference() else weight._version


def storage_identity(storage: torch.UntypedStorage) -> int:
    """A number unique among live storages, including empty ones, whose `data_ptr` is 0.

    torch 2.6 to 2.13: `UntypedStorage._cdata`.
    Without it: `id` of a storage that `LiveMemory` keeps weak references to, one object for each tensor's storage.
    """
    return storage._cdata


def kept_in_float32(model: nn.Module, dtype: torch.dtype) -> frozenset[str]:
    """Name parts of the weights that stay in float32: in diffusers for any dtype, in transformers for float16.

    diffusers 0.36 to 0.42: `ModelMixin._keep_in_fp32_modules`.
    transformers 4.57 to 5.24: `PreTrainedModel._keep_in_fp32_modules` (`wo` of a T5); `..._strict` for any dtype.
    Without it: copy the list of `WanTransformer3DModel` (time_embedder, scale_shift_table, norm1, norm2, norm3).
    """
    import torch

    strict = getattr(model, "_keep_in_fp32_modules_strict", None)  # only transformers has it
    if hasattr(model, "_keep_in_fp32_modules_strict") and dtype is not torch.float16:
        return frozenset(strict or ())
    return frozenset(getattr(model, "_keep_in_fp32_modules", None) or ()) | frozenset(strict or ())


def load_gguf(path: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a GGUF file, quantised ones as diffusers' `GGUFParameter`.

    diffusers 0.36 to 0.42: `models.model_loading_utils.load_gguf_checkpoint`.
    Without it: `gguf.GGUFReader` and a `GGUFParameter` for each tensor that is not F32 or F16 (25 lines there).
    """
    from diffusers.models.model_loading_utils import load_gguf_checkpoint

    return load_gguf_checkpoint(str(path))


def unpack_gguf(tensor: torch.Tensor) -> torch.Tensor:
    """Dequantise a tensor of `load_gguf`; one that is not quantised is returned unchanged.

    diffusers 0.36 to 0.42: `quantizers.gguf.utils.GGUFParameter` and `dequantize_gguf_tensor`.
    Without it: `gguf.quants.dequantize` of the gguf package, slower, on numpy arrays.
    """
    from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_gguf_tensor

    return dequantize_gguf_tensor(tensor) if isinstance(tensor, GGUFParameter) else tensor


def download_into(url: str, file: BinaryIO, begun: int, headers: Mapping[str, str], size: int, name: str) -> None:
    """Append the rest of a hub file to `file`, which already has `begun` bytes, with the hub client's own retries.

    huggingface_hub 0.34 to 2.4: `file_download.http_get`.
    Without it: `httpx.stream` with a Range header (40 lines with retries), or `hf_hub_download`, which in 2.4 restarts
    a file that a killed run left half downloaded.
    """
    from huggingface_hub.file_download import http_get

    http_get(url, file, resume_size=begun, headers=dict(headers), expected_size=size, displayed_filename=name)


def lpips_network() -> nn.Module:
    """LPIPS with torchmetrics' linear layers on a random SqueezeNet; the public class would download the weights.

    torchmetrics 1.4 to 1.9: `functional.image.lpips._LPIPS(net, pnet_rand)`, which imports torchvision when called.
    Without it: the public `LearnedPerceptualImagePatchSimilarity`, with the backbone's file in torch.hub's cache first.
    """
    from torchmetrics.functional.image.lpips import _LPIPS

    return _LPIPS(pretrained=True, net="squeeze", pnet_rand=True)
