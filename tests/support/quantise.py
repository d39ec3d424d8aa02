"""Weights as ComfyUI's quantised files hold them; written from the formats' description, not from the reader's code."""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch

FOURS = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
FORMATS = ("int8", "int8 by rows", "int8 rotated", "nvfp4", "mxfp8")
SAID = {
    "int8": {"format": "int8_tensorwise"},
    "int8 by rows": {"format": "int8_tensorwise"},
    "int8 rotated": {"format": "int8_tensorwise", "params": {"convrot": True, "convrot_groupsize": 16}},
    "nvfp4": {"format": "nvfp4"},
    "mxfp8": {"format": "mxfp8"},
}


def quantised(
    state: Mapping[str, torch.Tensor], kind: str, in_metadata: bool = False
) -> tuple[dict[str, torch.Tensor], dict[str, str], dict[str, torch.Tensor]]:
    """Matrices of blocks and layers in a format of FORMATS.

    Args:
        in_metadata: whether the file says of its layers in its metadata how they are stored, or in tensors.

    Returns:
        The tensors of the file, its metadata, and every tensor's values as the format has them.
    """
    stored, exact, layers = {}, {}, {}
    for name, value in state.items():
        layer, _, leaf = name.rpartition(".")
        if leaf != "weight" or value.ndim != 2 or not any(part in name for part in ("blocks.", "layers.")):
            stored[name] = exact[name] = value
            continue
        held, exact[name] = packed(value.float(), kind)
        stored |= {f"{layer}.{own}": tensor for own, tensor in held.items()}
        layers[layer] = SAID[kind] | {"full_precision_matrix_mult": True}
    if in_metadata:
        return stored, {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}, exact
    for layer, said in layers.items():
        stored[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    return stored, {}, exact


def packed(weight: torch.Tensor, kind: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """One matrix and what stands beside it, and its values in that format."""
    return {"nvfp4": _nvfp4, "mxfp8": _mxfp8}.get(kind, lambda value: _int8(value, kind))(weight)


def _int8(weight: torch.Tensor, kind: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    turn = torch.eye(weight.shape[1])
    if kind == "int8 rotated":
        one = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]) / 2
        turn = torch.block_diag(*[torch.kron(one, one)] * (weight.shape[1] // 16))
    turned = weight @ turn
    largest = turned.abs().max() if kind == "int8" else turned.abs().amax(1, keepdim=True)
    scale = largest / 127
    whole = (turned / scale).round().clamp(-127, 127)
    return {"weight": whole.to(torch.int8), "weight_scale": scale}, (whole * scale) @ turn.T


def _nvfp4(weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    filled = _filled(weight, 16)
    rows, columns = filled.shape
    whole = filled.abs().max() / (448 * 6)
    blocks = filled.reshape(rows, -1, 16)
    scales = (blocks.abs().amax(-1) / 6 / whole).clamp(max=448).to(torch.float8_e4m3fn)
    each = (whole * scales.float())[..., None]
    code = ((blocks / each.clamp(min=1e-30)).abs()[..., None] - FOURS).abs().argmin(-1)
    exact = (FOURS[code] * blocks.sign() * each).reshape(rows, columns)
    bits = (code + 8 * (blocks < 0)).reshape(rows, -1, 2).to(torch.uint8)
    held = {"weight": bits[..., 0] * 16 + bits[..., 1], "weight_scale": _tiles(scales), "weight_scale_2": whole}
    return held, exact[: len(weight), : weight.shape[1]]


def _mxfp8(weight: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    filled = _filled(weight, 32)
    rows, columns = filled.shape
    blocks = filled.reshape(rows, -1, 32)
    powers = (blocks.abs().amax(-1).clamp(min=1e-30) / 448).log2().ceil()
    eights = (blocks / powers.exp2()[..., None]).to(torch.float8_e4m3fn)
    exact = (eights.float() * powers.exp2()[..., None]).reshape(rows, columns)
    scales = _tiles((powers + 127).to(torch.uint8))
    return {"weight": eights.reshape(rows, columns), "weight_scale": scales}, exact[: len(weight), : weight.shape[1]]


def _filled(weight: torch.Tensor, step: int) -> torch.Tensor:
    rows, columns = weight.shape
    return torch.nn.functional.pad(weight, (0, -columns % step, 0, -rows % step))


def _tiles(scales: torch.Tensor) -> torch.Tensor:
    """Row r, column c of a tile of 128 x 4 at (r % 32) * 16 + r // 32 * 4 + c."""
    rows, columns = scales.shape
    down, across = -(-rows // 128), -(-columns // 4)
    tiles = torch.zeros(down * across * 512, dtype=torch.uint8)
    for row in range(rows):
        for column in range(columns):
            place = (row // 128 * across + column // 4) * 512 + row % 32 * 16 + row % 128 // 32 * 4 + column % 4
            tiles[place] = scales.view(torch.uint8)[row, column]
    return tiles.view(scales.dtype).reshape(down * 128, across * 4)
