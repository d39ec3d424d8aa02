"""The options that say who judges, shared by `instructx bench` and `instructx measure`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..evaluation.judges import Judge


def add_judge(parser: Any) -> None:
    parser.add_argument(
        "--judge", metavar="JUDGE", help="a Qwen-VL's folder, an OpenAI-compatible address, or a .jsonl of answers"
    )
    parser.add_argument("--judge-model", metavar="NAME", help="which model of that address")
    parser.add_argument("--judge-device", help="where a local judge runs (default: a GPU if there is one)")


def load_judge(arguments: argparse.Namespace, published: bool = False) -> Judge:
    """The judge that the options mean. Its name says whose prompts it was asked with: they decide its scores too.

    Raises:
        InputError: no address, no model of one, or no log of answers.
        CheckpointError: no Qwen-VL in that folder.
    """
    from ..device import pick_device
    from ..evaluation.judges import RecordedJudge
    from ..evaluation.judges.local import LocalJudge
    from ..evaluation.judges.remote import RemoteJudge
    from ..words import quoted

    given = arguments.judge
    if "://" in given:
        if not arguments.judge_model:
            raise InputError(f"--judge {quoted(given)} needs --judge-model, the model to ask there.")
        judge: Judge = RemoteJudge(given, arguments.judge_model)
    elif given.endswith(".jsonl"):
        return RecordedJudge(Path(given))
    else:
        import torch
        import transformers.utils.logging

        transformers.utils.logging.disable_progress_bar()
        device = pick_device(arguments.judge_device)
        judge = LocalJudge(Path(given), device, torch.float32 if device.type == "cpu" else torch.bfloat16)
    if not published:
        judge.name += ", InstructX prompts"
    return judge
