"""What the checks share: models loaded once, the graph in one call, and the library's answer to the same question.

The environment variable INSTRUCTX_TEST_MODELS names a folder of random models, one for each way in which source and
context can enter, and of the bundled one at a smaller size.
"""

import os
import sys
from functools import cache
from pathlib import Path

import comfy.sd
import comfy.utils
import folder_paths
import start
import torch
from comfyui_version import __version__

NODES = start.load_nodes()
LOADED_EARLY = {"diffusers", "peft", "accelerate"} & set(sys.modules)  # the nodes are there, and none has run yet
BUNDLED = "InstructX Tiny (bundled)"
MODELS = Path(os.environ["INSTRUCTX_TEST_MODELS"])
AFFINE = "embedding-text-affine"  # its DiT has more outputs than a stock sampler takes
SMALLER = "tiny-at-72-pixels"  # the bundled model, faster: for what is the same at any size
VARIANTS = sorted(path.name for path in MODELS.iterdir() if path.name not in (AFFINE, SMALLER))
TOLERANCE = 1e-3
NEW = tuple(map(int, __version__.split(".")[:2])) >= (0, 33)  # older ones do not know every form of weights

folder_paths.add_model_folder_path("instructx", str(MODELS))


def slow(check):
    """A check that takes minutes: `pytest -m slow` runs it, the default run does not."""
    return check


def run(name, **inputs):
    """Outputs of the node called InstructX<name>."""
    return start.run(NODES[f"InstructX{name}"], **inputs)


@cache
def loaded(model_name):
    """(MODEL, VAE, MLLM, CONNECTOR)"""
    return run("LoadModel", model_name=model_name, precision="float32")


@cache
def editor(model_name):
    from instructx_pack.instructx_core.editor import Editor
    from instructx_pack.nodes.folders import find_model

    return Editor.from_pretrained(find_model(model_name), device="cpu", dtype=torch.float32)


@cache
def example(group, frames=1, seed=5, width=64, height=64):
    """(IMAGE, instruction, reference or None)"""
    image, _, instruction, reference = run(
        "ExampleInput", example=group, seed=seed, frames=frames, width=width, height=height
    )
    return image, instruction, reference if isinstance(reference, torch.Tensor) else None


def clip(frames, width=64, height=48, seed=0):
    """Smooth random frames [T, H, W, 3] in 8 bits."""
    coarse = torch.rand(1, 3, max(2, frames), 3, 3, generator=torch.manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (max(2, frames), height, width), mode="trilinear")
    return (fine[0].permute(1, 2, 3, 0)[:frames] * 255).round() / 255


def wired(model_name, image, instruction, references=(), model=None, **size):
    """The graph up to the sampler: (MODEL, positive, negative, LATENT, FIT); `size` is Fit's width and height."""
    own, vae, mllm, connector = loaded(model_name)
    fitted, fit = run("Fit", model=own, vae=vae, source=image, **size)
    joined = torch.cat(list(references)) if references else None
    (guidance,) = run("MLLMGuidance", mllm=mllm, source=fitted, instruction=instruction, fit=fit, reference=joined)
    positive, negative = run("Connector", connector=connector, guidance=guidance)
    patched, positive, negative, latent = run(
        "Source", model=own if model is None else model, positive=positive, negative=negative, source=fitted, vae=vae
    )
    for reference in references:
        patched, positive, negative = run(
            "Reference", model=patched, positive=positive, negative=negative, vae=vae, reference=reference
        )
    return patched, positive, negative, latent, fit


def sampled(graph, **settings):
    """Normalised latents [B, C, t, h, w] of InstructX Sampler."""
    patched, positive, negative, latent, _ = graph
    (out,) = run("Sampler", model=patched, positive=positive, negative=negative, latent=latent, **settings)
    return patched.model.process_latent_in(out["samples"])


def difference(one, other):
    """The largest absolute difference; shapes must agree."""
    assert one.shape == other.shape, (one.shape, other.shape)
    assert one.isfinite().all() and other.isfinite().all()
    return (one - other).abs().max().item()


def stock_model(name):
    """The DiT of a variant as Load Diffusion Model would give it."""
    from instructx_pack.instructx_core.weights.wan_keys import dit_to_original

    weights = comfy.utils.load_torch_file(str(MODELS / name / "transformer" / "diffusion_pytorch_model.safetensors"))
    return comfy.sd.load_diffusion_model_state_dict(dit_to_original(weights))


def expect(error, match, function, *args, **kwargs):
    """`function` raises an error of the class named `error` whose message holds `match`."""
    try:
        function(*args, **kwargs)
    except Exception as raised:
        assert type(raised).__name__ == error, raised
        assert match in str(raised), raised
        return
    raise AssertionError(f"no {error}")
