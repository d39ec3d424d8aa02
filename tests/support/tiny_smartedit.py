"""A tiny SmartEdit as it is published: four pickles of random numbers, and the CLIP that it was trained on."""

from __future__ import annotations

from pathlib import Path

import torch

from . import tiny, tiny_insightedit

WORDS_ADDED, MM = 3, 32  # <img>, <im_start>, <im_end>; and <img_0> to <img_31>
HIDDEN, FEED, VISION, TEXT, QUERIES, BIM_HIDDEN = 128, 40, 32, 64, 5, 12
FIRST = tiny_insightedit.FIRST


def write(folder: Path, has_bim: bool = True) -> dict[str, torch.Tensor]:
    """SmartEdit's folder, its tokenizer in it; all its tensors, by the names in the files."""
    torch.manual_seed(0)
    parts = {
        "LLM-15000/adapter_model.bin": llm(),
        "unet-15000/adapter_model.bin": unet(),
        "embeddings_qformer/checkpoint-15000_embeddings_qformer.bin": qformer(),
    }
    if has_bim:
        parts["modulate-15000/adapter_model.bin"] = bim()
    for name, state in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, folder / name)
    tiny.tokenizer().save_pretrained(folder)
    return {name: value for state in parts.values() for name, value in state.items()}


def write_bases(folder: Path) -> dict[str, Path]:
    """What it is converted with: a CLIP, a VAE, and a UNet whose config tells sizes, by the options that take them."""
    from transformers import CLIPConfig, CLIPModel

    sight = {"hidden_size": VISION, "intermediate_size": 20, "num_hidden_layers": 3, "num_attention_heads": 2,
             "image_size": 28, "patch_size": 7}  # fmt: skip
    text = {"hidden_size": TEXT, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
            "vocab_size": 99, "max_position_embeddings": QUERIES, "bos_token_id": 97, "eos_token_id": 98}  # fmt: skip
    torch.manual_seed(1)
    CLIPModel(CLIPConfig(text_config=text, vision_config=sight, projection_dim=6)).save_pretrained(folder / "clip")
    tiny_insightedit.vae().save_pretrained(folder / "vae")
    plain_unet().save_pretrained(folder / "unet")
    return {"mllm": folder / "clip", "vae": folder / "vae", "transformer": folder / "unet"}


def plain_unet():
    from diffusers import UNet2DConditionModel

    config = dict(tiny_insightedit.unet().config) | {"cross_attention_dim": TEXT}
    return UNet2DConditionModel.from_config(config)


def llm() -> dict[str, torch.Tensor]:
    """The whole language model: 2 layers, and LoRA on q and v."""
    words = len(tiny.tokenizer()) + WORDS_ADDED + MM
    state = {"embed_tokens.weight": random(words, HIDDEN), "norm.weight": random(HIDDEN)}
    for layer in range(2):
        own = f"layers.{layer}."
        state |= {f"{own}self_attn.{name}_proj.weight": random(HIDDEN, HIDDEN) for name in "qkvo"}
        for name in "qv":
            state[f"{own}self_attn.{name}_proj.lora_A.default.weight"] = random(8, HIDDEN)
            state[f"{own}self_attn.{name}_proj.lora_B.default.weight"] = random(HIDDEN, 8)
        state |= {f"{own}mlp.{name}_proj.weight": random(FEED, HIDDEN) for name in ("gate", "up")}
        state[f"{own}mlp.down_proj.weight"] = random(HIDDEN, FEED)
        state |= {f"{own}{name}_layernorm.weight": random(HIDDEN) for name in ("input", "post_attention")}
        state[f"{own}self_attn.rotary_emb.inv_freq"] = random(64)
    return {f"model.base_model.model.{name}": value for name, value in state.items()}


def unet() -> dict[str, torch.Tensor]:
    return {f"unet.{name}": random(*value.shape) for name, value in plain_unet().state_dict().items()}


def qformer() -> dict[str, torch.Tensor]:
    words = len(tiny.tokenizer()) + WORDS_ADDED + MM
    state = {"sd_query_tokens": random(1, QUERIES, TEXT), "lm_head.weight": random(words, HIDDEN)}
    state |= linear("mm_projector", HIDDEN, VISION) | norm("sd_qformer.embeddings.LayerNorm", TEXT)
    state["sd_qformer.embeddings.position_ids"] = torch.arange(512)[None]
    for layer in range(2):
        own = f"sd_qformer.encoder.layer.{layer}."
        for kind, width in (("attention", TEXT), ("crossattention", HIDDEN))[: 2 - layer % 2]:
            state |= linear(f"{own}{kind}.self.query", TEXT, TEXT)
            state |= linear(f"{own}{kind}.self.key", TEXT, width) | linear(f"{own}{kind}.self.value", TEXT, width)
            state |= linear(f"{own}{kind}.output.dense", TEXT, TEXT) | norm(f"{own}{kind}.output.LayerNorm", TEXT)
        state |= linear(f"{own}intermediate_query.dense", 4 * TEXT, TEXT)
        state |= linear(f"{own}output_query.dense", TEXT, 4 * TEXT) | norm(f"{own}output_query.LayerNorm", TEXT)
    return state


def bim() -> dict[str, torch.Tensor]:
    state = {"pe_layer.positional_encoding_gaussian_matrix": random(2, VISION // 2)}
    state |= linear("modulate_head", VISION, TEXT) | linear("dimension_reduction_head_qformer_out", TEXT, VISION)
    state["dimension_reduction_head_zeroconv.weight"] = random(FIRST, VISION, 1, 1)
    state["dimension_reduction_head_zeroconv.bias"] = random(FIRST)
    own = "modulate_transformer."
    for layer in range(2):
        each = f"{own}layers.{layer}."
        state |= attention(f"{each}self_attn", VISION)
        state |= attention(f"{each}cross_attn_token_to_image", VISION // 2)
        state |= attention(f"{each}cross_attn_image_to_token", VISION // 2)
        state |= linear(f"{each}mlp.lin1", BIM_HIDDEN, VISION) | linear(f"{each}mlp.lin2", VISION, BIM_HIDDEN)
        for number in range(1, 5):
            state |= norm(f"{each}norm{number}", VISION)
    return state | attention(f"{own}final_attn_token_to_image", VISION // 2) | norm(f"{own}norm_final_attn", VISION)


def attention(name: str, inner: int) -> dict[str, torch.Tensor]:
    state = linear(f"{name}.out_proj", VISION, inner)
    for part in "qkv":
        state |= linear(f"{name}.{part}_proj", inner, VISION)
    return state


def linear(name: str, out: int, width: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": random(out, width), f"{name}.bias": random(out)}


def norm(name: str, width: int) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": random(width), f"{name}.bias": random(width)}


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape) * 0.2
