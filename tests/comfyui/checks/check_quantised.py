"""Weights of fewer bits from other loaders, fp8 and GGUF, with InstructX Load Adapter on them.

A MODEL of rounded weights is held against one of the same rounded weights in float32, which should give the same, and
against the model itself, from which rounding takes it away a little.
"""

import importlib.util
import os
import sys
import tempfile
from functools import cache
from pathlib import Path

import comfy.sd
import comfy.utils
import folder_paths
import torch
from kit import BUNDLED, VARIANTS, difference, example, loaded, run, sampled, wired
from start import COMFYUI, Skipped

import nodes as stock

FOLDER = Path(tempfile.mkdtemp(prefix="instructx-"))
folder_paths.add_model_folder_path("diffusion_models", str(FOLDER))


@cache
def native_file(name):
    """The DiT of a model as `instructx convert` writes it for ComfyUI's loaders."""
    from instructx_pack.instructx_core.convert import convert
    from instructx_pack.nodes.folders import find_model

    path = FOLDER / f"{len(list(FOLDER.iterdir()))}.safetensors"
    convert(find_model(name), path)
    return path


def edited(name, model, weights="keep the MODEL's own"):
    """Latents of an edit with a stock MODEL and the checkpoint called `name`."""
    model.model.latent_format = loaded(name)[0].model.latent_format  # these VAEs are not Wan's
    adapted, _ = run("LoadAdapter", model=model, adapter=name, weights=weights)
    image, instruction, reference = example("reference_swap", width=48, height=48)
    return sampled(wired(name, image, instruction, [reference], model=adapted), seed=8, cfg=2.0)


def rounded(name, to):
    """The DiT in float32, each of its weights through `to(name, weight)`."""
    own = comfy.sd.load_diffusion_model(str(native_file(name))).model.diffusion_model.state_dict()
    return comfy.sd.load_diffusion_model_state_dict({key: to(key, value).float() for key, value in own.items()})


@cache
def plain(name):
    """What the model itself gives."""
    image, instruction, reference = example("reference_swap", width=48, height=48)
    return sampled(wired(name, image, instruction, [reference]), seed=8, cfg=2.0)


def lost(answer, name):
    """The mean difference from the model itself, as a share of what it gives.

    Not the largest one: where the bundled model's gain passes from one object to the next, a single place may change by
    1 and more while the mean stays at 0.02 of the whole.
    """
    return ((answer - plain(name)).abs().mean() / plain(name).abs().mean()).item()


def check_fp8():
    for name in (BUNDLED, VARIANTS[0], VARIANTS[-1]):
        for weight_dtype in ("fp8_e4m3fn", "fp8_e5m2"):
            dtype = getattr(torch, weight_dtype.replace("fp8", "float8"))
            (model,) = stock.UNETLoader().load_unet(native_file(name).name, weight_dtype)
            weight = model.model.diffusion_model.blocks[0].self_attn.q.weight
            assert weight.dtype == dtype, weight.dtype
            answer = edited(name, model)
            own = dict(model.model.diffusion_model.named_parameters())  # ComfyUI leaves the patch embedding in float32
            same = edited(name, rounded(name, lambda key, value, own=own: value.to(own[key].dtype)))
            assert difference(answer, same) <= 1e-5, (name, weight_dtype)
            assert difference(answer, plain(name)) > 0
            assert lost(answer, name) < 0.1, (name, weight_dtype)


def check_the_checkpoints_weights_on_fp8():
    """Patches put the checkpoint's weights into an fp8 MODEL that held others; ComfyUI rounds those at random."""
    (model,) = stock.UNETLoader().load_unet(native_file(BUNDLED).name, "fp8_e4m3fn")
    with torch.no_grad():
        for parameter in model.model.diffusion_model.blocks.parameters():
            parameter.zero_()
    replaced = edited(BUNDLED, model, "the checkpoint's")
    patched = {key: value.clone() for key, value in model.model.diffusion_model.state_dict().items()}  # still loaded
    own = comfy.utils.load_torch_file(str(native_file(BUNDLED)))
    for key, value in patched.items():
        step = own[key].float().abs().log2().floor().clamp(min=-6).exp2() / 8  # 3 bits of mantissa, down to 2^-6
        off = (value.float() - own[key].float()).abs() / step
        assert (off <= 2).all() and (off <= 1).float().mean() > 0.9999, key  # two just below a power of 2
    same = edited(BUNDLED, rounded(BUNDLED, lambda key, _: patched[key]))
    assert difference(replaced, same) <= 1e-5
    kept = edited(BUNDLED, model)
    assert lost(replaced, BUNDLED) < 0.1 < 1 < lost(kept, BUNDLED)


@cache
def gguf_pack():
    """ComfyUI-GGUF's package and the library that it reads files with."""
    path = Path(os.environ.get("COMFYUI_GGUF_PATH", COMFYUI / "custom_nodes" / "ComfyUI-GGUF"))
    if not (path / "__init__.py").is_file() or importlib.util.find_spec("gguf") is None:
        raise Skipped(f"THERE IS NO ComfyUI-GGUF in {path}, or no library gguf: GGUF weights were not tried")
    import gguf

    name = "gguf_pack"
    spec = importlib.util.spec_from_file_location(name, path / "__init__.py", submodule_search_locations=[str(path)])
    pack = importlib.util.module_from_spec(spec)
    sys.modules[name] = pack
    spec.loader.exec_module(pack)
    return pack, gguf


def quantised_as(gguf, key, value, kind):
    """The GGUF type of a weight: as that pack's converter chooses, vectors and what is sensitive stay in float32."""
    plain = value.ndim != 2 or any(word in key for word in ("modulation", "embedding", "projection", "head"))
    return gguf.GGMLQuantizationType.F32 if plain else kind


def gguf_model(name, kind):
    """(a MODEL from ComfyUI-GGUF's loader, what its weights are in float32)"""
    pack, gguf = gguf_pack()
    path = FOLDER / f"{native_file(name).stem}-{kind.name}.gguf"
    writer = gguf.GGUFWriter(str(path), "wan")
    values = {}
    for key, weight in comfy.utils.load_torch_file(str(native_file(name))).items():
        own_kind = quantised_as(gguf, key, weight, kind)
        data = gguf.quants.quantize(weight.float().numpy(), own_kind)
        writer.add_tensor(key, data, raw_dtype=own_kind)
        values[key] = torch.from_numpy(gguf.quants.dequantize(data, own_kind).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (model,) = pack.NODE_CLASS_MAPPINGS["UnetLoaderGGUF"]().load_unet(path.name)
    return model, values


def check_gguf():
    _, gguf = gguf_pack()
    kinds = gguf.GGMLQuantizationType
    for name in (BUNDLED, VARIANTS[0], VARIANTS[-1]):
        for kind in (kinds.F16, kinds.Q8_0, kinds.Q4_0):
            model, values = gguf_model(name, kind)
            answer = edited(name, model)
            same = edited(name, rounded(name, lambda key, _, values=values: values[key]))
            assert difference(answer, same) <= 5e-3, (name, kind.name)  # that pack unpacks into float16
            assert lost(answer, name) < 0.1, (name, kind.name)


def check_the_checkpoints_weights_on_gguf():
    """They take the place of the unpacked ones, unrounded."""
    _, gguf = gguf_pack()
    model, _ = gguf_model(BUNDLED, gguf.GGMLQuantizationType.Q4_0)
    replaced, kept = edited(BUNDLED, model, "the checkpoint's"), edited(BUNDLED, model)
    assert difference(replaced, plain(BUNDLED)) <= 1e-5
    assert difference(kept, plain(BUNDLED)) > 1e-2
