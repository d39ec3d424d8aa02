"""Write public models at their published sizes with dummy weights, edit with them, convert them, load them in ComfyUI.

Reports the peak main memory of each phase next to the plan's estimate, at 192 x 128 on a CPU.

    export PYTHONPATH=.:tests:benchmarks
    python -m rehearsal bernini FOLDER                 # or kiwi, coinve, coinve-fp8
    python -m rehearsal kiwi FOLDER --limit 16         # stop if a process has more GiB of its own than that
    python -m rehearsal kiwi FOLDER --only comfyui     # repeat that step and update the existing results
    python -m rehearsal kiwi FOLDER --tiny             # a tiny model in the same layout, in seconds
    python -m rehearsal --table                        # the table of docs/memory.md, from benchmarks/results

Large matrices are holes in their files, so FOLDER takes a few GB; delete it afterwards. Resident memory includes pages
of mapped files, which the system may take back; "own" is memory that no file backs. If the plan refuses a model, the
result is its message.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
from rehearsal_edit import PHASES
from rehearsal_layouts import GIB, write_bernini, write_coinve, write_kiwi

from instructx_core.families.components import Components
from instructx_core.images import write_image
from instructx_core.video.writer import VideoWriter

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
HEIGHT, WIDTH, STEPS = 128, 192, 2
WINDOW, FRAMES = 5, 9  # of a window, and of the clip: two windows
SPARE = 2 * 10**9 / GIB  # GiB that may be resident besides the part in use
MODELS = ("kiwi", "bernini", "coinve", "coinve-fp8")
TITLES = {"kiwi": "Kiwi-Edit 5B", "bernini": "Bernini-R 1.3B", "coinve": "CoinVE-Edit 14B"}
TITLES["coinve-fp8"] = "CoinVE-Edit 14B, DiT and MLLM in fp8"


def full_size(name: str) -> Components:
    """A model on the meta device, in bfloat16, with a tokenizer."""
    from kiwi_layout import _tokenizer
    from public_cards import models

    from support.text_encoder import text_tokenizer

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    kiwi, bernini, _, coinve = models()
    torch.set_default_dtype(before)
    model = {"kiwi": kiwi, "bernini": bernini}.get(name, coinve)
    model.guidance.tokenizer = text_tokenizer() if name == "bernini" else _tokenizer()
    return model


def tiny(name: str) -> Components:
    """A tiny model in the same layout: the one with which the authors' outputs were recorded."""
    from transformers import AutoTokenizer

    from instructx_core import families
    from instructx_core.families.meta_model import outline
    from instructx_core.families.overrides import Overrides
    from support import kiwi_model
    from support.golden_runs import GOLDEN

    if name == "kiwi":
        return kiwi_model.components()
    if name == "bernini":
        opened, words = families.open(GOLDEN / "bernini"), GOLDEN / "bernini/tokenizer"
    else:
        base, words = GOLDEN / "coinve/Wan-AI/Wan2.1-T2V-14B", GOLDEN / "coinve/Qwen3-VL-8B-Instruct"
        given = Overrides(base / "diffusion_pytorch_model.safetensors", base / "Wan2.1_VAE.safetensors", words)
        opened = families.open(GOLDEN / "coinve/coinve_edit_composite_vllm256_dit128.safetensors", given)
    model = outline(opened, torch.bfloat16)
    model.guidance.tokenizer = AutoTokenizer.from_pretrained(words)
    return model


def write(name: str, folder: Path, make: Callable[[str], Components]) -> dict[str, str]:
    """Write a model and inputs to edit unless they exist; return the arguments for `Editor.from_pretrained`."""
    note = folder / "files.json"
    if not note.is_file():
        model = make(name)
        for module in (model.guidance, model.connector, model.denoiser, model.codec):
            module.to(torch.bfloat16)
        inside = folder / name
        if name.startswith("coinve"):
            files = write_coinve(model, inside, eight_bits=name.endswith("fp8"))
        else:
            files = {"kiwi": write_kiwi, "bernini": write_bernini}[name](model, inside)
        pixels = torch.rand(FRAMES, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(0))
        write_image(pixels[0], folder / "in.png")
        with VideoWriter(folder / "in.mp4") as writer:
            for frame in pixels:
                writer.write((255 * frame).to(torch.uint8))
        note.write_text(json.dumps({part: str(path) for part, path in files.items()}))
    return json.loads(note.read_text())


