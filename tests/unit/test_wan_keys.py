"""Wan names there and back, against diffusers' own converters and against a real ComfyUI's forward passes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from instructx_core.errors import CheckpointError
from instructx_core.weights.wan_keys import (
    dit_config_from_original,
    dit_to_diffusers,
    dit_to_original,
    vae_config_from_original,
    vae_to_diffusers,
    vae_to_original,
)
from support.wan_models import DIT, DITS, FIRST_LAST, PUBLISHED, WAN21, WAN22, build_dit, build_vae


def same(first, second):
    """Same names in the same order, and the very same tensors."""
    return list(first) == list(second) and all(first[name] is second[name] for name in first)


@pytest.mark.parametrize("config", [*DITS.values(), FIRST_LAST], ids=[*DITS, "first and last frame"])
def test_dit_there_and_back(config):
    state = build_dit(config, "meta").state_dict()
    original = dit_to_original(state)
    assert len(original) == len(state)
    assert same(dit_to_diffusers(original), state)
    for prefix in ("model.diffusion_model.", "diffusion_model."):
        assert same(dit_to_diffusers({prefix + name: tensor for name, tensor in original.items()}), state)


@pytest.mark.parametrize("config", [*DITS.values(), *PUBLISHED.values()], ids=[*DITS, *PUBLISHED])
def test_dit_agrees_with_diffusers_converter(config):
    from diffusers.loaders import single_file_utils

    state = build_dit(config, "meta").state_dict()
    original = dit_to_original(state)
    assert same(single_file_utils.convert_wan_transformer_to_diffusers(dict(original)), state)


def test_dit_names_are_those_of_the_original_code():
    original = dit_to_original(build_dit({**FIRST_LAST, "num_layers": 1}, "meta").state_dict())
    linear = ("weight", "bias")
    attention = [f"{name}.{leaf}" for name in "qkvo" for leaf in linear] + ["norm_q.weight", "norm_k.weight"]
    image = ["k_img.weight", "k_img.bias", "v_img.weight", "v_img.bias", "norm_k_img.weight"]
    modules = ["patch_embedding", "text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2"]
    modules += ["time_projection.1", "head.head", *(f"img_emb.proj.{i}" for i in (0, 1, 3, 4))]
    modules += [f"blocks.0.{name}" for name in ("norm3", "ffn.0", "ffn.2")]
    expected = {f"{module}.{leaf}" for module in modules for leaf in linear}
    expected |= {f"blocks.0.self_attn.{name}" for name in attention}
    expected |= {f"blocks.0.cross_attn.{name}" for name in attention + image}
    assert set(original) == expected | {"blocks.0.modulation", "head.modulation", "img_emb.emb_pos"}


@pytest.mark.parametrize("config", [*DITS.values(), FIRST_LAST, *PUBLISHED.values()])
def test_dit_config_is_read_from_shapes(config):
    model = build_dit(config, "meta")
    read = dit_config_from_original(dit_to_original(model.state_dict()))
    assert read == {name: model.config[name] for name in read}
    assert set(model.config) - set(read) <= {"qk_norm", "eps", "rope_max_seq_len", "_use_default_values"}


def test_dit_shards_convert_alone_and_values_may_be_anything():
    state = build_dit(DIT, "meta").state_dict()
    shard = {name: name for name in state if name.startswith("blocks.1.")}
    assert dit_to_original(shard) == {new: old for old, new in zip(shard, dit_to_original(shard), strict=True)}
    assert dit_to_original(shard)["blocks.1.cross_attn.o.bias"] == "blocks.1.attn2.to_out.0.bias"


def test_dit_refuses_what_it_does_not_know():
    state = build_dit(DIT, "meta").state_dict()
    original = dit_to_original(state)
    with pytest.raises(CheckpointError, match=r"2 of \d+ .*'blocks.0.lora_A'.*'vace_patch_embedding.weight'"):
        dit_to_original({**state, "blocks.0.lora_A": 0, "vace_patch_embedding.weight": 0})
    with pytest.raises(CheckpointError, match="original Wan transformer.*'text_encoders.x'"):
        dit_to_diffusers({**original, "text_encoders.x": 0})
    with pytest.raises(CheckpointError, match="twice.*prefix"):
        dit_to_diffusers({**original, "model.diffusion_model.patch_embedding.bias": 0})
    for convert, wrong in ((dit_to_original, original), (dit_to_diffusers, state)):
        with pytest.raises(CheckpointError, match="do not belong to .* give other weights"):
            convert(wrong)


def test_dit_leaves_out_only_what_diffusers_never_loads():
    state = build_dit(DITS["image"], "meta").state_dict()
    assert dit_to_original({**state, "blocks.0.attn2.norm_added_q.weight": 0}) == dit_to_original(state)


def test_dit_config_names_what_is_missing():
    original = dit_to_original(build_dit(DIT, "meta").state_dict())
    with pytest.raises(CheckpointError, match=r"width, 96, is not a multiple of 128.*; give its diffusers folder"):
        dit_config_from_original(original | {"patch_embedding.weight": torch.empty(96, 16, 1, 2, 2)})
    with pytest.raises(CheckpointError, match="'head.head.weight' is missing"):
        dit_config_from_original({name: t for name, t in original.items() if name != "head.head.weight"})


def test_wan21_vae_agrees_with_diffusers_converter():
    from diffusers.loaders import single_file_utils

    state = build_vae(WAN21, "meta").state_dict()
    assert same(single_file_utils.convert_wan_vae_to_diffusers(vae_to_original(state)), state)


def test_wan22_vae_names_are_those_of_the_original_code():
    plan = vae_to_original({name: name for name in build_vae(WAN22, "meta").state_dict()})
    for original, diffusers in {
        "conv1.weight": "quant_conv.weight",
        "conv2.bias": "post_quant_conv.bias",
        "encoder.conv1.weight": "encoder.conv_in.weight",
        "encoder.downsamples.0.downsamples.1.residual.0.gamma": "encoder.down_blocks.0.resnets.1.norm1.gamma",
        "encoder.downsamples.0.downsamples.2.resample.1.weight": "encoder.down_blocks.0.downsampler.resample.1.weight",
        "encoder.downsamples.1.downsamples.0.shortcut.bias": "encoder.down_blocks.1.resnets.0.conv_shortcut.bias",
        "encoder.downsamples.2.downsamples.2.time_conv.weight": "encoder.down_blocks.2.downsampler.time_conv.weight",
        "encoder.middle.1.to_qkv.weight": "encoder.mid_block.attentions.0.to_qkv.weight",
        "encoder.middle.2.residual.6.bias": "encoder.mid_block.resnets.1.conv2.bias",
        "decoder.upsamples.0.upsamples.3.time_conv.bias": "decoder.up_blocks.0.upsampler.time_conv.bias",
        "decoder.upsamples.2.upsamples.3.resample.1.bias": "decoder.up_blocks.2.upsampler.resample.1.bias",
        "decoder.upsamples.3.upsamples.2.residual.2.weight": "decoder.up_blocks.3.resnets.2.conv1.weight",
        "decoder.head.0.gamma": "decoder.norm_out.gamma",
        "decoder.head.2.weight": "decoder.conv_out.weight",
    }.items():
        assert plan[original] == diffusers


@settings(max_examples=25, deadline=None)
@given(
    residual=st.booleans(),
    blocks=st.integers(1, 3),
    # Wan2.2's shortcuts want the same width in the last two resolutions.
    mult=st.just([1])
    | st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=4).map(lambda m: sorted([*m, max(m)])),
    temporal=st.lists(st.booleans(), min_size=4, max_size=4),
    decoder=st.sampled_from([8, 16]),
)
def test_vae_there_and_back_at_any_depth_and_width(residual, blocks, mult, temporal, decoder):
    temporal = temporal[: len(mult) - 1]
    config = {**(WAN22 if residual else WAN21), "decoder_base_dim": decoder, "dim_mult": mult, "num_res_blocks": blocks}
    state = build_vae({**config, "temperal_downsample": temporal}, "meta").state_dict()
    original = vae_to_original(state)
    assert same(vae_to_diffusers(original), state)

    read = vae_config_from_original(original)
    assert (read["dim_mult"], read["num_res_blocks"], read["temperal_downsample"]) == (mult, blocks, temporal)
    rebuilt = build_vae({**config, **read}, "meta").state_dict()
    assert {name: t.shape for name, t in rebuilt.items()} == {name: t.shape for name, t in state.items()}


@pytest.mark.parametrize("config", [WAN21, WAN22])
def test_vae_refuses_what_it_does_not_know(config):
    state = build_vae(config, "meta").state_dict()
    original = vae_to_original(state)
    with pytest.raises(CheckpointError, match=r"1 of \d+ .*diffusers Wan VAE.*'encoder.other.weight'"):
        vae_to_original({**state, "encoder.other.weight": 0})
    with pytest.raises(CheckpointError, match="1 of .*'decoder.upsamples.1.weight'"):
        vae_to_diffusers({**original, "decoder.upsamples.1.weight": 0})
    for convert, wrong in ((vae_to_original, original), (vae_to_diffusers, state)):
        with pytest.raises(CheckpointError, match="do not belong to .* give other weights"):
            convert(wrong)
    with pytest.raises(CheckpointError, match="'conv2.weight' is missing"):
        vae_config_from_original({name: t for name, t in original.items() if name != "conv2.weight"})
