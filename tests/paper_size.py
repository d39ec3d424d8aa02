"""The paper's models at their own size, on the meta device: no weight is there, every shape is."""

from __future__ import annotations

import torch

from instructx_core.config import ModelConfig
from instructx_core.connectors import make_connector
from instructx_core.denoiser import Denoiser
from instructx_core.families.components import Components, guidance_class
from instructx_core.latents import LatentCodec

QWEN_3B = {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
           "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True}  # fmt: skip
ROPE = {"type": "mrope", "rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
VISION = {"hidden_size": 1280, "out_hidden_size": 2048, "depth": 32, "intermediate_size": 3420, "num_heads": 16}


def components(config: ModelConfig) -> Components:
    """Qwen2.5-VL-3B, Wan2.1-14B and its VAE with what a config adds to them."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {**QWEN_3B, "rope_scaling": ROPE, "rope_theta": 1e6}
    with torch.device("meta"):
        qwen = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=VISION))
        dit = WanTransformer3DModel(num_attention_heads=40, ffn_dim=13824, num_layers=40)
        return Components(
            config,
            guidance_class(config)(qwen, None, config.guidance),
            make_connector(config.connector),
            Denoiser(dit, config.denoiser, config.connector.entry),
            LatentCodec(AutoencoderKLWan()),
        )
