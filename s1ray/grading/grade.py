"""Grading a response against the reference answer: the grader by rules, and how a config names another one.

The answer is read off the text (`extraction`), written in one notation (`notation`), read as a value (`values`) and
compared with the reference's (`equality`); only expressions go to algebra (`comparer`). A response without an answer is
not correct (in s1 such a multiple-choice answer defaults to "A").
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, get_args

from pydantic import AfterValidator

from s1ray.errors import InputError, S1rayError
from s1ray.grading.boxes import boxes_of_last_line, last_boxed
from s1ray.grading.choices import choice_letter
from s1ray.grading.comparer import compare
from s1ray.grading.extraction import MAX_TEXT, POLAR, Extraction, extract_answer
from s1ray.grading.notation import MAX_CHARACTERS, canonical, unwrap
from s1ray.grading.phrases import MEANINGS, yes_or_no
from s1ray.grading.prose import is_prose
from s1ray.grading.reading import read
from s1ray.grading.values import Items, Scalar, Words
from s1ray.registry import GRADERS

KINDS = ("number", "choice", "math", "text")
"""Kinds of reference answers. "text": words or an ordered list, compared by spelling only; "math": compared by algebra
if the spelling differs."""


Verdict = Literal["correct", "incorrect", "unparsable", "undecided", "no gold"]
"""What grading can come to. "unparsable": no answer can be read off the text. "undecided": the comparison ended at a
limit of time, memory or length, twice. "no gold": there is no reference answer to compare with."""
SHORT_REFERENCE = 300
"""Characters of a reference all of whose boxes are its answer; of a longer one, a solution, the last."""
GUESS = ", from last_line"
"""Ends `graded_by` where the answer is a guess."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Grade:
    """A verdict, the answer that it is about, and the rule that gave it."""

    verdict: Verdict
    extracted: str | None
    """The answer in the text. None: there was none."""
    graded_by: str
    """Of `grade`: "exact", "numeric", "choice", "symbolic" and others, with ", from last_line" if the answer is a
    guess. Another grader uses words of its own."""

    def __post_init__(self) -> None:
        # Of a grader that still says True or False, every answer would be undecided.
        if self.verdict not in VERDICTS:
            raise TypeError(f"the verdict of a Grade is one of {', '.join(VERDICTS)}, not {self.verdict!r}")

    @property
    def correct(self) -> bool | None:
        """True or False; None where nobody can say (undecided, no gold). A text without an answer is not correct."""
        return {"correct": True, "incorrect": False, "unparsable": False}.get(self.verdict)


class Grader(Protocol):
    """Decides whether a response is right: one function, which `s1ray.registry.GRADERS` lists by name."""

    def __call__(self, gold: str, text: str, *, kind: str | None = None) -> Grade:
        """Grade an answer text.

        Args:
            gold: the reference answer.
            text: the response's answer text, without its thinking.
            kind: "answer_kind" in the question's metadata, where it has one.

        Raises:
            InputError: nothing can be graded against this reference.
        """


RULES = "rules"
"""The name of `grade` among the graders."""
REFUSED = "refused by the grader"
"""Rule of an undecided verdict: nothing can be graded against the reference."""


def find_grader(name: str) -> Grader:
    """The grader that is registered under a name, or is at "module:attribute".

    Raises:
        InputError: there is none, or it is no function.
    """
    grader: Grader = GRADERS.get(name)
    if not callable(grader):
        raise InputError(f"the grader {name!r} is a {type(grader).__name__}, not a function")
    return grader


class GraderError(S1rayError, RuntimeError):
    """A grader of somebody's own that fails, or gives something else than a `Grade`."""


