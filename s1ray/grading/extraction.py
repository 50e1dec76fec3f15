r"""Extracting the final answer from a response's answer text (what follows the end-of-thinking delimiter).

In order: the last balanced `\boxed{...}`; what follows the last "Final Answer:", "Answer:" or "answer is"; the last
line, as a guess. Two differences from the s1 harness (answer extraction for AIME and MATH) are deliberate: s1 takes
everything after the *first* "Answer:", although its comment says last, and fails on `\fbox`. Each answer says how it
was found, so that a report can tell a boxed answer from a guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

How = Literal["boxed", "label", "whole", "last_line"]
"""How an answer was found. "whole": the text is one short line; "last_line": a guess, and the grade says so."""

CHOICES = "ABCDEFGHIJ"
"""Letters that multiple-choice options may have."""

_BOX = re.compile(r"\\f?box(?:ed)?(?![a-zA-Z])")
# "Final Answer: 4", "**Answer:** 4", "the answer is 4", "### Final Answer" on a line of its own.
_LABEL = re.compile(
    r"\banswer\b[ \t]*(?:\*\*|__)?[ \t]*"
    r"(?:(?P<colon>[:：](?:[ \t]*(?:\*\*|__))?)|(?P<is>is\b(?:[ \t]*[:：])?)|(?P<heading>(?=\n)))",
    re.IGNORECASE,
)
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$,;]|\\[()\[\],;: ]|\\q?quad\b|\\(?:text|mbox)\s*\{[\s,]*(?:and|or)?[\s,]*\}|\b(?:and|or)\b)*"
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")
_MATH_SPAN = re.compile(
    r"\$\$(?P<a>.+?)\$\$|\\\[(?P<b>.+?)\\\]|\\\((?P<c>.+?)\\\)|(?<!\\)\$(?P<d>.+?)(?<!\\)\$", re.DOTALL
)
_DISPLAY = {"$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$"}
# What a few-shot prompt of the Minerva kind teaches models to add, and control tokens that a cut left as text.
_EPILOGUE = re.compile(r"\s*I hope it is correct\.?\s*$|\s*<\|[a-z_]+\|>\s*(?:user|assistant|system)?\s*$")
_WHOLE_MAX = 200
"""Characters of a line that may be an answer as a whole."""


@dataclass(frozen=True)
class Extraction:
    """An answer as it stands in the text, and how it was found."""

    value: str
    how: How


def extract_answer(text: str) -> Extraction | None:
    """Find the final answer in an answer text (without the thinking).

    Returns:
        The answer without wrapping (dollar signs, bold, a final full stop), or None.
    """
    previous = None
    while previous != text:
        previous, text = text, _EPILOGUE.sub("", text)
    boxed = last_boxed(text)
    if boxed is not None:
        return Extraction(boxed, "boxed") if boxed else None
    labelled = _last_labelled(text)
    if labelled:
        return Extraction(labelled, "label")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    if len(lines) == 1 and len(lines[0]) <= _WHOLE_MAX:
        value = _of_line(lines[0])
        return Extraction(value, "whole") if value else None
    # The last line of a displayed formula is its closing delimiter.
    displayed = [match for match in _MATH_SPAN.finditer(text) if not text[match.end() :].strip(" .\n")]
    value = unwrap(displayed[-1].group()) if displayed and "\n" in displayed[-1].group() else _of_line(lines[-1])
    return Extraction(value, "last_line") if value else None


def last_boxed(text: str) -> str | None:
    r"""The content of the last complete `\boxed{...}` or `\fbox{...}`, or of `\boxed 7` up to the end of the formula.

    Braces are balanced, and `\{` counts as text. A box that the end of the text cuts off is ignored in favour of an
    earlier one. Boxes separated only by "and", "or" or commas are one answer, joined by commas. None: no box.
    """
    boxes = [box for match in _BOX.finditer(text) if (box := _box_at(text, match)) is not None]
    if not boxes:
        return None
    answer = [boxes.pop()]
    while boxes and _BETWEEN_BOXES.fullmatch(text[boxes[-1][1] : answer[0][0]]):
        answer.insert(0, boxes.pop())
    return ", ".join(dict.fromkeys(content for _, _, content in answer))


def choice_letter(value: str) -> str | None:
    """The option that an extracted answer names ("C", "(c)", "C) 42", "option C"), in upper case; None if it names none
    or several.
    """
    cleaned = re.sub(r"\\(?:text|mathrm|mathbf|textbf|mathit|rm|bf)\b\s*", "", unwrap(value))
    cleaned = unwrap(cleaned.replace("{", "").replace("}", "").replace("*", "").strip())
    cleaned = re.sub(r"^(?:option|choice|answer)\s+", "", cleaned, flags=re.IGNORECASE)
    whole = re.fullmatch(rf"\(?\s*([{CHOICES}])\s*[).:]?", cleaned, flags=re.IGNORECASE)
    if whole:
        return whole.group(1).upper()
    named = set(re.findall(rf"\(([{CHOICES}])\)", cleaned))
    if named:
        return named.pop() if len(named) == 1 else None
    opened = re.match(rf"([{CHOICES}])[).:](?=\s|$|[^A-Za-z])", cleaned)
    return opened.group(1) if opened else None


def unwrap(value: str) -> str:
    r"""Strip what surrounds an answer: dollar signs, `\\( \\)`, bold, backticks, quotes, a final full stop."""
    previous = None
    while previous != value:
        previous = value
        value = value.strip()
        value = re.sub(r"(?<!\.)[.,;:]$", "", value).strip()
        for left, right in (
            ("$$", "$$"),
            ("$", "$"),
            ("\\(", "\\)"),
            ("\\[", "\\]"),
            ("**", "**"),
            ("`", "`"),
            ('"', '"'),
        ):
            inner = value[len(left) : -len(right)]
            if (
                len(value) > len(left) + len(right)
                and value.startswith(left)
                and value.endswith(right)
                and left not in inner
                and right not in inner
            ):
                value = inner
        if value.startswith("**") and value.count("**") == 1:
            value = value[2:]
        if value.endswith("**") and value.count("**") == 1:
            value = value[:-2]
    return value


def _box_at(text: str, match: re.Match[str]) -> tuple[int, int, str] | None:
    """Start, end and content of the box that `match` opens."""
    start = match.end()
    while text[start : start + 1].isspace():
        start += 1
    if text.startswith("{", start):
        content = _balanced(text[start:])
        return None if content is None else (match.start(), start + len(content) + 2, unwrap(content))
    token = re.compile(r"[^\s$]+").match(text, start)
    return (match.start(), token.end(), unwrap(token.group())) if token and start > match.end() else None


def _balanced(text: str) -> str | None:
    depth, index = 0, 0
    while index < len(text):
        character = text[index]
        if character == "\\":
            index += 2
            continue
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return text[1:index]
        index += 1
    return None


def _last_labelled(text: str) -> str | None:
    for match in reversed(list(_LABEL.finditer(text))):
        rest = text[match.end() :].lstrip(" \t*")
        if not rest.strip():
            continue
        value = _one_line(rest)
        if match.group("is"):
            end = _SENTENCE_END.search(value)
            value = value[: end.start()] if end else value
        value = _of_line(value)
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
    line = unwrap(line)
    before_formula = [match for match in _MATH_SPAN.finditer(line) if not line[match.end() :].strip(" .,!*")]
    if before_formula and _has_words(line[: before_formula[-1].start()]):
        return unwrap(before_formula[-1].group())
    head, _, tail = _rpartition(line, r"\b(?:is|are|equals)\b:?")
    # "x > 5 is the solution": words after the verb are not the answer if the formula comes before it.
    says = bool(re.search(r"[\d$\\]", tail)) or not re.search(r"[\d$\\]", head)
    return unwrap(tail) if tail.strip() and _has_words(head) and says else line


def _has_words(text: str) -> bool:
    return bool(set(re.findall(r"[A-Za-z]{2,}", _MATH_SPAN.sub("", text))) - {"and", "or"})


def _rpartition(text: str, pattern: str) -> tuple[str, str, str]:
    found = list(re.finditer(pattern, text))
    return (text[: found[-1].start()], found[-1].group(), text[found[-1].end() :]) if found else ("", "", text)
