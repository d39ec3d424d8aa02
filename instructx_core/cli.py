"""The `instructx` command: edit, demo, train, evaluate, world, convert, info.

- Nothing heavy is imported before it is needed: `--help` and most errors answer at once.
- What is cheap to check (numbers, paths, the source itself) is checked before a model is loaded.
- Input that cannot be used ends with exit code 2 and one line on stderr; Ctrl-C with 130 and one line. Anything
  else that goes wrong is a defect and keeps its traceback.
- Results go to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from .cli_long import LONG_EXAMPLES, add_long_options, is_long, run_long_edit
from .errors import InputError, InstructXError

if TYPE_CHECKING:
    from tqdm import tqdm

    from .editor import Editor

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, what shells expect
WORLD_GROUPS = "recolor, remove, add, replace, background, grayscale, invert, hybrid, reference_swap, reference_add"

DESCRIPTION = "Edit a picture or a video from a sentence (InstructX)."
OVERVIEW = """\
examples:
  instructx demo                                              see the bundled model edit a picture and a clip
  instructx edit in.png "make the red circle blue" -o out.png
  instructx edit in.mp4 "make it grayscale" -o out.mp4 --steps 20
  instructx world -o pairs --count 100                        write training pairs to look at or train on
  instructx train stage2.yaml --resume                        continue a training run

`instructx COMMAND --help` explains a command. Exit codes: 0 done, 2 input that cannot be used (one line says why),
130 Ctrl-C.
"""
EDIT_EXAMPLES = f"""\
examples:
  instructx edit photo.png "remove the green square" -o photo_edit.png
  instructx edit clip.mp4 "change the background to teal" -o clip_edit.mp4 --seed 7
  instructx edit photo.png "replace the blue circle with the object in the reference" --reference object.png -o out.png

The result has the source's exact size, and a video keeps its frames, frame rate, audio and rotation. The file
appears under its name only when it is complete; an older file of that name is replaced. The same seed gives the
same pixels on the same machine.

{LONG_EXAMPLES}"""
DEMO_EXAMPLES = """\
examples:
  instructx demo
  instructx demo -o somewhere/else
"""
TRAIN_EXAMPLES = """\
examples:
  instructx train stage1.yaml
  instructx train stage1.yaml --resume            after an interruption: continues at the last complete save
  accelerate launch -m instructx_core train stage1.yaml       the same run on several processes or GPUs

The configs of all stages lie in instructx_core/training/configs. A stopped run loses the steps since its last save.
"""
EVALUATE_EXAMPLES = """\
examples:
  instructx evaluate                                          the numbers of the model card (long on a CPU)
  instructx evaluate --images 20 --videos 10                  a first impression
  instructx evaluate --model runs/mine --json mine.json

Samples come from seeds that training never draws. An edit succeeds when less than half of the way to the target is
left where the edit is, and everything else is within 24 dB PSNR.
"""
WORLD_EXAMPLES = f"""\
examples:
  instructx world -o pairs                                    8 pictures before and after, edits of all groups in turn
  instructx world -o clips --frames 17 --group recolor --group remove --count 50

groups: {WORLD_GROUPS}
The folder gets a metadata.csv with the columns source, target, instruction, reference: the form that
`instructx train` reads.
"""
CONVERT_EXAMPLES = """\
examples:
  instructx convert kiwi-edit-5b-diffusers models/kiwi        Kiwi-Edit's published folder in this layout
  instructx convert kiwi-edit-5b-diffusers kiwi.safetensors   its DiT alone, for ComfyUI's Load Diffusion Model

