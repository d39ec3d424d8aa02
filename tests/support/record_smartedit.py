"""Record what SmartEdit's own Q-Former, BIM and UNet make of small random weights: numbers alone, none of their code.

Run with an interpreter that has what they ask for (transformers 4.28, diffusers 0.20), beside a checkout of
TencentARC/SmartEdit (recorded: a65f126): `python tests/support/record_smartedit.py CHECKOUT`. It writes
golden/smartedit.safetensors beside this file: weights under SmartEdit's own names, `in.*` and `out.*`.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

TARGET = Path(__file__).parent / "golden" / "smartedit.safetensors"
WIDTH, HIDDEN, VISION, FIRST, QUERIES = 24, 20, 16, 8, 5  # Q-Former, MLLM, BIM, UNet's first layer


def import_theirs(checkout: str) -> tuple[Any, ...]:
    sys.path.insert(0, checkout)
    stub = types.ModuleType("basicsr.archs.arch_util")  # initialises a layer that their forward never runs
    stub.default_init_weights = lambda *_args, **_options: None  # type: ignore[attr-defined]
    for name in ("basicsr", "basicsr.archs"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["basicsr.archs.arch_util"] = stub
    from model.LLMSD_QFormerv01 import BertModel
    from model.two_way_transformer import PositionEmbeddingRandom, TwoWayTransformer
    from model.unet_2d_condition_ZeroConv import UNet2DConditionModel_ZeroConv

    return BertModel, TwoWayTransformer, PositionEmbeddingRandom, UNet2DConditionModel_ZeroConv


@torch.no_grad()
def shaken(module: torch.nn.Module) -> Any:
    for parameter in module.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.2)
    return module.eval()


@torch.no_grad()
def main(checkout: str) -> None:
    import transformers
    from transformers.models.bert import BertConfig

    qformer_class, transformer_class, position_class, unet_class = import_theirs(checkout)
    torch.manual_seed(0)
    config = BertConfig(hidden_size=WIDTH, num_attention_heads=2, intermediate_size=4 * WIDTH, num_hidden_layers=2)
    config.encoder_width, config.query_length = HIDDEN, QUERIES
    config.add_cross_attention, config.cross_attention_freq = True, 2
    qformer = qformer_class(config=config)
    qformer.embeddings.word_embeddings = qformer.embeddings.position_embeddings = None
    for layer in qformer.encoder.layer:
        layer.output = layer.intermediate = None
    parts = {
        "modulate_head": torch.nn.Linear(WIDTH, VISION),
        "modulate_transformer": transformer_class(depth=2, embedding_dim=VISION, mlp_dim=12, num_heads=2),
        "dimension_reduction_head_zeroconv": torch.nn.Conv2d(VISION, FIRST, 1),
        "dimension_reduction_head_qformer_out": torch.nn.Linear(VISION, WIDTH),
    }
    positions = position_class(VISION // 2)
    unet = unet_class(
        in_channels=8,
        out_channels=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(FIRST, FIRST),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
    )
    for module in (qformer, *parts.values(), unet):
        shaken(module)

    tokens, hidden = torch.randn(1, QUERIES, WIDTH), torch.randn(2, 7, HIDDEN)
    features, latents, timestep = torch.randn(2, 9, VISION), torch.randn(2, 8, 6, 6), torch.tensor([981, 12])
    aligned = qformer(
        query_embeds=tokens.expand(2, -1, -1), encoder_hidden_states=hidden, return_dict=True
    ).last_hidden_state
    pixels = features.permute(0, 2, 1).reshape(2, VISION, 3, 3)
    read, seen = parts["modulate_transformer"](
        pixels, positions((3, 3))[None].expand(2, -1, -1, -1), parts["modulate_head"](aligned)
    )
    text = aligned + 0.5 * parts["dimension_reduction_head_qformer_out"](read)
    visual = torch.nn.functional.interpolate(
        seen.transpose(1, 2).reshape(2, VISION, 3, 3), size=(6, 6), mode="bilinear", align_corners=False
    )
    visual = parts["dimension_reduction_head_zeroconv"](visual)
    noise = unet(latents, timestep, text, two_way_image_features_zero_conv=visual).sample

    held = {"sd_query_tokens": tokens} | {f"pe_layer.{name}": value for name, value in positions.state_dict().items()}
    held |= {f"sd_qformer.{name}": value for name, value in qformer.state_dict().items()}
    held |= {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}
    held |= {f"unet.{name}": value for name, value in unet.state_dict().items() if not name.startswith("conv_fusion")}
    held |= {"in.hidden": hidden, "in.features": features, "in.latents": latents, "in.timestep": timestep}
    held |= {"out.aligned": aligned, "out.text": text, "out.visual": visual, "out.noise": noise}
    metadata = {"commit": "a65f126", "torch": torch.__version__, "transformers": transformers.__version__}
    save_file({name: value.contiguous() for name, value in held.items()}, TARGET, metadata)


if __name__ == "__main__":
    main(sys.argv[1])
