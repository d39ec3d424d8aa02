"""A benchmark run in a folder: edit the cases, then have a judge score the edits. Both steps can be resumed.

| file | content |
|---|---|
| `run.json` | benchmark, model and settings; a run with different ones is refused |
| `cases.jsonl` | the cases, as `instructx study` reads them |
| `edits/KEY.png`, `KEY.mp4` | one edit per case; edits made by other software may be put here instead |
| `edited.jsonl` | seconds of each edit and the model that made it, or why it failed |
| `judged/JUDGE.jsonl` | scores and answers, one file per judge |
| `measured.jsonl` | metrics that need no judge, of cases with a mask |
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..atomic import partial_file
from ..bounded import is_file, read_json
from ..errors import InputError, InstructXError
from ..long_video import edit_video
from ..out_of_memory import out_of_memory_refused
from ..request import EditRequest
from ..source import is_video_file, load_references, load_source, save_result
from ..video import has_more_frames
from ..words import listed, one_line, quoted, quoted_path, shown
from .bench_model import BenchModel
from .benches import Bench, Case
from .benches.case import inner_folder, safe_name
from .case_log import CaseLog, Check, locked, unwritable
from .judges import Answer, Exhibit, Judge, Question, RefusedQuestion, ask
from .judges.question import FIRST_REFUSED
from .report import Progress
from .sampled_frames import sampled_frames

if TYPE_CHECKING:
    from ..editor import Editor

logger = logging.getLogger(__name__)

WINDOW = 81  # frames; longer videos are edited in windows, as `instructx edit` does
TITLES = {"source": "Original", "edited": "Edited", "references": "Reference"}


class _UnshownError(InputError):
    """Source, edit or reference of a case cannot be shown to a judge; those of other cases may."""


class BenchRun:
    """A run's folder, created if it is missing.

    Args:
        settings: everything that the edits depend on; kept in `run.json`.

    Raises:
        InputError: the folder belongs to another run, or cannot be created.
    """

    def __init__(self, folder: Path, bench: Bench, cases: Sequence[Case], settings: Mapping[str, Any]) -> None:
        self.folder, self.bench, self.cases = folder, bench, list(cases)
        self.edits = inner_folder(folder / "edits")
        inner_folder(folder / "judged")
        self.edited = CaseLog(folder / "edited.jsonl")
        self.measured = CaseLog(folder / "measured.jsonl")
        lines = _lines(case.to_dict() for case in self.cases)
        wherever = _lines(case.identity() for case in self.cases)
        self.settings = {"bench": bench.name, "listed": _digest(wherever), **settings}
        _check_settings(folder / "run.json", self.settings, older={"listed": _digest(lines)})
        with partial_file(folder / "cases.jsonl") as unfinished:
            unfinished.write_text(lines, encoding="utf-8")

    def edit_of(self, case: Case) -> Path:
        """The path of a case's edit, existing or not: PNG for a picture, MP4 for a video.

        Raises InputError if the source is neither.
        """
        return self.edits / f"{case.key}{'.mp4' if is_video_file(case.source) else '.png'}"

    def has_edit(self, case: Case) -> bool:
        """Whether a case's edit exists; False also if its source is neither a picture nor a video."""
        try:
            return self.edit_of(case).is_file()
        except InputError:
            return False

    def judged(self, judge: str) -> CaseLog:
        return CaseLog(self.folder / "judged" / f"{safe_name(judge)}.jsonl")

    def edit(self, load: Callable[[], Editor], request: Mapping[str, Any], progress: Progress | None = None) -> int:
        """Edit the cases that have no edit yet; return how many this call edited, and warn of those that failed.

        Args:
            load: returns the model; called only if there is something to edit.
            request: steps, seed and anything else that `EditRequest.of` takes.

        One for which there is too little memory has failed, too.

        Raises:
            InputError: no case could be edited; edits are another model's, also such as another process has made in the
                meantime.
        """
        left = [case for case in self.cases if not self.has_edit(case)]
        if not left:
            return 0
        editor, made, problems = load(), 0, []
        maker = BenchModel.of(editor)
        check = partial(maker.check, self.edited.path)
        check(self.edited.read())
        for number, case in enumerate(left, 1):
            with self.edited.claim(case.key) as mine:
                if mine and not self.has_edit(case):
                    line: dict[str, Any] = {"key": case.key, "group": case.group}
                    start = time.monotonic()
                    try:
                        edit = self.edit_of(case)
                        _edit(editor, case, _unnamed(edit), request)
                    except InstructXError as error:
                        problems.append(str(error))
                        self.edited.append({**line, "problem": one_line(error, 300)})
                    else:
                        line["seconds"] = round(time.monotonic() - start, 2)
                        self._keep(edit, {**line, **maker.noted()}, check)
                        made += 1
            if progress:
                progress(number, len(left), "editing")
        if problems and len(problems) == len(self.cases):
            raise InputError(f"None of {len(left)} cases could be edited; the first: {problems[0]}")
        if problems:
            logger.warning(
                "%d of %d cases could not be edited (%s says why); the first: %s",
                len(problems), len(self.cases), quoted_path(self.edited.path), problems[0],
            )  # fmt: skip
        return made

    def _keep(self, edit: Path, line: Mapping[str, Any], check: Check) -> None:
        """Give an edit its name, after its line is in the log: if `check` refuses that, the edit is deleted."""
        try:
            self.edited.append(line, check)
            os.replace(_unnamed(edit), edit)
        except OSError as error:
            raise unwritable(edit, error) from error
        finally:
            _unnamed(edit).unlink(missing_ok=True)

    def judge(
        self,
        judge: Judge,
        prompts: Mapping[str, str],
        frames: int,
        progress: Progress | None = None,
    ) -> int:
        """Have a judge score the edits that it has not scored yet; return how many this call judged, and warn of those
        that could not be shown to it or that it would not judge.

        Args:
            prompts: the download's, which replace our own.
            frames: number of frames of a clip that the judge sees.

        Raises:
            InputError: no case could be shown; the judge cannot answer, refuses the first cases, or its log is of other
                prompts, or of a judge whose name gives the same file name, also such as another process has written in
                the meantime.
        """
        log = self.judged(judge.name)
        done = log.read()
        asked = _digest(json.dumps(prompts, sort_keys=True))
        check = partial(_check_scores, log.path, judge.name, asked)
        check(done)
        left = [case for case in self.cases if case.key not in done and self.has_edit(case)]
        count, refused, unshown = 0, [], []
        for number, case in enumerate(left, 1):
            with log.claim(case.key) as mine:
                if mine and case.key not in log.read():
                    try:
                        log.append({**self._judged(judge, case, prompts, frames), "prompts": asked}, check)
                        count += 1
                    except _UnshownError as error:
                        unshown.append(f"{case.key}: {error}")
                    except RefusedQuestion as error:
                        refused.append(f"{case.key}: {error}")
                        if not (count or done) and len(refused) == min(FIRST_REFUSED, len(left)):
                            raise
            if progress:
                progress(number, len(left), f"asking {judge.name}")
        if unshown and len(unshown) == len(self.cases):
            raise InputError(f"None of {len(left)} cases could be shown to {judge.name}; the first: {unshown[0]}")
        if unshown:
            logger.warning(
                "%d of %d cases could not be shown to %s; the first: %s",
                len(unshown), len(self.cases), judge.name, unshown[0],
            )  # fmt: skip
        if refused:
            logger.warning(
                "%s would not judge %d of %d cases; the first: %s", judge.name, len(refused), len(left), refused[0]
            )
        return count

    def _judged(self, judge: Judge, case: Case, prompts: Mapping[str, str], frames: int) -> dict[str, Any]:
        """A case's line in the log: the raw answers, and scores if all answers could be read."""
        answers: list[list[Answer]] = []
        scores: list[dict[str, float]] = []
        for number, question in enumerate(self.bench.questions(case, prompts)):
            try:
                exhibits = self._shown(case, question, frames)
            except InputError as error:
                raise _UnshownError(error) from error
            advice = "show it fewer frames (--frames), or take a smaller judge"
            with out_of_memory_refused(f"The judge {quoted(judge.name)}", advice, RefusedQuestion):
                found, said = ask(judge, case.key, number, question, exhibits)
            answers.append(said)
            if found is not None:
                scores.append(found)
        said = [answer for given in answers for answer in given]
        return {
            "key": case.key,
            "group": case.group,
            "tags": dict(case.tags),
            "judge": judge.name,
            "scores": self.bench.score(scores) if len(scores) == len(answers) else None,
            "answers": [[answer.text for answer in given] for given in answers],
            "prompt_tokens": sum(answer.prompt_tokens for answer in said),
            "answer_tokens": sum(answer.answer_tokens for answer in said),
        }

    def _shown(self, case: Case, question: Question, frames: int) -> list[Exhibit]:
        paths = {"source": [case.source], "edited": [self.edit_of(case)], "references": list(case.references)}
        found = []
        for name in question.shown:
            if name == "references":
                found += [Exhibit(TITLES[name], picture[None]) for picture in load_references(paths[name])]
            else:
                found.append(Exhibit(TITLES[name], sampled_frames(paths[name][0], frames)))
        return found