Weights are copied tensor by tensor, so they may be larger than memory; pickles are never opened. The result appears
only when it is complete. `instructx edit --model` reads either folder.
"""
INFO_EXAMPLES = """\
examples:
  instructx info                                              the bundled model
  instructx info runs/mine
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (the process's own by default); return the exit code."""
    try:
        arguments = build_parser().parse_args(argv)
        arguments.run(arguments)
    except InstructXError as error:
        print(f"instructx: {_one_line(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("instructx: interrupted; no unfinished output was left behind.", file=sys.stderr)
        return INTERRUPTED
    return 0


class Parser(argparse.ArgumentParser):
    """argparse with one line per error, and help texts that keep their line breaks."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: {_one_line(message)} (see {self.prog} --help)\n")


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser(prog="instructx", description=DESCRIPTION, epilog=OVERVIEW)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_edit(commands)
    _add_demo(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_world(commands)
    _add_convert(commands)
    _add_info(commands)
    return parser


# --- edit


def _add_edit(commands: Any) -> None:
    parser = _command(commands, "edit", "edit one picture or video", EDIT_EXAMPLES, _run_edit)
    parser.add_argument("source", metavar="SOURCE", type=Path, help="the picture or video to edit")
    parser.add_argument("instruction", metavar="INSTRUCTION", help="what to do, as a sentence in quotes")
    parser.add_argument("-o", "--output", metavar="OUT", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--reference",
        metavar="IMG",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        help="pictures of a subject to use",
    )
    _add_model(parser)
    parser.add_argument("--steps", type=_whole(1, 1000), help="sampling steps, 1 to 1000 (default: the model's own)")
    parser.add_argument("--seed", type=_whole(0, 2**64 - 1), default=0, help="seed of the noise, from 0 (default: 0)")
    parser.add_argument(
        "--guidance-scale",
        type=_real(0, 100),
        help="classifier-free guidance, 0 to 100; 1 is off and twice as fast (default: the model's own)",
    )
    parser.add_argument(
        "--shift",
        type=_real(0, 100, above=True),
        help="above 0, at most 100: more spends more of the steps at high noise (default: the model's own)",
    )
    for side in ("height", "width"):
        parser.add_argument(
            f"--{side}",
            type=_whole(1, 8192),
            help=f"{side} to work at, a multiple of the model's stride (default: its area at the source's aspect)",
        )
    add_long_options(parser)


def _run_edit(arguments: argparse.Namespace) -> None:
    from .source import check_output, load_references, load_source, save_result

    if not arguments.instruction.strip():
        raise InputError("instruction: it is empty; say what to change, for example 'make the red circle blue'.")
    if (arguments.height is None) != (arguments.width is None):
        raise InputError("height and width: only one of them is given; give both or neither.")
    check_output(arguments.output, arguments.source, *arguments.reference)
    if is_long(arguments):
        with Progress("editing") as progress:
            run_long_edit(arguments, lambda: _load_editor(arguments.model, arguments.device), progress)
        print(arguments.output)
        return
    source = load_source(arguments.source)
    references = load_references(arguments.reference)
    editor = _load_editor(arguments.model, arguments.device)
    with Progress("editing") as progress:
        result = editor.edit(
            source,
            arguments.instruction,
            reference=references,
            steps=arguments.steps,
            shift=arguments.shift,
            guidance_scale=arguments.guidance_scale,
            seed=arguments.seed,
            height=arguments.height,
            width=arguments.width,
            callback=progress,
        )
    save_result(result.frames, arguments.output, like=source)
    print(arguments.output)


# --- demo


def _add_demo(commands: Any) -> None:
    parser = _command(
        commands, "demo", "edit a shipped picture and clip with the bundled model", DEMO_EXAMPLES, _run_demo
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("instructx-demo"),
        help="folder to write to (default: %(default)s)",
    )


def _run_demo(arguments: argparse.Namespace) -> None:
    from .demo import DEMO_EDITS, run_demo_edit

    directory = _make_folder(arguments.output)
    editor = _load_editor()
    for demo in DEMO_EDITS:
        with Progress(f"{demo.source.name}: {demo.instruction}") as progress:
            output = run_demo_edit(editor, demo, directory, progress)
        print(f'"{demo.instruction}": {demo.source.name} and its edit, side by side: {output}')


# --- train


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", "train a model as a config file says", TRAIN_EXAMPLES, _run_train)
    parser.add_argument(
        "config", metavar="CONFIG.yaml", type=Path, help="the stage's settings, its data and where it saves"
    )
    parser.add_argument("--resume", action="store_true", help="continue at the last complete save of this config's run")


def _run_train(arguments: argparse.Namespace) -> None:
    from .training.config import read_train_config

    config = read_train_config(arguments.config)
    from .training.stages import train

    print(train(config, resume=arguments.resume))


# --- evaluate


def _add_evaluate(commands: Any) -> None:
    parser = _command(
        commands, "evaluate", "measure a model on held-out samples of the world", EVALUATE_EXAMPLES, _run_evaluate
    )
    _add_model(parser)
    parser.add_argument(
        "--images", metavar="N", type=_whole(0, 100_000), default=500, help="pictures per group (default: 500)"
    )
    parser.add_argument(
        "--videos", metavar="N", type=_whole(0, 100_000), default=200, help="videos per group (default: 200)"
    )
    parser.add_argument("--steps", type=_whole(1, 1000), help="sampling steps, 1 to 1000 (default: the model's own)")
    parser.add_argument("--json", metavar="OUT", type=Path, help="also write every number to this file")


def _run_evaluate(arguments: argparse.Namespace) -> None:
    from .paths import partial_file, writable_file

    if arguments.json:
        writable_file(arguments.json)
    from .evaluation import evaluate

    editor = _load_editor(arguments.model, arguments.device)
    with Progress("edits") as progress:
        report = evaluate(
            editor,
            images=arguments.images,
            videos=arguments.videos,
            held_out_video=editor.config.held_out_from_video,
            steps=arguments.steps,
            progress=progress,
        )
    if arguments.json:
        with partial_file(arguments.json) as partial:
            partial.write_text(report.to_json() + "\n", encoding="utf-8")
    print(report.to_markdown())


# --- world


def _add_world(commands: Any) -> None:
    parser = _command(commands, "world", "write sample pairs of the procedural world", WORLD_EXAMPLES, _run_world)
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--count", metavar="N", type=_whole(1, 1_000_000), default=8, help="pairs in all (default: 8)")
    parser.add_argument(
        "--group", action="append", help="a kind of edit, repeatable; see below (default: all, in turn)"
    )
    parser.add_argument("--frames", type=_whole(1, 1000), default=1, help="1 for pictures, more for clips (default: 1)")
    parser.add_argument(
        "--size", type=_whole(32, 1024), default=64, help="height and width, 32 to 1024 pixels (default: 64)"
    )
    parser.add_argument("--seed", type=_whole(0, 2**40 - 1), default=0, help="seed of the first pair (default: 0)")


def _run_world(arguments: argparse.Namespace) -> None:
    from .world import GROUPS
    from .world_folder import write_pairs

    with Progress("pairs") as progress:
        metadata = write_pairs(
            arguments.output,
            count=arguments.count,
            groups=arguments.group or GROUPS,
            frames=arguments.frames,
            size=arguments.size,
            seed=arguments.seed,
            progress=progress,
        )
    print(metadata)


# --- convert


def _add_convert(commands: Any) -> None:
    parser = _command(
        commands, "convert", "convert a model's files into another layout", CONVERT_EXAMPLES, _run_convert
    )
    parser.add_argument("source", metavar="IN", type=Path, help="a model folder, such as Kiwi-Edit's published one")
    parser.add_argument(
        "target", metavar="OUT", type=Path, help="the folder to write, or a .safetensors file for the DiT alone"
    )


def _run_convert(arguments: argparse.Namespace) -> None:
    from .checkpoints.convert import convert

    with Progress("bytes") as progress:
        convert(arguments.source, arguments.target, progress)
    print(arguments.target)


# --- info


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", "say what a model is", INFO_EXAMPLES, _run_info)
    parser.add_argument(
        "model", metavar="MODEL", type=Path, nargs="?", help="a model folder (default: the bundled model)"
    )


def _run_info(arguments: argparse.Namespace) -> None:
    from .model_info import describe_model

    print(describe_model(arguments.model))


# --- shared


def _command(
    commands: Any, name: str, summary: str, examples: str, run: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    description = f"{summary[0].upper()}{summary[1:]}."
    parser = commands.add_parser(name, help=summary, description=description, epilog=examples)
    parser.set_defaults(run=run)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", metavar="DIR", type=Path, help="a model folder (default: the bundled model)")
    parser.add_argument("--device", help="where to run: cpu, cuda, cuda:1, mps (default: a GPU if there is one)")


def _load_editor(model: Path | None = None, device: str | None = None) -> Editor:
    from transformers.utils.logging import disable_progress_bar

    from .editor import Editor

    disable_progress_bar()  # its bar over a few weights would stand between the user and the one line of an error
    return Editor.from_pretrained(model, device=device)


def _whole(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from low to high."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return value

    return parse


def _real(low: float, high: float, *, above: bool = False) -> Callable[[str], float]:
    """A parser of numbers from low (or only above it) to high."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low < value <= high or (value == low and not above)):
            span = f"above {low} and up to {high}" if above else f"from {low} to {high}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {span}")
        return value

    return parse


def _make_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{path}: this folder cannot be written ({error.strerror}); name another one.") from error
    return path


class Progress:
    """A progress bar on stderr that appears with the first step: input that is refused before leaves one line only."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.bar: tqdm | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done: int, total: int, what: object = None) -> None:
        """Show `done` of `total`; `what` renames the bar where it is a string (samplers hand latents there)."""
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(desc=self.what, total=total, file=sys.stderr, dynamic_ncols=True)
        if isinstance(what, str):
            self.bar.set_description(what, refresh=False)
        self.bar.update(done - self.bar.n)


def _one_line(text: str) -> str:
    return " ".join(text.split())
