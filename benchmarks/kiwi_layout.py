"""A Kiwi-Edit of random weights in its published layout: large enough to measure, a fortieth of the published one.

MLLM : DiT : VAE hold 80 : 111 : 17 million parameters, about as the published 3.75 : 5 : 0.7 billion do. Widths of
heads, vocabulary, queries and the ratio of widths inside the blocks are the published ones; widths and depths are less.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from instructx_core.checkpoints.bundle import Components, save_checkpoint
from instructx_core.checkpoints.convert import convert
from instructx_core.checkpoints.kiwi import config_of_shapes
from instructx_core.config import ModelConfig
from instructx_core.connectors import Connector
from instructx_core.denoiser import Denoiser
from instructx_core.guidance.kiwi import KiwiGuidance
from instructx_core.latents import LatentCodec

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2TokenizerFast

DIT_HEADS, DIT_FFN, DIT_LAYERS = 6, 3584, 10
WIDTH = 128 * DIT_HEADS
CHANNELS = 48
HIDDEN = 256  # of the MLLM
VAE_WIDTH, VAE_DECODER_WIDTH = 24, 40
VOCABULARY = 151936
FIRST_SPECIAL = 151643
# the authors' code looks for the queries' places by their number, so all of Qwen's special tokens keep theirs
SPECIAL = ("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end")
SPECIAL += ("quad_start", "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad")
TOKENS = {f"<|{name}|>": FIRST_SPECIAL + place for place, name in enumerate(SPECIAL)}
# Qwen2.5-VL's form of a conversation
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
)


def make_layout(folder: Path) -> None:
    """Write the model to `folder`, everything that the authors' pipeline asks for included but its code."""
    with tempfile.TemporaryDirectory() as own:
        save_checkpoint(_components(), Path(own) / "model")
        convert(Path(own) / "model", folder)
    _save_processor(folder / "processor")


def _components() -> Components:
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    config = _config()
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=DIT_HEADS,
        attention_head_dim=128,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=4096,
        freq_dim=256,
        ffn_dim=DIT_FFN,
        num_layers=DIT_LAYERS,
    )
    denoiser = Denoiser(transformer, config.denoiser, config.connector.entry)
    for embedding in (denoiser.source_embedding, denoiser.reference_embedding):
        embedding.reset_parameters()  # not zeros, which would hide the source
    guidance = KiwiGuidance(_mllm(), _tokenizer(), config.guidance)
    whole = Components(config, guidance, Connector(config.connector), denoiser, LatentCodec(_vae()))
    for module in (whole.guidance, whole.connector, whole.denoiser, whole.codec):
        module.eval().requires_grad_(False)
    return whole


def _config() -> ModelConfig:
    """The published config, read off the shapes of what Kiwi-Edit adds."""
    shapes = {
        "queries.image": (256, HIDDEN),
        "queries.video": (512, HIDDEN),
        "queries.reference": (768, HIDDEN),
        "connector.linear_in.weight": (WIDTH, HIDDEN),
        "connector.linear_out.weight": (WIDTH, WIDTH),
        "connector.reference.linear_in.weight": (WIDTH, HIDDEN),
        "denoiser.reference_embedding.weight": (WIDTH, CHANNELS, 1, 2, 2),
    }
    return replace(config_of_shapes(shapes), name="Kiwi-Edit, random")


def _mllm_config() -> Qwen2_5_VLConfig:
    from transformers import Qwen2_5_VLConfig

    return Qwen2_5_VLConfig(
        text_config={
            "hidden_size": HIDDEN,
            "intermediate_size": 1376,
            "num_hidden_layers": 24,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "vocab_size": VOCABULARY,
            "rope_theta": 1000000.0,
            "rope_scaling": {"type": "mrope", "rope_type": "default", "mrope_section": [16, 24, 24]},
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": 10,
            "hidden_size": 256,
            "intermediate_size": 684,
            "num_heads": 4,
            "out_hidden_size": HIDDEN,
            "fullatt_block_indexes": [4, 9],
        },
        image_token_id=TOKENS["<|image_pad|>"],
        video_token_id=TOKENS["<|video_pad|>"],
        vision_start_token_id=TOKENS["<|vision_start|>"],
        vision_end_token_id=TOKENS["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def _mllm() -> Qwen2_5_VLForConditionalGeneration:
    from transformers import Qwen2_5_VLForConditionalGeneration

    return Qwen2_5_VLForConditionalGeneration(_mllm_config())


def _vae() -> AutoencoderKLWan:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=VAE_WIDTH,
        decoder_base_dim=VAE_DECODER_WIDTH,
        z_dim=CHANNELS,
        is_residual=True,
        temperal_downsample=[False, True, True],
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
        latents_mean=torch.linspace(-0.5, 0.5, CHANNELS).tolist(),
        latents_std=torch.linspace(0.5, 1.5, CHANNELS).tolist(),
    )


def _tokenizer() -> Qwen2TokenizerFast:
    """One token a byte, and Qwen's special tokens under their own numbers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import Qwen2TokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    unused = [f"<{number}>" for number in range(len(letters), FIRST_SPECIAL)]
    words = {word: number for number, word in enumerate([*letters, *unused])}
    tokenizer = Tokenizer(models.BPE(words | TOKENS, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(TOKENS))
    return Qwen2TokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>")


def _save_processor(folder: Path) -> None:
    """How the authors' code cuts pictures and writes a conversation; this library needs none of it."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    video = Qwen2VLVideoProcessor(do_sample_frames=False)  # their code chooses the frames itself
    Qwen2_5_VLProcessor(Qwen2VLImageProcessor(), _tokenizer(), video, TEMPLATE).save_pretrained(folder)
