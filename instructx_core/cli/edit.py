"""`instructx edit`: edit one picture or video by a sentence; for long videos see edit_long.py."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Detail, GuidanceMode
from .edit_long import LONG_EXAMPLES, add_long_options, edit_in_windows, is_long
from .options import add_lora_option, add_model, check_loras, command, integer, load_editor, number
from .printing import say
from .progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from ..editor import Editor
    from ..request import EditRequest
    from ..source import Source

EXAMPLES = f"""\
examples:
  instructx edit photo.png "remove the green square" -o photo_edit.png
  instructx edit clip.mp4 "change the background to teal" -o clip_edit.mp4 --seed 7
  instructx edit photo.png "replace the blue circle with the object in the reference" --reference object.png -o out.png
  instructx edit photo.png "make it snow" -o out.png --model instructx.safetensors \\
      --transformer wan2.1_t2v_14B_fp8_scaled.safetensors --vae wan_2.1_vae.safetensors --mllm Qwen2.5-VL-3B-Instruct
  instructx edit clip.mp4 "make it snow" -o out.mp4 --lora few_step.safetensors --lora style.safetensors:0.6 --steps 4

The result has the source's exact size, and a video keeps its frames, frame rate, audio and rotation. OUT appears only
once it is complete, and replaces an existing file. The same seed gives the same pixels on the same machine.

{LONG_EXAMPLES}"""


def add_edit(commands: Any) -> None:
    parser = command(commands, "edit", "edit a picture or video", EXAMPLES, _run_edit)
    parser.add_argument("source", metavar="SOURCE", type=Path, help="the picture or video to edit")
    parser.add_argument(
        "instruction",
        metavar="INSTRUCTION",
        nargs="+",
        help="what to do, as a sentence in quotes; several, if the model finds where in a clip each applies",
    )
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--reference",
        metavar="IMG",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="reference pictures of a subject to use",
    )
    add_model(parser)
    add_lora_option(parser)
    parser.add_argument("--steps", type=integer(1, 1000), help="sampling steps, 1 to 1000 (default: the model's own)")
    parser.add_argument("--seed", type=integer(0, 2**64 - 1), default=0, help="noise seed, 0 or more (default: 0)")
    parser.add_argument(
        "--guidance-scale",
        type=number(0, 100),
        help="classifier-free guidance scale, 0 to 100; 1 turns it off and is twice as fast (default: the model's own)",
    )
    parser.add_argument(
        "--image-guidance",
        dest="source_scale",
        metavar="SCALE",
        type=number(0, 100),
        help="separate guidance scale for the source, 0 to 100, for models that have one (default: the model's own)",
    )
    parser.add_argument(
        "--image-stream",
        type=number(0, 10),
        help="weight of the image stream, 0 to 10, for models that have one (default: the model's own)",
    )
    parser.add_argument(
        "--shift",
        type=number(0, 100, above=True),
        help="shift of the noise levels, above 0 and at most 100: larger ones spend more steps at high noise (default: "
        "the model's own)",
    )
    parser.add_argument(
        "--renoise",
        metavar="LEVEL",
        type=number(0, 1, above=True),
        nargs="+",
        help="noise levels for a model distilled by distribution matching, decreasing from 1, such as 1 0.757 0.522; "
        "replaces --steps and --shift (docs/memory.md)",
    )
    parser.add_argument(
        "--guidance-mode",
        choices=[mode.value for mode in GuidanceMode],
        help="which of instruction, source and references guide the edit, and whether with projection (apg) (default: "
        "the model's own)",
    )
    for side in ("height", "width"):
        parser.add_argument(
            f"--{side}",
            type=integer(1, 8192),
            help=f"working {side}, a multiple of the model's stride (default: the model's area at the source's aspect)",
        )
    parser.add_argument(
        "--detail",
        choices=[detail.value for detail in Detail],
        default=Detail.SOURCE.value,
        help="which detail to show if the source is larger than the working size: the source's, in the edit's colours, "
        "or the model's, resized (default: source)",
    )
    add_long_options(parser)


def _run_edit(arguments: argparse.Namespace) -> None:
    from ..request import EditRequest
    from ..source import check_output, load_source, save_result

    names = ("instruction", "reference", "steps", "shift", "guidance_scale", "seed", "height", "width", "guidance_mode")
    names += ("source_scale", "image_stream", "renoise")
    if len(arguments.instruction) == 1:
        (arguments.instruction,) = arguments.instruction
    request = EditRequest.of(**{name: getattr(arguments, name) for name in names})
    check_output(arguments.output, arguments.source, *request.files)
    check_loras(arguments.loras)
    if is_long(arguments):
        edit_in_windows(arguments, request)
    else:
        source = load_source(arguments.source)
        frames = _edit_whole(load_editor(arguments), source, request, arguments.detail)
        save_result(frames, arguments.output, like=source)
    say(arguments.output)


def _edit_whole(editor: Editor, source: Source, request: EditRequest, detail: str) -> Tensor:
    import torch

    with Progress("editing") as progress:
        return editor.edit_loaded(source, request, detail, progress, torch.uint8).frames
