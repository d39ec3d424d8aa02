"""A LoRA file on ComfyUI's MODEL and in the library's own weights: the same edit, in each key style that both read."""

import tempfile
from pathlib import Path

import comfy.sd
import comfy.utils
import torch
from kit import SMALLER, TOLERANCE, difference, example, loaded, sampled, wired

STRENGTH = 0.7
LOW_RANK = ("self_attn.q", "self_attn.o", "cross_attn.v", "ffn.0", "ffn.2")


def native_weights():
    return loaded(SMALLER)[0].model.diffusion_model.state_dict()


def random(shape, generator, scale=0.05):
    return torch.randn(shape, generator=generator) * scale


def low_rank(prefix, separator, down, up, alpha):
    """Pairs for some modules of every block, under the keys of one style."""
    generator, state = torch.Generator().manual_seed(1), {}
    for name, weight in native_weights().items():
        module = name.removesuffix(".weight")
        if not name.startswith("blocks.") or not module.endswith(LOW_RANK) or name == module:
            continue
        key = prefix + module.replace(".", separator)
        state[f"{key}.{up}.weight"] = random((weight.shape[0], 4), generator)
        state[f"{key}.{down}.weight"] = random((4, weight.shape[1]), generator, 0.5)
        if alpha is not None:
            state[f"{key}.alpha"] = torch.tensor(float(alpha))
    return state


def lycoris(prefix, made):
    """Some modules of every block, each with what `made` gives for its shape, under LyCORIS's or ComfyUI's keys."""
    generator, state = torch.Generator().manual_seed(3), {}
    separator = "_" if prefix == "lora_unet_" else "."
    for name, weight in native_weights().items():
        module = name.removesuffix(".weight")
        if name.startswith("blocks.") and module.endswith(LOW_RANK) and name != module:
            key = prefix + module.replace(".", separator)
            state |= {f"{key}.{part}": value for part, value in made(weight.shape, generator).items()}
    return state


def lokr(shape, generator):
    return {"lokr_w1": random((2, 2), generator), "lokr_w2": random((shape[0] // 2, shape[1] // 2), generator, 0.5),
            "alpha": torch.tensor(4.0)}  # fmt: skip


def lokr_of_products(shape, generator):
    return {
        "lokr_w1_a": random((4, 2), generator, 0.3),
        "lokr_w1_b": random((2, 4), generator, 0.3),
        "lokr_w2_a": random((shape[0] // 4, 3), generator, 0.3),
        "lokr_w2_b": random((3, shape[1] // 4), generator),
        "alpha": torch.tensor(12.0),
    }


def loha(shape, generator):
    sides = {"a": (shape[0], 3), "b": (3, shape[1])}
    return {f"hada_w{half}_{side}": random(sides[side], generator, 0.35) for half in (1, 2) for side in "ab"} | {
        "alpha": torch.tensor(1.5)
    }


def distilled():
    """As a few-step LoRA: pairs, and differences of norms, biases, and of head and patch embedding whole."""
    generator = torch.Generator().manual_seed(2)
    state = low_rank("diffusion_model.", ".", "lora_down", "lora_up", None)
    for name, value in native_weights().items():
        module, _, leaf = name.rpartition(".")
        whole = "norm" in module or module in ("head.head", "patch_embedding")
        if leaf == "bias" or (leaf == "weight" and whole):
            ending = "diff_b" if leaf == "bias" else "diff"
            state[f"diffusion_model.{module}.{ending}"] = random(value.shape, generator, 0.02)
    return state


def check_lora_files_as_in_comfyui():
    from instructx_pack.instructx_core.editor import Editor
    from instructx_pack.nodes.folders import find_model

    styles = {
        "kohya": low_rank("lora_unet_", "_", "lora_down", "lora_up", 2),
        "original": low_rank("diffusion_model.", ".", "lora_A", "lora_B", None),
        "original, up and down": low_rank("diffusion_model.", ".", "lora_down", "lora_up", 3),
        "distilled": distilled(),
        "LoKr": lycoris("diffusion_model.", lokr),
        "LoKr of products": lycoris("lora_unet_", lokr_of_products),
        "LoHa": lycoris("diffusion_model.", loha),
    }
    image, instruction, reference = example("reference_swap")
    plain = sampled(wired(SMALLER, image, instruction, [reference]), seed=5)
    with tempfile.TemporaryDirectory() as folder:
        for name, state in styles.items():
            path = Path(folder, "lora.safetensors")
            comfy.utils.save_torch_file(state, str(path))
            patched, _ = comfy.sd.load_lora_for_models(
                loaded(SMALLER)[0], None, comfy.utils.load_torch_file(str(path), safe_load=True), STRENGTH, 0
            )
            theirs = sampled(wired(SMALLER, image, instruction, [reference], model=patched), seed=5)
            lora = [(path, STRENGTH)]
            own = Editor.from_pretrained(find_model(SMALLER), device="cpu", dtype=torch.float32, loras=lora)
            ours = own.edit(image, instruction, reference, seed=5).latents
            assert difference(ours, theirs) <= TOLERANCE, (name, difference(ours, theirs))
            assert difference(theirs, plain) > 100 * TOLERANCE, (name, difference(theirs, plain))
