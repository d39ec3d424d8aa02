"""The MODEL stays ComfyUI's: other loaders, LoRA, context windows, memory; Wan 2.2 5B too."""

import shutil

import comfy.lora
import comfy.sd
import comfy.utils
import torch
from kit import (
    BUNDLED,
    MODELS,
    TOLERANCE,
    VARIANTS,
    difference,
    example,
    expect,
    loaded,
    run,
    sampled,
    stock_model,
    wired,
)

import nodes as stock


def check_adapter_on_a_stock_model():
    image, instruction, reference = example("reference_swap", width=48, height=48)
    for name in VARIANTS:
        model = stock_model(name)
        model.model.latent_format = loaded(name)[0].model.latent_format  # this VAE is not Wan's
        adapted, _ = run("LoadAdapter", model=model, adapter=name, weights="keep the MODEL's own")
        ours = sampled(wired(name, image, instruction, [reference], model=adapted), seed=8)
        assert difference(ours, sampled(wired(name, image, instruction, [reference]), seed=8)) <= 1e-5, name


def check_adapter_and_dit_of_a_conversion():
    """The two files that `instructx convert` writes for ComfyUI are the model that they were made of."""
    from instructx_pack.instructx_core.convert import convert

    image, instruction, reference = example("reference_swap", width=48, height=48)
    name, folder = VARIANTS[0], MODELS / "adapter-alone"
    convert(MODELS / name, folder / "instructx.safetensors")
    convert(MODELS / name, folder / "dit.safetensors")
    model = comfy.sd.load_diffusion_model(str(folder / "dit.safetensors"))
    model.model.latent_format = loaded(name)[0].model.latent_format
    adapted, connector = run("LoadAdapter", model=model, adapter=folder.name, weights="keep the MODEL's own")
    ours = sampled(wired(name, image, instruction, [reference], model=adapted), seed=8)
    assert difference(ours, sampled(wired(name, image, instruction, [reference]), seed=8)) <= 1e-5
    own = loaded(name)[3].module.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in connector.module.state_dict().items())


def check_adapter_replaces_weights():
    image, instruction, _ = example("recolor", width=48, height=48)
    name = VARIANTS[0]
    model = stock_model(name)
    model.model.latent_format = loaded(name)[0].model.latent_format
    with torch.no_grad():
        for parameter in model.model.diffusion_model.blocks[0].parameters():
            parameter.mul_(0.5)
    kept = run("LoadAdapter", model=model, adapter=name, weights="keep the MODEL's own")[0]
    replaced = run("LoadAdapter", model=model, adapter=name, weights="the checkpoint's")[0]
    expected = sampled(wired(name, image, instruction), seed=8)
    found = {}
    for which, adapted in (("replaced", replaced), ("kept", kept), ("again", replaced)):
        found[which] = difference(sampled(wired(name, image, instruction, model=adapted), seed=8), expected)
    assert found["replaced"] <= 1e-5, found
    assert found["again"] <= 1e-5, found
    assert found["kept"] > 100 * 1e-5, found


def check_a_lora_stays_where_an_adapter_replaces_weights():
    """Before the adapter as behind it; the MODEL that came in keeps its own patches, and the last adapter counts."""
    name = VARIANTS[0]
    plain = stock_model(name)
    weight = "diffusion_model.blocks.0.self_attn.q.weight"
    size = plain.model.state_dict()[weight].shape
    lora = {
        f"{weight.removesuffix('.weight')}.{half}.weight": torch.ones(shape) / 8
        for half, shape in (("lora_up", (size[0], 2)), ("lora_down", (2, size[1])))
    }

    def with_lora(model):
        return comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0)[0]

    def adapted(model):
        return run("LoadAdapter", model=model, adapter=name, weights="the checkpoint's")[0]

    def computed(model):
        own = torch.zeros(size)  # other weights than the checkpoint's
        return comfy.lora.calculate_weight(model.patches[weight], own, weight)

    before = with_lora(plain)
    kept = list(before.patches[weight])
    first, last = computed(adapted(before)), computed(with_lora(adapted(plain)))
    assert torch.equal(first, last)
    assert not torch.equal(first, computed(adapted(plain)))
    assert before.patches[weight] == kept
    other = with_lora(plain)
    other.patches[weight].insert(0, (1.0, ("set", (torch.ones(size),)), 1.0, None, None))  # an adapter before it
    assert torch.equal(computed(adapted(other)), last)


