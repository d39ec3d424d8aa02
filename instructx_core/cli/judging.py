"""The options of a judge, shared by `instructx bench` and `instructx measure`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..evaluation.judges import Judge


def add_judge(parser: Any) -> None:
    parser.add_argument(
        "--judge", metavar="JUDGE", help="a Qwen-VL folder, an OpenAI-compatible URL, or a .jsonl file of answers"
    )
    parser.add_argument("--judge-model", metavar="NAME", help="the model to ask at that URL")
    parser.add_argument("--judge-device", help="where a local judge runs (default: a GPU if there is one)")


def open_judge(arguments: argparse.Namespace, published: bool = False) -> Callable[[], Judge] | None:
    """Check a judge's options and return a function that makes it, None without --judge.

    A local judge takes memory only when it is made. The judge's name says whose prompts it answers, as they
    affect its scores too.

    Raises:
        InputError: --judge-model or --judge-device alone, an invalid address or key, no model to ask there, an unusable
            log of answers, or an unknown device.
        CheckpointError: no MLLM in that folder. A damaged one is noticed only when it is made.
    """
    given = arguments.judge
    if given is None:
        if arguments.judge_model or arguments.judge_device:
            raise InputError("--judge-model and --judge-device belong to --judge; give it too, or leave them out.")
        return None
    from ..device import pick_device
    from ..evaluation.judges import RecordedJudge
    from ..evaluation.judges.local import LocalJudge
    from ..evaluation.judges.remote import RemoteJudge
    from ..weights.detect import find_form
    from ..weights.parts import Part
    from ..words import quoted

    def named(judge: Judge) -> Judge:
        if not published:
            judge.name += ", InstructX prompts"
        return judge

    if "://" in given:
        if not arguments.judge_model:
            raise InputError(f"--judge {quoted(given)} needs --judge-model, the model to ask there.")
        remote = named(RemoteJudge(given, arguments.judge_model))
        return lambda: remote
    if given.endswith(".jsonl"):
        recorded = RecordedJudge(Path(given))
        return lambda: recorded
    import torch
    import transformers.utils.logging

    transformers.utils.logging.disable_progress_bar()
    device = pick_device(arguments.judge_device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    find_form(Path(given), Part.MLLM)
    return lambda: named(LocalJudge(Path(given), device, dtype))
