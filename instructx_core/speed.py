"""Faster DiT steps by diffusers' own parts: another attention, compiled blocks, outputs that are used again.

- Attention and compiled blocks compute the same up to rounding; a step cache trades likeness for time.
- diffusers has more caches than these: MagCache needs ratios measured for each checkpoint (docs/memory.md), TextKVCache
  is written for another model's blocks; what that one would do is done always, see `remembering`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import InputError

if TYPE_CHECKING:
    import torch
    from diffusers import WanTransformer3DModel

ATTENTION = {"sdpa": "native", "flash": "flash", "sage": "sage"}  # diffusers' names; the last two are packages
CACHES: dict[str, tuple[str, dict[str, Any]]] = {  # diffusers' settings, its own defaults but for what is named
    "first-block": ("FirstBlockCacheConfig", {}),
    # the DiT's last output alone: by default it looks for attention under other names than Wan's, and caching each of a
    # 14 B model's would take tens of GB
    "taylor": ("TaylorSeerCacheConfig", {"use_lite_mode": True}),
}


def check_speed(attention: str, cache: str | None, device: torch.device) -> None:
    """Look at the options of a fast DiT before a model is loaded.

    Raises:
        InputError: an unknown name, attention that needs a GPU, or a cache that this diffusers does not have.
    """
    if attention not in ATTENTION:
        raise InputError(f"attention is {attention!r}; choose one of {', '.join(ATTENTION)}.")
    if attention != "sdpa" and device.type != "cuda":
        raise InputError(f"attention is {attention!r}, which needs a CUDA GPU, and this is {device.type}; choose sdpa.")
    if cache is not None:
        _cache_config(cache)


def speed_up(transformer: WanTransformer3DModel, attention: str, compile_blocks: bool, cache: str | None) -> None:
    """Prepare a DiT, in place, whose weights are where they are to be.

    Args:
        attention: a key of `ATTENTION`.
        compile_blocks: let torch.compile make one of the repeated block, at the first step of each new size.
        cache: a key of `CACHES`, or None.

    Raises:
        InputError: the package for this attention is not installed, or as `check_speed`.
    """
    if attention != "sdpa":
        try:
            transformer.set_attention_backend(ATTENTION[attention])
        except (RuntimeError, ValueError) as error:
            raise InputError(f"attention {attention!r} cannot be used here: {error}") from error
    if cache is not None:
        transformer.enable_cache(_cache_config(cache))
    if compile_blocks:
        transformer.compile_repeated_blocks()


def _cache_config(cache: str) -> Any:
    """The settings of a step cache."""
    import diffusers
    from diffusers import hooks

    if cache not in CACHES:
        raise InputError(f"cache is {cache!r}; choose one of {', '.join(CACHES)}.")
    name, options = CACHES[cache]
    config = getattr(hooks, name, None)
    if config is None:
        version = diffusers.__version__
        raise InputError(f"cache {cache!r} is not in diffusers {version}; update diffusers, or leave it out.")
    return config(**options)
