"""`instructx measure`: what an edit left unchanged and, with networks of your own, how similar and fitting it is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .judging import add_judge, open_judge
from .options import command
from .printing import say

if TYPE_CHECKING:
    from torch import Tensor

    from ..evaluation.judges import Judge
    from ..source import Source

JUDGED_FRAMES = 8  # frames of a clip that a judge sees
EXAMPLES = """\
examples:
  instructx measure before.png after.png                      without mask or target: outside of what changed
  instructx measure before.mp4 after.mp4 --mask mask.png --difference seen.mp4
  instructx measure before.png after.png --target exact.png --json numbers.json
  instructx measure before.png after.png --mask mask.png --clip clip-vit-large-patch14 --word "a red car"

PSNR, SSIM, exclusivity (the share of all change that lies inside the region), flicker and smoothness need no network.
The others need weights on this machine; nothing is fetched, except by VBench, which you install yourself.
"""


def add_measure(commands: Any) -> None:
    parser = command(commands, "measure", "measure what an edit changed and what it left alone", EXAMPLES, _run_measure)
    parser.add_argument("source", metavar="SOURCE", type=Path, help="the picture or video that was edited")
    parser.add_argument("edited", metavar="EDITED", type=Path, help="the edit, with the source's size and length")
    parser.add_argument("--mask", metavar="IMG", type=Path, help="white where the edit may change something")
    parser.add_argument("--target", metavar="FILE", type=Path, help="the exact result, if it is known")
    parser.add_argument("--lpips", metavar="FILE", type=Path, help="torchvision's squeezenet1_1 weights, for LPIPS")
    parser.add_argument(
        "--clip", metavar="DIR", type=Path, help="a CLIP folder, for the region's CLIPScore with --word"
    )
    parser.add_argument("--word", help="what the region should show, for --clip")
    parser.add_argument(
        "--dino", metavar="DIR", type=Path, help="a DINOv2, DINOv3 or ViT folder, to compare what should stay"
    )
    add_judge(parser)
    parser.add_argument("--instruction", help="the edit's instruction, for the VIEScore by --judge")
    parser.add_argument(
        "--vbench", action="store_true", help="motion smoothness and aesthetics of the clip, with the `vbench` command"
    )
    parser.add_argument("--difference", metavar="OUT", type=Path, help="draw the changes: green inside, red outside")
    parser.add_argument("--json", metavar="OUT", type=Path, help="also write every number to this file")


def _run_measure(arguments: argparse.Namespace) -> None:
    import torch

    from ..paths import writable_file
    from ..source import check_output, load_source, save_result

    if bool(arguments.clip) != bool(arguments.word):
        raise InputError("--clip and --word belong together: CLIPScore compares the region with that word.")
    if bool(arguments.judge) != bool(arguments.instruction):
        raise InputError(
            "--judge and --instruction belong together: VIEScore asks how far the instruction was followed."
        )
    if arguments.json:
        writable_file(arguments.json)
    inputs = [one for one in (arguments.edited, arguments.mask, arguments.target) if one]
    if arguments.difference:
        check_output(arguments.difference, arguments.source, *inputs)
    source, edited = load_source(arguments.source), load_source(arguments.edited)
    if arguments.vbench and not edited.is_video:
        raise InputError("--vbench measures clips, and this edit is a picture; leave it out.")

    from ..atomic import partial_file
    from ..evaluation import difference_picture, find_region, measure
    from ..evaluation.vbench import find_vbench
    from ..images import to_floats

    if arguments.vbench:
        find_vbench()  # if it is missing, fail before any long work
    make_judge = open_judge(arguments)
    mask = target = None
    if arguments.mask:
        mask = torch.stack([to_floats(frame).mean(-1) for frame in load_source(arguments.mask).pixels])
    if arguments.target:
        target = load_source(arguments.target).pixels
    # pixels stay 8-bit: as floats, two clips would need more memory than `load_source` has checked
    region, _ = find_region(source.pixels, edited.pixels, mask, target)
    found = measure(source.pixels, edited.pixels, mask, target)
    seen = _with_networks(arguments, make_judge, source, edited, region)
    if arguments.difference:
        save_result(difference_picture(source.pixels, edited.pixels, region), arguments.difference, like=source)
    if arguments.json:
        with partial_file(arguments.json) as partial:
            partial.write_text(json.dumps(found.to_dict() | seen, indent=2) + "\n", encoding="utf-8")
    say("\n".join([*found.lines(), *(f"{name}: {_number(value)}" for name, value in seen.items())]))


def _with_networks(
    arguments: argparse.Namespace,
    make_judge: Callable[[], Judge] | None,
    source: Source,
    edited: Source,
    region: Tensor,
) -> dict[str, float | None]:
    """The scores of those networks that were given."""
    if not (arguments.lpips or arguments.clip or arguments.dino or arguments.vbench or make_judge):
        return {}
    from transformers.utils.logging import disable_progress_bar

    from ..evaluation.benches.viescore import judge_pair
    from ..evaluation.perceptual import ClipScore, DinoSimilarity, Lpips
    from ..evaluation.vbench import run_vbench
    from ..guidance.frames import sample_indices
    from ..images import to_floats

    disable_progress_bar()
    seen: dict[str, float | None] = {}
    if arguments.lpips:
        seen["LPIPS outside"] = Lpips(arguments.lpips)(source.pixels, edited.pixels, region)
    if arguments.clip:
        seen["CLIPScore of the region"] = ClipScore(arguments.clip)(edited.pixels, region, arguments.word)
    if arguments.dino:
        seen["DINO similarity outside"] = DinoSimilarity(arguments.dino)(source.pixels, edited.pixels, region)
    if make_judge:
        judge = make_judge()
        shown = [to_floats(clip.pixels[sample_indices(len(clip.pixels), JUDGED_FRAMES)]) for clip in (source, edited)]
        score = judge_pair(judge, arguments.instruction, *shown)
        names = (f"VIEScore {part}, judged by {judge.name}" for part in ("consistency", "quality", "overall"))
        seen |= dict(zip(names, score or (None,) * 3, strict=True))
    return seen | (run_vbench(arguments.edited) if arguments.vbench else {})


def _number(value: float | None) -> str:
    return "nothing to measure" if value is None else f"{value:.4f}"
