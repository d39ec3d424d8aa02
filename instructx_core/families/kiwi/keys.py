"""Names of Kiwi-Edit's weights in its published folder, in its training checkpoints, and in this repo's layout.

Facts this file rests on:
- As with Wan's own weights, conversion only renames, so the functions are generic over the state dict's values.
- The published folder has one file per component; a training checkpoint is a single file, the DiT under the original
  Wan names and the rest under `pipe.`; its queries end in `.q`, and the connector is spelled both `connector` and
  `connetor`.
- This repo's `instructx.safetensors` holds everything except the MLLM, the DiT and the VAE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from ...errors import CheckpointError
from ...weights.native_keys import EMBEDDINGS
from ...weights.wan_keys import dit_to_diffusers
from ...words import listed, quoted

T = TypeVar("T")

MLLM, SOURCE, REFERENCE = "mllm_encoder", "source_embedder", "ref_embedder"  # the components' folders
_LINEAR = ("weight", "bias")


def _linears(modules: Mapping[str, str]) -> dict[str, str]:
    return {f"{a}.{leaf}": f"{b}.{leaf}" for a, b in modules.items() for leaf in _LINEAR}


# published component -> its tensors -> names in `instructx.safetensors`
ADAPTER_NAMES = {
    MLLM: {
        "image_queries": "queries.image",
        "video_queries": "queries.video",
        "ref_queries": "queries.reference",
    }
    | _linears(
        {
            "connector.0": "connector.linear_in",
            "connector.2": "connector.linear_out",
            "ref_connector.0": "connector.reference.linear_in",
            "ref_connector.2": "connector.reference.linear_out",
        }
    ),
    SOURCE: _linears({"patch_embedding": "denoiser.source_embedding"}),
    REFERENCE: _linears({"patch_embedding": "denoiser.reference_embedding"}),
}
# training checkpoint, without `pipe.` -> names in `instructx.safetensors`
_TRAINED = {f"mllm.{kind}_queries.q": f"queries.{name}" for kind, name in
            (("image", "image"), ("video", "video"), ("ref", "reference"))}  # fmt: skip
_TRAINED |= {native: adapter for adapter, native in EMBEDDINGS.items()}
_TRAINED |= _linears(
    {
        f"mllm.{spelling}.{layer}": f"connector.{prefix}{ours}"
        for layer, ours in ((0, "linear_in"), (2, "linear_out"))
        for spelling, prefix in (("connector", ""), ("connetor", ""), ("ref_connector", "reference."))
    }
)


_MARK = "mllm.image_queries.q"


def is_adapter(names: Mapping[str, Any]) -> bool:
    """True if these are the tensors Kiwi-Edit adds to its MLLM: queries and a connector into the DiT's width."""
    return {"image_queries", "video_queries", "connector.0.weight", "connector.2.weight"} <= names.keys()


def adapter_to_own(component: str, state: Mapping[str, T]) -> dict[str, T]:
    """Rename the tensors of one published component (MLLM, SOURCE or REFERENCE) to those of `instructx.safetensors`.

    Raises CheckpointError naming the unknown tensors.
    """
    return _rename(state, ADAPTER_NAMES[component], f"Kiwi-Edit's {component}")


def split_trained(state: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T], dict[str, T]]:
    """Split a training checkpoint into (DiT under diffusers' names, `instructx.safetensors`, the rest).

    The DiT is empty if only its LoRA was trained; the rest holds LoRA tensors and must not be discarded.
    """
    adapter: dict[str, T] = {}
    dit: dict[str, T] = {}
    rest: dict[str, T] = {}
    lead = next((name.removesuffix(_MARK) for name in state if name.endswith(_MARK)), "pipe.")
    for name, value in state.items():
        bare = name.removeprefix(lead).removeprefix("pipe.").removeprefix("dit.")
        if bare in _TRAINED:
            if _TRAINED[bare] in adapter:
                raise CheckpointError(f"the file holds {quoted(_TRAINED[bare])} twice ({quoted(name)}); get it again.")
            adapter[_TRAINED[bare]] = value
        elif ".lora_" in bare or bare.startswith("mllm."):
            rest[bare] = value
        else:
            dit[bare] = value
    return dit_to_diffusers(dit), adapter, rest


def _rename(state: Mapping[str, T], table: Mapping[str, str], kind: str) -> dict[str, T]:
    unknown = sorted(name for name in state if name not in table)
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} of {len(state)} tensors do not belong to {kind}: {listed(unknown)}; get it again."
        )
    return {table[name]: value for name, value in state.items()}