def _edit(editor: Editor, case: Case, output: Path, request: Mapping[str, Any]) -> None:
    asked = EditRequest.of(case.instruction, reference=list(case.references) or None, **request)
    with out_of_memory_refused(quoted_path(case.source), "give --memory group or sequential on a GPU"):
        if is_video_file(case.source) and has_more_frames(case.source, WINDOW):
            edit_video(editor, case.source, output, asked)
            return
        source = load_source(case.source)
        save_result(editor.edit_loaded(source, asked, dtype=torch.uint8).frames, output, like=source)


def _unnamed(edit: Path) -> Path:
    """Where an edit is written before it gets its name; its suffix is the same, as that gives the format."""
    return edit.with_name(f".{edit.name}")


def _check_scores(log: Path, judge: str, asked: str, lines: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise InputError if a log's lines (by key) are another judge's, or by prompts with another digest than `asked`.

    Older versions did not write the prompts' digest.
    """
    if others := {str(line.get("judge", judge)) for line in lines.values()} - {judge}:
        raise InputError(
            f"{quoted_path(log)} holds the scores of {listed(others)}, not of {quoted(judge)}; judge in another run's "
            "folder, or rename one of the judges."
        )
    if any(line.get("prompts", asked) != asked for line in lines.values()):
        raise InputError(f"{quoted_path(log)} holds scores by other prompts; give the same, or move that file away.")


def _lines(values: Iterable[Mapping[str, Any]]) -> str:
    """JSON lines."""
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _check_settings(path: Path, settings: Mapping[str, Any], older: Mapping[str, Any]) -> None:
    """Write the settings of a new run; refuse to continue an older run with different ones.

    Args:
        older: values that earlier versions wrote, which are replaced: they digested the cases with absolute paths.
    """
    with locked(path):
        known = is_file(path)
        there = read_json(path) if known else settings
        if not isinstance(there, Mapping):
            raise InputError(f"{quoted_path(path)} does not hold a run's settings; give a new folder.")
        for name, value in settings.items():
            if there.get(name) not in (value, older.get(name, value)):
                raise InputError(
                    f"The run in {quoted_path(path.parent)} was started with {quoted(name)} "
                    f"{shown(there.get(name))}, not {shown(value)}; give the same settings, or a new folder."
                )
        told = {**there, **settings}
        if told != there or not known:
            with partial_file(path) as unfinished:
                unfinished.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
