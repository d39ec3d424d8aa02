"""SmartEdit's published folder of pickles: converted to an InsightEdit without IAA, never run directly.

LLM-N/ holds the whole language model with its LoRA, unet-N/ the UNet, embeddings_qformer/ the Q-Former, the projector
and the LM head, modulate-N/ the BIM (N is the training step). The rest is published elsewhere:
- `mllm`: the folder of openai/clip-vit-large-patch14, for its vision tower and its text model's encoding of "";
- `vae`: Stable Diffusion 1.5's;
- tokenizer.json and tokenizer_config.json of Vicuna 1.1, copied into SmartEdit's folder.
The [MM] tokens are the last 32 of its vocabulary. Its own prompt has no licence, so InsightEdit's is used instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...bounded import is_dir, is_file
from ...config import (
    ConnectorConfig,
    ConnectorKind,
    DenoiserConfig,
    GuidanceConfig,
    GuidanceMode,
    ModelConfig,
    Network,
    Prediction,
    SamplingConfig,
    SourceInjection,
    TwoStreamConfig,
)
from ...connectors import make_connector
from ...errors import CheckpointError
from ...weights.compare import count_layers, first_difference, shape_of, shapes_of
from ...weights.component_files import FILE, Plan, saved_by, under, vae_part
from ...weights.detect import find_form
from ...weights.files import read_json
from ...weights.library_load import load_or_explain
from ...weights.marks import SAFETENSORS
from ...weights.mllm import TOKENIZERS, load_tokenizer
from ...weights.networks import checked_autoencoder
from ...weights.parts import Part
from ...weights.pickles import PICKLES
from ...weights.streaming import StoredTensor, computed, stored_tensors, tensor_file, text
from ...weights.values import value
from ...words import quoted_path
from ..instructx.folder import ADAPTER, FORMAT
from ..opened import check_kind
from .keys import bim_to_own, qformer_to_own

if TYPE_CHECKING:
    from ..overrides import Overrides

MM_TOKENS = 32  # <img_0> to <img_31>, the last of the vocabulary
HEAD, QFORMER_HEAD = 128, 64  # head widths, LLaMA's and BERT's, which shapes do not show
VICUNA = {"model_type": "llama", "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
UNET = {  # Stable Diffusion 1.5's, with the source as extra input channels
    "in_channels": 8, "out_channels": 4, "cross_attention_dim": 768, "attention_head_dim": 8, "sample_size": 64,
    "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2,
}  # fmt: skip
LLM = "model.base_model.model."
LORA = re.compile(r"(.+)\.lora_(A|B)(?:\.default)?\.weight")
CLIP = "clip-vit-large-patch14"

Tensors = dict[str, StoredTensor]


@dataclass(frozen=True)
class Found:
    """Paths of SmartEdit's four files; its second stage, MLLMSD, has no BIM."""

    folder: Path
    llm: Path
    unet: Path
    qformer: Path
    bim: Path | None

    def plan(self, overrides: Overrides, allow_pickle: bool) -> Plan:
        """The model folder it converts to, in this repo's layout.

        Raises:
            CheckpointError: pickles that were not allowed, or weights that are missing or do not fit each other.
        """
        if not allow_pickle:
            raise CheckpointError(
                f"{quoted_path(self.folder)} holds SmartEdit's pickles; pass --allow-pickle to read only their tensors."
            )
        return _plan(self, overrides)


def find(folder: Path) -> Found | None:
    """Find SmartEdit's files in a folder by the names its scripts give them; None if it is something else.

    Raises:
        CheckpointError: files of several training steps.
    """
    if not is_dir(folder):
        return None
    places = {
        "llm": "LLM-*/adapter_model*",
        "unet": "unet-*/adapter_model*",
        "qformer": "embeddings_qformer/checkpoint-*_embeddings_qformer*",
        "bim": "modulate-*/adapter_model*",
    }
    files = {}
    for part, pattern in places.items():
        held = sorted(file for file in folder.glob(pattern) if file.suffix in PICKLES | {".safetensors"})
        if len(held) > 1:
            raise CheckpointError(
                f"{quoted_path(folder)} holds SmartEdit files of several training steps ({held[0].parent.name} and "
                f"{held[1].parent.name}); keep only one."
            )
        files[part] = held[0] if held else None
    if None in (files["llm"], files["unet"], files["qformer"]):
        return None
    return Found(folder, **files)


