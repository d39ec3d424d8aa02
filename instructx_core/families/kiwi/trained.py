"""What Kiwi-Edit's own training code saves: one safetensors file, used with the base models that it was trained on.

Facts, from its authors' code (showlab/Kiwi-Edit 223572d: `train.py`, `scripts/`, `utils/convert_diffusers`):
- The file holds what was trained at its stage: queries and connectors, embedders, the whole DiT or its LoRA, and the
  LoRA of the MLLM's language model. Names begin with `pipe.` or without, the DiT's with `dit.` or without.
- LoRA is added as it stands, weight + B A: it was trained with alpha = rank, and is merged with alpha 1.
- What a training run was told about pictures (frames, pixels, `ref_pad_first`) is not in the file; the values here are
  those of the published 5B model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ...bounded import is_file
from ...config import ModelConfig
from ...errors import CheckpointError
from ...weights.build import check_shapes, empty_model, fill
from ...weights.detect import Family, Form, Names, bare_mllm, find_form
from ...weights.dit import dit_config, load_dit, to_diffusers
from ...weights.files import check_finite, check_types, naming, read_safetensors
from ...weights.float8 import check_scales
from ...weights.gguf_header import is_gguf
from ...weights.mllm import load_mllm
from ...weights.stored import Stored, read_stored
from ...weights.vae import load_vae
from ...weights.wan_keys import dit_to_diffusers
from ...words import escaped, quoted
from ..components import Components, combine, with_queries
from ..overrides import OWN, Base, check_fit, need
from .folder import config_of_shapes
from .keys import split_trained

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

MARK = "mllm.image_queries.q"
# without these there is no editing of images and videos; early stages have not trained them yet
NEEDED = (
    "queries.image",
    "queries.video",
    "connector.linear_in.weight",
    "connector.linear_out.weight",
    "denoiser.source_embedding.weight",
)
_LORA = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")
_MLLM = re.compile(r"mllm\.(?:model\.)+")  # of the language model's names, before what transformers calls them


@dataclass(frozen=True)
class Trained:
    """Where in a file everything lies: names that this library uses -> names in the file."""

    path: Path
    stored: Mapping[str, Stored]  # every tensor
    adapter: Mapping[str, str]  # what `instructx.safetensors` would hold
    dit: Mapping[str, str]  # a whole DiT under diffusers' names; empty where none was trained
    dit_lora: Mapping[str, tuple[str, str]]  # weight -> A, B
    mllm_lora: Mapping[str, tuple[str, str]]  # weight, without transformers' prefixes -> A, B

    @property
    def config(self) -> ModelConfig:
        """What the shapes of the tensors tell."""
        shapes = {name: self.stored[there].shape for name, there in self.adapter.items()}
        with naming(self.path):
            return config_of_shapes(shapes, source=self.path).checked()

    @property
    def form(self) -> Form:
        """Its own DiT, as any other file's."""
        held = {name: self.stored[name] for name in self.dit.values()}
        return Form(self.path, (self.path,), Family.DIT, Names.ORIGINAL, held)


def is_trained(path: str | Path) -> bool:
    """Whether `path` is such a file: by its tensors, whatever it is called.

    Raises:
        CheckpointError: a file that is damaged or no safetensors.
    """
    path = Path(path)
    return is_file(path) and not is_gguf(path) and any(name.endswith(MARK) for name in read_stored(path))


def read_trained(path: str | Path) -> Trained:
    """What a training checkpoint holds, from its header.

    Raises:
        CheckpointError: a stage that cannot edit videos yet, or tensors that are not Kiwi-Edit's.
    """
    path = Path(path)
    stored = read_stored(path)
    dit, adapter, rest = split_trained({name: name for name in stored})
    if missing := [name for name in NEEDED if name not in adapter]:
        raise CheckpointError(
            f"{str(path)!r} holds no {missing[0]}, which its stage had not trained; give a file of stage 2 or 3."
        )
    pairs = _lora_pairs(path, rest)
    mllm_lora = {f"{_MLLM.sub('', name).removeprefix('language_model.')}.weight": pair for name, pair in pairs.items()
                 if name.startswith("mllm.")}  # fmt: skip
    dit_lora = {f"{name}.weight": pair for name, pair in pairs.items() if not name.startswith("mllm.")}
    return Trained(path, stored, adapter, dit, dit_to_diffusers(dit_lora), mllm_lora)


def read_trained_config(path: str | Path) -> ModelConfig:
    """The `ModelConfig` of a training checkpoint.

    Raises:
        CheckpointError: as `read_trained`.
    """
    return read_trained(path).config


