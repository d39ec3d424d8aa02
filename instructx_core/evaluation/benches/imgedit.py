"""The basic suite of ImgEdit-Bench: 737 pictures, nine kinds of edit, three scores from 1 to 5.

Layout (repository and Benchmark.tar of sysuyy/ImgEdit): `Benchmark/Basic/basic_edit.json`
{key: {id, prompt, edit_type}}, pictures `Benchmark/singleturn/ID`, next to the list `prompts.json` with a judge's
prompt per kind, `<edit_prompt>` as the placeholder of the instruction. These prompts have no licence, so they are not
shipped: they are read from the download, with WORDS as the fallback. InstructX's Table 2 omits `extract`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...bounded import is_dir, is_file, read_json
from ...errors import InputError
from ...words import quoted_path
from ..judges import Question, Scale
from ..listing import read_rows, text_of
from .case import WHOLE, Case, Columns, check_cases, one_of, safe_name

LISTS = ("Benchmark/Basic/basic_edit.json", "Basic/basic_edit.json", "basic_edit.json")
PICTURES = ("Benchmark/singleturn", "singleturn", ".")
USUAL = {"source": "id", "instruction": "prompt", "group": "edit_type", "key": "key"}
PAPER = ("adjust", "remove", "replace", "add", "style", "compose", "background", "action")
FIVE = Scale(1, 5)
WORDS = (
    "The first picture was edited into the second by this instruction: {instruction}\n"
    "It is an edit of the kind '{group}'. Give three scores, whole numbers from 1 (worst) to 5 (best).\n"
    "instruction: was what is asked done, to the right thing and completely?\n"
    "preservation: is everything that the instruction does not name the same as before?\n"
    "quality: does the edited part fit in light, edges and perspective, without artifacts?\n"
    "If the instruction was not followed at all, no score is above 2.\n"
    'Answer with one JSON object alone: {{"instruction": N, "preservation": N, "quality": N, "reason": "one sentence"}}'
)


class ImgEditBench:
    name = "imgedit"
    title = "ImgEdit-Bench"
    count = 737
    scores = ("overall",)
    summaries: Mapping[str, tuple[str, ...]] = {"overall of 8": PAPER, "overall of all": ()}
    subsets = WHOLE

    def cases(self, data: Path, columns: Columns, scratch: Path) -> list[Case]:
        names = columns.over(USUAL)
        listing = one_of(data, (columns.table,) if columns.table else LISTS, "ImgEdit's repository with Benchmark.tar")
        cases = []
        folder = next((data / name for name in PICTURES if is_dir(data / name)), data)
        for place, row in columns.seen_in(read_rows(listing), listing):
            group = text_of(row, names["group"], place)
            cases.append(
                Case(
                    key=safe_name(text_of(row, names["key"], place)),
                    source=folder / text_of(row, names["source"], place),
                    instruction=text_of(row, names["instruction"], place),
                    group=columns.groups.get(group, group),
                )
            )
        return check_cases(cases, listing)

    def questions(self, case: Case, prompts: Mapping[str, str]) -> list[Question]:
        if case.group in prompts:
            words = prompts[case.group].replace("<edit_prompt>", case.instruction)
            return [Question(words, ("source", "edited"), lines=True, count=3, scale=FIVE)]
        words = WORDS.format(instruction=case.instruction, group=case.group)
        return [Question(words, ("source", "edited"), dict.fromkeys(("instruction", "preservation", "quality"), FIVE))]

    def score(self, answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        values = list(answers[0].values())
        return {"overall": sum(values) / len(values)}


def read_prompts(data: Path) -> dict[str, str]:
    """The download's prompts by kind of edit; empty if it has no `prompts.json`.

    Raises InputError if the file is not a mapping of strings.
    """
    path = next(
        (data / name for name in (Path(one).with_name("prompts.json") for one in LISTS) if is_file(data / name)), None
    )
    if path is None:
        return {}
    value = read_json(path)
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InputError(f"{quoted_path(path)} is not a mapping of kinds to prompts; download it again.")
    return {str(kind): text for kind, text in value.items()}
