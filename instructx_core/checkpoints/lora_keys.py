"""Names in the LoRA files that people share -> modules of diffusers' `WanTransformer3DModel`.

A key is a prefix of the program that wrote it, a module's name and what the tensor is to it. Names are diffusers' or
the original Wan's, with dots or, as kohya's trainers write them, with underscores; all of them are looked up in one
table made of the DiT at hand, so that nothing depends on which modules a file happens to hold.

Why not diffusers' own converters (0.42, `_convert_non_diffusers_wan_lora_to_diffusers` and its like for kohya's names)?
They leave out, in silence, differences of weights and norms and of the time projection's bias, which few-step LoRAs
hold, and raise KeyError or ValueError for a LoRA of attention alone in kohya's names and for an embedding with an
alpha. The tests hold this file against them on what they do convert.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

from .wan_keys import dit_to_original


class Role(str, Enum):
    """What a tensor is to a module of weight W [out, in, ...] and bias b: W + alpha / rank * up @ down, and so on."""

    DOWN = "down"  # [rank, in, ...]
    UP = "up"  # [out, rank, ...]
    UP_BIAS = "up bias"  # [out], added to b with the factor of `up`
    ALPHA = "alpha"  # one number
    WEIGHT = "diff"  # added to W as it is
    BIAS = "diff_b"  # added to b as it is


_PREFIX = re.compile(
    r"^(model\.diffusion_model\.|diffusion_model\.|base_model\.model\.|transformer\.|pipe\.dit\.|dit\."
    r"|lora_unet_+|lora_transformer_|lycoris_)"
)
_ENDINGS = {
    Role.DOWN: r"(\.lora_down|\.lora_A|[._]lora\.down)(\.default)?(\.weight)?",
    Role.UP: r"(\.lora_up|\.lora_B|[._]lora\.up)(\.default)?(\.weight)?",
    Role.UP_BIAS: r"(\.lora_up|\.lora_B)(\.default)?\.bias",
    Role.ALPHA: r"\.alpha",
    Role.WEIGHT: r"\.diff",
    Role.BIAS: r"\.diff_b",
}
# What changes the meaning of the pair beside it: DoRA's magnitudes, LoCon's third matrix.
_ALTERING = re.compile(r".*\.(dora_scale|lora_magnitude_vector(\.default)?(\.weight)?|lora_mid\.weight)")


def split_key(key: str) -> tuple[str, Role] | None:
    """A LoRA file's key as a module's name without its writer's prefix, and a role; None for what is no LoRA's."""
    for role, ending in _ENDINGS.items():
        if match := re.fullmatch(rf"(.+?){ending}", key):
            return _PREFIX.sub("", match[1]), role
    return None


def is_altering(key: str) -> bool:
    """Whether a tensor makes the up and down beside it mean something else than their product."""
    return _ALTERING.fullmatch(key) is not None


def module_names(parameters: Iterable[str]) -> dict[str, str]:
    """Every way to write a module of a DiT -> its name in diffusers; what has no `.weight` goes by its own name.

    Args:
        parameters: of a `WanTransformer3DModel`.

    Raises CheckpointError where these are of another kind of model.
    """
    names: dict[str, str] = {}
    for original, diffusers in dit_to_original({name: name for name in parameters}).items():
        module = diffusers.removesuffix(".weight")
        for spelled in (original.removesuffix(".weight"), module):
            names[spelled] = names[spelled.replace(".", "_")] = module
    return names