def load_trained(
    path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, base: Base = OWN
) -> Components:
    """Read a training checkpoint and the base models that it is for.

    Args:
        base: VAE and MLLM, and the DiT where the file holds none or a LoRA. Where it holds a whole one, a DiT that is
            given tells the sizes that no shape does.

    Raises:
        CheckpointError: a base model that is missing or does not fit, or a file that is damaged or incomplete.
    """
    trained = read_trained(path)
    folder, config = trained.path.parent, trained.config
    vae, mllm, dit = (base_of_trained(trained, base, family) for family in (Family.VAE, Family.MLLM, Family.DIT))
    check_fit(config, trained.path, dit, vae, mllm)
    check_trained(trained, dit, mllm)
    state, _ = read_safetensors(trained.path)
    check_finite(state, trained.path)
    model, tokenizer = load_mllm(mllm.path, folder, dtype)
    own = {bare_mllm(name): value for name, value in model.named_parameters()}
    _merge(own, state, trained.mllm_lora)
    transformer = _load_own_dit(trained, dit, dtype) if trained.dit else load_dit(dit.path, dtype)
    _merge(dict(transformer.named_parameters()), state, trained.dit_lora)
    adapter = {name: state[there] for name, there in trained.adapter.items()}
    guidance = with_queries(model, tokenizer, config, dtype)
    return combine(config, trained.path, adapter, guidance, transformer, load_vae(vae.path, dtype), device)


def base_of_trained(trained: Trained, base: Base, family: Family, allow_pickle: bool = False) -> Form:
    """The weights of one part that a training checkpoint is for; where it holds a whole DiT, those of its sizes.

    Raises:
        CheckpointError: none is given, and the file holds none itself; or something else is given.
    """
    given = base.given(family)
    if given is not None:
        return find_form(given, family, allow_pickle)
    if family is Family.DIT and trained.dit:
        return trained.form
    raise need(trained.path, family)


def check_trained(trained: Trained, dit: Form, mllm: Form | None = None) -> None:
    """Look at a training checkpoint's whole DiT and its LoRA, from headers.

    Args:
        dit: of its base models, checked; of a whole DiT the sizes.
        mllm: of its base models; None where the DiT is wanted alone.

    Raises:
        CheckpointError: the DiT is not whole, or a LoRA is for no weight of the base models that can take it.
    """
    if trained.dit:
        _checked_own_dit(trained, dit)
    if trained.dit_lora:
        if dit.is_gguf:
            raise CheckpointError(f"{str(trained.path)!r} holds a LoRA, which GGUF weights cannot take; give others.")
        _check_targets(trained, trained.dit_lora, to_diffusers(dit, dit.tensors), dit)
    if mllm is not None:
        words = {bare_mllm(name): stored for name, stored in mllm.tensors.items()}
        _check_targets(trained, trained.mllm_lora, words, mllm)


def _checked_own_dit(trained: Trained, sizes: Form) -> WanTransformer3DModel:
    """An empty DiT in the sizes of the base's, of which a training checkpoint holds all tensors.

    Raises:
        CheckpointError: it does not.
    """
    from diffusers import WanTransformer3DModel

    model = empty_model(WanTransformer3DModel, dit_config(sizes))
    held = {name: trained.stored[there] for name, there in trained.dit.items()}
    check_scales(held, trained.path)
    check_shapes(model, held, trained.path, "Wan DiT")
    return model


def _load_own_dit(trained: Trained, sizes: Form, dtype: torch.dtype) -> WanTransformer3DModel:
    """The file's whole DiT, in the sizes of the base's."""
    return fill(_checked_own_dit(trained, sizes), trained.form, trained.dit, dtype)


def _lora_pairs(path: Path, rest: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Modules -> the names of their A and B in the file, of all tensors that are nothing else."""
    halves: dict[str, dict[str, str]] = {}
    for name, there in rest.items():
        found = _LORA.fullmatch(name)
        if found is None:
            raise CheckpointError(f"{str(path)!r} holds {quoted(there)}, which is not of Kiwi-Edit's training.")
        halves.setdefault(found[1], {})[found[2]] = there
    for module, half in halves.items():
        if half.keys() != {"A", "B"}:
            raise CheckpointError(f"{str(path)!r} holds half a LoRA of {quoted(module)}; get the file again.")
    return {module: (half["A"], half["B"]) for module, half in halves.items()}


def _check_targets(
    trained: Trained, lora: Mapping[str, tuple[str, str]], weights: Mapping[str, Stored], base: Form
) -> None:
    """Raise CheckpointError unless each pair, [rank, in] and [out, rank], is for a weight [out, in] of the base."""
    for name, pair in lora.items():
        held = {there: trained.stored[there] for there in pair}
        check_types({there: stored.dtype for there, stored in held.items() if not stored.is_float}, trained.path)
        first, second = (stored.shape for stored in held.values())
        if len(first) != 2 or len(second) != 2 or first[0] != second[1]:
            raise CheckpointError(
                f"{str(trained.path)!r} has a LoRA for {escaped(name)} of {first} and {second}, which are no two "
                "matrices of one rank; get the file again."
            )
        made = (second[0], first[1])
        found = tuple(weights[name].shape) if name in weights else None
        if found != made:
            raise CheckpointError(
                f"{str(trained.path)!r} has a LoRA for {escaped(name)} of {made}, which in {str(base.path)!r} is "
                f"{found or 'missing'}; give the model that it was trained on."
            )


@torch.no_grad()
def _merge(
    weights: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], lora: Mapping[str, tuple[str, str]]
) -> None:
    """Add LoRA to weights in place, in float32."""
    for name, (down, up) in lora.items():
        weights[name].copy_(weights[name].float() + state[up].float() @ state[down].float())
