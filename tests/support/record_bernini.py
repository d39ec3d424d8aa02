"""Record golden/bernini: a tiny Bernini-R in its published layout, and what its authors' own code makes of it.

    PYTHONPATH=tests:benchmarks python -m support.record_bernini CHECKOUT [--pair]

CHECKOUT is a checkout of bytedance/Bernini (recorded: 8c805a5). Their code asks for diffusers 0.35.2 (later ones put
other noise levels into UniPC), transformers 4.57, torchvision, ftfy and einops. Weights are random at tiny sizes, the
tokenizer is ours, one token a byte. Of their code nothing is kept, only numbers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from support import golden_runs
from support.authors import copied, eight_bits, images, shake, stand_in
from support.pairs import bernini_pair

WIDTH, TEXT_DIM = 48, 16
STEPS, SEED, HEIGHT, SIDE, FRAMES, RATE = 3, 11, 32, 48, 9, 16
PROMPTS = {
    "image": "Make the sky  red &amp; bright.",
    "video": "Draw it with a pencil \u2026 keep\nthe motion.",
    "reference": "Put the reference\u2019s hat on the dog.",
}
PROMPTS |= {"video_plain": PROMPTS["video"], "video_chain": PROMPTS["video"], "reference_only": PROMPTS["reference"]}
TASKS = {"image": "i2i", "video": "v2v", "reference": "rv2v", "video_plain": "v2v", "video_chain": "v2v"}
TASKS |= {"reference_only": "r2v"}
MODES = {"image": "v2v", "video": "v2v_apg", "reference": "rv2v", "video_plain": "v2v", "video_chain": "v2v_chain"}
MODES |= {"reference_only": "r2v_apg"}
PAIRED = ("image", "video", "reference", "video_chain")  # of these, with a pair of DiTs
GUIDANCE = {"omega_vid": 1.25, "omega_img": 4.5, "omega_txt": 4.0, "omega_scale": 0.8, "eta": 0.5, "momentum": 0.0}
# what their cleaning makes of these is recorded
UNCLEAN = [
    "Make it red.",
    "  make\tit \n\n red  ",
    "don\u2019t touch the \u201csign\u201d \u2013 only the sky\u2026",
    "&quot;Tom &amp;amp; Jerry&quot; &lt;b&gt;&nbsp;x",
    "\ufb01x the \ufb02oor, \uff26\uff35\uff2c\uff2c \uff57\uff49\uff44\uff54\uff48, \u3000wide",
    "cafe\u0301 \u00e9 na\u00efve \u00c5ngstr\u00f6m",
    "\u628a\u5929\u7a7a\u53d8\u6210\u7ea2\u8272\uff0c\u52a0\u4e00\u53ea\u72d7\u3002",
    "a\u200bb\ufeffc\u00add \x07bell \x1b[31mred\x1b[0m",
    "\U0001f600 smile \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "line\u2028break\u0085next\r\nlast",
    "\u00ab Bonjour \u00bb \u201eHallo\u201c \u2039x\u203a \u00b4 ` \u2032",
    "5 < 6 & 7 > 3 &eacute; &#39;x&#39; &unknown; &amp",
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u7530\u4e2d\uff76\uff80\uff76\uff85 \ud55c\uad6d\uc5b4",
    "&rsquo;x&rsquo; P&EACUTE;REZ &SZLIG; &semi; &notit; &#x2019; &#0;",
    "&rsquo;x&rsquo; <b>",
    "\u1e9b\u0323 \u2460 \u00bd x\u00b2 \u2122",
]
OTHER = "BerniniModel = BerniniConfig = None"
FLOATS = {"torch.bfloat16": "torch.float32"}
WORDS = {
    "bernini/models/renderer.py": FLOATS,
    "bernini/models/wan_diffusion.py": FLOATS,
    "bernini/pipeline.py": FLOATS,
    # the other model of their repository, which asks for much more
    "bernini/models/__init__.py": {
        "from .bernini import BerniniConfig, BerniniModel": "BerniniConfig = BerniniModel = None"
    },
}
OTHER_MODEL = ("bernini.data", "bernini.data.bernini_process", "bernini.data.bernini_template", "bernini.data.utils")


class Reader:
    """Stands for decord's: frames of memory instead of a file."""

    def __init__(self, path: str, **_given: object) -> None:
        self.frames = FILES[path]

    def seek(self, _place: int) -> None:
        pass

    def get_avg_fps(self) -> float:
        return float(RATE)

    def __len__(self) -> int:
        return len(self.frames)

    def get_batch(self, places: list[int]) -> Any:
        return type("Batch", (), {"asnumpy": lambda _self: self.frames[places].numpy()})()


