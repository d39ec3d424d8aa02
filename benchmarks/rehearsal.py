"""A Kiwi-Edit of the published size with random weights: written to disk, then edited with from the command line.

Says what the edit held in main memory at most, beside the plan. The peak of resident memory counts mapped files too;
"own" is what no file backs.

    python benchmarks/rehearsal.py FOLDER --share 0.5     # half of the layers of the MLLM and the DiT
    python benchmarks/rehearsal.py FOLDER                 # 19.6 GB on disk

A model that is there already is edited with again. The folder is left; delete it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kiwi_layout import PUBLISHED, Sizes, components

from instructx_core.families.components import adapter_state
from instructx_core.families.instructx.folder import FORMAT
from instructx_core.images import write_image
from instructx_core.weights.marks import ADAPTER
from instructx_core.weights.portable import make_portable

GIB = 2**30
SHARD = 4 * GIB  # bytes of a file at most, about
NOISE = 2**24  # random numbers, which are written again and again
FIELDS = ("VmRSS", "RssAnon", "RssFile")
HEIGHT, WIDTH = 128, 192
INSTRUCTION = "make it red"


def write_model(folder: Path, sizes: Sizes) -> None:
    """Write a model of random bfloat16 weights in this library's layout, tensor by tensor."""
    with torch.device("meta"):
        model = components(sizes)
    model.guidance.tokenizer.save_pretrained(folder / "mllm")
    mllm, transformer, vae = model.guidance.mllm, model.denoiser.transformer, model.codec.vae
    mllm.config.architectures = [type(mllm).__name__]
    mllm.config.save_pretrained(folder / "mllm")
    transformer.save_config(folder / "transformer")
    vae.save_config(folder / "vae")
    for config in folder.glob("*/*.json"):
        make_portable(config)
    own = {name: value for name, value in mllm.state_dict().items() if name != "lm_head.weight"}  # tied
    write_shards(folder / "mllm", "model", own)
    write_shards(folder / "transformer", "diffusion_pytorch_model", transformer.state_dict())
    write_shards(folder / "vae", "diffusion_pytorch_model", vae.state_dict())
    added = adapter_state(model.guidance, model.connector, model.denoiser)
    write_random(folder / ADAPTER, added, {FORMAT: model.config.to_json()})


def write_shards(folder: Path, stem: str, state: Mapping[str, torch.Tensor]) -> None:
    """Write the tensors of a part as its library would, in shards with an index."""
    shards: list[dict[str, torch.Tensor]] = [{}]
    for name, value in state.items():
        if sum(2 * held.numel() for held in shards[-1].values()) > SHARD:
            shards.append({})
        shards[-1][name] = value
    index = {}
    for number, shard in enumerate(shards, 1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.safetensors"
        write_random(folder / file, shard, {"format": "pt"})
        index |= dict.fromkeys(shard, file)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def write_random(path: Path, state: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write random bfloat16 numbers in the shapes of tensors: around one for scales of norms, else around nothing."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, value in state.items():
        header[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [end, end + 2 * value.numel()]}
        end += 2 * value.numel()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = torch.randn(NOISE, generator=torch.Generator().manual_seed(0)) * 0.02
    around = {mean: (noise + mean).bfloat16().view(torch.uint8).numpy().tobytes() for mean in (0, 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, value in state.items():
            is_scale = (name.endswith("weight") and value.ndim == 1) or name.endswith("gamma")
            left = 2 * value.numel()
            while left > 0:
                file.write(around[is_scale][:left])
                left -= 2 * NOISE


def watch(command: list[str]) -> dict[str, float]:
    """Run a command to its end; the most that it held in memory (GiB), and the seconds that it took."""
    start = time.monotonic()
    most = dict.fromkeys(FIELDS, 0)
    process = subprocess.Popen(command)
    while process.poll() is None:
        for name, value in status(process.pid):
            most[name] = max(most.get(name, 0), value)
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {name: round(value / GIB, 2) for name, value in most.items()} | {"seconds": time.monotonic() - start}


def status(pid: int) -> Iterable[tuple[str, int]]:
    """What a process holds in memory, by the names of its fields."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return
    for line in lines:
        name, _, value = line.partition(":")
        if name in FIELDS:
            yield name, int(value.split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the layers of the MLLM and the DiT")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--memory", default="auto")
    parser.add_argument("--steps", default="2")
    given = parser.parse_args()
    if not (given.folder / ADAPTER).is_file():
        text = PUBLISHED.text | {"num_hidden_layers": round(given.share * PUBLISHED.text["num_hidden_layers"])}
        write_model(given.folder, replace(PUBLISHED, dit_layers=round(given.share * PUBLISHED.dit_layers), text=text))
    source, result = given.folder / "in.png", given.folder / "out.png"
    write_image(torch.rand(HEIGHT, WIDTH, 3), source)
    program = [sys.executable, "-m", "instructx_core"]
    size = ["--width", str(WIDTH), "--height", str(HEIGHT)]
    subprocess.run([*program, "info", "--plan", *size, "--frames", "1", str(given.folder)], check=True)
    options = ["--device", "cpu", "--dtype", given.dtype, "--memory", given.memory, "--steps", given.steps]
    words = ["edit", str(source), INSTRUCTION, "-o", str(result), "--model", str(given.folder)]
    most = watch([*program, *words, *size, *options])
    print("most in memory, GiB: " + ", ".join(f"{name} {value:.1f}" for name, value in most.items()))


if __name__ == "__main__":
    main()
