"""Map the names in shared LoRA files to modules of diffusers' `WanTransformer3DModel`.

A key consists of a prefix that some program added, a module's name and the tensor's role. Module names are diffusers'
or the original Wan's, with dots, underscores (as kohya's trainers write them) or both. All are looked up in one table
built from the DiT at hand, so that nothing depends on which modules a file happens to hold.

Why not diffusers' own converters (0.42, `_convert_non_diffusers_wan_lora_to_diffusers` and its like for kohya names)?
They silently drop differences of weights and norms and of the time projection's bias, which few-step LoRAs contain, and
raise KeyError or ValueError for attention-only LoRAs with kohya names and for an embedding with an alpha. The tests
check this file against them on what they do convert.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from enum import Enum

from .wan_keys import dit_to_original


class Role(str, Enum):
    """The role of a tensor for a module with weight W [out, in, ...] and bias b; `lora_changes` has the arithmetic."""

    DOWN = "down"  # [rank, in, ...]
    UP = "up"  # [out, rank, ...]
    UP_BIAS = "up bias"  # [out], added to b with the factor of `up`
    ALPHA = "alpha"  # a scalar
    WEIGHT = "diff"  # added to W unchanged
    BIAS = "diff_b"  # added to b unchanged
    # LoKr: a Kronecker product of two factors, each a tensor or itself a product
    LOKR_1, LOKR_1A, LOKR_1B = "lokr_w1", "lokr_w1_a", "lokr_w1_b"
    LOKR_2, LOKR_2A, LOKR_2B, LOKR_T2 = "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"
    # LoHa: two products, multiplied elementwise
    LOHA_1A, LOHA_1B, LOHA_T1 = "hada_w1_a", "hada_w1_b", "hada_t1"
    LOHA_2A, LOHA_2B, LOHA_T2 = "hada_w2_a", "hada_w2_b", "hada_t2"


_ADAPTER = r"(\.[^.]+)?"  # peft's adapter name, usually "default"
_ENDINGS = {
    Role.DOWN: rf"(\.lora_down|\.lora_A|[._]lora(_linear_layer)?\.down){_ADAPTER}(\.weight)?",
    Role.UP: rf"(\.lora_up|\.lora_B|[._]lora(_linear_layer)?\.up){_ADAPTER}(\.weight)?",
    Role.UP_BIAS: rf"(\.lora_up|\.lora_B){_ADAPTER}\.bias",
    Role.ALPHA: r"\.alpha",
    Role.WEIGHT: r"\.(diff|w_norm)",
    Role.BIAS: r"\.(diff_b|b_norm)",
} | {role: rf"\.{role.value}{_ADAPTER}" for role in Role if role.value.startswith(("lokr_", "hada_"))}
# UP_BIAS first: `.lora_B.bias` is not the `up` of an adapter called "bias".
_ROLES = [(role, re.compile(rf"(.+?){_ENDINGS[role]}")) for role in (Role.UP_BIAS, *_ENDINGS)]
# Unsupported kinds of change, by the tensor names of LyCORIS and peft.
_UNREAD = {
    "a DoRA": rf"(dora_scale|lora_magnitude_vector{_ADAPTER}(\.weight)?)",
    "a LoCon of three matrices": r"lora_mid\.weight",
    "an OFT or BOFT": rf"(oft_blocks|oft_diag|rescale|oft_[rRs]|boft_[RsPrb]){_ADAPTER}(\.weight)?",
    "an (IA)^3": rf"(on_input|ia3_l){_ADAPTER}",
    "a GLoRA": r"(a1|a2|b1|b2|bm)\.weight",
    "a VeRA": rf"vera_(lambda_[bd]|[AB]){_ADAPTER}",
    "a FourierFT": rf"fourierft_spectrum{_ADAPTER}",
    "a LoRA of an embedding": rf"lora_embedding_[AB]{_ADAPTER}",
    "a LoRA that resizes weights": r"reshape_weight",
    "a LoRA that replaces weights": r"set_weight",
}
_MODULATION = ".diff_m"  # LightX2V's ending of a block's or the head's `.modulation`, a parameter without a leaf
_KINDS = {kind: re.compile(rf".*[._]{ending}") for kind, ending in _UNREAD.items()}
# usual prefixes of a DiT's names, with underscores for dots
_USUAL_LEADS = {"", "transformer", "diffusion_model", "model_diffusion_model", "dit", "pipe_dit", "base_model_model",
                "lora_unet", "lora_transformer", "lycoris"}  # fmt: skip
MAX_KEY = 1000  # characters examined; no module's name is as long
_BLOCK = re.compile(r"(?:^|_)blocks_(\d+)_")


def split_key(key: str) -> tuple[str, Role] | None:
    """Split a LoRA file's key into a module's name, prefixes included, and a role; None if it is not a LoRA's."""
    if key.endswith(_MODULATION):
        return f"{key.removesuffix(_MODULATION)}.modulation", Role.WEIGHT
    for role, pattern in _ROLES:
        if match := pattern.fullmatch(key):
            return match[1], role
    return None


def unread_kind(key: str) -> str | None:
    """The unsupported kind of change that a tensor belongs to; None if it belongs to none."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(key)), None)


class ModuleNames:
    """All spellings of a DiT's modules -> their names in diffusers; parameters without `.weight` keep their full names.

    Args:
        parameters: the names of a `WanTransformer3DModel`'s.

    Raises CheckpointError if they are those of another kind of model.
    """

    def __init__(self, parameters: Iterable[str]) -> None:
        self._modules: dict[str, str] = {}
        self._words: set[str] = set()
        for original, diffusers in dit_to_original({name: name for name in parameters}).items():
            module = diffusers.removesuffix(".weight")
            for spelled in (original.removesuffix(".weight"), module):
                self._modules[_flat(spelled)] = module
                self._words.update(spelled.split("."))
        self._pieces = {piece for word in self._words for piece in word.split("_")}

    def leads(self, names: Iterable[str]) -> set[str]:
        """The prefixes of this DiT's names in a file: the usual ones, and any that its blocks have there."""
        found = {lead for name in names for lead, module in self._spellings(name) if module.startswith("blocks.")}
        return _USUAL_LEADS | found

    def find(self, name: str, leads: Container[str]) -> str | None:
        """The module that a key names, ignoring what `torch.compile` and similar wrappers insert; None if it has none.

        Args:
            leads: the file's prefixes; an image or text encoder also has a `patch_embedding`, after another prefix.
        """
        return next((module for lead, module in self._spellings(name) if lead in leads), None)

    def contains(self, key: str, leads: Container[str]) -> bool:
        """Whether a key begins with the name of one of the modules."""
        words = key.split(".")
        return any(self.find(".".join(words[:end]), leads) for end in range(len(words) - 1, 0, -1))

    def _spellings(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield (prefix, module), the longest module name first."""
        words = name[:MAX_KEY].split(".")
        start = next((index for index, word in enumerate(words) if word in self._words), len(words))
        own = [word for word in words[start:] if self._pieces.issuperset(word.split("_"))]
        parts = _flat(".".join(words[:start] + own)).replace("__orig_mod_", "_").split("_")
        for index in range(len(parts)):
            if module := self._modules.get("_".join(parts[index:])):
                yield "_".join(part for part in parts[:index] if part), module


def block_number(name: str) -> int | None:
    """The block number in a key; None if it has none."""
    match = _BLOCK.search(_flat(name))
    return int(match[1][:9]) if match else None


def _flat(name: str) -> str:
    return name.replace(".", "_")
