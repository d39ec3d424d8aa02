"""Describe and rate with a multimodal model, local or remote (`evaluation.judges`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...bounded import UnreadableError, parse_json
from ...evaluation.judges import Exhibit, Question, RefusedQuestion, Scale, UnreadableAnswer, parse
from ...evaluation.judges import Judge as AnyJudge
from ...evaluation.judges.parsing import FENCE, LONGEST
from ...evaluation.judges.question import FIRST_REFUSED, SHORT_JSON
from ...images import to_floats
from ...words import one_line
from ..experts import ExpertFailed, Look, Recaption, Restyle, Subject, Task
from .prompts import LOOKS, PROMPTS, TASKS

FRAMES = 4  # shown per clip
TRIES = 2
SCORES = {name: Scale(0, 10) for name in ("follow", "preserve", "quality")}


class _Asked:
    """Any judge in an expert's place; a clip that it refuses is dropped."""

    def __init__(
        self, judge: AnyJudge, prompts: Mapping[str, str], answered_before: Callable[[], bool] = lambda: False
    ) -> None:
        """
        Args:
            prompts: replacements for those in `PROMPTS`, by name.
            answered_before: whether it has answered questions of this run in another process, or before a resume.
        """
        self.judge, self.answered_before = judge, answered_before
        self.prompts = PROMPTS | dict(prompts)
        self._answers = self._refused = 0

    def _said(self, name: str, number: int, words: str, shown: list[Exhibit]) -> str:
        """The judge's answer.

        Raises:
            ExpertFailed: the judge refuses this question.
            RefusedQuestion: it has refused the first `FIRST_REFUSED` of the run, and will hardly answer others.
            InputError: it cannot be reached.
        """
        try:
            text = self.judge.ask(name, number, words, shown).text
        except RefusedQuestion as error:
            self._refused += 1
            if not self._answers and self._refused >= FIRST_REFUSED and not self.answered_before():
                raise
            raise ExpertFailed("question refused", why=one_line(error, 200)) from error
        self._answers += 1
        return text


class AskedDescriber(_Asked):
    """Any judge as describer; if its answers are not JSON in the requested form, the clip is dropped."""

    def caption(self, frames: Tensor) -> str:
        return _text(self._ask("caption", [("Clip", frames)]), "caption")

    def subjects(self, frames: Tensor, most: int) -> Sequence[Subject]:
        listed = self._ask("subjects", [("Clip", frames)], most=most).get("subjects")
        if not isinstance(listed, list):
            raise ExpertFailed("the describer lists no subjects")
        return [_subject(one) for one in listed[:most]]

    def alternative(self, frames: Tensor, subject: Subject) -> Subject | None:
        return _subject(self._ask("alternative", [("Clip", frames)], simple=subject.simple))

    def restyle(self, frames: Tensor, look: Look) -> Restyle | None:
        said = self._ask("restyle", [("Clip", frames)], look=look, about=LOOKS[look])
        thing = _plain(said.get("thing"))
        subject = Subject(thing, thing, thing) if thing else None
        return Restyle(_text(said, "request"), subject)

    def instruct(self, task: Task, before: Tensor, after: Tensor, old: Subject, new: Subject | None) -> str:
        what = TASKS[task].format(old=old.simple, new=new.simple if new else "")
        return _text(self._ask("instruct", [("Before", before), ("After", after)], what=what), "request")

    def recaption(self, frames: Tensor, sentence: str, old: Subject, new: Subject | None) -> Recaption:
        about = old.detailed + (f" It becomes: {new.detailed}" if new else "")
        said = self._ask("recaption", [("Picture", frames)], sentence=sentence, detailed=about)
        return Recaption(*(_text(said, name) for name in ("simple", "understanding", "reasoning")))

    def _ask(self, name: str, shown: list[tuple[str, Tensor]], **slots: Any) -> dict[str, Any]:
        words = filled(self.prompts[name], slots)
        exhibits = [Exhibit(title, some_frames(frames)) for title, frames in shown]
        for number in range(TRIES):
            again = f"\n{SHORT_JSON}" if number else ""
            text = self._said(name, number, words + again, exhibits).strip()
            fenced = FENCE.match(text)
            try:
                value = parse_json(fenced[1] if fenced else text, "the answer", LONGEST)
            except UnreadableError:
                continue
            if isinstance(value, dict):
                return value
        raise ExpertFailed(f"no readable answer to {name}")


class AskedRater(_Asked):
    """Any judge as rater."""

    def rate(self, before: Tensor, after: Tensor, sentence: str, reference: Tensor | None) -> Mapping[str, float]:
        shown = [Exhibit("Before", some_frames(before)), Exhibit("After", some_frames(after))]
        if reference is not None:
            shown.append(Exhibit("Reference picture", some_frames(reference[None])))
        question = Question(filled(self.prompts["rate"], {"sentence": sentence}), ("source", "edited"), SCORES)
        for number in range(TRIES):
            again = f"\n{question.reminder}" if number else ""
            try:
                return parse(question, self._said("rate", number, question.words + again, shown))
            except UnreadableAnswer:
                continue
        raise ExpertFailed("no readable rating")


def some_frames(frames: Tensor) -> Tensor:
    """At most FRAMES frames of a clip, evenly spaced from first to last: float32 [t, H, W, 3]."""
    at = torch.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().long()
    return to_floats(frames[at])


def filled(prompt: str, slots: Mapping[str, Any]) -> str:
    """Fill the slots of a prompt; other braces are kept, including those in the values."""
    return re.sub(r"\{(\w+)\}", lambda found: str(slots.get(found[1], found[0])), prompt)


def _subject(value: Any) -> Subject:
    if not isinstance(value, dict):
        raise ExpertFailed("the describer names no subject")
    texts = (_text(value, name) for name in ("category", "simple", "detailed"))
    return Subject(*texts, person=value.get("person") is True)


def _text(value: Mapping[str, Any], name: str) -> str:
    if not (text := _plain(value.get(name))):
        raise ExpertFailed(f"the describer gives no {name}")
    return text


def _plain(text: Any) -> str:
    """A text on one line, without the control characters and lone surrogates that JSON allows."""
    whole = text.encode("utf-8", "replace").decode() if isinstance(text, str) else ""
    return " ".join("".join(c if c.isprintable() else " " for c in whole).split())
