"""The paper's models at their own size, on the meta device: no weight is there, every shape is."""

from __future__ import annotations

import torch

from instructx_core.config import GuidanceKind, ModelConfig
from instructx_core.connectors import make_connector
from instructx_core.denoiser import Denoiser
from instructx_core.families.components import Components, guidance_class
from instructx_core.latents import LatentCodec

QWEN_3B = {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
           "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True}  # fmt: skip
ROPE = {"type": "mrope", "rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
UMT5_XXL = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
            "feed_forward_proj": "gated-gelu"}  # fmt: skip
VISION = {"hidden_size": 1280, "out_hidden_size": 2048, "depth": 32, "intermediate_size": 3420, "num_heads": 16}


def components(config: ModelConfig) -> Components:
    """Qwen2.5-VL-3B or umT5-XXL, Wan2.1-14B and its VAE with what a config adds to them."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, UMT5Config, UMT5EncoderModel

    text = {**QWEN_3B, "rope_scaling": ROPE, "rope_theta": 1e6}
    with torch.device("meta"):
        if config.guidance.kind is GuidanceKind.TEXT:
            reader = UMT5EncoderModel(UMT5Config(**UMT5_XXL))
        else:
            reader = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=VISION))
        dit = WanTransformer3DModel(num_attention_heads=40, ffn_dim=13824, num_layers=40)
        return Components(
            config,
            guidance_class(config)(reader, None, config.guidance),
            make_connector(config.connector),
            Denoiser(dit, config.denoiser, config.connector.entry),
            LatentCodec(AutoencoderKLWan()),
        )
