r"""Extracting the final answer from a response's answer text (what follows the end-of-thinking delimiter).

In order: the last complete `\boxed{...}`; `<answer>...</answer>`; what follows the last label ("Final Answer:", "Ans:",
"A:", "####", "the answer is"); the last line, as a guess. For a reference that is a number or a choice, prose is read
with that in mind: "Josh made a profit of $70,000." ends in a number, "(C) is correct" names an option. Two differences
from the s1 harness (answer extraction for AIME and MATH) are deliberate: s1 takes everything after the *first*
"Answer:", although its comment says last, and fails on `\fbox`. Each answer says how it was found, so that a report can
tell a boxed answer from a guess.

The time is linear in the text: boxes are looked for from the end, all else in the last `WINDOW` characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from s1ray.grading.boxes import last_boxed
from s1ray.grading.choices import option_in
from s1ray.grading.closing import without_check, without_closing
from s1ray.grading.notation import unwrap
from s1ray.grading.phrases import yes_or_no
from s1ray.grading.prose import (
    MATH_SPAN,
    WHOLE_MAX,
    has_words,
    is_number,
    leading_number,
    measure_after,
    number_in,
    states_value,
)

How = Literal["boxed", "label", "whole", "last_line"]
"""How an answer was found. "whole": the text is one short line; "last_line": a guess, and the grade says so."""

MAX_TEXT = 8_000_000
"""Characters of a text that is read at all."""
WINDOW = 50_000
"""Characters at the end of a text in which an answer without a box is looked for."""
_TAGGED = re.compile(r"<answer>(?P<value>.{0,4000}?)</answer>", re.IGNORECASE | re.DOTALL)
_JSON = re.compile(r'"(?:final_)?answer"\s{0,9}:\s{0,9}(?P<value>"[^"\n]{1,500}"|[^\s",}\]]{1,500})', re.IGNORECASE)
# "Final Answer: 4", "**Answer:** 4", "the answer is 4", "### Final Answer" on a line of its own, "Ans: 5", "#### 18".
_LABEL = re.compile(
    r"(?:\b(?:answer|ans)\b|(?<![^\n])(?:A|Solution|Result)(?=[ \t]{0,4}[:：])|答案|答え)"
    r"[ \t]{0,9}(?:\*\*|__)?[ \t]{0,9}"
    r"(?:(?P<colon>[:：=](?:[ \t]{0,9}(?:\*\*|__))?)"
    r"|(?P<is>(?:(?:is|would be|must be|should be|seems to be)(?![a-z])|是|为)(?![ \t]{1,9}not\b)(?:[ \t]{0,9}[:：])?)"
    r"|(?P<heading>(?=\n)))"
    r"|(?P<hashes>(?<![^\n])####[ \t]{1,9})",
    re.IGNORECASE,
)
_LABEL_ELSEWHERE = re.compile(
    r"(?:\b(?:R[ée]ponse|Respuesta|Resposta|Risposta|Antwort|Ответ)|정답|답)[ \t]{0,4}(?P<is>[:：])", re.IGNORECASE
)
"""In other languages; looked for where there is no other label."""
_FINAL = re.compile(r"\bfinal answer\b[ \t*_]{0,9}(?:(?P<said>is\b)|[:：])", re.IGNORECASE)
_NO_PROSE = re.compile(r"[\d\\$]|^\(?[A-Z]\)?$")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_DISPLAY = {"$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$"}
_LIST_NUMBER = re.compile(r"^\s{0,9}\d{1,2}[.)]\s{1,9}(?=[A-Za-z*])")
# "4, not 3", "Monday rather than Tuesday"
_ASIDE = re.compile(
    r"(?<=[\w$)\]*%}])(?:,\s{1,4}(?:and )?not|,?\s{1,4}(?:rather than|instead of))\s[^,;.\n]{1,80}[.*]{0,3}$"
)
_NO_ANSWER = re.compile(
    r"(?:(?:the|our|my|final|correct|so|hence|thus|therefore),? ){0,4}(?:answer|ans|solution|result)"
    r"(?: is| are| would be)?\s?[:：]?[*_]*$"
    r"|(?:sorry,? |unfortunately,? |well,? ){0,2}(?:but )?(?:i|we)(?:'m| am| are)?"
    r" (?:cannot|can not|can't|could not|couldn't|do not|don't|did not|didn't|not able to|unable to|not|unsure)\b"
    r"(?: (?:really|quite|be|to|sure|know|say|tell|answer|determine|solve|find|figure|give|decide|certain))",
    re.IGNORECASE,
)
"""A label without an answer, and words that decline to give one."""
POLAR = "yes or no"
"""How a text is read whose reference is yes or no."""


@dataclass(frozen=True)
class Extraction:
    """An answer as it stands in the text, and how it was found."""

    value: str
    how: How


def extract_answer(text: str, kind: str | None = None) -> Extraction | None:
    """Find the final answer in an answer text (without the thinking).

    Args:
        text: at most `MAX_TEXT` characters; a longer one has no answer.
        kind: of the reference: "number", "choice" and `POLAR` let prose be read. None: not known.

    Returns:
        The answer without wrapping (dollar signs, bold, a final full stop), or None.
    """
    if len(text) > MAX_TEXT:
        return None
    text = without_closing(text)
    boxed = last_boxed(text)
    if boxed is not None:
        tail = text[max(len(text) - WINDOW, text.rfind("\\box", 0), text.rfind("\\fbox", 0)) :]
        later = [*_FINAL.finditer(tail)]
        # "... = \boxed{255} more. Final Answer: 10,455"
        final = _last_labelled(tail[later[-1].start() :], kind) if later else None
        if final and later[-1]["said"] and not _NO_PROSE.search(final):
            final = None  # "\boxed{7}. The final answer is positive, because ..."
        return Extraction(final, "label") if final else Extraction(boxed, "boxed") if boxed else None
    text = text[-WINDOW:]
    tagged = [*_TAGGED.finditer(text)] or [*_JSON.finditer(text)]
    if tagged:
        value = unwrap(tagged[-1]["value"].strip().strip('"'))
        return Extraction(value, "label") if value else None
    labelled = _last_labelled(text, kind)
    if labelled is not None:
        return Extraction(labelled, "label") if labelled else None
    return _guess(without_check(text), kind)


def _guess(text: str, kind: str | None) -> Extraction | None:
    """The answer of a text that is one short line, or its last line's; None: that line holds none of the kind."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    last = lines[-1][-4000:]
    if kind == "choice":
        option = option_in(lines)
        how: How = "whole" if len(lines) == 1 and option == unwrap(lines[0][-2000:]) else "last_line"
        return None if option is None else Extraction(option, how)
    if kind == POLAR and (said := yes_or_no(last)):
        return Extraction(said, "whole" if len(lines) == 1 else "last_line")
    how = "whole" if len(lines) == 1 and len(last) <= WHOLE_MAX else "last_line"
    last = last if len(lines) == 1 else _LIST_NUMBER.sub("", last)
    # The last line of a displayed formula is its closing delimiter.
    tail = text[-4000:]
    displayed = [match for match in MATH_SPAN.finditer(tail) if not tail[match.end() :].strip(" .\n")]
    value = unwrap(displayed[-1].group()) if displayed and "\n" in displayed[-1].group() else _of_line(last)
    if kind == "number" and not is_number(value):
        value = number_in(last) or value
    return Extraction(value, how) if value and _answers(value, kind) else None