def grade_by(name: str, gold: str, text: str, *, kind: str | None = None, where: str) -> Grade:
    """Grade an answer text with a grader by name, whose bugs are told in words.

    Args:
        name: of a registered grader, or "module:attribute".
        gold: the reference answer.
        text: the response's answer text, without its thinking.
        kind: as `Grader` takes it.
        where: what the text answers, for the message: "question 'q1'".

    Raises:
        InputError: nothing can be graded against this reference.
        GraderError: the grader raises something else, or gives no `Grade`.
    """
    try:
        found = find_grader(name)(gold, text, kind=kind)
    except S1rayError:
        raise
    except Exception as error:
        if name == RULES:
            raise
        raise GraderError(f"the grader {name!r} fails at {where}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Grade):
        raise GraderError(f"the grader {name!r} gives {found!r:.80} at {where}; it must return a Grade")
    return found


def grade_or_undecided(name: str, gold: str, text: str, *, kind: str | None = None, where: str) -> Grade:
    """As `grade_by`; an answer to a question whose reference the grader refuses is undecided.

    Raises:
        GraderError: as `grade_by`.
    """
    try:
        return grade_by(name, gold, text, kind=kind, where=where)
    except InputError:
        return Grade("undecided", None, REFUSED)


def _known_grader(name: str) -> str:
    find_grader(name)
    return name


GraderName = Annotated[str, AfterValidator(_known_grader)]
"""For a config's field: a registered grader's name, or "module:attribute"."""


def grade(gold: str, text: str, *, kind: str | None = None) -> Grade:
    r"""Grade an answer text.

    Args:
        gold: the reference answer ("42", "\\frac{1}{2}", "C"); if it has a box in it, what is in the box.
        text: the response's answer text, without its thinking.
        kind: of `gold`, one of `KINDS`. None: `infer_kind` decides.

    Raises:
        InputError: `gold` is empty, or there is no such kind.
    """
    gold = _checked(gold)
    _check_kind(kind)
    kind = kind or infer_kind(gold)
    polar = _is_polar(gold, kind)
    extraction = extract_answer(text, POLAR if polar else kind)
    if extraction is None:
        rule = "no answer" if len(text) <= MAX_TEXT else f"longer than {MAX_TEXT:,} characters"
        return Grade("unparsable", None, rule)
    answer = (polar and yes_or_no(unwrap(canonical(extraction.value[:MAX_CHARACTERS])))) or extraction.value
    verdict, extracted, rule = _compare(gold, answer, kind)
    if verdict == "incorrect" and extraction.how == "boxed" and (parts := _boxed_parts(gold, text)):
        # "a = \\boxed{1} and b = \\boxed{2}"
        joined, extracted_too, rule_too = _compare(gold, parts, kind)
        if joined == "correct":
            verdict, extracted, rule = joined, extracted_too, rule_too
    if verdict == "incorrect" and _says_nothing(gold, answer, extraction, kind, polar=polar):
        return Grade("unparsable", None, "no answer")
    return Grade(verdict, extracted, rule + GUESS if extraction.how == "last_line" else rule)


def is_guess(graded_by: str) -> bool:
    """Whether the answer of a `Grade` is only a guess from the text's last line, by its `graded_by`."""
    return graded_by.endswith(GUESS)


def infer_kind(gold: str) -> str:
    """The kind of a reference answer: a letter A to J is a choice, words are text, the rest numbers and math."""
    if re.fullmatch(r"\(?[A-J]\)?", gold) or re.fullmatch(r"\\text\{\s*\(?[A-J]\)?\s*\}", gold):
        return "choice"
    value = read(canonical(gold))
    if isinstance(value, Scalar) and value.number is not None:
        return "number"
    # Yes, no, none and the like are compared by meaning.
    return "text" if isinstance(value, Words) and value.text not in MEANINGS else "math"


def kind_of(metadata: str | None) -> str | None:
    """The kind that a question's metadata gives under "answer_kind", or None."""
    if not metadata or "answer_kind" not in metadata:
        return None
    try:
        kind = json.loads(metadata)["answer_kind"]
    except (ValueError, KeyError, TypeError):
        # Not our metadata; the word may mean something else there.
        return None
    return None if kind is None else str(kind)


def check_references(questions: Iterable[tuple[str, str | None, str | None]], origin: str, grader: str = RULES) -> None:
    """Check, before any response is asked for, that responses can be graded against questions' reference answers.

    Only what `grade` can use is known here; another grader is tried on one of them.

    Args:
        questions: id, reference answer (None or blank: there is nothing to grade against) and metadata.
        origin: begins the message.
        grader: the configured grader's name.

    Raises:
        InputError: a reference has no content (".", an empty box), or its metadata gives a kind that does not exist.
        GraderError: another grader fails.
    """
    if grader != RULES:
        _try(grader, questions)
        return
    for question, gold, metadata in questions:
        try:
            if gold is not None and gold.strip():
                _checked(gold)
            _check_kind(kind_of(metadata), "metadata gives answer_kind")
        except InputError as error:
            raise InputError(f"{origin}: question {question!r}: {error}") from None


def _try(grader: str, questions: Iterable[tuple[str, str | None, str | None]]) -> None:
    """Call a grader once, on the first question with a reference, as if that were the response."""
    with_reference = ((question, gold, metadata) for question, gold, metadata in questions if gold and gold.strip())
    question, gold, metadata = next(with_reference, ("an example", "2", None))
    assert gold is not None
    # A grader may refuse a reference; that one question is then not graded.
    with contextlib.suppress(InputError):
        grade_by(grader, gold, f"The answer is {gold}.", kind=kind_of(metadata), where=f"question {question!r}")


def _check_kind(kind: str | None, said: str = "the answer_kind") -> None:
    if kind is not None and kind not in KINDS:
        raise InputError(f"{said} {kind!r} is unknown; it must be one of {', '.join(KINDS)}")


def _is_polar(gold: str, kind: str) -> bool:
    value = read(canonical(gold)) if kind in ("math", "text") and len(gold) < 30 else None
    return isinstance(value, Words) and value.text in ("yes", "no")


def _says_nothing(gold: str, answer: str, extraction: Extraction, kind: str, *, polar: bool) -> bool:
    """Whether what was read is no answer that a rule can call wrong: a sentence, or neither yes nor no."""
    if polar:
        value = read(canonical(answer[:MAX_CHARACTERS]))
        return not (isinstance(value, Words) and value.text in ("yes", "no"))
    if extraction.how == "boxed" or kind == "choice":
        return False
    words = 3 if kind != "text" else max(3, len(gold.split()) + 3)
    return is_prose(extraction.value, words)


def _boxed_parts(gold: str, text: str) -> str | None:
    """The boxes of the text's last line with boxes as a list, where the reference is a list of as many answers."""
    value = read(canonical(gold)) if len(gold) <= MAX_CHARACTERS else None
    if not isinstance(value, Items) or value.brackets != "":
        return None
    boxes = boxes_of_last_line(text)
    return ", ".join(boxes) if len(boxes) == len(value.items) > 1 else None


def _checked(gold: str) -> str:
    boxes = boxes_of_last_line(gold) if len(gold) < SHORT_REFERENCE and "\n" not in gold.strip() else []
    reference = ", ".join(boxes) if len(boxes) > 1 else last_boxed(gold) or unwrap(gold)
    if not reference:
        raise InputError(f"the reference answer {gold!r} is empty: a response cannot be graded against it")
    return reference


def _compare(gold: str, answer: str, kind: str) -> tuple[Verdict, str | None, str]:
    if kind == "choice":
        letter, wanted = choice_letter(answer), choice_letter(gold)
        if letter is not None:
            return _said(letter == wanted), letter, "choice"
        return "unparsable", None, "no answer"
    if len(answer) > MAX_CHARACTERS:
        return "unparsable", None, f"longer than {MAX_CHARACTERS:,} characters"
    verdict, rule = compare(gold, answer, kind)
    return "undecided" if verdict is None else _said(verdict), answer, rule


def _said(correct: bool) -> Verdict:
    return "correct" if correct else "incorrect"
