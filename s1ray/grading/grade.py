"""Grading a response against the reference answer: the grader by rules, and how a config names another one.

Cheap comparisons come first: the extracted answer as a choice letter, as text, as an exact number. Only the rest goes
to math-verify. A response without an answer is wrong (in s1 such a multiple-choice answer defaults to "A").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import AfterValidator

from s1ray.errors import InputError
from s1ray.grading import symbolic
from s1ray.grading.extraction import choice_letter, extract_answer, last_boxed, unwrap
from s1ray.grading.normalise import based_number, is_words, parse_number, same_number, same_text, without_unit
from s1ray.registry import GRADERS

KINDS = ("number", "choice", "math", "text")
"""Kinds of reference answers. "text": words or an ordered list, compared by spelling only; "math": compared by algebra
if the spelling differs."""


Verdict = Literal["correct", "incorrect", "unparsable", "undecided", "no gold"]
"""What grading can come to. "unparsable": no answer can be read off the text. "undecided": the comparison ended at a
limit of time, memory or length, twice. "no gold": there is no reference answer to compare with."""


@dataclass(frozen=True)
class Grade:
    """A verdict, the answer that it is about, and the rule that gave it."""

    verdict: Verdict
    extracted: str | None
    """The answer in the text. None: there was none."""
    graded_by: str
    """Of `grade`: "exact", "numeric", "choice", "symbolic" and others, with ", from last_line" if the answer is a
    guess. Another grader uses words of its own."""

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


def find_grader(name: str) -> Grader:
    """The grader that is registered under a name, or is at "module:attribute".

    Raises:
        InputError: there is none, or it is no function.
    """
    grader: Grader = GRADERS.get(name)
    if not callable(grader):
        raise InputError(f"the grader {name!r} is a {type(grader).__name__}, not a function")
    return grader


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
    extraction = extract_answer(text)
    if extraction is None:
        return Grade("unparsable", None, "no answer")
    correct, extracted, rule = _compare(gold, extraction.value, kind)
    verdict: Verdict = "undecided" if "undecided" in rule else "correct" if correct else "incorrect"
    return Grade(verdict, extracted, f"{rule}, from last_line" if extraction.how == "last_line" else rule)


def infer_kind(gold: str) -> str:
    """The kind of a reference answer: a letter A to J is a choice, words are text, the rest numbers and math."""
    if re.fullmatch(r"\(?[A-J]\)?", gold) or re.fullmatch(r"\\text\{\s*\(?[A-J]\)?\s*\}", gold):
        return "choice"
    if parse_number(gold):
        return "number"
    return "text" if is_words(gold) else "math"


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

    Only what `grade` can use is known here; for another grader nothing is checked.

    Args:
        questions: id, reference answer (None or blank: there is nothing to grade against) and metadata.
        origin: begins the message.
        grader: the configured grader's name.

    Raises:
        InputError: a reference has no content (".", an empty box), or its metadata gives a kind that does not exist.
    """
    if grader != RULES:
        return
    for question, gold, metadata in questions:
        try:
            if gold is not None and gold.strip():
                _checked(gold)
            _check_kind(kind_of(metadata))
        except InputError as error:
            raise InputError(f"{origin}: question {question!r}: {error}") from None


def _check_kind(kind: str | None) -> None:
    if kind is not None and kind not in KINDS:
        raise InputError(f"metadata gives answer_kind {kind!r}; it must be one of {', '.join(KINDS)}")


def _checked(gold: str) -> str:
    reference = last_boxed(gold) or unwrap(gold)
    if not reference:
        raise InputError(f"the reference answer {gold!r} is empty: a response cannot be graded against it")
    return reference


def _compare(gold: str, answer: str, kind: str) -> tuple[bool, str | None, str]:
    if kind == "choice":
        letter, wanted = choice_letter(answer), choice_letter(gold)
        if letter is not None:
            return letter == wanted, letter, "choice"
        return False, None, "no answer"
    if same_text(gold, answer):
        return True, answer, "exact"
    gold_number, number = parse_number(gold), parse_number(answer)
    if number is None and gold_number is not None:
        # "x = 5" answers 5, and so does "5 apples".
        number = parse_number(without_unit(answer.rpartition("=")[2]))
    if gold_number and number:
        if same_number(gold_number, number):
            return True, answer, "numeric"
        # A rounded decimal of a fraction is left to algebra, which has a tolerance; two numbers written in the same way
        # are simply different.
        if gold_number.decimal == number.decimal:
            return False, answer, "numeric"
    if kind == "text" or is_words(answer) or _brackets_differ(gold, answer):
        return False, answer, "exact"
    based = _compare_bases(gold, answer)
    if based is not None:
        return based, answer, "numeric"
    verdict = symbolic.symbolic_equal(gold, answer)
    return bool(verdict), answer, "symbolic" if verdict is not None else "symbolic (undecided)"


def _compare_bases(gold: str, answer: str) -> bool | None:
    """Numerals with a base: the answer may omit the reference's base, but must not contradict it."""
    gold_base, answer_base = based_number(gold), based_number(answer)
    if gold_base is None and answer_base is None:
        return None
    if gold_base is None:
        return False if parse_number(gold) else None
    if answer_base is not None:
        return gold_base == answer_base
    digits = re.sub(r"[\s$,]", "", unwrap(answer)).upper()
    return digits.lstrip("0") == gold_base[0] if re.fullmatch(r"[0-9A-Z]+", digits) else None


def _brackets_differ(gold: str, answer: str) -> bool:
    r"""A set is neither a tuple nor an interval, but math-verify equates `\{1,2\}` and `(1,2)`."""
    kinds = {_bracket(gold), _bracket(answer)}
    return kinds == {"set", "tuple"}


def _bracket(text: str) -> str | None:
    text = re.sub(r"\\(?:left|right)", "", text).strip()
    if text.startswith("\\{") and text.endswith("\\}"):
        return "set"
    if text[:1] in ("(", "[") and text[-1:] in (")", "]") and "," in text:
        return "tuple"
    return None