def _plan(found: Found, overrides: Overrides) -> Plan:
    qformer, llm = _read(found.qformer), _read(found.llm)
    own = qformer_to_own(qformer) | (bim_to_own(_read(found.bim)) if found.bim else {})
    clip = _given(overrides.mllm, found, "mllm", CLIP)
    vae = find_form(_given(overrides.vae, found, "vae", "Stable Diffusion 1.5's VAE"), Part.VAE, allow_pickle=True)
    config = config_of_shapes(shapes_of(own), found.folder)
    check_kind(config, found.folder, vae)
    checked_autoencoder(vae)
    embeddings, head = (
        _split(state, name, path) for state, name, path in (
            (llm, f"{LLM}embed_tokens.weight", found.llm), (qformer, "lm_head.weight", found.qformer),
        )
    )  # fmt: skip
    language, lora = _language_model(llm)
    own |= {"queries.image": embeddings[1], "rows.image": head[1]} | lora
    own["connector.unasked"] = _unasked(clip, config.connector.tokens, config.connector.output_dim)
    language |= {"embed_tokens.weight": embeddings[0]}
    mllm = {f"language_model.model.{name}": stored for name, stored in language.items()}
    mllm |= {"language_model.lm_head.weight": head[0]} | _tower(clip) | _projector(qformer, found.qformer)
    parts = {
        "mllm": _mllm_files(found, clip, mllm),
        "transformer": _unet_files(found, overrides),
        "vae": vae_part(vae, allow_pickle=True),
    }
    _check_connector(found, config, own)
    plan = {name: content for part, files in parts.items() for name, content in under(part, files).items()}
    return plan | {ADAPTER: tensor_file(own, {FORMAT: config.to_json()})}


def config_of_shapes(shapes: Mapping[str, tuple[int, ...]], source: Path) -> ModelConfig:
    """A SmartEdit's config from the shapes of its connector tensors, named as in `instructx.safetensors`."""
    tokens, width = shape_of(shapes, "connector.tokens", 3, source)[1:]
    key = "connector.qformer.encoder.layer.0.crossattention.attention.key.weight"
    has_bim = "connector.bim.text_in.weight" in shapes
    two_stream = TwoStreamConfig(bim=False, iaa=False)
    if has_bim:
        two_stream = TwoStreamConfig(
            iaa=False,
            vision_dim=shape_of(shapes, "connector.bim.text_in.weight", 2, source)[0],
            bim_layers=count_layers(shapes, "connector.bim.transformer.layers.{}.mlp.lin1.weight"),
            bim_hidden=shape_of(shapes, "connector.bim.transformer.layers.0.mlp.lin1.weight", 2, source)[0],
            addend_dim=shape_of(shapes, "connector.bim.image_out.weight", 4, source)[0],
        )
    return ModelConfig(
        name="SmartEdit",
        default_size=(256, 256),
        default_frames=1,
        guidance=GuidanceConfig(
            image_queries=MM_TOKENS, video_queries=0, video_frames=1, dialect="insightedit", lora_rank=8, lora_alpha=16
        ),
        connector=ConnectorConfig(
            kind=ConnectorKind.TWO_STREAM,
            input_dim=shape_of(shapes, key, 2, source)[1],
            hidden_dim=width,
            output_dim=width,
            layers=count_layers(shapes, "connector.qformer.encoder.layer.{}.attention.attention.query.weight"),
            head_dim=QFORMER_HEAD,
            tokens=tokens,
            two_stream=two_stream,
        ),
        denoiser=DenoiserConfig(SourceInjection.CHANNELS, Prediction.NOISE, network=Network.UNET),
        sampling=SamplingConfig(
            steps=100, shift=1.0, guidance_scale=7.5, guidance_mode=GuidanceMode.V2V_CHAIN, source_scale=1.5
        ),
    ).checked()