class Ended(Exception):
    """A process failed; the message is the last line of its output."""


def watched(command: list[str], limit: float | None, env: Mapping[str, str] | None = None) -> tuple[str, dict]:
    """Run a command; return its output, and its peak memory (GiB) with the seconds that it took.

    Raises:
        Ended: it failed, or had more than `limit` GiB that no file backs.
    """
    start, most = time.monotonic(), {"resident": 0.0}
    with (
        subprocess.Popen(
            command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        _reading(process) as said,
    ):
        while process.poll() is None:
            now = _resident(process.pid)
            if now.get("resident", 0) > most["resident"]:
                most = now
            if limit is not None and now.get("own", 0) > limit:
                process.kill()
                raise Ended(f"it used more than {limit:g} GiB of its own memory")
            time.sleep(0.1)
    out, err = said
    if process.returncode:
        raise Ended((err or out).strip().splitlines()[-1] if (err or out).strip() else f"code {process.returncode}")
    return out, most | {"seconds": round(time.monotonic() - start, 1)}


@contextmanager
def _reading(process: subprocess.Popen) -> Iterator[list[str]]:
    """A process's stdout and stderr, complete when the block ends."""
    import threading

    said = ["", ""]

    def read(place: int, stream: object) -> None:
        said[place] = stream.read()

    threads = [threading.Thread(target=read, args=pair) for pair in enumerate((process.stdout, process.stderr))]
    for thread in threads:
        thread.start()
    yield said
    for thread in threads:
        thread.join()


def _resident(pid: int) -> dict[str, float]:
    names = {"VmRSS": "resident", "RssAnon": "own", "RssFile": "mapped"}
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # the process has just ended
        return {}
    found = dict(line.split(":", 1) for line in lines)
    return {own: int(found[name].split()[0]) / 2**20 for name, own in names.items() if name in found}


def rehearse(given: argparse.Namespace) -> dict[str, object]:
    """Run all steps; return the result as it is written to benchmarks/results."""
    seconds = time.monotonic()
    files = write(given.model, given.folder, tiny if given.tiny else full_size)
    if given.only == "comfyui":
        result = json.loads((given.out / f"rehearsal-{given.model}.json").read_text())
        result["comfyui"] = in_comfyui(files, given)
        keep(result, given)
        return result
    result: dict[str, object] = {
        "model": given.model, "tiny": given.tiny, "dtype": given.dtype, "memory": given.memory,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "size": [WIDTH, HEIGHT], "steps": STEPS, "threads": given.threads, "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.1f} GiB",
        "wrote_seconds": round(time.monotonic() - seconds, 1),
    }  # fmt: skip
    asked = {
        "files": files,
        "folder": str(given.folder),
        "dtype": given.dtype,
        "memory": given.memory,
        "window": WINDOW,
    }
    asked |= {"height": HEIGHT, "width": WIDTH, "steps": STEPS, "threads": given.threads}
    asked["clip"] = given.only != "picture"
    try:
        out, whole = watched([sys.executable, "-m", "rehearsal_edit", json.dumps(asked)], given.limit)
        result |= json.loads(out.splitlines()[-1]) | {"edit": whole}
    except Ended as ended:
        result["refused"] = str(ended).replace(f"{given.folder}/{given.model}/", "")
    keep(result, given)
    if "refused" not in result:
        check(result)
    if not given.only and "refused" not in result:
        for name, step in (("convert", converted), ("comfyui", in_comfyui)):
            result[name] = step(files, given)
            keep(result, given)
    return result


def keep(result: Mapping[str, object], given: argparse.Namespace) -> None:
    """Write the results so far."""
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"rehearsal-{given.model}.json").write_text(json.dumps(result, indent=1) + "\n")


def check(result: Mapping[str, object]) -> None:
    """Report phases that had more in memory than their part's weights plus SPARE."""
    if not result["finite"]:
        raise SystemExit("the edit is not finite")
    for name, most in result["most"].items():
        stretch, _, phase = name.partition(": ")
        said = result["planned"].get(stretch, {}).get(phase)
        if said and most["resident"] > said["weights"] + SPARE:
            print(
                f"{name}: {most['resident']:.2f} GiB resident, its part's weights {said['weights']:.2f}",
                file=sys.stderr,
            )


