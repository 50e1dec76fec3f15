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
from s1ray.grading.notation import canonical, unwrap
from s1ray.grading.phrases import yes_or_no
from s1ray.grading.reading import read
from s1ray.grading.values import Scalar

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
_MATH_SPAN = re.compile(
    r"\$\$(?P<a>.{1,2000}?)\$\$|\\\[(?P<b>.{1,2000}?)\\\]|\\\((?P<c>.{1,2000}?)\\\)|(?<!\\)\$(?P<d>[^$]{1,2000}?)(?<!\\)\$",
    re.DOTALL,
)
_DISPLAY = {"$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$"}
# What a few-shot prompt of the Minerva kind teaches models to add, and control tokens that a cut left as text.
_EPILOGUE = re.compile(
    r"(?:I hope (?:it|this|that) (?:is correct|helps)[.!]?|Let me know if [^\n.!?]{0,120}[.!?]"
    r"|<\|[a-z_]{1,30}\|>(?:[ \t]{0,9}\n?[ \t]{0,9}(?:user|assistant|system))?"
    r"|</s>)\s{0,99}$"
)
_WHOLE_MAX = 200
"""Characters of a line that may be an answer as a whole."""
_NUMBER = re.compile(
    r"[-−]?(?:(?:[$€£]|\\\$)\s?)?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+|,\d{1,2}(?![\d,]))?(?:/\d+)?"
    r"(?:[eE][-+]?\d{1,3})?%?(?:\s(?:hundred|thousand|million|billion|trillion)\b)?|[-−]?\.\d+"
)
_JOINED = re.compile(r"\s*(?:,\s*)?(?:\b(?:to|or|and|through)\b|–|—|-|,)\s*$")
_NOT_EXACTLY = re.compile(
    r"(?:\bnot|n't|\bnever|\b(?:rather|other|less|more|fewer|greater|larger|smaller|higher|lower) than"
    r"|\bat (?:least|most)|\binstead of|\bexcept)(?: be| equal to| exactly)?\s*[$(\\]*$"
    r"|(?:[<>≤≥≠]=?|\\(?:le|ge|ne|lt|gt)q?)\s*$",
    re.IGNORECASE,
)
"""Words before a number that say that it is not the answer."""
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
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
    text = _without_epilogue(text)
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
    if labelled:
        return Extraction(labelled, "label")
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
    if len(lines) == 1 and len(last) <= _WHOLE_MAX:
        value = _of_line(last)
        if kind == "number" and not _is_number(value):
            value = _number_in(last) or value
        return Extraction(value, "whole") if value else None
    # The last line of a displayed formula is its closing delimiter.
    tail = text[-4000:]
    displayed = [match for match in _MATH_SPAN.finditer(tail) if not tail[match.end() :].strip(" .\n")]
    value = unwrap(displayed[-1].group()) if displayed and "\n" in displayed[-1].group() else _of_line(last)
    if kind == "number" and not _is_number(value):
        value = _number_in(last) or value
    return Extraction(value, "last_line") if value else None


def _without_epilogue(text: str) -> str:
    """The text without what follows the answer of itself; from the end, each piece once."""
    end = len(text)
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        begin = max(0, end - 200)
        match = _EPILOGUE.search(text[begin:end])
        if match is None or match.end() != end - begin:
            return text[:end]
        end = begin + match.start()


def _last_labelled(text: str, kind: str | None) -> str | None:
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
        if kind == "number" and value and not _is_number(value):
            value = _leading_number(value) or value
        if value:
            return value
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
    spans = [*_MATH_SPAN.finditer(line)]
    before_formula = [match for match in spans if not line[match.end() :].strip(" .,!*")]
    if before_formula and _has_words(line[: before_formula[-1].start()]):
        return unwrap(before_formula[-1].group())
    head, _, tail = _rpartition(line, r"\b(?:is|are|equals)\b:?")
    # "x > 5 is the solution": words after the verb are not the answer if the formula comes before it.
    says = bool(re.search(r"[\d$\\]", tail)) or not re.search(r"[\d$\\]", head)
    if tail.strip() and _has_words(head) and says:
        return unwrap(tail)
    formula = [match for match in spans if re.search(r"[=<>\\]", match.group())]
    if len(formula) == 1 and len(spans) == 1 and _has_words(line[: spans[0].start()]):
        return unwrap(spans[0].group())
    return line


def _is_number(value: str) -> bool:
    """Whether a value is a number, with its unit, as it stands."""
    if not value or len(value) > _WHOLE_MAX:
        return False
    read_as = read(canonical(value))
    return isinstance(read_as, Scalar) and read_as.number is not None


def _leading_number(value: str) -> str | None:
    """The number that a value in prose gives: "72, in total, so the farmer earns that much".

    None: the value is no prose, or gives several.
    """
    if not _has_words(value):
        return None
    if "=" in value:
        return _number_in(value)
    first = _NUMBER.match(value)
    if first is None:
        return _number_in(value)
    rest = value[first.end() :]
    if re.match(r"\s*(?:,\s*)?(?:to|or|and|through)\b\s*[-−$]?\d|\s*,\s*[-−$]?\d|\s*[-–—+*/^×·:(]\s*\d|\s*\\", rest):
        return None
    # A unit stays with its number, for the comparison.
    unit = re.match(r"\s?(?:[A-Za-z]{1,12}(?:\s?/\s?[A-Za-z]{1,8})?|°[CF]?)(?=[\s,.;]|$)", rest)
    words = {
        "in",
        "so",
        "and",
        "because",
        "since",
        "as",
        "for",
        "which",
        "each",
        "per",
        "of",
        "by",
        "at",
        "a",
        "is",
        "if",
    }
    keep = unit is not None and unit.group().strip().lower() not in words
    return first.group() + (unit.group() if keep and unit else "")


def _number_in(line: str) -> str | None:
    """The last number of a line of prose, unless it is one of several that the line offers ("5 or 7", "4 to 6") or part
    of a formula.
    """
    line = _BOLD.sub(r"\1", line)
    found = [*_NUMBER.finditer(line)][-3:]
    if not found or not _has_words(line):
        return None
    last = found[-1]
    if _NOT_EXACTLY.search(line[: last.start()][-40:]):
        return None
    before, after = line[: last.start()], line[last.end() : last.end() + 2]
    # "x2", "H2O", "2^5", "\\frac{1}{3}" and "(9+1)" hold no number that stands alone.
    if re.search(r"[A-Za-z^_{/*+\\(]\s?$", before[-2:].lstrip()) and not before.endswith((" ", "\\(", "\\$")):
        return None
    if re.match(r"[})^_\\*/+!]|[A-Za-z](?![A-Za-z])", after) and not after.startswith(("\\)", "\\%", "\\]", "\\ ")):
        return None
    joined = _JOINED.search(before)
    if joined and len(found) > 1 and not before[found[-2].end() : joined.start()].strip(" $"):
        return None
    return last.group().strip()


def _has_words(text: str) -> bool:
    return bool(set(re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", " ", _MATH_SPAN.sub("", text)))) - {"and", "or"})


def _rpartition(text: str, pattern: str) -> tuple[str, str, str]:
    found = [*re.finditer(pattern, text)]
    return (text[: found[-1].start()], found[-1].group(), text[found[-1].end() :]) if found else ("", "", text)