FILES: dict[str, torch.Tensor] = {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a checkout of bytedance/Bernini")
    parser.add_argument("--pair", action="store_true", help="record the pair alone, of the model that is there")
    arguments = parser.parse_args()
    checkout = arguments.checkout
    stand_in("decord", "imageio", "veomni.distributed.parallel_state", "veomni.distributed.sequence_parallel.comm")
    sys.modules["decord"].VideoReader = Reader
    copied(checkout, ["bernini"], WORDS)
    stand_in_for_the_other_model()
    folder = golden_runs.GOLDEN / "bernini"
    if arguments.pair:
        record_pair(folder)
        return
    shutil.rmtree(folder, ignore_errors=True)
    make_model(folder, checkout / "configs/bernini_renderer_wan21_1p3b/config.json")
    outputs, metadata = record(folder)
    save_file(outputs, folder / "reference_outputs.safetensors", metadata)
    record_pair(folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def stand_in_for_the_other_model() -> None:
    from support.authors import Missing

    for name in (*OTHER_MODEL, "bernini.data.utils.video_utils"):
        sys.modules[name] = Missing(name)


# --- the model


def make_model(folder: Path, config: Path) -> None:
    """Write a model of random weights in the published layout."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    sizes = {"d_model": TEXT_DIM, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2, "vocab_size": len(tokenizer)}
    parts = {
        "transformer": WanTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=WIDTH // 2,
            text_dim=TEXT_DIM,
            freq_dim=32,
            ffn_dim=64,
            num_layers=2,
        ),
        "vae": AutoencoderKLWan(base_dim=2),
        "text_encoder": UMT5EncoderModel(UMT5Config(**sizes)),
    }
    for name, part in parts.items():
        shake(part, 0.1)
        part.bfloat16().save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / "tokenizer")
    UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0).save_pretrained(
        folder / "scheduler"
    )
    shutil.copy(config, folder / "config.json")
    index = {"_class_name": "WanPipeline", "_diffusers_version": "0.35.2", "boundary_ratio": None}
    index |= {"scheduler": ["diffusers", "UniPCMultistepScheduler"], "tokenizer": ["transformers", "T5TokenizerFast"]}
    index |= {"text_encoder": ["transformers", "UMT5EncoderModel"], "vae": ["diffusers", "AutoencoderKLWan"]}
    index |= {"transformer": ["diffusers", "WanTransformer3DModel"], "transformer_2": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


def byte_tokenizer() -> Any:
    """One token a byte, and T5's end behind them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>"]
    letters = {letter: 3 + number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = {word: number for number, word in enumerate(special)} | letters
    tokenizer = Tokenizer(models.BPE(words, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


# --- their pipeline


@torch.no_grad()
def record(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Sources, context, latents and frames of every case, under the names that test_bernini.py reads."""
    from bernini import pipeline as theirs
    from bernini.prompt_enhancer import get_system_prompt_for_task

    pipeline = theirs.BerniniRendererPipeline.from_pretrained(
        str(folder), wan22_base=str(folder), shift=5.0, device="cpu", load_ckpt_weights=False
    )
    pipeline.model.to(torch.float32)
    kept = capture(pipeline, theirs)
    clip = eight_bits(golden_runs.pictures(FRAMES, HEIGHT, SIDE))
    reference = eight_bits(golden_runs.pictures(1, 32, 64).flip(1))
    FILES["clip"] = clip
    outputs = {"image.source": clip[:1].clone(), "video.source": clip, "reference.image": reference}
    systems = {case: get_system_prompt_for_task(task) for case, task in TASKS.items()}
    for case in MODES:
        edit(pipeline, case, clip, reference)
        outputs |= {f"{case}.{name}": kept[name].clone() for name in ("context", "latents")}
        if case in ("image", "video", "reference"):
            outputs[f"{case}.frames"] = kept["frames"]
        outputs["negative.context"] = kept["negative"].clone()
    scheduler = pipeline.model.diff_dec.scheduler
    outputs |= {"sigmas": scheduler.sigmas, "timesteps": scheduler.timesteps}
    about = {"prompts": json.dumps(PROMPTS), "steps": str(STEPS), "seed": str(SEED), "commit": "8c805a5"}
    about |= {"height": str(HEIGHT), "width": str(SIDE), "flow_shift": "5.0", "system_prompts": json.dumps(systems)}
    about |= {"task_types": json.dumps(TASKS), "guidance_modes": json.dumps(MODES)}
    about["cleaned"] = json.dumps({text: theirs._prompt_clean(text) for text in UNCLEAN})
    about |= {name: sys.modules[name].__version__ for name in ("torch", "diffusers", "transformers", "ftfy")}
    return {name: value.contiguous() for name, value in outputs.items()}, about


@torch.no_grad()
def record_pair(folder: Path) -> None:
    """The latents of a pair of DiTs, in the layout of the 14B: the model's own and one made of it."""
    from bernini import pipeline as theirs

    held = load_file(folder / "reference_outputs.safetensors")
    clip, reference = held["video.source"], held["reference.image"]
    FILES["clip"] = clip
    with tempfile.TemporaryDirectory() as place:
        pair = str(bernini_pair(folder, Path(place) / "pair"))
        pipeline = theirs.BerniniRendererPipeline.from_pretrained(
            pair, wan22_base=pair, shift=5.0, device="cpu", load_ckpt_weights=False
        )
        pipeline.model.to(torch.float32)
        kept, outputs = capture(pipeline, theirs), {}
        for case in PAIRED:
            edit(pipeline, case, clip, reference)
            outputs[f"{case}.latents"] = kept["latents"].clone().contiguous()
    save_file(outputs, folder / "reference_pair.safetensors", {"commit": "8c805a5"})


def edit(pipeline: Any, case: str, clip: torch.Tensor, reference: torch.Tensor) -> None:
    """Run a case; what comes of it is what `capture` keeps."""
    from bernini.cli import DEFAULT_NEG_PROMPT
    from bernini.prompt_enhancer import get_system_prompt_for_task

    shown: dict[str, Any] = {"video": "clip"} if case not in ("image", "reference_only") else {}
    shown |= {"image": images(clip[:1])[0]} if case == "image" else {}
    shown |= {"images": images(reference)} if case.startswith("reference") else {}
    pipeline(
        PROMPTS[case], neg_prompt=DEFAULT_NEG_PROMPT, system_prompt=get_system_prompt_for_task(TASKS[case]),
        num_inference_steps=STEPS, guidance_mode=MODES[case], flow_shift=5.0, seed=SEED, fps=RATE,
        norm_threshold=(50.0, 50.0, 50.0), **GUIDANCE, max_image_size=848, height=HEIGHT, width=SIDE,
        output_path="/tmp/none.mp4", num_frames={"image": 1, "reference_only": 5}.get(case, 81), **shown,
    )  # fmt: skip


def capture(pipeline: Any, theirs: Any) -> dict[str, torch.Tensor]:
    """What their pipeline found last: context [1, n, D] without the zeros behind, latents, uint8 frames."""
    kept: dict[str, torch.Tensor] = {}
    encode, decode, order = pipeline.model.encode_prompt, theirs._vae_decode, ["context", "negative"]

    def encoded(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = encode(ids, mask)
        kept[order[0]] = found[:, : int(mask.sum())]
        order.reverse()
        return found

    def decoded(vae: Any, latents: torch.Tensor) -> np.ndarray:
        kept["latents"] = latents
        return decode(vae, latents)

    def saved(output: np.ndarray, _path: str, fps: int) -> None:
        kept["frames"] = torch.from_numpy((np.clip(output, 0.0, 1.0) * 255).astype(np.uint8))  # as their io_utils

    pipeline.model.encode_prompt, theirs._vae_decode, theirs.save_output = encoded, decoded, saved
    return kept


if __name__ == "__main__":
    main()
