"""The judge: a language model that is asked about attempts whose answers the rules cannot read or compare.

    rules decide ------------------------------------------------> their verdict
    rules: unparsable, undecided -> what final answer does the attempt state?
        no clear answer -----------------------------------------> the rules' verdict
        the rules decide on the stated answer -------------------> that verdict
        they do not -> are the stated answer and the reference the same?
            a clear yes or no -----------------------------------> that verdict
            anything else ---------------------------------------> the rules' verdict

The first question goes without the reference, so that the judge cannot read it into the attempt. The second shows two
answers, in an order that does not tell which is the reference.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from s1ray.errors import InputError
from s1ray.grading import Grade
from s1ray.schemas import Question
from s1ray.storage import Location
from s1ray.teachers.base import Ask
from s1ray.teachers.ledger import Answer, Place, read_answers

if TYPE_CHECKING:
    import pyarrow as pa

UNCLEAR = ("unparsable", "undecided")
"""Verdicts of the rules that the judge is asked about."""
STATED: Final = 1
COMPARED: Final = 2
Step = Literal[1, 2]
"""Which question an ask is: the number that ends its id."""
BY = "judge:"
"""Begins `graded_by` where the judge had a part in the verdict; its label follows."""

STATED_PROMPT = """\
Below are a question and somebody's attempt to answer it. Which final answer does the attempt give? Copy it as it is \
stated there. Do not answer the question yourself, do not correct the attempt, and do not say whether it is right.

## Question
{question}

## Attempt
{attempt}

## Your response
End with one line: "Final Answer: " and the answer that the attempt gives, and nothing else. If the attempt gives no \
final answer, or several different ones, let the line be "Final Answer: NOT STATED"."""
_NOT_STATED = "not stated"
COMPARED_PROMPT = """\
Below are a question and two answers to it. Do the two answers say the same? They do if they have the same value or \
meaning, however they are written. Do not judge whether they are right.

## Question
{question}

## One answer
{one}

## Another answer
{other}

## Your response
End with one line that has only "Yes" (they say the same) or "No" (they do not)."""

_FINAL = re.compile(r"\W*final answer\W*?:[*_\s]*(.*)", re.IGNORECASE)
"""A line that states an answer; the answer may be on a later one."""


@dataclass(frozen=True)
class Judgements:
    """What the judge has said about an attempt; None: it was not asked, or gave no answer."""

    stated: Answer | None = None
    compared: Answer | None = None


def settle(
    rules: Grade, judgements: Judgements, regrade: Callable[[str], Grade], label: str
) -> tuple[Grade, Step | None]:
    """The verdict on an attempt that the rules leave open, and what the judge must still be asked.

    Args:
        rules: their grade.
        judgements: so far.
        regrade: the rules' grade of another text, against the same reference.
        label: the judge's.
    """
    if judgements.stated is None:
        return rules, STATED
    stated = stated_answer(judgements.stated)
    if stated is None:
        return rules, None
    try:
        graded = regrade(f"Final Answer: {stated}")
    except InputError:
        return rules, None
    if graded.correct is not None and graded.verdict not in UNCLEAR:
        return Grade(graded.verdict, stated, f"{BY}{label}, {graded.graded_by}"), None
    if judgements.compared is None:
        return rules, COMPARED
    same = said_same(judgements.compared)
    if same is None:
        return rules, None
    return Grade("correct" if same else "incorrect", stated, f"{BY}{label}, compared"), None


def stated_answer(answer: Answer) -> str | None:
    """The final answer that the judge found in an attempt. None: it found none, or did not keep to the form."""
    text = answer.attempt.strip()
    start = max((match.start() for match in re.finditer("final answer", text, re.IGNORECASE)), default=None)
    if answer.finish_reason != "stop" or start is None:
        return None
    found = _FINAL.match(text, text.rfind("\n", 0, start) + 1)
    stated = found[1].strip(' *"\t\r') if found else ""
    return None if not stated or stated.strip("().").lower() == _NOT_STATED else stated


def said_same(answer: Answer) -> bool | None:
    """Whether two answers are the same, as the judge says. None: it gives no clear yes or no."""
    lines = answer.attempt.split("\n") if answer.finish_reason == "stop" else []
    last = next((line for line in reversed(lines) if line.strip()), "")
    return {"yes": True, "no": False}.get(re.sub(r"[\s\W_]+", " ", last).strip().lower())


def stated_prompt(question: str, attempt: str) -> str:
    """The first question."""
    return _filled(STATED_PROMPT, question=question, attempt=attempt)


def compared_prompt(trace: str, question: str, reference: str, stated: str) -> str:
    """The second question; the id of the trace decides which answer comes first."""
    is_first = hashlib.sha256(trace.encode()).digest()[0] % 2 == 0
    one, other = (reference, stated) if is_first else (stated, reference)
    return _filled(COMPARED_PROMPT, question=question, one=one, other=other)


def judge_asks(rows: pa.Table, responses: Location, judgements: Location) -> list[Ask]:
    """The judge's asks, made where they are sent, so that the attempts' texts go nowhere else.

    Args:
        rows: of attempts: `id` of the trace, `question`, `answer` (the reference), where the `attempt` and, for the
            second question, what the judge `stated` are; and `samples`, which say the question.
        responses: folder of the teacher's ledger.
        judgements: folder of the judge's.
    """
    asks = []
    for row in rows.to_pylist():
        for step in row["samples"]:
            if step == STATED:
                (attempt,) = read_answers(responses, [Place(**row["attempt"])])
                text = stated_prompt(row["question"], attempt.attempt)
            else:
                (said,) = read_answers(judgements, [Place(**row["stated"])])
                stated = stated_answer(said)
                assert stated is not None
                text = compared_prompt(row["id"], row["question"], row["answer"], stated)
            asks.append(Ask(Question(id=row["id"], question=text), step))
    return asks


def _filled(template: str, **values: str) -> str:
    # Texts hold braces of their own, and perhaps the names of these places.
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], template)
