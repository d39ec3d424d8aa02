"""OpenVE-Bench and RefVIE-Bench: videos, three scores from 1 to 5, the second and third capped at the first.

OpenVE-Bench's list is `benchmark_videos.csv` with original_video, prompt and edited_type. RefVIE-Bench adds a reference
picture to each case; a `columns:` mapping covers a list with different column names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..judges import Question, Scale
from ..listing import read_rows, text_of
from .case import WHOLE, Case, Columns, check_cases, one_listing, paths_of

FIVE = Scale(1, 5)
NAMES = ("instruction", "consistency", "quality")
WORDS = (
    "You judge an edit of a video. You see {shown}. The instruction was: {instruction}\n"
    "Give a whole number from 1 (worst) to 5 (best) for each. instruction: was what is asked done, throughout the "
    "clip{likeness}? consistency: are movement, scene and everything else as in the original? quality: is it clear, "
    "stable and free of artifacts? Neither consistency nor quality may be higher than instruction.\n"
    'Answer with one JSON object alone: {{"instruction": N, "consistency": N, "quality": N, "reason": "one sentence"}}'
)


@dataclass(frozen=True)
class VideoBench:
    """Either of the two; with `referenced`, every case must have a reference."""

    name: str
    title: str
    referenced: bool
    usual: Mapping[str, str]
    lists: tuple[str, ...] = ("benchmark_videos.csv",)
    count: int | None = None
    scores: tuple[str, ...] = (*NAMES, "overall")
    summaries: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"overall": ()})
    subsets: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: WHOLE)

    def cases(self, data: Path, columns: Columns, scratch: Path) -> list[Case]:
        names = columns.over(self.usual)
        listing = one_listing(data, columns.table, self.lists, self.title)
        cases = []
        for number, (place, row) in enumerate(columns.seen_in(read_rows(listing), listing), 1):
            group = text_of(row, names["group"], place)
            references = paths_of(row, names["references"], listing.parent, place)
            if self.referenced and not references:
                text_of(row, names["references"], place)  # raises the error that names the empty column
            cases.append(
                Case(
                    f"{number:04}",
                    listing.parent / text_of(row, names["source"], place),
                    text_of(row, names["instruction"], place),
                    columns.groups.get(group, group),
                    references,
                )
            )
        return check_cases(cases, listing)

    def questions(self, case: Case, prompts: Mapping[str, str]) -> list[Question]:
        shown = "frames of the original, then frames of the edited one"
        likeness = ""
        if case.references:
            shown = f"a reference picture, {shown}"
            likeness = ", with the very thing of the reference"
        words = WORDS.format(instruction=case.instruction, shown=shown, likeness=likeness)
        pictures = ("references", "source", "edited") if case.references else ("source", "edited")
        return [Question(words, pictures, dict.fromkeys(NAMES, FIVE))]

    def score(self, answers: Sequence[Mapping[str, float]]) -> dict[str, float]:
        first = answers[0]["instruction"]
        bounded = {
            name: min(value, first) for name, value in answers[0].items()
        }  # the judge is told this rule too, but may forget it
        return bounded | {"overall": sum(bounded.values()) / len(bounded)}


OPENVE = VideoBench(
    "openve",
    "OpenVE-Bench",
    referenced=False,
    usual={"source": "original_video", "instruction": "prompt", "group": "edited_type", "references": "ref_image"},
)
REFVIE = VideoBench(
    "refvie",
    "RefVIE-Bench",
    referenced=True,
    usual={"source": "src_video", "instruction": "prompt", "group": "edited_type", "references": "ref_image"},
    lists=("benchmark_videos.csv", "refvie_bench.csv", "metadata.csv"),
)