def _answers(value: str, kind: str | None) -> bool:
    """Whether what was read may be an answer of a kind."""
    if _NO_ANSWER.match(value):
        return False
    return kind not in ("number", "math") or states_value(value)


def _last_labelled(text: str, kind: str | None) -> str | None:
    """What follows the last label; empty: that is no answer. None: there is no label with anything behind it."""
    found = [*_LABEL.finditer(text)] or [*_LABEL_ELSEWHERE.finditer(text)]
    for match in reversed(found[-50:]):
        rest = text[match.end() : match.end() + 4000].lstrip(" \t*")
        if not rest.strip():
            continue
        value = _one_line(rest)
        if match.group("is"):
            end = _SENTENCE_END.search(value)
            value = value[: end.start()] if end else value
        if kind == "choice":
            return unwrap(value)
        value = value if kind == POLAR and yes_or_no(value) else _of_line(value)
        if kind == "number" and value and not is_number(value):
            value = leading_number(value) or value
        if value and _answers(value, kind):
            return value
        if value:
            return ""
    return None


def _one_line(rest: str) -> str:
    """The first line that is not empty, or the whole formula if one opens there and closes on a later line."""
    rest = rest.lstrip()
    for opening, closing in _DISPLAY.items():
        if rest.startswith(opening):
            end = rest.find(closing, len(opening))
            if end > 0 and "\n" in rest[:end]:
                return rest[: end + len(closing)]
            break
    return rest.splitlines()[0]


def _of_line(line: str) -> str:
    """The answer in a line: a formula at its end, or what follows "is", if words precede it; else the whole line."""
    # A list's bullet before bold is no minus sign.
    line = unwrap(re.sub(r"^\s*[-*•]\s+(?=\*\*)", "", line[-4000:]))
    line = _ASIDE.sub("", line)
    spans = [*MATH_SPAN.finditer(line)]
    if spans:
        last = spans[-1]
        # "$P = 50$ percent", "$h = 5$ cm"
        measure = measure_after(line[last.end() :])
        if not line[last.end() + len(measure) :].strip(" .,!*") and has_words(line[: last.start()]):
            return unwrap(last.group()) + measure
    # "72 clips, which is 24 more than in April"
    head, _, tail = _rpartition(line, r"(?<!, which )\b(?:is|are|equals)\b:?")
    # "x > 5 is the solution": words after the verb are not the answer if the formula comes before it.
    says = bool(re.search(r"[\d$\\]", tail)) or not re.search(r"[\d$\\]", head)
    if tail.strip() and has_words(head) and says:
        return unwrap(tail)
    formula = [match for match in spans if re.search(r"[=<>\\]", match.group())]
    if len(formula) == 1 and len(spans) == 1 and has_words(line[: spans[0].start()]):
        return unwrap(spans[0].group()) + measure_after(line[spans[0].end() :])
    return line


def _rpartition(text: str, pattern: str) -> tuple[str, str, str]:
    found = [*re.finditer(pattern, text)]
    return (text[: found[-1].start()], found[-1].group(), text[found[-1].end() :]) if found else ("", "", text)
