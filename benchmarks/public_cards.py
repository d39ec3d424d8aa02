"""How GPUs with 8 to 24 GiB run the public models at their published sizes, according to the plan; nothing is loaded.

    PYTHONPATH=tests:benchmarks python -m public_cards

The table in docs/weights.md comes from here. Models are on the meta device, in bfloat16; the whole card counts as free.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import cache

import torch
from kiwi_layout import PUBLISHED, components

from instructx_core.config import MaskConfig, ModelConfig
from instructx_core.connectors import make_connector
from instructx_core.families import recognise
from instructx_core.families.components import Components, guidance_class
from instructx_core.families.networks import make_denoiser
from instructx_core.latents import LatentCodec
from instructx_core.mask_head import MaskHead
from instructx_core.memory.describe import CARDS, WAYS
from instructx_core.memory.measure import measure_phases
from instructx_core.memory.needs import GIB
from instructx_core.memory.phases import Job, trained_job
from instructx_core.memory.plan import CHOICES, make_plan, peak, usable
from instructx_core.memory.sizes import sizes_of
from support.golden_runs import GOLDEN
from support.paper_size import UMT5_XXL

WIDE = 4096  # of umT5-XXL and of Qwen3-VL-8B
COMPOSITE = "coinve/coinve_edit_composite_vllm256_dit128.safetensors"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_default_dtype(torch.bfloat16)
    for model in models():
        trained = trained_job(model.config)
        print(f"{model.config.name}, {trained.width} x {trained.height}, {trained.frames} frames")
        for job in dict.fromkeys((trained, replace(trained, places=0))):
            for card in CARDS:
                print(f"  {f'{job.places} places, ' if job.places else ''}{card} GiB: {verdict(model, job, card)}")


def verdict(model: Components, job: Job, card: int) -> str:
    sizes, phases = sizes_of(model), cache(lambda tiled: measure_phases(model, job, tiled))
    plan = make_plan(sizes, phases, CHOICES, card * GIB)
    needed = peak(sizes, phases(plan.tiled), plan.memory)
    fits = "" if needed <= usable(card * GIB) else "TOO LITTLE, "
    tiles = ", the VAE in tiles" if plan.tiled else ""
    return f"{fits}{WAYS[plan.memory]}{tiles} ({needed / GIB:.1f} GiB)"


def models() -> tuple[Components, ...]:
    """Kiwi-Edit 5B, Bernini-R 1.3B and 14B, and CoinVE-Edit 14B, without weights."""
    from diffusers import WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    with torch.device("meta"):
        kiwi = components(PUBLISHED)
        config = recognise(GOLDEN / "bernini").config
        connector = replace(config.connector, input_dim=WIDE, hidden_dim=WIDE, output_dim=WIDE)
        dit = WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=30)
        config, reader = replace(config, connector=connector), UMT5EncoderModel(UMT5Config(**UMT5_XXL))
        bernini = whole(config, reader, dit)
        large = {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40}
        paired = replace(config, name="Bernini-R 14B", denoiser=replace(config.denoiser, boundary=0.875))
        pair = whole(paired, reader, *(WanTransformer3DModel(**large) for _ in range(2)))
        config = recognise(GOLDEN / COMPOSITE).config
        queries = {"image_queries": 384, "video_queries": 768, "reference_queries": 1152}
        config = replace(
            config,
            guidance=replace(config.guidance, lora_rank=0, **queries),
            connector=replace(config.connector, input_dim=WIDE, hidden_dim=5120, output_dim=5120),
            masks=MaskConfig(WIDE, 5120, 256, 2, 8, 4, (64, 64, 64)),
        )
        coinve = whole(config, qwen3(), WanTransformer3DModel(**large))
    return kiwi, bernini, pair, coinve


def whole(config: ModelConfig, reader: torch.nn.Module, *dits: torch.nn.Module) -> Components:
    from diffusers import AutoencoderKLWan

    masks = None if config.masks is None else MaskHead(config.masks)
    return Components(
        config,
        guidance_class(config)(reader, None, config.guidance),
        make_connector(config.connector),
        make_denoiser(config, *dits),
        LatentCodec(AutoencoderKLWan()),
        masks=masks,
    )


def qwen3() -> torch.nn.Module:
    """Qwen3-VL-8B-Instruct."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20], "mrope_interleaved": True}
    text = {"vocab_size": 151936, "hidden_size": WIDE, "intermediate_size": 12288, "num_hidden_layers": 36}
    text |= {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "rope_scaling": rope}
    vision = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": WIDE}
    vision |= {"num_position_embeddings": 2304, "deepstack_visual_indexes": [8, 16, 24]}
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision))


if __name__ == "__main__":
    main()
