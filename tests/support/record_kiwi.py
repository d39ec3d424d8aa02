"""Record golden/kiwi: a tiny Kiwi-Edit in its published layout, and what its authors' own code makes of it.

    PYTHONPATH=tests:benchmarks python -m support.record_kiwi CHECKOUT

CHECKOUT is a checkout of showlab/Kiwi-Edit (recorded: 223572d). Their code asks for transformers 4.57, torchvision and
einops. Weights are random, drawn through the authors' own classes at tiny sizes; the tokenizer is ours, one token a
byte. Of their code nothing is kept, only numbers. benchmarks/kiwi_authors.py says what is replaced in it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kiwi_authors import import_authors, load_authors
from kiwi_layout import SPECIAL, TEMPLATE
from safetensors.torch import save_file

from support import golden_runs
from support.authors import eight_bits, images

DEC_DIM, CHANNELS, WIDTH, HIDDEN = 4, 48, 48, 32
PROMPTS = {
    "image": "Turn the background green.",
    "video": "Make it look like winter, with snow.",
    "reference": "Put the hat of the reference on the dog.",
}
STEPS, SEED, HEIGHT, SIDE, FRAMES = 3, 7, 64, 96, 9
TOKENS = {f"<|{name}|>": 256 + place for place, name in enumerate(SPECIAL)}
PUBLISHED_WITH = {"_diffusers_version": "0.36.0", "zero_init": True}  # as the published configs say
MLLM_LIMITS = {"max_object_token": 64, "max_frames": 16, "max_pixels_per_frame": 262144}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a checkout of showlab/Kiwi-Edit")
    checkout = parser.parse_args().checkout
    folder = golden_runs.KIWI
    shutil.rmtree(folder, ignore_errors=True)
    make_model(import_authors(checkout, torch.float32, DEC_DIM, TOKENS["<|object_ref_start|>"]), folder)
    pipeline = load_authors(checkout, folder, torch.float32, DEC_DIM, TOKENS["<|object_ref_start|>"])
    outputs, metadata = record(pipeline)
    save_file(outputs, folder / "reference_outputs.safetensors", metadata)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


# --- the model


def make_model(modules: dict[str, Any], folder: Path) -> None:
    """Write a model of random weights in the published layout."""
    from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=WIDTH // 2,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        text_dim=HIDDEN,
        freq_dim=64,
        ffn_dim=96,
        num_layers=2,
        rope_max_seq_len=128,
    )
    embedder = modules["conditional_embedder"].ConditionalEmbedder
    parts = {
        "transformer": transformer,
        "vae": modules["wan_video_vae"].VAE(
            z_dim=CHANNELS,
            dim=4,
            num_res_blocks=1,
            latents_mean=[channel / 10 - 0.5 for channel in range(CHANNELS)],
            latents_std=[channel / 20 + 0.5 for channel in range(CHANNELS)],
        ),
        "mllm_encoder": modules["mllm_encoder"].MLLMEncoder(
            mllm_model_path=".",
            dit_dim=WIDTH,
            hidden_size=HIDDEN,
            num_image_queries=8,
            num_video_queries=12,
            num_ref_queries=16,
            **MLLM_LIMITS,
        ),
        "source_embedder": embedder(in_dim=CHANNELS, dim=WIDTH, zero_init=False),
        "ref_embedder": embedder(in_dim=CHANNELS, dim=WIDTH, zero_init=False),
    }
    for name, part in parts.items():
        shake(part, 0.1)  # what begins at zero has an effect too
        part.save_pretrained(folder / name)
        path = folder / name / "config.json"
        config = json.loads(path.read_text())
        config |= {name: value for name, value in PUBLISHED_WITH.items() if name in config}
        path.write_text(json.dumps(config, indent=2) + "\n")
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dec_dim": DEC_DIM}, indent=1) + "\n")
    FlowMatchEulerDiscreteScheduler(shift=5.0).save_pretrained(folder / "scheduler")
    save_mllm(folder)
    index = {"_class_name": ["pipeline_kiwi_edit", "KiwiEditPipeline"], "_diffusers_version": "0.32.0"}
    index |= {"processor": ["transformers", "AutoProcessor"], "transformer": ["diffusers", "WanTransformer3DModel"]}
    index |= {"vae": ["wan_video_vae", "VAE"], "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]}
    index |= {"mllm_encoder": ["mllm_encoder", "MLLMEncoder"]}
    index |= {key: ["conditional_embedder", "ConditionalEmbedder"] for key in ("source_embedder", "ref_embedder")}
    (folder / "model_index.json").write_text(json.dumps(index, indent=1) + "\n")


def save_mllm(folder: Path) -> None:
    """Qwen2.5-VL's weights beside the encoder's, its config and tokenizer in `processor`."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    sections = {"type": "default", "rope_type": "default", "mrope_section": [2, 3, 3]}
    text = {
        "vocab_size": 256 + len(SPECIAL),
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_theta": 1000000.0,
        "rope_scaling": sections,
        "tie_word_embeddings": True,
        "bos_token_id": TOKENS["<|endoftext|>"],
        "eos_token_id": TOKENS["<|im_end|>"],
    }
    vision = {"depth": 2, "hidden_size": HIDDEN, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": HIDDEN}
    vision |= {"fullatt_block_indexes": [1], "tokens_per_second": 2}
    numbers = {f"{kind}_token_id": TOKENS[f"<|{kind}|>"] for kind in ("vision_start", "vision_end")}
    numbers |= {f"{kind}_token_id": TOKENS[f"<|{kind}_pad|>"] for kind in ("image", "video")}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **numbers)
    model = Qwen2_5_VLForConditionalGeneration(config)
    shake(model, 0.1)
    model.save_pretrained(folder / "qwen")
    (folder / "qwen" / "model.safetensors").rename(folder / "mllm_encoder" / "model.safetensors")
    video = Qwen2VLVideoProcessor(do_sample_frames=False)  # their code chooses the frames itself
    Qwen2_5_VLProcessor(Qwen2VLImageProcessor(), byte_tokenizer(), video, TEMPLATE).save_pretrained(
        folder / "processor"
    )
    (folder / "qwen" / "config.json").rename(folder / "processor" / "qwen_config.json")
    shutil.rmtree(folder / "qwen")
    for name in ("merges.txt", "vocab.json"):  # tokenizer.json is complete
        (folder / "processor" / name).unlink(missing_ok=True)


