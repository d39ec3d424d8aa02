"""Record golden/coinve: a tiny CoinVE-Edit in its published layout, and what its authors' own code makes of it.

    PYTHONPATH=tests:benchmarks python -m support.record_coinve CHECKOUT

CHECKOUT is `CoinVE-Edit` of a checkout of coinve200k/CoinVE-200K (recorded: ce091d4). Their code asks for transformers
4.57.0 or 4.57.1, torchvision, peft and einops. Weights are random, drawn through the authors' own classes at tiny sizes
and written by their own exporter; the tokenizer is ours, one token a byte. Of their code nothing is kept, only numbers.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kiwi_layout import TEMPLATE
from safetensors.torch import save_file

from support import golden_runs
from support.authors import copied, eight_bits, images, shake, stand_in, stored
from support.record_kiwi import TOKENS, byte_tokenizer

WIDTH, HIDDEN, RANK = 128, 16, 2
STRENGTHS = (0.75, 1.0)  # of the local edits, in each block
STEPS, SEED, HEIGHT, SIDE, FRAMES = 3, 5, 32, 48, 9
PROMPTS = {
    "image": "Make the sky red.",
    "video": "Draw it with a pencil.",
    "reference": "Put the hat of the reference on the dog.",
    "composite": ["Replace the ball with a box.", "Add a dog on the left."],
}
FILE = "coinve_edit_composite_vllm256_dit128.safetensors"
WAN = Path("Wan-AI/Wan2.1-T2V-14B")
QWEN = "Qwen3-VL-8B-Instruct"
FLOATS = {"torch.bfloat16": "torch.float32"}
WORDS = {
    "diffsynth/models/mllm_encoder.py": FLOATS,
    "diffsynth/models/modeling_qwen3_vl.py": {"151646": str(TOKENS["<|object_ref_start|>"])},
    "diffsynth/models/wan_video_dit.py": {"AVAILABLE = F\n": "AVAILABLE = False\n"},  # where there is no flash_attn
    "diffsynth/pipelines/wan_video_mllm.py": FLOATS,
    "diffsynth/trainers/modules.py": FLOATS,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="CoinVE-Edit of a checkout of coinve200k/CoinVE-200K")
    stand_in("deepspeed", "wandb", "modelscope", "imageio", "imageio.v3", "pandas", "decord")
    copied(parser.parse_args().checkout, ["diffsynth", "infer_coinve_bench.py"], WORDS)
    folder = golden_runs.GOLDEN / "coinve"
    shutil.rmtree(folder, ignore_errors=True)
    trainer = make_model(folder)
    outputs, metadata = record(trainer)
    save_file(outputs, folder / "reference_outputs.safetensors", metadata)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


# --- the model


def make_model(folder: Path) -> Any:
    """Write a model of random weights in the published layout. Their training module that holds it comes back."""
    from diffsynth.models import wan_video_vae
    from diffsynth.models.mllm_encoder import QwenVLMLLMEncoder
    from diffsynth.models.wan_video_dit import ConditionalEmbedder, WanModel
    from diffsynth.pipelines.wan_video_mllm import WanVideoPipeline
    from diffsynth.trainers.modules import WanResidualAttentionPredMaskTrainingModule

    torch.manual_seed(0)
    sizes = {"dim": WIDTH, "in_dim": 16, "ffn_dim": 32, "out_dim": 16, "text_dim": 16, "freq_dim": 32, "eps": 1e-6}
    dit = WanModel(**sizes, patch_size=(1, 2, 2), num_heads=1, num_layers=2, has_image_input=False)
    wan_video_vae.VideoVAE_ = functools.partial(wan_video_vae.VideoVAE_, dim=2)
    vae = wan_video_vae.WanVideoVAE()
    for part in (dit, vae):
        shake(part, 0.1)
    (folder / WAN).mkdir(parents=True)
    save_file(stored(dit.state_dict()), folder / WAN / "diffusion_pytorch_model.safetensors")
    save_file(stored(vae.model.state_dict()), folder / WAN / "Wan2.1_VAE.safetensors")
    save_mllm(folder / QWEN)

    pipeline = WanVideoPipeline(device="cpu", torch_dtype=torch.float32)
    queries = {"num_image_queries": 6, "num_video_queries": 10, "num_ref_queries": 14, "max_object_token": 768}
    pipeline.mllm = QwenVLMLLMEncoder(str(folder / QWEN), dtype=torch.float32, device="cpu", dit_dim=WIDTH, **queries)
    embedder = functools.partial(ConditionalEmbedder, in_dim=16, dim=WIDTH, patch_size=(1, 2, 2), zero_init=True)
    pipeline.dit, pipeline.vae = dit, vae
    pipeline.vae_condition, pipeline.ref_vae_condition = embedder(), embedder()
    pipeline.ref_vae_condition.ref_pad_first = False
    added = [pipeline.mllm.image_queries, pipeline.mllm.video_queries, pipeline.mllm.ref_queries]
    added += [pipeline.mllm.connector, pipeline.mllm.ref_connector, pipeline.vae_condition, pipeline.ref_vae_condition]
    WanVideoPipeline.from_pretrained = lambda **_given: pipeline
    masks = {"mask_hidden": 16, "mask_heads": 4, "mask_ctx_dim": WIDTH, "mask_train_parts": "none"}
    masks |= {f"mask_max_{axis}_v": 16 for axis in "thw"}
    trainer = WanResidualAttentionPredMaskTrainingModule(
        trainable_models="mllm.image_queries,mllm.video_queries,mllm.connector,vae_condition",
        lora_base_model="mllm.model.model.language_model",
        lora_target_modules="q_proj,k_proj,v_proj,o_proj,gate_proj,down_proj,up_proj",
        lora_rank=RANK,
        dit_lora_base_model="dit",
        dit_lora_target_modules="q,k,v,o,ffn.0,ffn.2",
        dit_lora_rank=RANK,
        mask_args=types.SimpleNamespace(**masks),
    )
    for module in added:
        shake(module, 0.1)
    shake(trainer.mask_head, 0.14)
    for name, module in trainer.named_modules():
        if name.endswith((".lora_A.default", ".lora_B.default")):
            shake(module, 0.1)
    for layer, strength in zip(trainer.residual_module._wrapped_layers, STRENGTHS, strict=True):
        layer.residual_alpha.fill_(strength)
    exported = trainer.export_trainable_state_dict(trainer.state_dict(), remove_prefix="pipe.")
    save_file(stored(exported), folder / FILE)
    pipeline.scheduler.set_timesteps(STEPS)
    return trainer.eval().requires_grad_(False)


def save_mllm(folder: Path) -> None:
    """Qwen3-VL's folder: weights, config, tokenizer and how pictures are cut."""
    from diffsynth.models.modeling_qwen3_vl import Qwen3VLForConditionalGeneration
    from transformers import Qwen2VLImageProcessorFast, Qwen3VLConfig, Qwen3VLProcessor, Qwen3VLVideoProcessor

    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    text = {
        "vocab_size": max(TOKENS.values()) + 1,
        "hidden_size": HIDDEN,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "head_dim": 16,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_theta": 5000000.0,
        "rope_scaling": rope,
        "tie_word_embeddings": True,
        "bos_token_id": TOKENS["<|endoftext|>"],
        "eos_token_id": TOKENS["<|im_end|>"],
    }
    vision = {"depth": 3, "hidden_size": HIDDEN, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": HIDDEN}
    vision |= {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64}
    numbers = {f"{kind}_token_id": TOKENS[f"<|{kind}|>"] for kind in ("vision_start", "vision_end")}
    numbers |= {f"{kind}_token_id": TOKENS[f"<|{kind}_pad|>"] for kind in ("image", "video")}
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **numbers)
    model = Qwen3VLForConditionalGeneration(config)
    shake(model, 0.25)
    model.bfloat16().save_pretrained(folder)
    halves = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "patch_size": 16, "merge_size": 2}
    image = Qwen2VLImageProcessorFast(size={"shortest_edge": 65536, "longest_edge": 16777216}, **halves)
    video = Qwen3VLVideoProcessor(size={"shortest_edge": 4096, "longest_edge": 25165824}, **halves)
    Qwen3VLProcessor(image, byte_tokenizer(), video, TEMPLATE).save_pretrained(folder)
    for name in ("merges.txt", "vocab.json"):  # tokenizer.json is complete
        (folder / name).unlink(missing_ok=True)