def check_adapter_puts_a_lora_on_the_model():
    """A checkpoint's LoRA at half strength equals half of its update in the weights."""
    image, instruction, _ = example("recolor", width=48, height=48)
    name = VARIANTS[0]
    folder = MODELS / "with-lora"
    folder.mkdir()
    shutil.copy(MODELS / name / "instructx.safetensors", folder)
    own = loaded(name)[0].model.latent_format
    model, changed = stock_model(name), stock_model(name)
    generator = torch.manual_seed(2)
    lora = {}
    for module in ("blocks.0.self_attn.q", "blocks.1.ffn.0"):
        weight = changed.model.diffusion_model.get_submodule(module).weight
        up = torch.randn(weight.shape[0], 2, generator=generator) * 0.1
        down = torch.randn(2, weight.shape[1], generator=generator) * 0.1
        lora |= {f"diffusion_model.{module}.lora_up.weight": up, f"diffusion_model.{module}.lora_down.weight": down}
        with torch.no_grad():
            weight += 0.5 * up @ down
    answers = {}
    for which, wan in (("plain", model), ("lora", model), ("changed", changed)):
        wan.model.latent_format = own
        settings = {"adapter": "with-lora", "weights": "keep the MODEL's own"}
        if which == "lora":
            comfy.utils.save_torch_file(lora, str(folder / "dit_lora.safetensors"))
            settings |= {"weights": "the checkpoint's LoRA", "lora_strength": 0.5}
        adapted = run("LoadAdapter", model=wan, **settings)[0]
        answers[which] = sampled(wired(name, image, instruction, model=adapted), seed=8)
    assert difference(answers["lora"], answers["changed"]) <= 1e-5
    assert difference(answers["lora"], answers["plain"]) > 100 * 1e-5


def check_words_for_a_lora_that_does_not_fit():
    name = VARIANTS[0]
    asked = {"model": stock_model(name), "weights": "the checkpoint's LoRA"}
    expect("CheckpointError", "has no dit_lora.safetensors", run, "LoadAdapter", adapter=name, **asked)
    folder = MODELS / "with-strange-lora"
    folder.mkdir()
    shutil.copy(MODELS / name / "instructx.safetensors", folder)
    strange = {"unet.somewhere.lora_up.weight": torch.ones(4, 2), "unet.somewhere.lora_down.weight": torch.ones(2, 4)}
    comfy.utils.save_torch_file(strange, str(folder / "dit_lora.safetensors"))
    expect("CheckpointError", "fits the MODEL", run, "LoadAdapter", adapter=folder.name, **asked)


def check_unpatched_model_is_untouched():
    image, instruction, _ = example("recolor", width=48, height=48)
    for name in VARIANTS:
        plain = stock_model(name)
        plain.model.latent_format = loaded(name)[0].model.latent_format
        _, positive, negative, latent, _ = wired(name, image, instruction)
        text = [[torch.randn(1, 5, 4096, generator=torch.manual_seed(0)), {}]]

        def original(plain=plain, text=text, latent=latent):
            with torch.inference_mode():
                return stock.KSampler().sample(plain, 3, 3, 1.0, "euler", "simple", text, text, latent)[0]["samples"]

        before = original()
        adapted, _ = run("LoadAdapter", model=plain, adapter=name, weights="keep the MODEL's own")
        used = run("Source", model=adapted, positive=positive, negative=negative, source=latent)
        sampled((*used, None), seed=3)
        assert torch.equal(original(), before), name
        assert plain.wrappers.get("diffusion_model", {}) == {}
        assert not plain.attachments
        assert not plain.object_patches