def _language_model(held: Tensors) -> tuple[Tensors, Tensors]:
    """LLaMA's tensors except the embeddings, under its own names, and its LoRA under this repo's."""
    language, lora = {}, {}
    for name, stored in held.items():
        bare = name.removeprefix(LLM).replace(".base_layer.", ".")
        if match := LORA.fullmatch(bare):
            lora[f"lora.{match[1]}.lora_{match[2]}.weight"] = stored
        elif bare != "embed_tokens.weight" and not bare.endswith("rotary_emb.inv_freq"):
            language[bare] = stored
    return language, lora


def _split(held: Tensors, name: str, path: Path) -> tuple[StoredTensor, StoredTensor]:
    """Split a vocabulary table into its original rows and those of the [MM] tokens."""
    if name not in held:
        raise CheckpointError(f"{quoted_path(path)} has no {name}; get the file again.")
    words, width = shape_of({name: held[name].shape}, name, 2, path)
    old = words - MM_TOKENS
    if old < 1:
        raise CheckpointError(
            f"{quoted_path(path)} has {words} rows in {name}, expected more than {MM_TOKENS}; get the file again."
        )

    def rows(start: int, stop: int) -> StoredTensor:
        return computed(
            held[name].dtype, (stop - start, width), lambda: value(held[name])[start:stop].contiguous(), path, name
        )

    return rows(0, old), rows(old, words)


def _projector(held: Tensors, path: Path) -> Tensors:
    """LLaVA 1's single layer followed by an identity layer, since transformers' projector has two."""
    for name in ("mm_projector.weight", "mm_projector.bias"):
        if name not in held:
            raise CheckpointError(f"{quoted_path(path)} has no {name}; get the file again.")
    weight = held["mm_projector.weight"]
    width, dtype = shape_of({"mm_projector.weight": weight.shape}, "mm_projector.weight", 2, path)[0], weight.dtype

    def made(shape: tuple[int, ...], make: Callable[[], torch.Tensor], name: str) -> StoredTensor:
        return computed(dtype, shape, lambda: make().to(value(held["mm_projector.bias"]).dtype), path, name)

    before = "multi_modal_projector.linear_"
    return {
        f"{before}1.weight": weight,
        f"{before}1.bias": held["mm_projector.bias"],
        f"{before}2.weight": made((width, width), lambda: torch.eye(width), "linear_2.weight"),
        f"{before}2.bias": made((width,), lambda: torch.zeros(width), "linear_2.bias"),
    }


def _tower(clip: Path) -> Tensors:
    """The CLIP's vision tower."""
    files = sorted(clip.glob(SAFETENSORS))
    held = {name: stored for file in files for name, stored in stored_tensors(file).items()}
    tower = {
        f"vision_tower.{name}": stored
        for name, stored in held.items()
        if name.startswith("vision_model.") and not name.endswith("position_ids")
    }
    if not tower:
        raise CheckpointError(f"{quoted_path(clip)} holds no CLIP in safetensors; give the {CLIP} folder.")
    return tower


def _unasked(clip: Path, tokens: int, width: int) -> StoredTensor:
    """The CLIP text model's output for "": [1, tokens, width], computed when it is written."""

    def make() -> torch.Tensor:
        from transformers import CLIPTextModel

        model = load_or_explain(clip, lambda: CLIPTextModel.from_pretrained(clip, use_safetensors=True)).float().eval()
        # CLIP's last two tokens are its special ones: start of text, then end of text, which also pads
        words = model.config.vocab_size
        ids = torch.tensor([[words - 2] + [words - 1] * (tokens - 1)])
        with torch.no_grad():
            found = model(input_ids=ids).last_hidden_state
        if tuple(found.shape) != (1, tokens, width):
            raise CheckpointError(
                f"{quoted_path(clip)} encodes a text as {tuple(found.shape)}, expected {(1, tokens, width)}; give the "
                f"{CLIP} folder."
            )
        return found

    return computed("F32", (1, tokens, width), make, clip, "text_model")