# --- their pipeline


def record(trainer: Any) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Sources, context, latents, masks and frames of every case, under the names that test_coinve.py reads."""
    clip = eight_bits(golden_runs.pictures(FRAMES, HEIGHT, SIDE))
    reference = eight_bits(golden_runs.pictures(1, 56, 72).flip(1))
    outputs = {"image.source": clip[:1].clone(), "video.source": clip, "reference.image": reference}
    for case in ("image", "video", "reference"):
        shown = images(clip[:1] if case == "image" else clip)
        extra = images(reference) if case == "reference" else None
        outputs |= {f"{case}.{name}": value for name, value in edit(trainer.pipe, PROMPTS[case], shown, extra).items()}
    outputs |= {f"composite.{name}": value for name, value in several(trainer, images(clip)).items()}
    outputs["long.context"] = read(
        trainer.pipe, PROMPTS["video"], images(torch.cat([clip, clip.flip(0)[1:], clip[1:5]]))
    )
    about = {"prompts": json.dumps(PROMPTS), "steps": str(STEPS), "seed": str(SEED), "commit": "ce091d4"}
    about |= {"height": str(HEIGHT), "width": str(SIDE), "residual_alpha": json.dumps(STRENGTHS)}
    about |= {name: sys.modules[name].__version__ for name in ("torch", "transformers")}
    return {name: value.detach().contiguous() for name, value in outputs.items()}, about


@torch.no_grad()
def read(pipeline: Any, prompt: str, frames: list[Any]) -> torch.Tensor:
    return pipeline.mllm(prompt, src_video=frames)


def edit(pipeline: Any, prompt: str, frames: list[Any], reference: list[Any] | None) -> dict[str, torch.Tensor]:
    """Token ids, grids, context [1, N, D], normalised latents [1, C, t, h, w] and uint8 frames [T, H, W, 3]."""
    inputs, given = Captured(pipeline.mllm.processor), {}

    def kept(prompt: str, **shown: Any) -> torch.Tensor:
        given["context"] = type(mllm).forward(mllm, prompt, **shown)
        return given["context"]

    mllm, decode = pipeline.mllm, Captured(pipeline.vae.decode)
    mllm.processor, mllm.forward, pipeline.vae.decode = inputs, kept, decode
    sides = {"height": HEIGHT, "width": SIDE, "num_frames": len(frames)}
    made = pipeline(
        prompt, src_video=frames, source_input=frames, ref_image=reference, seed=SEED, cfg_scale=1.0,
        num_inference_steps=STEPS, sigma_shift=5.0, progress_bar_cmd=list, **sides,
    )  # fmt: skip
    mllm.processor, pipeline.vae.decode = inputs.called, decode.called
    del mllm.forward
    said = {"ids": inputs.found["input_ids"]}
    said |= {name: inputs.found[name] for name in ("image_grid_thw", "video_grid_thw") if name in inputs.found}
    return said | given | {"latents": decode.given, "frames": frames_of(made)}


def several(trainer: Any, frames: list[Any]) -> dict[str, torch.Tensor]:
    """An edit by two instructions, each with its mask."""
    import infer_coinve_bench as bench

    settings = types.SimpleNamespace(
        num_video_queries_compose=10, mllm_max_pixels_per_frame_compose=262144, mask_postprocess="sigmoid",
        mask_threshold=0.5, mask_floor=0.0, mask_dilate_px=0, num_inference_steps=STEPS, sigma_shift=5.0, seed=SEED,
        cfg_scale=1.0, tile_size_h=30, tile_size_w=52, tile_stride_h=15, tile_stride_w=26, show_progress=False,
        residual_interpolate_mode="trilinear",
    )  # fmt: skip
    cpu, pipeline, decode = torch.device("cpu"), trainer.pipe, Captured(trainer.pipe.vae.decode)
    found = bench.predict_residual_contexts_and_masks(
        pipeline, trainer.mask_head, trainer, PROMPTS["composite"], frames, settings, cpu
    )
    prompt, context, local, masks, grid = found
    pipeline.vae.decode = decode
    made = bench.run_residual_with_pred_masks(
        pipeline, trainer.residual_module, prompt, context, local, masks, frames, settings, cpu
    )
    pipeline.vae.decode = decode.called
    return {"context": context, "masks": masks, "grid": torch.tensor(grid), "latents": decode.given} | {
        "local_contexts": local,
        "frames": frames_of(made),
    }


class Captured:
    """Something that is called, with what it was last given first and what it found."""

    def __init__(self, called: Any) -> None:
        self.called = called

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.given = given[0] if given else None
        self.found = self.called(*given, **named)
        return self.found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.called, name)


def frames_of(video: list[Any]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(frame)) for frame in video])


if __name__ == "__main__":
    main()
