"""What Kiwi-Edit's training saves, made from a whole model: names, LoRA, and the weights before it."""

from __future__ import annotations

import torch

State = dict[str, torch.Tensor]


RANK = 4


# names of what a model gains: this repo's -> the authors' modules
TRAINED = {
    "queries.image": "mllm.image_queries.q",
    "queries.video": "mllm.video_queries.q",
    "queries.reference": "mllm.ref_queries.q",
    "connector.reference.linear_in": "mllm.ref_connector.0",
    "connector.reference.linear_out": "mllm.ref_connector.2",
    "connector.linear_in": "mllm.connetor.0",
    "connector.linear_out": "mllm.connetor.2",
    "denoiser.source_embedding": "vae_condition.patch_embedding",
    "denoiser.reference_embedding": "ref_vae_condition.patch_embedding",
}


def as_trained(adapter: State) -> State:
    renamed = {}
    for name, value in adapter.items():
        own = next(own for own in TRAINED if name.startswith(own))
        renamed[name.replace(own, TRAINED[own])] = value
    return renamed


def lora(weight: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A [rank, in] and B [out, rank] of a small change."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = weight.shape
    return 0.1 * torch.randn(RANK, columns, generator=generator), 0.1 * torch.randn(rows, RANK, generator=generator)


def taken_off(state: State, targets: list[str]) -> tuple[State, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Weights before a LoRA of `targets` was merged into them, and the LoRA."""
    pairs = {name: lora(state[name], number) for number, name in enumerate(targets)}
    return state | {name: state[name] - up @ down for name, (down, up) in pairs.items()}, pairs


def spelled(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]], prefix: str) -> State:
    """A LoRA under peft's names."""
    state = {}
    for name, (down, up) in pairs.items():
        module = prefix + name.removesuffix(".weight")
        state |= {f"{module}.lora_A.default.weight": down, f"{module}.lora_B.default.weight": up}
    return state
