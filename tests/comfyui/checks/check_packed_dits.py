"""Quantised DiTs: ComfyUI keeps them packed, and its own library unpacks them to the bits that ours gives."""

import json
import os
from pathlib import Path

import torch
from comfy.quant_ops import QUANT_ALGOS
from kit import NEW, run

ROOT = Path(os.environ["INSTRUCTX_TEST_DOORS"])


def check_quantised_weights_are_the_same_bits():
    from instructx_pack.instructx_core.weights.detect import find_form
    from instructx_pack.instructx_core.weights.dit import load_dit
    from instructx_pack.instructx_core.weights.parts import Part
    from instructx_pack.instructx_core.weights.wan_keys import dit_to_original

    forms = json.loads((ROOT / "forms.json").read_text())
    quantised = {form: names for form, names in forms.items() if form.split(",")[0] in ("int8", "nvfp4", "mxfp8")}
    assert len(quantised) == 4
    for form, names in quantised.items():
        kind = form.split(",")[0].replace("int8", "int8_tensorwise")
        if kind not in QUANT_ALGOS:  # an older ComfyUI gets bfloat16: check_doors.py
            assert not NEW, f"this ComfyUI does not know {kind}"
            continue
        model = run("LoadModel", model_name=names["model"], precision="float32",
                    transformer=f"diffusion_models/{names['transformer']}")[0]  # fmt: skip
        path = ROOT / "diffusion_models" / names["transformer"]
        own = dit_to_original(load_dit(find_form(path, Part.DIT), torch.float32).state_dict())
        packed = 0
        for name, module in model.model.diffusion_model.named_modules():
            if (weight := getattr(module, "weight", None)) is None or not hasattr(weight, "dequantize"):
                continue
            if type(weight.data).__name__ == "QuantizedTensor" or hasattr(weight, "_qdata"):
                packed += 1
                found = weight.dequantize().float()
                assert torch.equal(found, own[f"{name}.weight"]), (form, name)
        assert packed >= 10, (form, packed)
