"""Run by ComfyUI's own Python, never by pytest: what converted Wan weights compute in ComfyUI's own code.

    python comfyui_wan_forward.py COMFYUI_FOLDER CASE_FOLDER

CASE_FOLDER holds `<case>.safetensors` files: the tensors `weights.*` in original names and `input.*`, the metadata
`kind` (dit, vae21, vae22) and, for a VAE, its `sizes` as JSON. Beside each it writes `<case>.out.safetensors`.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file


def run_dit(weights, inputs):
    import comfy.sd

    # The same call as the UNETLoader node's: it detects the architecture from the weights.
    patcher = comfy.sd.load_diffusion_model_state_dict(weights, model_options={"dtype": torch.float32})
    model = patcher.model.diffusion_model.eval()
    return {"velocity": model(inputs["x"], inputs["timestep"], inputs["context"], clip_fea=inputs.get("image"))}


def run_vae(module, weights, inputs, sizes):
    vae = module.WanVAE(**sizes).eval()
    vae.load_state_dict(weights, strict=True)
    return {"latents": vae.encode(inputs["pixels"]), "frames": vae.decode(inputs["latents"])}


@torch.inference_mode()
def main(comfyui, cases):
    sys.path.insert(0, comfyui)
    sys.argv = [sys.argv[0], "--cpu"]  # ComfyUI reads its own options on import
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.ldm.wan.vae
    import comfy.ldm.wan.vae2_2

    for path in sorted(Path(cases).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
        inputs = {name.removeprefix("input."): t for name, t in tensors.items() if name.startswith("input.")}
        if metadata["kind"] == "dit":
            out = run_dit(weights, inputs)
        else:
            module = comfy.ldm.wan.vae if metadata["kind"] == "vae21" else comfy.ldm.wan.vae2_2
            out = run_vae(module, weights, inputs, json.loads(metadata["sizes"]))
        save_file(
            {name: tensor.float().contiguous() for name, tensor in out.items()}, path.with_suffix(".out.safetensors")
        )


if __name__ == "__main__":
    main(*sys.argv[1:3])
