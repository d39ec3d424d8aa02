"""Models of random weights as other authors publish theirs: Bernini-R's folder, CoinVE-Edit's file.

They take the sizes of `tiny`, or those that ComfyUI's loader fixes; what the authors' own code computes is in
`recorded`.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from instructx_core.config import MaskConfig
from instructx_core.mask_head import MaskHead
from instructx_core.weights.files import write_safetensors
from instructx_core.weights.wan_keys import dit_to_original, vae_to_original
from support import comfyui, tiny
from support.text_encoder import save_text_encoder

COMPOSITE = "composite.safetensors"


def save_bernini(folder: Path, native: bool = False) -> Path:
    """Bernini-R's folder: `folder`, which comes back; `native` in sizes that ComfyUI's loader takes."""
    (comfyui.transformer(comfyui.CHANNELS) if native else tiny.transformer()).save_pretrained(folder / "transformer")
    (comfyui.wan_vae() if native else tiny.vae()).save_pretrained(folder / "vae")
    save_text_encoder(folder / "text_encoder", comfyui.TEXT_DIM if native else tiny.TEXT_DIM)
    (folder / "config.json").write_text(json.dumps({"model_type": "bernini_renderer"}), encoding="utf-8")
    return folder


def save_coinve(folder: Path) -> dict[str, Path]:
    """CoinVE-Edit's file and the base models that go with it, as the arguments of `Editor.from_pretrained`."""
    folder.mkdir(exist_ok=True)
    tiny.transformer().save_pretrained(folder / "transformer")
    tiny.vae().save_pretrained(folder / "vae")
    save_qwen3(folder / "qwen3")
    write_safetensors(folder / COMPOSITE, composite(tiny.WIDTH, tiny.CHANNELS), {"format": "pt"})
    return {"path": folder / COMPOSITE} | {
        part: folder / name for part, name in (("transformer", "transformer"), ("vae", "vae"), ("mllm", "qwen3"))
    }


def save_coinve_natively(root: Path, name: str) -> None:
    """The same in sizes that ComfyUI's loader takes, each file `name` in the folder of its kind below `root`."""
    dit, vae = comfyui.transformer(comfyui.CHANNELS), comfyui.wan_vae()
    states = {
        "instructx": composite(comfyui.WIDTH, comfyui.CHANNELS),
        "diffusion_models": dit_to_original(dit.state_dict()),
        "vae": vae_to_original(vae.state_dict()),
    }
    for kind, state in states.items():
        (root / kind).mkdir(parents=True, exist_ok=True)
        write_safetensors(root / kind / f"{name}.safetensors", state, {"format": "pt"})
    (root / "text_encoders").mkdir(exist_ok=True)
    save_qwen3(root / "text_encoders" / name)


def composite(width: int, channels: int) -> dict[str, torch.Tensor]:
    """The tensors of CoinVE-Edit's file for a DiT of this width and so many channels of latents."""
    torch.manual_seed(7)
    hidden = tiny.HIDDEN
    shapes = {f"mllm.{name}_queries.q": (count, hidden) for name, count in (("image", 3), ("video", 5), ("ref", 7))}
    for connector in ("connector", "ref_connector"):
        shapes |= {f"mllm.{connector}.0.weight": (width, hidden), f"mllm.{connector}.0.bias": (width,)}
        shapes |= {f"mllm.{connector}.2.weight": (width, width), f"mllm.{connector}.2.bias": (width,)}
    for name in ("vae_condition", "ref_vae_condition"):
        shapes |= {f"{name}.patch_embedding.weight": (width, channels, 1, 2, 2)}
        shapes |= {f"{name}.patch_embedding.bias": (width,)}
    adapted = {"dit.blocks.0.self_attn.q": width, "dit.blocks.1.cross_attn.orig.k": width}
    adapted |= {"mllm.model.model.language_model.layers.1.self_attn.q_proj": hidden}
    for name, side in adapted.items():
        shapes |= {f"{name}.lora_A.default.weight": (2, side), f"{name}.lora_B.default.weight": (side, 2)}
    state = {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}
    head = MaskHead(MaskConfig(input_dim=hidden, context_dim=width, width=8, heads=2, layers=1, tokens=2))
    state |= {f"mask_head.{name}": value for name, value in head.state_dict().items()}
    state |= {f"residual_attention_module.layers.{block}.residual_alpha": torch.tensor(0.8) for block in range(2)}
    return state | {"mask_predictor_config.heads": torch.tensor(2)}


def save_qwen3(folder: Path) -> Path:
    """Write a Qwen3-VL as transformers saves it to `folder`, which comes back."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    tokenizer = tiny.tokenizer()
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    text = {
        "vocab_size": len(tokenizer), "hidden_size": tiny.HIDDEN, "intermediate_size": 48, "num_hidden_layers": 2,
        "head_dim": 16, "num_attention_heads": 2, "num_key_value_heads": 1, "rope_theta": 5e6, "rope_scaling": rope,
    }  # fmt: skip
    vision = {
        "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": tiny.HIDDEN,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 2],
    }  # fmt: skip
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{word}|>")
        for name, word in (("image", "image_pad"), ("video", "video_pad"))
    }
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    )
    tiny.shake(model, 0.1)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