def converted(files: Mapping[str, str], given: argparse.Namespace) -> dict[str, object]:
    """Convert to one file: the DiT as ComfyUI's own loader takes it, with the additions for InstructX Load Adapter."""
    own = [f"--{part}={path}" for part, path in files.items() if part == "transformer"]
    target = given.folder / "dit.safetensors"
    needed, free = weights_of(files) / GIB, shutil.disk_usage(given.folder).free / GIB
    if needed > 0.9 * free:
        return {"refused": f"it writes up to {needed:.1f} GiB, and {free:.1f} GiB are free on the disk"}
    command = [sys.executable, "-m", "instructx_core", "convert", files["path"], str(target), *own]
    try:
        _, most = watched(command, given.limit)
    except Ended as ended:
        return {"refused": str(ended)}
    most["GiB"] = target.stat().st_size / GIB
    target.unlink()
    return most


def weights_of(files: Mapping[str, str]) -> int:
    """The size of a DiT in bfloat16, in bytes: that of its files, or twice that if they are fp8."""
    dit = Path(files["transformer"]) if "transformer" in files else Path(files["path"]) / "transformer"
    found = [dit] if dit.is_file() else dit.glob("*.safetensors")
    return sum((2 if "fp8" in path.name else 1) * path.stat().st_size for path in found)


def in_comfyui(files: Mapping[str, str], given: argparse.Namespace) -> dict[str, object]:
    """Run InstructX Load Model in a ComfyUI process, in bfloat16 on the CPU."""
    if len(files) > 1:
        return {"refused": "its parts are in separate places, so no entry of the menu is the whole model"}
    from support import comfyui

    folder, python = comfyui.find()
    script = ROOT / "benchmarks" / "rehearsal_comfyui.py"
    env = {"COMFYUI_PATH": str(folder), "PYTHONPATH": "", "OMP_NUM_THREADS": str(given.threads)}
    try:
        out, most = watched([str(python), str(script), files["path"]], given.limit, env)
    except Ended as ended:
        return {"refused": str(ended)}
    return most | {"said": out.strip().splitlines()[-1]}


def table() -> str:
    """The table in docs/memory.md."""
    lines = ["| | its part | resident at most (own): picture / windows | the plan |", "|---|---|---|---|"]
    for name in MODELS:
        path = RESULTS / f"rehearsal-{name}.json"
        if not path.is_file():
            continue
        result = json.loads(path.read_text())
        if "refused" in result:
            lines.append(f"| **{TITLES[name]}** is refused: {result['refused']} | | | |")
            continue
        lines.append(f"| **{TITLES[name]}**: loading | | {_said(result['most']['load'])} | |")
        for phase in PHASES:
            most = [result["most"].get(f"{stretch}: {phase}") for stretch in ("picture", "windows")]
            said = [result["planned"][stretch][phase] for stretch in ("picture", "windows")]
            planned = " / ".join(f"{one['planned']:.1f}" for one, there in zip(said, most, strict=True) if there)
            held = " / ".join(map(_said, filter(None, most)))
            lines.append(f"| {phase} | {said[0]['weights']:.1f} | {held} | {planned} |")
        for step, title in (("convert", "`convert` to one file"), ("comfyui", "*Load Model* in ComfyUI")):
            if "resident" in result.get(step, {}):
                lines.append(f"| {title} | | {_said(result[step])} | |")
    return "\n".join(lines)


def _said(most: Mapping[str, float]) -> str:
    return f"{most['resident']:.1f} ({most['own']:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS, nargs="?")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--tiny", action="store_true", help="a model with a few million parameters")
    parser.add_argument("--limit", type=float, help="GiB of memory that a process may use, without mapped files")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--memory", default="model", choices=("model", "full"))
    parser.add_argument("--only", default="", choices=("", "picture", "edit", "comfyui"), help="run only this step")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON")
    parser.add_argument("--table", action="store_true", help="print the table of earlier results")
    given = parser.parse_args()
    if given.table:
        print(table())
        return
    if given.model is None or given.folder is None:
        parser.error("give a model and a folder")
    given.folder = given.folder.resolve()
    given.folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(rehearse(given), indent=1))


if __name__ == "__main__":
    main()