def check_lora_on_the_model():
    """A LoRA that a stock loader puts on the MODEL equals the same update in the library's weights."""
    from instructx_pack.instructx_core.editor import Editor
    from instructx_pack.nodes.folders import find_model

    image, instruction, reference = example("reference_swap")
    generator = torch.manual_seed(1)
    lora = {}
    own = Editor.from_pretrained(find_model(BUNDLED), device="cpu", dtype=torch.float32)
    for index, block in enumerate(own.denoiser.transformer.blocks):
        for theirs, ours in (("self_attn.q", block.attn1.to_q), ("ffn.0", block.ffn.net[0].proj)):
            up = torch.randn(ours.weight.shape[0], 4, generator=generator) * 0.05
            down = torch.randn(4, ours.weight.shape[1], generator=generator) * 0.05
            lora[f"diffusion_model.blocks.{index}.{theirs}.lora_up.weight"] = up
            lora[f"diffusion_model.blocks.{index}.{theirs}.lora_down.weight"] = down
            ours.weight.data += up @ down
    plain = sampled(wired(BUNDLED, image, instruction, [reference]), seed=5)
    with_lora, _ = comfy.sd.load_lora_for_models(loaded(BUNDLED)[0], None, lora, 1.0, 0)
    ours = sampled(wired(BUNDLED, image, instruction, [reference], model=with_lora), seed=5)
    expected = own.edit(image, instruction, reference, seed=5).latents
    assert difference(ours, expected) <= TOLERANCE
    assert difference(plain, expected) > 10 * TOLERANCE


def check_context_windows():
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    image, instruction, _ = example("background", frames=13)
    patched, positive, negative, latent, _ = wired(BUNDLED, image, instruction, width=64, height=64)
    frames = latent["samples"].shape[2]

    def windowed(length):
        handled = ContextWindowsManualNode.execute(
            patched, length, 1, "standard_static", 1, False, "pyramid", 2, False
        ).args[0]
        return sampled((handled, positive, negative, latent, None), seed=2, steps=3)

    whole = sampled((patched, positive, negative, latent, None), seed=2, steps=3)
    assert difference(windowed(frames), whole) == 0
    assert difference(windowed(max(2, frames // 2)), whole) > 0


def check_memory_estimate_counts_references():
    import comfy.sampler_helpers as helpers

    image, instruction, reference = example("reference_swap")
    patched, positive, negative, latent, _ = wired(BUNDLED, image, instruction, [reference])
    seen = []
    original = helpers.estimate_memory

    def spy(model, noise_shape, conds):
        seen.append(list(noise_shape))
        return original(model, noise_shape, conds)

    helpers.estimate_memory = spy
    try:
        sampled((patched, positive, negative, latent, None), seed=1, steps=1)
    finally:
        helpers.estimate_memory = original
    assert seen[0][2] == latent["samples"].shape[2] + 1


def check_noise_mask_with_references_on_48_channels():
    """Per-frame timesteps, which a noise mask brings on Wan 2.2 5B, are carried on to appended references."""
    import comfy.ops
    from comfy.ldm.wan.model import WanModel
    from instructx_pack.instructx_core.config import ModelConfig
    from instructx_pack.nodes.denoising import Denoising
    from instructx_pack.nodes.wan import ConditionWrapper

    torch.manual_seed(0)
    dit = WanModel(
        in_dim=48,
        out_dim=48,
        dim=128,
        ffn_dim=64,
        num_heads=1,
        num_layers=2,
        operations=comfy.ops.disable_weight_init,
        device="cpu",
        dtype=torch.float32,
    )
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    x, reference = torch.randn(1, 48, 3, 4, 4), torch.randn(1, 48, 1, 4, 4)
    context, sigma = torch.randn(1, 5, 4096), torch.tensor([0.7])
    wrapper = ConditionWrapper(Denoising(ModelConfig()))
    options = {"sigmas": sigma, "wrappers": {"diffusion_model": {"instructx": [wrapper]}}}
    with torch.inference_mode():
        one = dit(x, sigma * 1000, context, time_dim_concat=reference, transformer_options=dict(options))
        each = dit(
            x, (sigma * 1000).expand(1, 3), context, time_dim_concat=reference, transformer_options=dict(options)
        )
    assert difference(one, each) <= 1e-5
