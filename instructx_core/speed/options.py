"""Faster DiT steps with diffusers' own means: another attention, compiled blocks, step caches.

- Attention and compiled blocks give the same result up to rounding; a step cache trades accuracy for time.
- diffusers' TextKVCache is written for another model's blocks; `run_cache` always does what it would do.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..compat import cache_config, empty_step_cache
from ..errors import InputError
from ..words import shown

if TYPE_CHECKING:
    import torch
    from diffusers import WanTransformer3DModel

STEP_CACHE = "edit"  # the context of a step's first forward
ATTENTION = {"sdpa": "native", "flash": "flash", "sage": "sage"}  # diffusers' names; the last two are packages
CACHES: dict[str, tuple[str, dict[str, Any]]] = {  # diffusers' settings class, and options that differ from its default
    "first-block": ("FirstBlockCacheConfig", {}),
    # only the DiT's last output: by default it looks for attention layers under names that Wan does not use, and
    # caching those of a 14 B model would take tens of GB
    "taylor": ("TaylorSeerCacheConfig", {"use_lite_mode": True}),
    "mag": ("MagCacheConfig", {}),  # and the checkpoint's own ratios, see `mag_ratios`
}


def check_speed(attention: str, compile_blocks: bool, cache: str | None, device: torch.device) -> None:
    """Check the speed options before a model is loaded.

    Raises:
        InputError: an unknown name, attention that needs a GPU, a cache that this version of diffusers does not have,
            or one that prevents compiling.
    """
    if not isinstance(attention, str) or attention not in ATTENTION:
        raise InputError(f"attention is {shown(attention)}; choose one of {', '.join(ATTENTION)}.")
    if attention != "sdpa" and device.type != "cuda":
        raise InputError(
            f"attention is {attention!r}, which needs a CUDA GPU, but the device is {device.type}; choose sdpa."
        )
    if cache is not None:
        find_cache(cache)
    if compile_blocks and cache == "mag":  # it hooks every block, which torch.compile cannot trace through
        raise InputError("cache 'mag' prevents compiling the DiT's blocks; leave out either the cache or compile.")


def cache_settings(cache: str | None, model: Path) -> Any | None:
    """diffusers' settings of a step cache for a model.

    Args:
        cache: a key of `CACHES`, or None.
        model: the model's folder.

    Raises:
        InputError: as `check_speed`, or "mag" for a model without ratios.
        CheckpointError: its ratios are invalid.
    """
    if cache is None:
        return None
    config, options = find_cache(cache), CACHES[cache][1]
    if cache == "mag":
        from .mag_cache import MagCache
        from .mag_ratios import read_ratios

        return MagCache(read_ratios(model))
    return config(**options)


def speed_up(transformer: WanTransformer3DModel, attention: str, compile_blocks: bool, cache: Any | None) -> None:
    """Apply the speed options to a DiT, in place, after its weights were placed.

    Args:
        attention: a key of `ATTENTION`.
        compile_blocks: compile the repeated block with torch.compile, at the first step of each new size.
        cache: from `cache_settings`.

    Raises:
        InputError: the package for this attention is not installed.
    """
    if attention != "sdpa":
        from diffusers.models.attention_dispatch import attention_backend

        try:
            with attention_backend(ATTENTION[attention]):  # restores the backend of other models
                transformer.set_attention_backend(ATTENTION[attention])
        except (RuntimeError, ValueError) as error:
            raise InputError(f"attention {attention!r} cannot be used here: {error}") from error
    if cache is not None:
        transformer.enable_cache(cache)
    if compile_blocks:
        transformer.compile_repeated_blocks()


def begin_run(transformer: WanTransformer3DModel, steps: int) -> None:
    """Empty a DiT's step cache, if it has one, before a run of `steps`, as diffusers' own pipelines do."""
    if not transformer.is_cache_enabled:
        return
    empty_step_cache(transformer)
    settings = cache_config(transformer)
    if hasattr(settings, "set_steps"):  # `MagCache`, which not every version of diffusers has
        settings.set_steps(steps)


def step_caching(transformer: WanTransformer3DModel, name: str = STEP_CACHE) -> AbstractContextManager[None]:
    """The context manager that a step cache needs around a forward, one for all guidance terms in its batch.

    Args:
        name: of the forward among those of a step; their outputs are cached separately.
    """
    return transformer.cache_context(name) if transformer.is_cache_enabled else nullcontext()


def find_cache(cache: str) -> type:
    """The settings class of a step cache, by a key of `CACHES`.

    Raises:
        InputError: an unknown name, or a cache that this version of diffusers does not have.
    """
    import diffusers
    from diffusers import hooks

    if not isinstance(cache, str) or cache not in CACHES:
        raise InputError(f"cache is {shown(cache)}; choose one of {', '.join(CACHES)}.")
    name = CACHES[cache][0]
    config = getattr(hooks, name, None)
    if config is None:
        version = diffusers.__version__
        raise InputError(f"cache {cache!r} is not in diffusers {version}; update diffusers, or leave it out.")
    return config
