"""Kiwi-Edit models with random weights: one at the published sizes, and an on-disk layout of a fortieth of them.

The small one's MLLM : DiT : VAE have 80 : 111 : 17 million parameters, about the ratio of the published 3.75 : 5 : 0.7
billion. Its DiT's head size, vocabulary, queries and the ratio of widths inside its blocks are the published ones.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from instructx_core.config import ModelConfig
from instructx_core.connectors import make_connector
from instructx_core.convert import convert
from instructx_core.denoiser import Denoiser
from instructx_core.families.components import Components
from instructx_core.families.instructx.folder import save_checkpoint
from instructx_core.families.kiwi.folder import config_of_shapes
from instructx_core.families.kiwi.prompt import KiwiGuidance
from instructx_core.latents import LatentCodec

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2TokenizerFast


@dataclass(frozen=True)
class Sizes:
    """The sizes that define a Kiwi-Edit model."""

    dit_heads: int
    dit_ffn: int
    dit_layers: int
    text: dict[str, int]  # of the MLLM, by the names in its config
    vision: dict[str, object]
    vae: int  # widths of the layers next to the pixels
    vae_decoder: int

    @property
    def width(self) -> int:
        """Width of the DiT."""
        return 128 * self.dit_heads

    @property
    def hidden(self) -> int:
        """Hidden size of the MLLM."""
        return self.text["hidden_size"]


SMALL = Sizes(
    dit_heads=6,
    dit_ffn=3584,
    dit_layers=10,
    text={"hidden_size": 256, "intermediate_size": 1376, "num_hidden_layers": 24, "num_attention_heads": 2}
    | {"num_key_value_heads": 1},
    vision={"depth": 10, "hidden_size": 256, "intermediate_size": 684, "num_heads": 4}
    | {"fullatt_block_indexes": [4, 9]},
    vae=24,
    vae_decoder=40,
)
PUBLISHED = Sizes(  # of Wan-AI/Wan2.2-TI2V-5B and Qwen/Qwen2.5-VL-3B-Instruct
    dit_heads=24,
    dit_ffn=14336,
    dit_layers=30,
    text={"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16}
    | {"num_key_value_heads": 2},
    vision={"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
    | {"fullatt_block_indexes": [7, 15, 23, 31]},
    vae=160,
    vae_decoder=256,
)
CHANNELS = 48
VOCABULARY = 151936
FIRST_SPECIAL = 151643
# the authors' code finds the queries' positions by token id, so all of Qwen's special tokens keep their ids
SPECIAL = ("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end")
SPECIAL += ("quad_start", "quad_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad")
TOKENS = {f"<|{name}|>": FIRST_SPECIAL + place for place, name in enumerate(SPECIAL)}
# Qwen2.5-VL's chat template
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
)


def make_layout(folder: Path) -> None:
    """Write a small model to `folder`, with everything that the authors' pipeline needs except its code."""
    with tempfile.TemporaryDirectory() as own:
        save_checkpoint(components(SMALL), Path(own) / "model")
        convert(Path(own) / "model", folder)
    _save_processor(folder / "processor")


def components(sizes: Sizes) -> Components:
    """A whole model, deterministic; on PyTorch's default device, which may be meta."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    config = _config(sizes)
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=sizes.dit_heads,
        attention_head_dim=128,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=4096,
        freq_dim=256,
        ffn_dim=sizes.dit_ffn,
        num_layers=sizes.dit_layers,
    )
    denoiser = Denoiser(transformer, config.denoiser, config.connector.entry)
    for embedding in (denoiser.source_embedding, denoiser.reference_embedding):
        embedding.reset_parameters()  # zeros would hide the source
    guidance = KiwiGuidance(_mllm(sizes), _tokenizer(), config.guidance)
    whole = Components(config, guidance, make_connector(config.connector), denoiser, LatentCodec(_vae(sizes)))
    for module in (whole.guidance, whole.connector, whole.denoiser, whole.codec):
        module.eval().requires_grad_(False)
    return whole


def _config(sizes: Sizes) -> ModelConfig:
    """The published config, derived from the shapes of Kiwi-Edit's added weights."""
    width, hidden = sizes.width, sizes.hidden
    shapes = {
        "queries.image": (256, hidden),
        "queries.video": (512, hidden),
        "queries.reference": (768, hidden),
        "connector.linear_in.weight": (width, hidden),
        "connector.linear_out.weight": (width, width),
        "connector.reference.linear_in.weight": (width, hidden),
        "denoiser.reference_embedding.weight": (width, CHANNELS, 1, 2, 2),
    }
    return replace(config_of_shapes(shapes), name="Kiwi-Edit, random")


def _mllm(sizes: Sizes) -> Qwen2_5_VLForConditionalGeneration:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    positions = {"type": "mrope", "rope_type": "default", "mrope_section": [16, 24, 24]}
    shared = {"vocab_size": VOCABULARY, "rope_theta": 1000000.0, "rope_scaling": positions}
    config = Qwen2_5_VLConfig(
        text_config=sizes.text | shared | {"tie_word_embeddings": True},
        vision_config=sizes.vision | {"out_hidden_size": sizes.hidden},
        image_token_id=TOKENS["<|image_pad|>"],
        video_token_id=TOKENS["<|video_pad|>"],
        vision_start_token_id=TOKENS["<|vision_start|>"],
        vision_end_token_id=TOKENS["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def _vae(sizes: Sizes) -> AutoencoderKLWan:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=sizes.vae,
        decoder_base_dim=sizes.vae_decoder,
        z_dim=CHANNELS,
        is_residual=True,
        temperal_downsample=[False, True, True],
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
        latents_mean=[channel / CHANNELS - 0.5 for channel in range(CHANNELS)],
        latents_std=[channel / CHANNELS + 0.5 for channel in range(CHANNELS)],
    )


def _tokenizer() -> Qwen2TokenizerFast:
    """A tokenizer with one token per byte, and Qwen's special tokens with their own ids."""
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
    """Save the processor that the authors' code uses for pictures and chats; this library does not need it."""
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor, Qwen2VLVideoProcessor

    video = Qwen2VLVideoProcessor(do_sample_frames=False)  # their code samples the frames itself
    Qwen2_5_VLProcessor(Qwen2VLImageProcessor(), _tokenizer(), video, TEMPLATE).save_pretrained(folder)
