"""Record what comfy-kitchen makes of quantised weights: golden/kitchen.safetensors.

Run with an interpreter that has it (recorded: 0.2.31, torch 2.11): `python tests/support/record_kitchen.py`. Each case
is a small random matrix as comfy-kitchen quantises it, what stands beside it in a file, and `expected`, its own
`dequantize` in float32.
"""

from __future__ import annotations

import json
from pathlib import Path

import comfy_kitchen.tensor as kitchen
import torch
from safetensors.torch import save_file

TARGET = Path(__file__).parent / "golden" / "kitchen.safetensors"
CASES = {  # name: layout, shape, arguments of `quantize`, what a file says
    "int8_tensorwise": ("TensorWiseINT8Layout", (24, 40), {}, {"format": "int8_tensorwise"}),
    "int8_by_rows": ("TensorWiseINT8Layout", (24, 40), {"per_channel": True}, {"format": "int8_tensorwise"}),
    "int8_convrot": (
        "TensorWiseINT8Layout",
        (8, 128),
        {"per_channel": True, "convrot": True, "convrot_groupsize": 64},
        {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 64},
    ),
    "nvfp4": ("TensorCoreNVFP4Layout", (130, 20), {}, {"format": "nvfp4"}),
    "mxfp8": ("TensorCoreMXFP8Layout", (130, 40), {}, {"format": "mxfp8"}),
    "fp8": ("TensorCoreFP8Layout", (24, 40), {}, {"format": "float8_e4m3fn"}),
    "w4a4": ("TensorCoreConvRotW4A4Layout", (8, 256), {}, {"format": "convrot_w4a4"}),
    "w4a8": ("AsymW4A8Int8Layout", (8, 256), {}, {"format": "asym_w4a8_int8"}),
}


def main() -> None:
    tensors = {}
    for number, (name, (layout, shape, options, said)) in enumerate(CASES.items()):
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(number)) * 0.1
        cls = getattr(kitchen, layout)
        data, params = cls.quantize(weight, **options)
        for leaf, tensor in cls.state_dict_tensors(data, params).items():
            tensors[f"{name}.weight{leaf}"] = tensor.contiguous()
        rows, columns = shape
        tensors[f"{name}.expected"] = cls.dequantize(data, params)[:rows, :columns].float().contiguous()
        tensors[f"{name}.comfy_quant"] = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    save_file(tensors, TARGET)


if __name__ == "__main__":
    main()
