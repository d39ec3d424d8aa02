"""The parts of a model, and the tensor names that identify each.

A part is recognised by a few tensors that nothing else has. Their spelling tells whose layout it is: that of diffusers
or transformers, or that of the model's original code, which ComfyUI's and most single files use.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

from .wan_keys import DIT_LIBRARY, DIT_ORIGINAL, VAE_LIBRARY, VAE_ORIGINAL
from .wrapped_names import NameLayout


class Part(str, Enum):
    """The parts of a model that are published separately, named like the arguments that replace them."""

    DIT = "transformer"
    VAE = "vae"
    MLLM = "mllm"
    DIT_2 = "transformer_2"  # of a pair, the one for low noise

    @property
    def kind(self) -> Part:
        """The kind of part: both of a pair are DiTs."""
        return Part.DIT if self is Part.DIT_2 else self

    @property
    def option(self) -> str:
        """The command-line option that replaces it."""
        return f"--{self.value.replace('_', '-')}"

    @property
    def title(self) -> str:
        """Its display name."""
        return {Part.DIT: "Wan DiT", Part.VAE: "Wan VAE", Part.MLLM: "Qwen2.5-VL"}[self.kind]


class Names(str, Enum):
    """Whose names the tensors have."""

    LIBRARY = "library"  # diffusers' or transformers'
    ORIGINAL = "original"  # those of the code that the model was published with
    QWEN3 = "qwen3"  # transformers', of a Qwen3-VL
    TEXT = "text"  # transformers', of a umT5 used in place of an MLLM
    LLAVA = "llava"  # transformers', of a LLaVA
    UNET = "unet"  # diffusers', of Stable Diffusion's UNet
    KL = "kl"  # diffusers', of Stable Diffusion's VAE


# tensors that only one part has, in each naming; those of MLLMs without the prefixes of transformers' versions
_MARKS = {
    (Part.DIT, Names.ORIGINAL): {"patch_embedding.weight", "head.modulation", "blocks.0.self_attn.q.weight"},
    (Part.DIT, Names.LIBRARY): {
        "patch_embedding.weight",
        "condition_embedder.time_proj.weight",
        "blocks.0.attn1.to_q.weight",
    },
    (Part.VAE, Names.ORIGINAL): {"encoder.conv1.weight", "decoder.middle.0.residual.0.gamma", "conv2.weight"},
    (Part.VAE, Names.LIBRARY): {"encoder.conv_in.weight", "decoder.norm_out.gamma", "post_quant_conv.weight"},
    (Part.MLLM, Names.LIBRARY): {
        "embed_tokens.weight",
        "layers.0.self_attn.q_proj.weight",
        "visual.blocks.0.mlp.gate_proj.weight",
    },
    (Part.MLLM, Names.QWEN3): {
        "embed_tokens.weight",
        "layers.0.self_attn.q_norm.weight",
        "visual.deepstack_merger_list.0.norm.weight",
    },
    (Part.DIT, Names.UNET): {
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        "down_blocks.0.resnets.0.conv1.weight",
    },
    (Part.VAE, Names.KL): {"encoder.conv_in.weight", "decoder.conv_norm_out.weight", "post_quant_conv.weight"},
    (Part.MLLM, Names.LLAVA): {
        "language_model.embed_tokens.weight",
        "vision_tower.embeddings.class_embedding",
        "multi_modal_projector.linear_1.weight",
    },
    (Part.MLLM, Names.TEXT): {
        "shared.weight",
        "encoder.block.0.layer.0.SelfAttention.q.weight",
        "encoder.block.0.layer.1.DenseReluDense.wi_0.weight",
    },
}
_MLLM_LAYERS = {
    "": ("embed_tokens", "norm", "lm_head"),
    "layers.0.": ("input_layernorm", "post_attention_layernorm"),
    "layers.0.self_attn.": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "layers.0.mlp.": ("gate_proj", "up_proj", "down_proj"),
    "visual.": ("patch_embed.proj", "merger.ln_q", "merger.mlp.0", "merger.mlp.2"),
    "visual.blocks.0.": ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
}
_QWEN3_LAYERS = {
    "": ("embed_tokens", "norm", "lm_head"),
    "layers.0.": ("input_layernorm", "post_attention_layernorm"),
    "layers.0.self_attn.": ("q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"),
    "layers.0.mlp.": ("gate_proj", "up_proj", "down_proj"),
    "visual.": ("patch_embed.proj", "pos_embed"),
    "visual.merger.": ("norm", "linear_fc1", "linear_fc2"),
    "visual.deepstack_merger_list.0.": ("norm", "linear_fc1", "linear_fc2"),
    "visual.blocks.0.": ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.linear_fc1", "mlp.linear_fc2"),
}
# of both: a name alone identifies the layer, and the marks tell the two models apart
_MLLM = NameLayout(
    f"{before}{layer}.{leaf}"
    for known in (_MLLM_LAYERS, _QWEN3_LAYERS)
    for before, layers in known.items()
    for layer in layers
    for leaf in ("weight", "bias")
)
_TEXT_LAYERS = {
    "": ("shared", "encoder.embed_tokens", "encoder.final_layer_norm"),
    "encoder.block.0.layer.0.": ("layer_norm", "SelfAttention.relative_attention_bias"),
    "encoder.block.0.layer.0.SelfAttention.": ("q", "k", "v", "o"),
    "encoder.block.0.layer.1.": ("layer_norm", "DenseReluDense.wi_0", "DenseReluDense.wi_1", "DenseReluDense.wo"),
}
_TEXT = NameLayout(f"{before}{layer}.weight" for before, layers in _TEXT_LAYERS.items() for layer in layers)
_LLAVA_LAYERS = {
    "language_model.": ("embed_tokens", "norm", "lm_head"),
    "language_model.layers.0.": ("input_layernorm", "post_attention_layernorm"),
    "language_model.layers.0.self_attn.": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "language_model.layers.0.mlp.": ("gate_proj", "up_proj", "down_proj"),
    "vision_tower.": ("pre_layrnorm", "post_layernorm"),
    "vision_tower.embeddings.": ("patch_embedding", "position_embedding"),
    "vision_tower.encoder.layers.0.": ("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2"),
    "vision_tower.encoder.layers.0.self_attn.": ("q_proj", "k_proj", "v_proj", "out_proj"),
    "multi_modal_projector.": ("linear_1", "linear_2"),
    "": ("lm_head",),
}
_LLAVA = NameLayout(
    [
        "vision_tower.embeddings.class_embedding",
        *(
            f"{before}{layer}.{leaf}"
            for before, layers in _LLAVA_LAYERS.items()
            for layer in layers
            for leaf in ("weight", "bias")
        ),
    ]
)
LAYOUTS = {
    (Part.DIT, Names.ORIGINAL): DIT_ORIGINAL,
    (Part.DIT, Names.LIBRARY): DIT_LIBRARY,
    (Part.VAE, Names.ORIGINAL): VAE_ORIGINAL,
    (Part.VAE, Names.LIBRARY): VAE_LIBRARY,
    (Part.MLLM, Names.LIBRARY): _MLLM,
    (Part.MLLM, Names.QWEN3): _MLLM,
    (Part.MLLM, Names.TEXT): _TEXT,
    (Part.MLLM, Names.LLAVA): _LLAVA,
    # their marks are enough: diffusers has never used other names
    (Part.DIT, Names.UNET): NameLayout(_MARKS[Part.DIT, Names.UNET]),
    (Part.VAE, Names.KL): NameLayout(_MARKS[Part.VAE, Names.KL]),
}
# prefixes that transformers' versions put before names
MLLM_PREFIXES = ("", "model.", "language_model.", "language_model.model.", "model.language_model.")
# display names of the alternatives to a Qwen2.5-VL, Wan's DiT and its VAE
TITLES = {
    Names.TEXT: "umT5",
    Names.QWEN3: "Qwen3-VL",
    Names.LLAVA: "LLaVA",
    Names.UNET: "Stable Diffusion UNet",
    Names.KL: "Stable Diffusion VAE",
}
# subfolders of the parts in whole pipelines: this repo's layout first, Kiwi-Edit's last
FOLDERS = {
    Part.DIT: ("transformer", "unet"),
    Part.DIT_2: ("transformer_2",),
    Part.VAE: ("vae",),
    Part.MLLM: ("mllm", "mllm_encoder", "text_encoder"),
}


def classify(names: Iterable[str]) -> tuple[Part, Names] | None:
    """The part that has tensors of these names, and whose names they are; None if no part has them."""
    names = list(names)
    return next((kind for kind, marks in _MARKS.items() if marks <= {*map(LAYOUTS[kind].bare, names)}), None)


def is_known(name: str) -> bool:
    """Whether a tensor belongs to a DiT, a VAE or an MLLM."""
    return any(layout.has(name) for layout in LAYOUTS.values())


def bare_mllm(name: str) -> str:
    """A Qwen-VL tensor's name without the prefixes of transformers' versions and without wrappers."""
    return _MLLM.bare(name)


def bare_llava(name: str) -> str:
    """A LLaVA tensor's name as in transformers 5, without `model.`, whatever version wrote it."""
    return _LLAVA.bare(name).replace("language_model.lm_head.", "lm_head.")


def bare_text(name: str) -> str:
    """A umT5 tensor's name without wrappers."""
    return _TEXT.bare(name)


def published_mllm(name: str, is_qwen3: bool = False) -> str:
    """A Qwen-VL tensor's name as published, which every version of transformers reads."""
    bare = bare_mllm(name)
    if is_qwen3 and not bare.startswith("lm_head."):
        return f"model.{bare}" if bare.startswith("visual.") else f"model.language_model.{bare}"
    return f"model.{bare}" if bare.startswith(("embed_tokens.", "layers.", "norm.")) else bare