def byte_tokenizer() -> Any:
    """One token a byte, and Qwen's special tokens after them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import Qwen2TokenizerFast

    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(letters | TOKENS, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(TOKENS))
    return Qwen2TokenizerFast(tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|im_end|>")


@torch.no_grad()
def shake(module: torch.nn.Module, by: float) -> None:
    for parameter in module.parameters():
        parameter.add_(torch.randn_like(parameter) * by)


# --- their pipeline


def record(pipeline: Any) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Sources, context, latents and frames of every case, under the names that test_kiwi.py reads."""
    clip = eight_bits(golden_runs.pictures(FRAMES, HEIGHT, SIDE))
    reference = eight_bits(golden_runs.pictures(1, 72, 60).flip(1))
    outputs = {"image.source": clip[:1].clone(), "video.source": clip, "reference.image": reference}
    for case in ("image", "video", "reference", "first"):
        source, extra = clip[:1] if case == "image" else clip, reference if case in ("reference", "first") else None
        pipeline.ref_embedder.register_to_config(ref_pad_first=case == "first")
        prompt = PROMPTS["reference" if case == "first" else case]
        context, latents, frames = edit(pipeline, source, extra, prompt)
        if case != "first":
            outputs |= {f"{case}.context": context, f"{case}.frames": frames}
        outputs[f"{case}.latents"] = latents
    about = {"prompts": json.dumps(PROMPTS), "steps": str(STEPS), "seed": str(SEED), "commit": "223572d"}
    about |= {name: sys.modules[name].__version__ for name in ("torch", "diffusers", "transformers")}
    return outputs, about


@torch.no_grad()
def edit(
    pipeline: Any, source: torch.Tensor, reference: torch.Tensor | None, prompt: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Context [1, N, D], normalised latents [1, C, t, h, w] and uint8 frames [T, H, W, 3] of one edit."""
    pictures = [None if pixels is None else images(pixels) for pixels in (source, reference)]
    shown = {"src_image": pictures[0]} if len(source) == 1 else {"src_video": pictures[0]}
    context = pipeline.mllm_encoder(prompt, ref_image=pictures[1], **shown)
    sides = {"height": source.shape[1], "width": source.shape[2], "num_frames": len(source)}
    latents = pipeline(
        prompt,
        source_video=pictures[0],
        ref_image=pictures[1],
        num_inference_steps=STEPS,
        seed=SEED,
        output_type="latent",
        progress_bar=list,
        **sides,
    )
    decoded = pipeline._vae_output_to_video(pipeline.vae.decode(latents).sample)
    return context.contiguous(), latents.contiguous(), torch.stack([torch.from_numpy(np.array(f)) for f in decoded])


if __name__ == "__main__":
    main()
