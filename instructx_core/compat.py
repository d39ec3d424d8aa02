"""Every private part of a library that this project leans on: one function each, with the versions that have it.

`tests/unit/test_compat.py` calls each on a real class; where it fails after an update, the docstring says what to do.
Nothing private of a library is named anywhere else.
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


def empty_step_cache(transformer: WanTransformer3DModel) -> None:
    """Forget what a step cache kept of the run before.

    diffusers 0.36 to 0.42: `CacheMixin._reset_stateful_cache`, which its own pipelines call.
    Without it: `disable_cache()` and `enable_cache(config)` again, which hooks all blocks again.
    """
    transformer._reset_stateful_cache()


def cache_config(transformer: WanTransformer3DModel) -> Any:
    """The config that `enable_cache` was given, None where there is none.

    diffusers 0.36 to 0.42: `CacheMixin._cache_config`.
    Without it: remember the config beside the DiT in `speed.options.speed_up`.
    """
    return transformer._cache_config


def mag_cache_ratios(first_block: nn.Module) -> list[float]:
    """What a calibrating MagCache noted in the run just made, within the DiT's `cache_context`.

    diffusers 0.37 to 0.42 (0.36 has no MagCache): the hook's name `_MAG_CACHE_LEADER_BLOCK_HOOK` and its state.
    Without it: measure them here, the norm of a step's residual over the last step's (`mag_cache.py` there, 30 lines).
    """
    from diffusers.hooks import HookRegistry
    from diffusers.hooks.mag_cache import _MAG_CACHE_LEADER_BLOCK_HOOK

    hook = HookRegistry.check_if_exists_or_initialize(first_block).get_hook(_MAG_CACHE_LEADER_BLOCK_HOOK)
    return hook.state_manager.get_state().calibration_ratios


def attention_backend(processor: WanAttnProcessor) -> Any:
    """What `set_attention_backend` chose for a processor, None for diffusers' default.

    diffusers 0.36 to 0.42: `WanAttnProcessor._attention_backend`, read by its own `__call__`.
    Without it: pass None, and refuse `--attention` other than sdpa in `speed.options.check_speed`.
    """
    return processor._attention_backend


def spatial_padding(convolution: nn.Module) -> tuple[int, int]:
    """(height, width) that a causal convolution of Wan's VAE pads on each side; along time it pads the past alone.

    diffusers 0.36 to 0.42: `WanCausalConv3d._padding`, in `F.pad`'s order; `padding` itself is set to zeros.
    Without it: half the kernel, `kernel_size[1] // 2, kernel_size[2] // 2`, as all of Wan's have it.
    """
    left, _, top, _, _, _ = convolution._padding
    return top, left


def count_of_changes(weight: torch.Tensor) -> int:
    """How often a tensor was changed in place, as autograd counts it; 0 for inference tensors, which count nothing.

    torch 2.6 to 2.13: `Tensor._version`.
    Without it: look at the weights each time (`latents._PresentForward`), a pass over each convolution.
    """
    return 0 if weight.is_inference() else weight._version


def storage_identity(storage: torch.UntypedStorage) -> int:
    """A number that no two storages alive at the same time share, without content too, where `data_ptr` is 0.

    torch 2.6 to 2.13: `UntypedStorage._cdata`.
    Without it: `id` of a storage that `LiveMemory` keeps weak references to, one object for each tensor's storage.
    """
    return storage._cdata


def kept_in_float32(model: nn.Module, dtype: torch.dtype) -> frozenset[str]:
    """Parts of names whose weights diffusers loads in float32 whatever is asked for, transformers where it is float16.

    diffusers 0.36 to 0.42: `ModelMixin._keep_in_fp32_modules`.
    transformers 4.57 to 5.24: `PreTrainedModel._keep_in_fp32_modules` (`wo` of a T5), and `..._strict`, always.
    Without it: the list of `WanTransformer3DModel` (time_embedder, scale_shift_table, norm1, norm2, norm3) as our own.
    """
    import torch

    strict = getattr(model, "_keep_in_fp32_modules_strict", None)  # transformers' alone
    if hasattr(model, "_keep_in_fp32_modules_strict") and dtype is not torch.float16:
        return frozenset(strict or ())
    return frozenset(getattr(model, "_keep_in_fp32_modules", None) or ()) | frozenset(strict or ())


def load_gguf(path: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a GGUF file, packed ones as diffusers' `GGUFParameter`.

    diffusers 0.36 to 0.42: `models.model_loading_utils.load_gguf_checkpoint`.
    Without it: `gguf.GGUFReader` and a `GGUFParameter` for each tensor that is neither F32 nor F16 (25 lines there).
    """
    from diffusers.models.model_loading_utils import load_gguf_checkpoint

    return load_gguf_checkpoint(str(path))


def unpack_gguf(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor of `load_gguf`: unpacked where it is packed, else itself.

    diffusers 0.36 to 0.42: `quantizers.gguf.utils.GGUFParameter` and `dequantize_gguf_tensor`.
    Without it: `gguf.quants.dequantize` of the gguf package, slower, on numpy arrays.
    """
    from diffusers.quantizers.gguf.utils import GGUFParameter, dequantize_gguf_tensor

    return dequantize_gguf_tensor(tensor) if isinstance(tensor, GGUFParameter) else tensor


def download_into(url: str, file: BinaryIO, begun: int, headers: Mapping[str, str], size: int, name: str) -> None:
    """Append the rest of a file of the hub to `file`, which has `begun` bytes, with the hub client's own retries.

    huggingface_hub 0.34 to 2.4: `file_download.http_get`.
    Without it: `httpx.stream` with a Range header (40 lines with its retries), or `hf_hub_download`, which in 2.4
    restarts a file that a killed run had half of.
    """
    from huggingface_hub.file_download import http_get

    http_get(url, file, resume_size=begun, headers=dict(headers), expected_size=size, displayed_filename=name)


def lpips_network() -> nn.Module:
    """LPIPS with torchmetrics' linear layers on a random SqueezeNet: its public class would fetch one.

    torchmetrics 1.4 to 1.9: `functional.image.lpips._LPIPS(net, pnet_rand)`, which imports torchvision when called.
    Without it: the public `LearnedPerceptualImagePatchSimilarity`, with the backbone's file in torch.hub's cache first.
    """
    from torchmetrics.functional.image.lpips import _LPIPS

    return _LPIPS(pretrained=True, net="squeeze", pnet_rand=True)