def _mllm_files(found: Found, clip: Path, tensors: Tensors) -> Plan:
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    from ...weights.part_configs import check_llava_config
    from ...weights.parts import bare_llava

    if not any(is_file(found.folder / name) for name in TOKENIZERS):
        raise CheckpointError(
            f"{quoted_path(found.folder)} has no tokenizer; put Vicuna 1.1's tokenizer.json and tokenizer_config.json "
            "into it."
        )
    tokenizer = load_tokenizer(found.folder)
    shapes = {bare_llava(name): stored.shape for name, stored in tensors.items()}
    words, width = shape_of(shapes, "language_model.embed_tokens.weight", 2, found.llm)
    sight = read_json(clip / "config.json").get("vision_config")
    if width % HEAD or not isinstance(sight, dict):
        odd = (
            f"{quoted_path(found.llm)} has hidden states of width {width}, expected a multiple of {HEAD}"
            if width % HEAD
            else f"{quoted_path(clip / 'config.json')} has no vision_config"
        )
        raise CheckpointError(f"{odd}; get it again.")
    language = VICUNA | {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": shape_of(shapes, "language_model.layers.0.mlp.gate_proj.weight", 2, found.llm)[0],
        "num_hidden_layers": count_layers(shapes, "language_model.layers.{}.input_layernorm.weight"),
        "num_attention_heads": width // HEAD,
        "num_key_value_heads": width // HEAD,
    }
    config = LlavaConfig(
        text_config=language,
        vision_config={**sight, "model_type": "clip_vision_model"},
        image_token_index=words,  # outside the vocabulary: it only marks the picture's positions
        projector_hidden_act="linear",
        tie_word_embeddings=False,
    )
    check_llava_config(config, clip / "config.json")
    with torch.device("meta"):
        model = load_or_explain(found.llm, lambda: LlavaForConditionalGeneration(config))
    wanted = {bare_llava(name): tensor for name, tensor in model.state_dict().items()}
    if odd := first_difference(shapes_of(wanted), shapes):
        raise CheckpointError(f"{quoted_path(found.folder)} is not a complete SmartEdit: {odd}; get it again.")
    small = saved_by(config.save_pretrained) | saved_by(tokenizer.save_pretrained)
    return small | {"model.safetensors": tensor_file(tensors, FILE)}


def _unet_files(found: Found, overrides: Overrides) -> Plan:
    """The UNet; the config of a folder given as `transformer` replaces Stable Diffusion 1.5's sizes."""
    from diffusers import UNet2DConditionModel

    from ...weights.build import empty_model

    given = overrides.transformer
    config: dict[str, Any] = UNET if given is None else read_json(given / "config.json")
    held = {name.removeprefix("unet."): stored for name, stored in _read(found.unet).items()}
    model = load_or_explain(found.unet, lambda: empty_model(UNet2DConditionModel, config))
    if odd := first_difference(shapes_of(model.state_dict()), shapes_of(held)):
        raise CheckpointError(f"{quoted_path(found.unet)} is not SmartEdit's complete UNet: {odd}; get it again.")
    said = json.dumps({"_class_name": "UNet2DConditionModel"} | config, indent=2) + "\n"
    return {"config.json": text(said), "diffusion_pytorch_model.safetensors": tensor_file(held, FILE)}


def _check_connector(found: Found, config: ModelConfig, own: Tensors) -> None:
    with torch.device("meta"):
        connector = make_connector(config.connector)
    wanted = {f"connector.{name}": tensor for name, tensor in connector.state_dict().items()}
    held = {name: stored for name, stored in own.items() if name.startswith("connector.")}
    if odd := first_difference(shapes_of(wanted), shapes_of(held)):
        raise CheckpointError(f"{quoted_path(found.folder)} is not a complete SmartEdit: {odd}; get it again.")


def _read(path: Path) -> Tensors:
    return stored_tensors(path, allow_pickle=True)


def _given(path: Path | None, found: Found, option: str, what: str) -> Path:
    if path is None:
        raise CheckpointError(f"{quoted_path(found.folder)} comes without {what}; give it with --{option} PATH.")
    return path
