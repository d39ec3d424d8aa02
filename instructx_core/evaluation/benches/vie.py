"""VIE-Bench (InstructX A.1, A.9): 140 videos, eight tasks, three scores of 1 to 10, a fourth with a reference.

Written without access to the files of Simons212/VIE-Bench: map their columns with `columns:`, or use our column names
(key, source, instruction, group, references). The judge's prompts are ours, following the rubric of A.9; `--prompts`
takes a file with the published ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..judges import Question, Scale
from ..listing import read_rows, text_of
from .case import WHOLE, Case, Columns, check_cases, one_listing, paths_of, safe_name

USUAL = {"key": "key", "source": "source", "instruction": "instruction", "group": "group", "references": "references"}
TEN = Scale(1, 10)
TASKS = {  # Table 4's subtasks -> rows of Table 3
    "object swap": "Swap / Change",
    "color change": "Swap / Change",
    "swap": "Swap / Change",
    "change": "Swap / Change",
    "add": "Add",
    "remove": "Remove",
    "style change": "Style / Tone Change",
    "tone / weather change": "Style / Tone Change",
    "tone/weather change": "Style / Tone Change",
    "hybrid edit": "Hybrid Edit",
    "hybrid": "Hybrid Edit",
    "reference base swap": "Ref Base Swap",
    "reference base add": "Ref Base Add",
}
PUBLISHED = (
    "instruct follow score (1-10)",
    "preservation score (1-10)",
    "quality score (1-10)",
    "similarity score (1-10)",
)
NAMES = ("instruction", "preservation", "quality", "similarity")
RUBRIC = {
    "instruction": "does the edit do exactly what is asked",
    "preservation": "is everything else as coherent with the first clip as it was",
    "quality": "is the result seamless, natural and pleasing to look at, in every frame",
    "similarity": "how alike are the edited thing and the one in the reference picture",
}
WORDS = (
    "You judge an edit of a video. You see frames of the original, then of the edited one{reference}. The "
    "instruction was: {instruction}\n"
    "Give a whole number from 1 to 10 for each of these: {rubric}.\n"
    "1 to 3: no or hardly; 4 to 6: in part; 7 to 10: fully.\n"
    "Answer with one JSON object alone: {form}"
)


class VieBench:
    name = "vie"
    title = "VIE-Bench"
    count = 140
    scores = (*NAMES, "average")
    summaries: Mapping[str, tuple[str, ...]] = {"overall": ()}
    subsets = WHOLE

    def cases(self, data: Path, columns: Columns, scratch: Path) -> list[Case]:
        names = columns.over(USUAL)
        listing = one_listing(data, columns.table, (), self.title)
        cases = []
        for number, (place, row) in enumerate(columns.seen_in(read_rows(listing), listing), 1):
            group = text_of(row, names["group"], place)
            key = text_of(row, names["key"], place) if names["key"] in row else f"{number:03}"
            cases.append(
                Case(
                    safe_name(key),
                    listing.parent / text_of(row, names["source"], place),
                    text_of(row, names["instruction"], place),
                    columns.groups.get(group, TASKS.get(group.strip().lower(), group)),
                    paths_of(row, names["references"], listing.parent, place),
                )
            )
        return check_cases(cases, listing)

    def questions(self, case: Case, prompts: Mapping[str, str]) -> list[Question]:
        shown = ("references", "source", "edited") if case.references else ("source", "edited")
        names = NAMES if case.references else NAMES[:3]
        if published := prompts.get("reference" if case.references else "video"):
            words = f"{published}\n\nThe user's instruction: {case.instruction}"
            return [Question(words, shown, dict.fromkeys(PUBLISHED[: len(names)], TEN))]
        rubric = "; ".join(f"{name}: {RUBRIC[name]}" for name in names)
        form = "{" + ", ".join(f'"{name}": N' for name in names) + ', "reason": "one sentence"}'
        reference = ", and before them the reference" if case.references else ""
        words = WORDS.format(instruction=case.instruction, rubric=rubric, form=form, reference=reference)
        return [Question(words, shown, dict.fromkeys(names, TEN))]

    def score(self, answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        values = list(answers[0].values())
        return dict(zip(NAMES, values, strict=False)) | {"average": sum(values) / len(values)}
