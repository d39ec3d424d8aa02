"""The authors' own Kiwi-Edit pipeline, from a checkout of their code, on a model folder in their layout.

Their files run unchanged except for three constants, replaced in a temporary copy: the dtype, which they fix to
bfloat16; the width of the VAE's decoder, which is in none of their configs; and the id of the token at the queries'
positions, for a tokenizer smaller than Qwen's. They need transformers 4.57, torchvision and einops.
"""

from __future__ import annotations

import atexit
import importlib
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

SOURCES = Path("utils", "convert_diffusers")
MODULES = ("pipeline_kiwi_edit", "mllm_encoder", "conditional_embedder", "wan_video_vae")
WRITTEN_TYPE, WRITTEN_WIDTH, WRITTEN_TOKEN = "torch.bfloat16", "dec_dim=256", "151646"


def load_authors(
    checkout: Path, folder: Path, dtype: torch.dtype, decoder_width: int, query_token: int = int(WRITTEN_TOKEN)
) -> Any:
    """Their `KiwiEditPipeline` loaded on the CPU, including the MLLM, which they would load on first use.

    Raises:
        SystemExit: as `import_authors`.
    """
    from diffusers import WanTransformer3DModel
    from transformers import AutoProcessor

    modules = import_authors(checkout, dtype, decoder_width, query_token)
    embedder = modules["conditional_embedder"].ConditionalEmbedder
    classes = {
        "transformer": WanTransformer3DModel,
        "vae": modules["wan_video_vae"].VAE,
        "mllm_encoder": modules["mllm_encoder"].MLLMEncoder,
        "source_embedder": embedder,
        "ref_embedder": embedder,
    }
    parts = {name: kind.from_pretrained(str(folder / name)) for name, kind in classes.items()}
    processor = AutoProcessor.from_pretrained(folder / "processor")
    pipeline = modules["pipeline_kiwi_edit"].KiwiEditPipeline(scheduler=None, processor=processor, **parts)
    pipeline.to(dtype=dtype)
    pipeline.mllm_encoder.load_qwen_model(device="cpu", dtype=dtype)
    return pipeline


def import_authors(
    checkout: Path, dtype: torch.dtype, decoder_width: int, query_token: int = int(WRITTEN_TOKEN)
) -> dict[str, Any]:
    """Their modules by name; each call imports them again.

    Raises:
        SystemExit: their files are not in `checkout`, or no longer contain the constants to replace.
    """
    words = {WRITTEN_TYPE: str(dtype), WRITTEN_WIDTH: f"dec_dim={decoder_width}", WRITTEN_TOKEN: str(query_token)}
    folder = Path(tempfile.mkdtemp(prefix="kiwi-authors-"))
    atexit.register(shutil.rmtree, folder)
    replaced = set()
    for name in MODULES:
        path = checkout / SOURCES / f"{name}.py"
        if not path.is_file():
            raise SystemExit(f"{path} does not exist; give a checkout of showlab/Kiwi-Edit.")
        text = path.read_text(encoding="utf-8")
        for old, new in words.items():
            if old in text:
                replaced.add(old)
                text = text.replace(old, new)
        (folder / path.name).write_text(text, encoding="utf-8")
        sys.modules.pop(name, None)
    if missing := set(words) - replaced:
        raise SystemExit(
            f"The files in {checkout / SOURCES} no longer contain {', '.join(missing)}; update this script."
        )
    sys.path.insert(0, str(folder))
    try:
        return {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(folder))


def edit(
    pipeline: Any, frames: Sequence[Any], instruction: str, steps: int, seed: int
) -> tuple[torch.Tensor, list[Any]]:
    """Normalised latents [1, C, t, h, w] and PIL frames of one edit: their `__call__`, with separate decoding."""
    width, height = frames[0].size
    latents = pipeline(
        instruction,
        source_video=list(frames),
        height=height,
        width=width,
        num_frames=len(frames),
        num_inference_steps=steps,
        seed=seed,
        output_type="latent",
        progress_bar=list,
    )
    with torch.no_grad():
        return latents, pipeline._vae_output_to_video(pipeline.vae.decode(latents).sample)
